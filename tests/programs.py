"""Random programs: what Hypothesis drives through both modes.

A program is a list of instructions, each an operation of a small set applied to earlier values. It is built so that
every value stays finite and differentiable, broadcasts, mixes dtypes, repeats itself (so that common subexpressions
exist), and holds the patterns that optimisers rewrite: x * 1, x - 0, -(-x), x / 4, transposed twice, casts.
"""

from hypothesis import strategies as st

import minigraph as mg

UNARY = {
    "sin": mg.sin,
    "tanh": mg.tanh,
    "sigmoid": mg.sigmoid,
    "relu_shifted": lambda x: mg.relu(x + 0.1234),
    "square": lambda x: x * x * 0.1,
    "negative": lambda x: -x,
    "twice_negative": lambda x: -(-x),  # noqa: B002
    "times_one": lambda x: x * 1.0,
    "minus_zero": lambda x: x - 0.0,
    "over_four": lambda x: x / 4.0,
    "power_one": lambda x: x**1.0,
    "times_minus_one": lambda x: x * -1.0,
    "exp_scaled": lambda x: mg.exp(x * 0.1),
    "sum_rows": lambda x: x.sum(axis=0, keepdims=True) * 0.3 if x.ndim else x,
    "mean_all": lambda x: x.mean(),
    "transposed": lambda x: mg.matrix_transpose(x) if x.ndim == 2 else x,
    "flat_and_back": lambda x: x.reshape(-1).reshape(x.shape),
    "softmax": lambda x: mg.softmax(x, axis=-1) if x.ndim else x,
    "same_cast": lambda x: x.astype(x.dtype),
    "up_and_down": lambda x: x.astype("float64").astype("float32"),
    "where": lambda x: mg.where(x > 0.2, x * 2.0, x - 1.0),
    "abs": lambda x: mg.abs(x) + mg.abs(-x),
    "stop": lambda x: x + mg.stop_gradient(x) * 0.5,
    "slice": lambda x: x[:1] + x if x.ndim else x,
    "constant": lambda x: x + mg.tensor(2.0) * 3.0,
    "checkpoint": lambda x: mg.checkpoint(lambda t: mg.sin(t) * 0.5)(x),
    "cond": lambda x: mg.cond(x.sum() > 0, lambda t: mg.sin(t), lambda t: t * 0.5, x),
    "scan": lambda x: mg.scan(lambda c, t: (mg.tanh(c + t), c), mg.zeros(x.shape[1:]), x)[1] if x.ndim else x,
}
BINARY = {
    "add": lambda a, b: a + b,
    "subtract": lambda a, b: a - b,
    "multiply": lambda a, b: a * mg.tanh(b),
    "divide": lambda a, b: a / (b * b + 1.5),
    "minus_negative": lambda a, b: a - (-b),
    "plus_negative": lambda a, b: a + (-b),
    "maximum": lambda a, b: mg.maximum(a, b + 0.0371),
    "maximum_same": lambda a, b: mg.maximum(a, a) + b,
    "matmul": lambda a, b: (a @ b) * 0.2 if a.ndim == b.ndim == 2 and a.shape[1] == b.shape[0] else a + b,
}
SHAPES = [(), (1,), (3,), (3, 3), (1, 3), (3, 1)]

instruction = st.one_of(
    st.tuples(st.sampled_from(sorted(UNARY)), st.integers(0, 30)),
    st.tuples(st.sampled_from(sorted(BINARY)), st.integers(0, 30), st.integers(0, 30)),
)
programs = st.tuples(
    st.lists(st.sampled_from(SHAPES), min_size=1, max_size=3),
    st.lists(instruction, min_size=1, max_size=12),
    st.integers(0, 2**32 - 1),
)


def run(instructions, inputs):
    """The loss of a program: a scalar that depends on all its values."""
    values = list(inputs)
    for name, *places in instructions:
        chosen = [values[p % len(values)] for p in places]
        values.append(UNARY[name](*chosen) if len(places) == 1 else BINARY[name](*chosen))
    loss = values[0].sum()
    for v in values[1:]:
        loss = loss + (v * v * 0.01).sum() + v.sum() * 0.1
    return loss
