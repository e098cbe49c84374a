"""Makes the small models that the tests of package models use.

    python make.py        (requirements.txt of examples/fraud/models)

Each is as small as it can be and does one thing. nest.onnx, poison.onnx and
eater.onnx are what a child process is for: they hang, kill or bloat whatever
runs them.
"""

import numpy as np
from onnx import TensorProto as T
from onnx import helper as h
from onnx import numpy_helper as nh

OPSETS = [h.make_opsetid("", 17), h.make_opsetid("ai.onnx.ml", 3)]


def tensor(name, kind, shape):
    return h.make_tensor_value_info(name, kind, shape)


def const(name, values, dtype):
    return nh.from_array(np.array(values, dtype=dtype), name)


def save(name, nodes, inputs, outputs, inits=(), opsets=OPSETS, ir=8):
    graph = h.make_graph(nodes, name, inputs, outputs, list(inits))
    model = h.make_model(graph, opset_imports=opsets, producer_name="make.py")
    model.ir_version = ir
    with open(f"{name}.onnx", "wb") as f:
        f.write(model.SerializeToString())


# y = x0 + 10 x1 + 100 x2, and both y and -y beside each other.
save(
    "linear",
    [
        h.make_node("MatMul", ["x", "w"], ["y"]),
        h.make_node("Neg", ["y"], ["z"]),
        h.make_node("Concat", ["y", "z"], ["both"], axis=1),
    ],
    [tensor("x", T.FLOAT, [None, 3])],
    [tensor("y", T.FLOAT, [None, 1]), tensor("both", T.FLOAT, [None, 2])],
    [const("w", [[1], [10], [100]], np.float32)],
)

# One input of every type, one output of every type.
save(
    "named",
    [
        h.make_node("Cast", ["f32"], ["a"], to=T.DOUBLE),
        h.make_node("Cast", ["i32"], ["b"], to=T.DOUBLE),
        h.make_node("Cast", ["i64"], ["c"], to=T.DOUBLE),
        h.make_node("Cast", ["flag"], ["d"], to=T.DOUBLE),
        h.make_node("Sum", ["a", "b", "c", "d", "f64"], ["sum"]),
        h.make_node("Identity", ["i64"], ["long"]),
        h.make_node("Identity", ["i32"], ["int"]),
        h.make_node("Not", ["flag"], ["not"]),
        h.make_node("Identity", ["text"], ["echo"]),
    ],
    [
        tensor("f32", T.FLOAT, [None, 1]),
        tensor("f64", T.DOUBLE, [None, 1]),
        tensor("i32", T.INT32, [None, 1]),
        tensor("i64", T.INT64, [None, 1]),
        tensor("flag", T.BOOL, [None, 1]),
        tensor("text", T.STRING, [None]),
    ],
    [
        tensor("sum", T.DOUBLE, [None, 1]),
        tensor("long", T.INT64, [None, 1]),
        tensor("int", T.INT32, [None, 1]),
        tensor("not", T.BOOL, [None, 1]),
        tensor("echo", T.STRING, [None]),
    ],
)

# Natural logarithm: negative values give NaN.
save("log", [h.make_node("Log", ["x"], ["y"])], [tensor("x", T.FLOAT, [None, 1])], [tensor("y", T.FLOAT, [None, 1])])

# Looks a value up by index; an index of 3 or more is refused by the runtime.
save(
    "lookup",
    [h.make_node("Gather", ["table", "i"], ["y"])],
    [tensor("i", T.INT64, [None])],
    [tensor("y", T.FLOAT, [None])],
    [const("table", [0.5, 1.5, 2.5], np.float32)],
)

# A single row only.
save("fixed", [h.make_node("Neg", ["x"], ["y"])], [tensor("x", T.FLOAT, [1, 1])], [tensor("y", T.FLOAT, [1, 1])])

# As many columns as are given.
save(
    "wide",
    [h.make_node("ReduceSum", ["x", "axis"], ["y"], keepdims=1)],
    [tensor("x", T.FLOAT, [None, None])],
    [tensor("y", T.FLOAT, [None, 1])],
    [const("axis", [1], np.int64)],
)

# The output has another number of rows than the input.
save(
    "total",
    [h.make_node("ReduceSum", ["x", "axis"], ["y"], keepdims=1)],
    [tensor("x", T.FLOAT, [None, 1])],
    [tensor("y", T.FLOAT, [None, 1])],
    [const("axis", [0], np.int64)],
)

# What a classifier converted without options={'zipmap': False} ends with.
save(
    "zipmap",
    [
        h.make_node("Concat", ["x", "x"], ["p"], axis=1),
        h.make_node("ZipMap", ["p"], ["probabilities"], domain="ai.onnx.ml", classlabels_int64s=[0, 1]),
        h.make_node("Identity", ["x"], ["y"]),
    ],
    [tensor("x", T.FLOAT, [None, 1])],
    [
        h.make_value_info("probabilities", h.make_sequence_type_proto(h.make_map_type_proto(T.INT64, h.make_tensor_type_proto(T.FLOAT, None)))),
        tensor("y", T.FLOAT, [None, 1]),
    ],
)

# An opset from the far future.
save("future", [h.make_node("Neg", ["x"], ["y"])], [tensor("x", T.FLOAT, [None, 1])], [tensor("y", T.FLOAT, [None, 1])], opsets=[h.make_opsetid("", 999)])

# Values in another file.
weights = h.make_tensor("w", T.FLOAT, [1], [1.0])
weights.ClearField("float_data")
weights.data_location = T.EXTERNAL
weights.external_data.add(key="location", value="/etc/hostname")
save("external", [h.make_node("Add", ["x", "w"], ["y"])], [tensor("x", T.FLOAT, [None, 1])], [tensor("y", T.FLOAT, [None, 1])], [weights])

# -x, by dividing by -1: the smallest integer divided by -1 kills the process (SIGFPE).
save(
    "poison",
    [h.make_node("Div", ["x", "minus_one"], ["y"])],
    [tensor("x", T.INT64, [None, 1])],
    [tensor("y", T.INT64, [None, 1])],
    [const("minus_one", [-1], np.int64)],
)

# Allocates x MiB, x being the sum of the input, and answers x.
save(
    "eater",
    [
        h.make_node("ReduceSum", ["x"], ["mib"], keepdims=0),
        h.make_node("Mul", ["mib", "elements"], ["n"]),
        h.make_node("Unsqueeze", ["n", "axis"], ["shape"]),
        h.make_node("ConstantOfShape", ["shape"], ["block"], value=h.make_tensor("v", T.FLOAT, [1], [1.0])),
        h.make_node("ReduceSum", ["block"], ["sum"], keepdims=0),
        h.make_node("Cast", ["sum"], ["eaten"], to=T.INT64),
        h.make_node("Sub", ["eaten", "eaten"], ["zero"]),
        h.make_node("Add", ["x", "zero"], ["y"]),
    ],
    [tensor("x", T.INT64, [None, 1])],
    [tensor("y", T.INT64, [None, 1])],
    [const("elements", 1 << 18, np.int64), const("axis", [0], np.int64)],
)

# Counts to x, so that a large x takes as long as one likes.
one = tensor("n", T.INT64, [])
body = h.make_graph(
    [h.make_node("Identity", ["cond"], ["cond_out"]), h.make_node("Add", ["acc", "one"], ["acc_out"])],
    "body",
    [one, tensor("cond", T.BOOL, []), tensor("acc", T.INT64, [])],
    [tensor("cond_out", T.BOOL, []), tensor("acc_out", T.INT64, [])],
)
save(
    "count",
    [
        h.make_node("ReduceMax", ["x"], ["trips"], keepdims=0),
        h.make_node("Loop", ["trips", "yes", "nought"], ["sum"], body=body),
        h.make_node("Sub", ["sum", "sum"], ["zero"]),
        h.make_node("Add", ["x", "zero"], ["y"]),
    ],
    [tensor("x", T.INT64, [None, 1])],
    [tensor("y", T.INT64, [None, 1])],
    [const("one", 1, np.int64), const("yes", True, np.bool_), const("nought", 0, np.int64)],
)


# Branches nested 30 deep: loading it takes longer than anyone waits.
def branch(depth):
    def leaf(out):
        return h.make_graph([h.make_node("Identity", ["x"], [out])], "leaf", [], [tensor(out, T.FLOAT, None)])

    graph = leaf("o0")
    for i in range(1, depth):
        node = h.make_node("If", ["c"], [f"o{i}"], then_branch=graph, else_branch=leaf(f"e{i}"))
        graph = h.make_graph([node], "branch", [], [tensor(f"o{i}", T.FLOAT, None)])
    return h.make_node("If", ["c"], ["y"], then_branch=graph, else_branch=leaf("e"))


save("nest", [branch(30)], [tensor("x", T.FLOAT, [None, 1]), tensor("c", T.BOOL, [])], [tensor("y", T.FLOAT, [None, 1])])
