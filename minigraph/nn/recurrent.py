"""Recurrent layers: a state that is carried from step to step, and what each kind of cell does to it.

What a cell takes from the input does not depend on the state, so it is computed for all steps at once, before the loop:
one large product in place of many small ones. The loop itself is `mg.scan`: in dynamic mode a Python loop, under
`mg.compile` a single operation whose attribute is the graph of the cell.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..errors import ArgumentError, DTypeError, ShapeError
from ..op import spec_of
from ..ops import concat, reshape, scan, stack, swapaxes, where, zeros
from ..ops.random import Generator
from ..tensor import Tensor, lift
from . import functional as F  # noqa: N812 - its usual name
from . import init
from .module import Module, Parameter, size

GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}
State = tuple[Tensor, ...]


def parts(x: Tensor, count: int) -> list[Tensor]:
    """The last axis, cut into equal parts."""
    n = x.shape[-1] // count
    return [x[..., k * n : (k + 1) * n] for k in range(count)]


def advance(kind: str, z: Tensor, state: State, weight: Any, bias: Any, nonlinearity: str) -> State:
    """One step of a cell: its next state from what it takes from the input, `z`, and from its state."""
    h = F.linear(state[0], weight, bias)
    if kind == "RNN":
        return (F.tanh(z + h) if nonlinearity == "tanh" else F.relu(z + h),)
    if kind == "GRU":
        (reset, update, new), (h_reset, h_update, h_new) = parts(z, 3), parts(h, 3)
        keep = F.sigmoid(update + h_update)
        candidate = F.tanh(new + F.sigmoid(reset + h_reset) * h_new)
        return (candidate + keep * (state[0] - candidate),)
    i, f, g, o = parts(z + h, 4)
    cell = F.sigmoid(f) * state[1] + F.sigmoid(i) * F.tanh(g)
    return F.sigmoid(o) * F.tanh(cell), cell


class _Recurrent(Module):
    """What layers and cells share: sizes, weights, and the checks of their inputs."""

    kind: str

    def __init__(self, input_size: Any, hidden_size: Any, bias: bool, nonlinearity: str):
        super().__init__()
        name = type(self).__name__
        self.input_size, self.hidden_size = size(name, "input_size", input_size), size(name, "hidden_size", hidden_size)
        if nonlinearity not in ("tanh", "relu"):
            raise ArgumentError(f"{name}: nonlinearity", expected='"tanh" or "relu"', actual=repr(nonlinearity))
        self.bias, self.nonlinearity = bool(bias), nonlinearity

    def add_weights(self, inputs: int, suffix: str, dtype: Any, device: Any, generator: Generator | None) -> None:
        """The four parameters of a cell, uniform within 1 / sqrt(hidden_size), as in PyTorch."""
        rows, bound = GATES[self.kind] * self.hidden_size, 1.0 / math.sqrt(self.hidden_size)
        shapes: dict[str, tuple[int, ...]] = {"weight_ih": (rows, inputs), "weight_hh": (rows, self.hidden_size)}
        if self.bias:
            shapes |= {"bias_ih": (rows,), "bias_hh": (rows,)}
        for name, shape in shapes.items():
            parameter = Parameter(init.blank(shape, dtype, device))
            init.uniform_(parameter, -bound, bound, generator=generator)
            setattr(self, name + suffix, parameter)

    def weights(self, suffix: str) -> tuple[Any, Any, Any, Any]:
        names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        return tuple([getattr(self, name + suffix, None) for name in names])  # type: ignore[return-value]

    def checked(self, x: Any, ranks: Sequence[int], words: str) -> Tensor:
        """The input as a tensor."""
        x = lift(x)
        if x.value.dtype.kind != "f":
            raise DTypeError(
                f"{self.where()}: the input must be floating point",
                actual=f"x: {spec_of(x.value)!r}",
                remedy="x.astype(mg.float32); for word numbers, nn.Embedding first",
            )
        if x.ndim not in ranks or x.shape[-1] != self.input_size:
            raise ShapeError(
                f"{self.where()}: the input does not fit", expected=f"x: {words}", actual=f"x: {spec_of(x.value)!r}"
            )
        return x

    def checked_state(self, state: Any, shape: tuple[int, ...], like: Tensor) -> State:
        """The state at the start: as given, or zeros."""
        count, names = (2, "(h, c)") if self.kind == "LSTM" else (1, "h")
        if state is None:
            return (zeros(shape, dtype=like.dtype, device=like.device),) * count
        given = tuple(state) if count == 2 and isinstance(state, tuple | list) else (state,)
        if len(given) != count:
            raise ArgumentError(
                f"{self.where()}: the state", expected=names, actual=f"{type(state).__name__} of {len(given)}"
            )
        found = tuple(map(lift, given))
        for name, t in zip(names.strip("()").split(", "), found, strict=True):
            if t.shape != shape or t.dtype != like.dtype:
                raise ShapeError(
                    f"{self.where()}: the state does not fit",
                    expected=f"{name}: {spec_of(like.value).dtype}[{', '.join(map(str, shape))}]",
                    actual=f"{name}: {spec_of(t.value)!r}",
                )
        return found


class _Cell(_Recurrent):
    """One step of a recurrent layer."""

    def __init__(
        self, input_size: int, hidden_size: int, bias: bool = True, nonlinearity: str = "tanh", *, dtype: Any = None,
        device: Any = None, generator: Generator | None = None,
    ):  # fmt: skip
        super().__init__(input_size, hidden_size, bias, nonlinearity)
        self.add_weights(self.input_size, "", dtype, device, generator)

    def step(self, x: Any, state: Any) -> State:
        x = self.checked(x, (1, 2), f"(N, {self.input_size}) or ({self.input_size},)")
        start = self.checked_state(state, (*x.shape[:-1], self.hidden_size), x)
        w_ih, w_hh, b_ih, b_hh = self.weights("")
        return advance(self.kind, F.linear(x, w_ih, b_ih), start, w_hh, b_hh, self.nonlinearity)

    def extra_repr(self) -> str:
        more = "" if self.kind != "RNN" or self.nonlinearity == "tanh" else f", nonlinearity={self.nonlinearity!r}"
        return f"{self.input_size}, {self.hidden_size}, bias={self.bias}{more}"


class RNNCell(_Cell):
    """One step of a simple recurrent network: h' = tanh(x W_ihᵀ + b_ih + h W_hhᵀ + b_hh).

    J. L. Elman, "Finding structure in time", 1990.

    Args:
        input_size, hidden_size: sizes of the last axes of input and state.
        bias: whether to add b_ih and b_hh. nonlinearity: "tanh" or "relu".
        dtype, device, generator: as for `Linear`.

    Shape:
        x (N, input_size), h (N, hidden_size) -> h' (N, hidden_size). The axis N may be missing in all of them; without
        h the state is 0.

    Raises:
        ShapeError: x or h does not fit. DTypeError: x is not floating point.

    >>> cell = mg.nn.RNNCell(3, 2)
    >>> cell(mg.ones((4, 3))).shape
    (4, 2)
    """

    kind = "RNN"

    def forward(self, x: Any, h: Any = None) -> Tensor:
        return self.step(x, h)[0]


class GRUCell(_Cell):
    """One step of a gated recurrent unit: h' = (1 - u) n + u h, with gates r and u and the candidate n.

        r = sigmoid(x W_irᵀ + b_ir + h W_hrᵀ + b_hr)        u = sigmoid(x W_iuᵀ + b_iu + h W_huᵀ + b_hu)
        n = tanh(x W_inᵀ + b_in + r (h W_hnᵀ + b_hn))       (rows of the weights in the order r, u, n)

    K. Cho et al., "Learning phrase representations using RNN encoder-decoder for statistical machine translation",
    2014.

    Arguments, shapes and errors are those of `RNNCell`, without a nonlinearity.

    >>> mg.nn.GRUCell(3, 2)(mg.ones((4, 3))).shape
    (4, 2)
    """

    kind = "GRU"

    def __init__(self, input_size: int, hidden_size: int, bias: bool = True, **options: Any):
        super().__init__(input_size, hidden_size, bias, **options)

    def forward(self, x: Any, h: Any = None) -> Tensor:
        return self.step(x, h)[0]


class LSTMCell(_Cell):
    """One step of a long short-term memory: c' = f c + i g, h' = o tanh(c'), with gates i, f, o and the input g.

        i, f, o = sigmoid(...), g = tanh(...) of x W_ihᵀ + b_ih + h W_hhᵀ + b_hh      (rows in the order i, f, g, o)

    S. Hochreiter and J. Schmidhuber, "Long short-term memory", 1997; with forget gates: F. A. Gers et al., 2000.

    Arguments and errors are those of `RNNCell`, without a nonlinearity.

    Shape:
        x (N, input_size), (h, c) each (N, hidden_size) -> (h', c'). Without a state, both are 0.

    >>> h, c = mg.nn.LSTMCell(3, 2)(mg.ones((4, 3)))
    >>> h.shape, c.shape
    ((4, 2), (4, 2))
    """

    kind = "LSTM"

    def __init__(self, input_size: int, hidden_size: int, bias: bool = True, **options: Any):
        super().__init__(input_size, hidden_size, bias, **options)

    def forward(self, x: Any, state: Any = None) -> tuple[Tensor, Tensor]:
        h, c = self.step(x, state)
        return h, c


class _Layers(_Recurrent):
    """Recurrent layers over whole sequences, one on top of the other."""

    def __init__(
        self, input_size: int, hidden_size: int, num_layers: int = 1, nonlinearity: str = "tanh", bias: bool = True,
        batch_first: bool = False, dropout: float = 0.0, bidirectional: bool = False, *, dtype: Any = None,
        device: Any = None, generator: Generator | None = None,
    ):  # fmt: skip
        super().__init__(input_size, hidden_size, bias, nonlinearity)
        name = type(self).__name__
        self.num_layers = size(name, "num_layers", num_layers)
        if not 0 <= dropout <= 1:
            raise ArgumentError(f"{name}: dropout is a probability", expected="0 <= dropout <= 1", actual=f"{dropout}")
        self.batch_first, self.dropout, self.bidirectional = bool(batch_first), float(dropout), bool(bidirectional)
        self.directions = ("", "_reverse") if bidirectional else ("",)
        for k in range(self.num_layers):
            inputs = self.input_size if k == 0 else self.hidden_size * len(self.directions)
            for direction in self.directions:
                self.add_weights(inputs, f"_l{k}{direction}", dtype, device, generator)

    def run(self, x: Any, state: Any, lengths: Any) -> tuple[Tensor, State]:
        """The outputs of the last layer, and the last states of all layers."""
        words = f"({'N, T' if self.batch_first else 'T, N'}, {self.input_size}) or (T, {self.input_size})"
        x = self.checked(x, (2, 3), words)
        batched, size_ = x.ndim == 3, len(self.directions) * self.num_layers
        if batched and self.batch_first:
            x = swapaxes(x, 0, 1)
        steps = x.shape[0]
        if steps == 0:
            raise ShapeError(f"{self.where()}: the sequence is empty", expected="at least one step",
                             actual=f"x: {spec_of(x.value)!r}")  # fmt: skip
        batch = (x.shape[1],) if batched else ()
        start = self.checked_state(state, (size_, *batch, self.hidden_size), x)
        going = None if lengths is None else self.going(lengths, steps, batch)
        last: list[State] = []
        for k in range(self.num_layers):
            if k and self.dropout:
                x = F.dropout(x, self.dropout, self.training)
            outputs = []
            for d, direction in enumerate(self.directions):
                mine = tuple([s[k * len(self.directions) + d] for s in start])
                y, end = self.layer(x, mine, f"_l{k}{direction}", going, reverse=d == 1)
                outputs.append(y)
                last.append(end)
            x = outputs[0] if len(outputs) == 1 else concat(outputs, axis=-1)
        if batched and self.batch_first:
            x = swapaxes(x, 0, 1)
        return x, tuple([stack(states) for states in zip(*last, strict=True)])

    def layer(
        self, x: Tensor, start: State, suffix: str, going: Tensor | None, *, reverse: bool
    ) -> tuple[Tensor, State]:
        """One layer in one direction."""
        w_ih, w_hh, b_ih, b_hh = self.weights(suffix)
        if b_ih is not None and self.kind != "GRU":  # whose reset gate comes between the two
            b_ih, b_hh = b_ih + b_hh, None
        taken = F.linear(x, w_ih, b_ih)  # for all steps at once

        def step(state: State, element: Any) -> tuple[State, Tensor]:
            z, on = element if going is not None else (element, None)
            new = advance(self.kind, z, state, w_hh, b_hh, self.nonlinearity)
            if on is None:
                return new, new[0]
            kept = tuple([where(on, a, b) for a, b in zip(new, state, strict=True)])
            return kept, where(on, new[0], 0.0)

        end, y = scan(step, start, taken if going is None else (taken, going), reverse=reverse)
        return y, end

    def going(self, lengths: Any, steps: int, batch: tuple[int, ...]) -> Tensor:
        """For each step and sequence, whether the sequence is that long: shape (T, N, 1)."""
        lengths = lift(lengths)
        if lengths.dtype.kind not in "iu" or lengths.shape != batch:
            raise ShapeError(
                f"{self.where()}: lengths",
                expected=f"integers, shape {batch}: one for each sequence",
                actual=f"lengths: {spec_of(lengths.value)!r}",
            )
        if not lengths.is_symbolic:
            values = lengths.numpy()
            if values.size and (values.min() < 1 or values.max() > steps):
                raise ArgumentError(
                    f"{self.where()}: lengths",
                    expected=f"between 1 and {steps}, the steps of x",
                    actual=f"{values.min()} to {values.max()}",
                )
        rounds = Tensor(np.arange(steps).reshape(steps, *[1] * len(batch), 1))
        return rounds.to(lengths.device) < reshape(lengths, (*batch, 1))

    def extra_repr(self) -> str:
        more = {
            "num_layers": (self.num_layers, 1), "nonlinearity": (self.nonlinearity, "tanh"), "bias": (self.bias, True),
            "batch_first": (self.batch_first, False), "dropout": (self.dropout, 0.0),
            "bidirectional": (self.bidirectional, False),
        }  # fmt: skip
        changed = [f", {name}={value!r}" for name, (value, usual) in more.items() if value != usual]
        return f"{self.input_size}, {self.hidden_size}{''.join(changed)}"


class RNN(_Layers):
    """Simple recurrent layers over a sequence: h[t] = tanh(x[t] W_ihᵀ + b_ih + h[t-1] W_hhᵀ + b_hh).

    J. L. Elman, "Finding structure in time", 1990. Both directions: M. Schuster and K. K. Paliwal, 1997.

    Args:
        input_size, hidden_size: sizes of the last axes of input and state.
        num_layers: how many layers, each fed with the outputs of the one before.
        nonlinearity: "tanh" or "relu". bias: whether to add b_ih and b_hh.
        batch_first: x and y are (N, T, ...) instead of (T, N, ...); states are not.
        dropout: probability of a zero between layers, in training.
        bidirectional: a second layer goes from the end to the start; D is 2 then, else 1, and y holds both.
        dtype, device, generator: as for `Linear`.

    Attributes:
        weight_ih_l0, weight_hh_l0, bias_ih_l0, bias_hh_l0, ... for each layer, with `_reverse` for the other direction.

    Shape:
        x (T, N, input_size), h (D * num_layers, N, hidden_size) -> y (T, N, D * hidden_size), h'. The axis N may be
        missing in all of them. Without h the state starts at 0.

    `lengths`, integers of shape (N,), says how many steps of each sequence are real. After them the state stays as it
    is and the outputs are 0; the other direction starts at the last real step.

    Raises:
        ShapeError: x, h or lengths does not fit. DTypeError: x is not floating point. ArgumentError: a length is 0 or
        longer than the sequence.

    >>> y, h = mg.nn.RNN(3, 2)(mg.ones((5, 4, 3)))
    >>> y.shape, h.shape
    ((5, 4, 2), (1, 4, 2))
    """

    kind = "RNN"

    def forward(self, x: Any, h: Any = None, lengths: Any = None) -> tuple[Tensor, Tensor]:
        y, (last,) = self.run(x, h, lengths)
        return y, last


class GRU(_Layers):
    """Gated recurrent units over a sequence; see `GRUCell` for a step.

    Arguments, shapes and errors are those of `RNN`, without a nonlinearity.

    >>> y, h = mg.nn.GRU(3, 2, num_layers=2, bidirectional=True)(mg.ones((5, 4, 3)))
    >>> y.shape, h.shape
    ((5, 4, 4), (4, 4, 2))
    """

    kind = "GRU"

    def __init__(self, input_size: int, hidden_size: int, num_layers: int = 1, bias: bool = True, **options: Any):
        super().__init__(input_size, hidden_size, num_layers, bias=bias, **options)

    def forward(self, x: Any, h: Any = None, lengths: Any = None) -> tuple[Tensor, Tensor]:
        y, (last,) = self.run(x, h, lengths)
        return y, last


class LSTM(_Layers):
    """Long short-term memory over a sequence; see `LSTMCell` for a step.

    Arguments, shapes and errors are those of `RNN`, without a nonlinearity; the state is a pair (h, c).

    >>> y, (h, c) = mg.nn.LSTM(3, 2, batch_first=True)(mg.ones((4, 5, 3)), lengths=mg.tensor([5, 1, 3, 2]))
    >>> y.shape, h.shape, c.shape
    ((4, 5, 2), (1, 4, 2), (1, 4, 2))
    """

    kind = "LSTM"

    def __init__(self, input_size: int, hidden_size: int, num_layers: int = 1, bias: bool = True, **options: Any):
        super().__init__(input_size, hidden_size, num_layers, bias=bias, **options)

    def forward(self, x: Any, state: Any = None, lengths: Any = None) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        y, (h, c) = self.run(x, state, lengths)
        return y, (h, c)
