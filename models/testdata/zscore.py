"""Makes zscore.onnx: how unusual one value of a series is.

    python zscore.py readings.csv [share]

readings.csv has a column `value`; the first share of its rows (0.15) says what is
usual. The model takes `value` float32[?,1] and gives `score` float32[?,1], the
distance from their median in robust standard deviations (1.4826 times the median
absolute deviation, so that a few outliers among them do no harm).
"""

import csv
import sys

import numpy as np
from onnx import TensorProto, checker, helper, numpy_helper

path = sys.argv[1]
share = float(sys.argv[2]) if len(sys.argv) > 2 else 0.15
with open(path, newline="") as f:
    values = np.array([float(row["value"]) for row in csv.DictReader(f)])
train = values[: int(len(values) * share)]
centre = np.median(train)
spread = 1.4826 * np.median(np.abs(train - centre))

graph = helper.make_graph(
    [
        helper.make_node("Sub", ["value", "centre"], ["difference"]),
        helper.make_node("Abs", ["difference"], ["distance"]),
        helper.make_node("Div", ["distance", "spread"], ["score"]),
    ],
    "zscore",
    [helper.make_tensor_value_info("value", TensorProto.FLOAT, [None, 1])],
    [helper.make_tensor_value_info("score", TensorProto.FLOAT, [None, 1])],
    [numpy_helper.from_array(np.array(v, np.float32), name) for name, v in [("centre", centre), ("spread", spread)]],
)
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8, producer_name="zscore.py")
checker.check_model(model)
with open("zscore.onnx", "wb") as f:
    f.write(model.SerializeToString())
print(f"{len(train)} of {len(values)} values: centre {centre:.3f}, spread {spread:.3f}; score of the rest:",
      {f"p{q}": round(float(np.percentile(np.abs(values[len(train):] - centre) / spread, q)), 2) for q in (50, 90, 99, 100)})
