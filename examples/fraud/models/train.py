"""Trains fraud.onnx, the model of the fraud example, and its golden samples.

    python -m venv .venv && .venv/bin/pip install -r requirements.txt
    .venv/bin/python train.py

There is no public data with the example's columns, so the script makes its own,
from the distribution that the generator in connectors/transactions.yaml follows:

    tx_id              unique
    card_id            20,000 cards
    amount             lognormal(mu 3.4, sigma 1.1): half are below 30, 1 % above 390
    currency           EUR
    country            DE (home) 70 %, else FR, US, NL, BR or CN
    merchant           3,000 of them
    merchant_category  grocery, fuel, travel, electronics, gambling or restaurant
    channel            pos, online or atm
    tx_per_hour        transactions of the card in the last hour: 0 to 6 times 0 to 3
    ts                 any hour of the day

About 1.5 % are fraud. A fraudulent transaction looks like the others but more
often abroad, at night, large, in a risky category, and in quick succession: each
of them raises the odds, and foreign at night raises them further.

The model takes one tensor `features` float32[?,5], in this order, which is the
order of score.inputs in tables/transactions.yaml:

    log_amount     ln(amount)
    hour_of_day    0 to 23
    is_foreign     0 if country is 'DE', else 1
    merchant_risk  RISK of the merchant_category, 0.1 for others
    tx_per_hour

and gives `probabilities` float32[?,2]; [1] is the probability of fraud.
"""

import json

import numpy as np
import onnxruntime
from onnx import checker
from skl2onnx import to_onnx
from skl2onnx.common.data_types import FloatTensorType
from sklearn.ensemble import GradientBoostingClassifier
from sklearn.metrics import average_precision_score, roc_auc_score
from sklearn.model_selection import train_test_split

SEED = 20240607
ROWS = 200_000
FEATURES = ["log_amount", "hour_of_day", "is_foreign", "merchant_risk", "tx_per_hour"]

RISK = {"grocery": 0.1, "fuel": 0.2, "travel": 0.5, "electronics": 0.6, "gambling": 0.9, "restaurant": 0.1}


def make(rng, rows):
    """Rows of features, and which of them are fraud."""
    log_amount = rng.normal(3.4, 1.1, rows)
    hour = rng.integers(0, 24, rows)
    foreign = rng.random(rows) >= 0.70
    risk = rng.choice(list(RISK.values()), rows)
    tx_per_hour = rng.integers(0, 7, rows) * rng.integers(0, 4, rows)
    night = (hour < 6) | (hour == 23)
    logit = (
        -13.1
        + 2.4 * foreign
        + 1.8 * night
        + 1.8 * (foreign & night)
        + 1.4 * (log_amount - 3.4)
        + 3.0 * risk
        + 0.4 * tx_per_hour
    )
    fraud = rng.random(rows) < 1 / (1 + np.exp(-logit))
    features = np.column_stack([log_amount, hour, foreign, risk, tx_per_hour])
    return features.astype(np.float32), fraud.astype(np.int64)


def main():
    rng = np.random.default_rng(SEED)
    x, y = make(rng, ROWS)
    print(f"{ROWS} rows, {100 * y.mean():.2f} % fraud")
    x_train, x_test, y_train, y_test = train_test_split(x, y, test_size=0.25, random_state=SEED, stratify=y)

    model = GradientBoostingClassifier(n_estimators=30, max_depth=3, learning_rate=0.3, subsample=0.7, random_state=SEED)
    model.fit(x_train, y_train)
    p = model.predict_proba(x_test)[:, 1]
    print(f"held out: ROC AUC {roc_auc_score(y_test, p):.3f}, average precision {average_precision_score(y_test, p):.3f}")

    # zipmap=False: probabilities as one tensor and not as a list of dictionaries.
    onx = to_onnx(
        model,
        initial_types=[("features", FloatTensorType([None, len(FEATURES)]))],
        options={id(model): {"zipmap": False}},
        target_opset={"": 17, "ai.onnx.ml": 3},
    )
    onx.ir_version = 8
    # What the converter leaves to chance, so that the same training gives the same bytes.
    onx.graph.name = "fraud"
    opsets = sorted(onx.opset_import, key=lambda o: o.domain)
    del onx.opset_import[:]
    onx.opset_import.extend(opsets)
    checker.check_model(onx)
    data = onx.SerializeToString()
    with open("fraud.onnx", "wb") as f:
        f.write(data)

    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    (got,) = session.run(["probabilities"], {"features": x_test})
    worst = np.abs(got[:, 1] - p).max()
    print(f"fraud.onnx: {len(data) / 1024:.0f} KiB, off by {worst:.1e} at most")
    assert worst < 1e-4

    # Samples that the gate runs before it lets a version in.
    samples = np.array(
        [
            [3.3, 13, 0, 0.1, 2],
            [4.8, 20, 0, 0.2, 6],
            [6.2, 3, 0, 0.6, 4],
            [5.5, 14, 1, 0.5, 9],
            [7.0, 2, 1, 0.9, 12],
        ],
        dtype=np.float32,
    )
    (answers,) = session.run(["probabilities"], {"features": samples})
    golden = {
        "inputs": {"features": [[float(f"{v:.6g}") for v in row] for row in samples.tolist()]},
        "outputs": {"probabilities": [[round(v, 6) for v in row] for row in answers.tolist()]},
        "tolerance": 0.001,
    }
    with open("fraud.golden.json", "w") as f:
        json.dump(golden, f, indent=1)
        f.write("\n")
    for row, answer in zip(samples.tolist(), answers.tolist()):
        print("  ", dict(zip(FEATURES, [round(v, 2) for v in row])), f"fraud {answer[1]:.3f}")


if __name__ == "__main__":
    main()
