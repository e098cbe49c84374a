"""Trains host.onnx, the model of the host example, and its golden samples.

    python -m venv .venv && .venv/bin/pip install -r requirements.txt
    .venv/bin/python train.py

It learns what is usual for a machine from readings.ndjson.gz: one line a reading,
recorded by the example itself while its machine was busy and while it was not. To
learn your own, run `tidemill dev examples/host` for some minutes, then

    tidemill -C examples/host sql --format json "SELECT host, ts, cpu_percent,
        memory_percent, load1, disk_read_mb_s, disk_write_mb_s, net_recv_mb_s,
        net_sent_mb_s FROM telemetry ORDER BY ts" | gzip -9n > readings.ndjson.gz

and run this again.

The model is an isolation forest: trees that split at random, in which a reading
that is unlike the others is alone after a few splits. It takes one tensor
`readings` float32[?,7] in the order of score.inputs in tables/telemetry.yaml

    cpu_percent memory_percent load1 disk_read_mb_s disk_write_mb_s
    net_recv_mb_s net_sent_mb_s

and gives `scores` float32[?,1]: near 0.5 and below is usual, towards 1 is not.
"""

import gzip
import json

import numpy as np
import onnxruntime
from onnx import TensorProto, checker, helper, numpy_helper
from sklearn.ensemble import IsolationForest

SEED = 20240607
FEATURES = [
    "cpu_percent",
    "memory_percent",
    "load1",
    "disk_read_mb_s",
    "disk_write_mb_s",
    "net_recv_mb_s",
    "net_sent_mb_s",
]


def path_length(n):
    """Mean depth at which n readings are told apart by random splits."""
    n = np.asarray(n, dtype=float)
    length = 2 * (np.log(np.maximum(n - 1, 1)) + np.euler_gamma) - 2 * (n - 1) / np.maximum(n, 1)
    return np.where(n > 2, length, np.where(n == 2, 1.0, 0.0))


def to_onnx(forest):
    """score = 2 ** -(mean depth of a reading's leaves / path_length(sample size)).

    The forest becomes one TreeEnsembleRegressor whose leaves hold depths, where the
    general converter makes 27 nodes of every tree.
    """
    a = {name: [] for name in ["treeids", "nodeids", "featureids", "values", "modes", "truenodeids", "falsenodeids"]}
    leaves = {name: [] for name in ["treeids", "nodeids", "ids", "weights"]}
    for tree_id, estimator in enumerate(forest.estimators_):
        tree = estimator.tree_
        depth = np.zeros(tree.node_count)
        for node in range(tree.node_count):
            left, right = tree.children_left[node], tree.children_right[node]
            leaf = left < 0
            a["treeids"].append(tree_id)
            a["nodeids"].append(node)
            a["featureids"].append(0 if leaf else int(tree.feature[node]))
            # Trees compare float32 inputs with float64 thresholds; round down so that
            # no float32 that was to the right ends up left.
            threshold = np.float32(tree.threshold[node])
            if threshold > tree.threshold[node]:
                threshold = np.nextafter(threshold, np.float32(-np.inf))
            a["values"].append(0.0 if leaf else float(threshold))
            a["modes"].append("LEAF" if leaf else "BRANCH_LEQ")
            a["truenodeids"].append(0 if leaf else int(left))
            a["falsenodeids"].append(0 if leaf else int(right))
            if leaf:
                leaves["treeids"].append(tree_id)
                leaves["nodeids"].append(node)
                leaves["ids"].append(0)
                leaves["weights"].append(float(depth[node] + path_length(tree.n_node_samples[node])))
            else:
                depth[[left, right]] = depth[node] + 1
    attributes = {f"nodes_{k}": v for k, v in a.items()} | {f"target_{k}": v for k, v in leaves.items()}
    scale = -1 / path_length(forest.max_samples_)
    graph = helper.make_graph(
        [
            helper.make_node("TreeEnsembleRegressor", ["readings"], ["depth"], domain="ai.onnx.ml", aggregate_function="AVERAGE", n_targets=1, **attributes),
            helper.make_node("Mul", ["depth", "scale"], ["exponent"]),
            helper.make_node("Pow", ["two", "exponent"], ["scores"]),
        ],
        "host",
        [helper.make_tensor_value_info("readings", TensorProto.FLOAT, [None, len(FEATURES)])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, [None, 1])],
        [numpy_helper.from_array(np.array(scale, np.float32), "scale"), numpy_helper.from_array(np.array(2, np.float32), "two")],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8, producer_name="examples/host/models/train.py")


def main():
    with gzip.open("readings.ndjson.gz", "rt") as f:
        readings = [json.loads(line) for line in f]
    x = np.array([[r[name] for name in FEATURES] for r in readings], dtype=np.float32)
    print(f"{len(x)} readings")

    forest = IsolationForest(n_estimators=50, max_samples=min(128, len(x)), random_state=SEED).fit(x)
    onx = to_onnx(forest)
    checker.check_model(onx)
    data = onx.SerializeToString()
    with open("host.onnx", "wb") as f:
        f.write(data)

    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    (scores,) = session.run(["scores"], {"readings": x})
    worst = np.abs(scores[:, 0] + forest.score_samples(x)).max()
    print(f"host.onnx: {len(data) / 1024:.0f} KiB, off by {worst:.1e} at most")
    assert worst < 1e-4
    print("scores of the readings:", {f"p{q}": round(float(np.percentile(scores, q)), 3) for q in (1, 50, 90, 99, 100)})

    # Samples that the gate runs before it lets a version in: the usual, and not.
    usual = np.round(np.median(x, axis=0), 3)
    samples = np.array([usual, [40, 30, 1.5, 2, 5, 1, 1], [100, 95, 40, 800, 800, 200, 200]], dtype=np.float32)
    (answers,) = session.run(["scores"], {"readings": samples})
    golden = {
        "inputs": {"readings": [[float(f"{v:.6g}") for v in row] for row in samples.tolist()]},
        "outputs": {"scores": [[round(v, 6) for v in row] for row in answers.tolist()]},
        "tolerance": 0.001,
    }
    with open("host.golden.json", "w") as f:
        json.dump(golden, f, indent=1)
        f.write("\n")
    for row, answer in zip(samples.tolist(), answers.tolist()):
        print("  ", dict(zip(FEATURES, [round(v, 2) for v in row])), f"score {answer[0]:.3f}")


if __name__ == "__main__":
    main()
