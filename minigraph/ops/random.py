"""Random numbers that a graph can hold: counter-based, with the generator's state as a variable.

A random operation is a pure function of a state, which is two numbers (key, counter): the same state gives the same
numbers, on every device and in both modes (Philox; J. Salmon et al., "Parallel random numbers: as easy as 1, 2, 3",
2011). What makes the next draw different is that the generator advances the counter, and the counter lives in a
`Variable`: a compiled function reads it, draws, and assigns it, so numbers are never frozen into a graph, a checkpoint
of the state resumes exactly, and a recomputed dropout mask is the same mask.

Streams with different keys never meet. `mg.random.normal(...)` and its like draw from `mg.random.default_generator`;
programs that want independent streams make a `Generator` for each.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from operator import index as to_int
from typing import Any

import numpy as np

from ..backend import random_bits
from ..errors import ArgumentError, CheckpointError, DTypeError, ShapeError
from ..op import Op, Spec
from ..tensor import Operators, Tensor, bind, float_dtype, lift
from ..variable import Variable
from .common import flag, integer, shown
from .creation import number_dtype, to_device
from .index import take
from .shape import shape_tuple

__all__ = [
    "Generator",
    "bernoulli",
    "choice",
    "default_generator",
    "integers",
    "normal",
    "permutation",
    "seed",
    "spawn",
    "uniform",
]

UINT64 = np.dtype("uint64")
BLOCK = 8  # 32-bit words that one step of the counter gives


def _need_state(name: str, state: Spec) -> None:
    if state.shape != (2,) or state.dtype != UINT64:
        raise ShapeError(
            f"{name}: the state of a generator", expected="uint64[2]: key and counter", actual=f"state: {state!r}"
        )


def words(xp: Any, state: Any, n: int) -> Any:
    """`n` random 32-bit numbers (uint32), the first that `state` gives."""
    return random_bits(xp, int(state[0]), int(state[1]), -(-n // 2)).view("uint32")[:n]


def steps(n: int) -> int:
    """How far the counter moves for `n` 32-bit words."""
    return -(-n // BLOCK)


def _unit(xp: Any, state: Any, n: int, dtype: np.dtype, start: float = 0.0) -> Any:
    """`n` numbers in [0, 1), with all the bits that the dtype resolves; with `start`, shifted by that many steps of the
    grid, so that `start=1` means (0, 1]."""
    if dtype.itemsize == 8:
        bits, digits = words(xp, state, 2 * n).view("uint64") >> np.uint64(11), 53
    else:
        bits, digits = words(xp, state, n) >> np.uint32(8), 24
    u = bits.astype(dtype if dtype.itemsize > 2 else float_dtype)
    if start:
        u += start
    u *= 2.0**-digits
    return u


def _uniform_words(n: int, dtype: np.dtype) -> int:
    return 2 * n if dtype.itemsize == 8 else n


def _drawn(name: str) -> Any:
    """The `infer` of operations whose attributes say everything."""

    def infer(state: Spec, *, shape: Any, dtype: Any, **attrs: Any) -> Spec:
        _need_state(name, state)
        return Spec(shape, dtype, state.device)

    return infer


def _state() -> np.ndarray:
    return np.array([12345, 3], UINT64)


def _samples(**attrs: Any) -> Any:
    def samples(rng: np.random.Generator) -> Iterator:
        for shape in ((2, 3), (), (0, 2), (17,)):
            yield (_state(),), {"shape": shape, **attrs}

    return samples


# --------------------------------------------------------------------------------------------------------- operations


def _bits_run(xp: Any, state: Any, *, shape: Any, dtype: Any) -> Any:
    dtype = np.dtype(dtype)
    return words(xp, state, math.prod(shape) * (dtype.itemsize // 4)).view(dtype).reshape(shape)


RANDOM_BITS = Op("random_bits", run=_bits_run, infer=_drawn("random_bits"), samples=_samples(dtype=np.dtype("uint32")))


def _uniform_run(xp: Any, state: Any, *, shape: Any, dtype: Any, low: float = 0.0, high: float = 1.0) -> Any:
    u = _unit(xp, state, math.prod(shape), dtype)
    if low != 0.0 or high != 1.0:
        u *= high - low
        u += low
    return u.astype(dtype, copy=False).reshape(shape)


RANDOM_UNIFORM = Op(
    "random_uniform",
    run=_uniform_run,
    infer=_drawn("random_uniform"),
    samples=_samples(dtype=float_dtype, low=-1.0, high=3.0),
)


def _normal_run(xp: Any, state: Any, *, shape: Any, dtype: Any, mean: float = 0.0, std: float = 1.0) -> Any:
    """Pairs of numbers by G. Box and M. Muller, "A note on the generation of random normal deviates", 1958."""
    n = math.prod(shape)
    half = -(-n // 2)
    u = _unit(xp, state, 2 * half, dtype, 1.0)
    radius = xp.sqrt(xp.log(u[:half]) * -2.0)
    angle = u[half:] * (2 * math.pi)
    z = xp.concatenate([radius * xp.cos(angle), radius * xp.sin(angle)])[:n]
    if std != 1.0 or mean != 0.0:
        z *= std
        z += mean
    return z.astype(dtype, copy=False).reshape(shape)


RANDOM_NORMAL = Op(
    "random_normal",
    run=_normal_run,
    infer=_drawn("random_normal"),
    samples=_samples(dtype=float_dtype, mean=1.0, std=2.0),
)


def _bernoulli_run(xp: Any, state: Any, *, shape: Any, p: float) -> Any:
    threshold = round(p * 2.0**32)
    if not 0 < threshold < 2**32:
        return xp.full(shape, threshold > 0)
    return (words(xp, state, math.prod(shape)) < np.uint32(threshold)).reshape(shape)


def _bernoulli_infer(state: Spec, *, shape: Any, p: float) -> Spec:
    _need_state("random_bernoulli", state)
    return Spec(shape, "bool", state.device)


RANDOM_BERNOULLI = Op("random_bernoulli", run=_bernoulli_run, infer=_bernoulli_infer, samples=_samples(p=0.3))


def _integers_run(xp: Any, state: Any, *, shape: Any, low: int, high: int, dtype: Any) -> Any:
    """64 random bits modulo the range: the bias is below (high - low) / 2**64."""
    bits = words(xp, state, 2 * math.prod(shape)).view("uint64")
    return ((bits % np.uint64(high - low)) + np.uint64(low % 2**64)).astype(dtype).reshape(shape)


RANDOM_INTEGERS = Op(
    "random_integers",
    run=_integers_run,
    infer=_drawn("random_integers"),
    samples=_samples(dtype=np.dtype("int64"), low=-3, high=5),
)


def _permutation_run(xp: Any, state: Any, *, n: int) -> Any:
    return xp.argsort(words(xp, state, 2 * n).view("uint64"), kind="stable")


def _permutation_infer(state: Spec, *, n: int) -> Spec:
    _need_state("random_permutation", state)
    return Spec((n,), "int64", state.device)


RANDOM_PERMUTATION = Op(
    "random_permutation",
    run=_permutation_run,
    infer=_permutation_infer,
    samples=lambda rng: iter([((_state(),), {"n": 7}), ((_state(),), {"n": 0})]),
)


def _advance_infer(state: Spec, *, steps: int) -> Spec:
    _need_state("random_advance", state)
    return state


RANDOM_ADVANCE = Op(
    "random_advance",
    run=lambda xp, state, *, steps: state + xp.asarray(np.array([0, steps], UINT64)),
    numpy=lambda state, steps: state + np.array((0, steps), UINT64),
    infer=_advance_infer,
    samples=lambda rng: iter([((_state(),), {"steps": 5})]),
)


# ---------------------------------------------------------------------------------------------------------- generators


def _seeded(seed: Any) -> int:
    """A key from what the user gave as a seed."""
    if seed is None:
        return int.from_bytes(os.urandom(8), "little")
    if isinstance(seed, bool | np.bool_ | Operators):
        raise DTypeError("seed: an integer, or None for one that differs each time", actual=shown(seed))
    key = integer("seed", "seed", seed)
    if not 0 <= key < 2**64:
        raise ArgumentError("seed: out of range", expected="0 to 2**64 - 1", actual=f"{key}")
    return key


def _number(name: str, argument: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | np.integer | np.floating):
        raise DTypeError(f"{name}: {argument} is a number", actual=f"{type(value).__name__} {value!r}")
    if not math.isfinite(value):
        raise ArgumentError(f"{name}: {argument} is finite", actual=f"{argument}={value}")
    return float(value)


def _float_dtype(name: str, dtype: Any) -> np.dtype:
    found = number_dtype(name, dtype)
    if found.kind != "f":
        raise DTypeError(
            f"{name}: dtype is floating point", actual=str(found), remedy="mg.random.integers draws integers"
        )
    return found


class Generator:
    """A stream of random numbers.

    Args:
        seed: 0 to 2**64 - 1; the same seed gives the same numbers, on every device. None: different each time.
        device: where the numbers are made, unless a method says otherwise.
        name: of the variable that holds the state.

    Attributes:
        state: a `Variable`, uint64[2]: the key, which is the seed, and the counter, which every draw advances.

    >>> g = mg.random.Generator(0)
    >>> a, b = g.normal(2), g.normal(2)
    >>> bool((a == b).all()), bool((a == mg.random.Generator(0).normal(2)).all())
    (False, True)
    """

    def __init__(self, seed: int | None = None, *, device: Any = None, name: str = "generator.state"):
        self.state = Variable(np.array([_seeded(seed), 0], UINT64), device=device, name=name)

    def seed(self, seed: int | None = None) -> None:
        """Let the default generator start again from a seed.

        >>> mg.random.seed(0)
        >>> a = mg.random.uniform((2,))
        >>> mg.random.seed(0)
        >>> (mg.random.uniform((2,)) == a).tolist()
        [True, True]
        """
        self.state.assign(to_device(Tensor(np.array([_seeded(seed), 0], UINT64)), self.state.device))

    def _draw(self, op: Op, n: int, device: Any, attrs: dict[str, Any]) -> Tensor:
        """Apply a random operation that uses `n` 32-bit words to the state, and advance the state."""
        state = self.state.read()
        numbers = bind(op, state if device is None else to_device(state, device), **attrs)
        self.state.assign(bind(RANDOM_ADVANCE, state, steps=-(-n // BLOCK)))
        return numbers

    def uniform(
        self, shape: Any = (), low: Any = 0.0, high: Any = 1.0, *, dtype: Any = None, device: Any = None
    ) -> Tensor:
        """Numbers from `low` to `high`, all equally likely, `high` itself excluded (unless rounding reaches it).

        Args:
            shape: of the result.
            low, high: numbers, or tensors that broadcast to `shape`, through which gradients flow.
            dtype: float32 unless given.

        Raises:
            ArgumentError: `low` is not below `high`. ShapeError: a size is negative.

        >>> mg.random.Generator(1).uniform((2, 2), -1, 1).shape
        (2, 2)
        """
        sizes, dtype = shape_tuple("uniform", shape), _float_dtype("uniform", dtype)
        n = _uniform_words(math.prod(sizes), dtype)
        if isinstance(low, Operators) or isinstance(high, Operators):
            unit = self._draw(RANDOM_UNIFORM, n, device, {"shape": sizes, "dtype": dtype})
            return low + (high - low) * unit
        low, high = _number("uniform", "low", low), _number("uniform", "high", high)
        if not low < high:
            raise ArgumentError("uniform: low is below high", expected="low < high", actual=f"low={low}, high={high}")
        return self._draw(RANDOM_UNIFORM, n, device, {"shape": sizes, "dtype": dtype, "low": low, "high": high})

    def normal(
        self, shape: Any = (), mean: Any = 0.0, std: Any = 1.0, *, dtype: Any = None, device: Any = None
    ) -> Tensor:
        """Normally distributed numbers.

        Args:
            shape: of the result.
            mean, std: numbers, or tensors that broadcast to `shape`, through which gradients flow.
            dtype: float32 unless given.

        Raises:
            ArgumentError: `std` is negative. ShapeError: a size is negative.

        >>> mg.random.Generator(1).normal(3, mean=10.0).dtype
        dtype('float32')
        """
        sizes, dtype = shape_tuple("normal", shape), _float_dtype("normal", dtype)
        n = _uniform_words(2 * -(-math.prod(sizes) // 2), dtype)
        if isinstance(mean, Operators) or isinstance(std, Operators):
            z = self._draw(RANDOM_NORMAL, n, device, {"shape": sizes, "dtype": dtype})
            return mean + std * z
        mean, std = _number("normal", "mean", mean), _number("normal", "std", std)
        if std < 0:
            raise ArgumentError("normal: std", expected="0 or more", actual=f"std={std}")
        return self._draw(RANDOM_NORMAL, n, device, {"shape": sizes, "dtype": dtype, "mean": mean, "std": std})

    def bernoulli(self, p: Any = 0.5, shape: Any = None, *, device: Any = None) -> Tensor:
        """True with probability `p`, false otherwise: a dropout mask.

        Args:
            p: a number from 0 to 1, or a tensor of them.
            shape: of the result; () unless given, or the shape of `p` if that is a tensor.

        Raises:
            ArgumentError: `p` is not a probability.

        >>> mg.random.Generator(0).bernoulli(0.9, 1000).sum() > 850
        tensor(True, dtype=bool)
        """
        if isinstance(p, Operators):
            u = self.uniform(
                p.shape if shape is None else shape, dtype=p.dtype if p.dtype.kind == "f" else None, device=device
            )
            return u < p
        sizes, p = shape_tuple("bernoulli", () if shape is None else shape), _number("bernoulli", "p", p)
        if not 0 <= p <= 1:
            raise ArgumentError("bernoulli: p is a probability", expected="0 to 1", actual=f"p={p}")
        return self._draw(RANDOM_BERNOULLI, math.prod(sizes), device, {"shape": sizes, "p": p})

    def integers(
        self,
        low: int,
        high: int | None = None,
        shape: Any = (),
        *,
        endpoint: bool = False,
        dtype: Any = "int64",
        device: Any = None,
    ) -> Tensor:
        """Integers from `low` to `high`, all equally likely, `high` itself excluded unless `endpoint`.

        Args:
            low, high: `integers(n)` draws from 0 to n - 1.
            shape: of the result.
            dtype: an integer dtype that holds `low` and `high - 1`.

        Raises:
            ArgumentError: there is no integer to choose from. DTypeError: `dtype` cannot hold them.

        >>> mg.random.Generator(0).integers(1, 7, (2, 3)).shape
        (2, 3)
        """
        try:
            low, high = (0, to_int(low)) if high is None else (to_int(low), to_int(high))
        except TypeError:
            raise DTypeError("integers: low and high are integers", actual=f"low={low!r}, high={high!r}") from None
        high = high + 1 if flag("integers", "endpoint", endpoint) else high
        sizes, dtype = shape_tuple("integers", shape), number_dtype("integers", dtype)
        if low >= high:
            raise ArgumentError(
                "integers: low is below high",
                expected="at least one integer to choose from",
                actual=f"low={low}, high={high}" + (" (endpoint included)" if endpoint else ""),
            )
        if dtype.kind not in "iu" or low < np.iinfo(dtype).min or high - 1 > np.iinfo(dtype).max:
            raise DTypeError("integers: dtype holds every result", expected=f"{low} to {high - 1}", actual=str(dtype))
        n = 2 * math.prod(sizes)
        if high - low == 2**64:
            return self._draw(RANDOM_BITS, n, device, {"shape": sizes, "dtype": dtype})
        return self._draw(RANDOM_INTEGERS, n, device, {"shape": sizes, "dtype": dtype, "low": low, "high": high})

    def permutation(self, x: Any, *, device: Any = None) -> Tensor:
        """The numbers 0 to x - 1 in random order; or, of a tensor, its parts along the first axis.

        >>> mg.sort(mg.random.Generator(0).permutation(4))
        tensor([0, 1, 2, 3], dtype=int64)
        """
        if isinstance(x, Operators | np.ndarray) and x.ndim:
            t = lift(x)
            return take(t, self.permutation(t.shape[0], device=device), axis=0)
        try:
            n = to_int(x)
        except TypeError:
            raise DTypeError("permutation: a number or a tensor", actual=f"{type(x).__name__} {x!r}") from None
        if n < 0:
            raise ArgumentError("permutation: a number of 0 or more", actual=f"{n}")
        return self._draw(RANDOM_PERMUTATION, 2 * n, device, {"n": n})

    def choice(self, x: Any, shape: Any = (), *, replace: bool = True, p: Any = None) -> Tensor:
        """Random picks from 0 to x - 1; or, of a tensor, from its parts along the first axis.

        Args:
            x: a number, or a tensor.
            shape: of the picks.
            replace: whether something may be picked more than once.
            p: probabilities, one for each candidate; all equal unless given. Needs `replace`.

        Raises:
            ArgumentError: more picks than candidates, or none to pick from. ShapeError: `p` does not fit.

        >>> mg.random.Generator(0).choice(10, 3, replace=False).shape
        (3,)
        """
        sizes = shape_tuple("choice", shape)
        table = lift(x) if isinstance(x, Operators | np.ndarray) and x.ndim else None
        n = table.shape[0] if table is not None else integer("choice", "x", x)
        replace = flag("choice", "replace", replace)
        count = math.prod(sizes)
        if count and n <= 0:
            raise ArgumentError("choice: nothing to choose from", expected="at least one candidate", actual=f"{n}")
        if not replace and (count > n or p is not None):
            raise ArgumentError("choice: without replacement", expected=f"at most {n} picks, all equally likely",
                                actual=f"{count} picks" + (", with p" if p is not None else ""))  # fmt: skip
        if p is not None:
            weights = lift(p)
            if weights.shape != (n,):
                raise ShapeError(
                    "choice: one probability for each candidate",
                    expected=f"shape ({n},)",
                    actual=f"shape {weights.shape}",
                )
            from .reduction import cumulative_sum, sum

            limits = cumulative_sum(weights.astype(np.dtype("float64")), axis=0)
            u = self.uniform((*sizes, 1), dtype="float64") * limits[-1]
            picks = sum(u >= limits[:-1], axis=-1)
        elif replace:
            picks = self.integers(0, n if n > 0 else 1, sizes)
        else:
            picks = self.permutation(n)[:count].reshape(sizes)
        return picks if table is None else take(table, picks, axis=0)

    def spawn(self, n: int) -> list[Generator]:
        """`n` new generators, whose streams do not overlap with this one's or each other's. Advances this one.

        >>> len(mg.random.Generator(0).spawn(3))
        3
        """
        count = shape_tuple("spawn", integer("spawn", "n", n))
        keys = self._draw(RANDOM_BITS, 2 * count[0], "cpu", {"shape": count, "dtype": UINT64}).numpy()
        return [Generator(int(k), device=self.state.device) for k in keys]

    def to(self, device: Any) -> Generator:
        """Move the state, so that numbers are made on another device from now on. Returns the generator."""
        self.state.move(device)
        return self

    def state_dict(self) -> dict[str, Tensor]:
        """What a checkpoint needs: `{"state": uint64[2]}`."""
        return {"state": self.state.read()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where a checkpoint was made.

        Raises:
            CheckpointError: not the state of a generator.
        """
        found = state.get("state") if isinstance(state, dict) else None
        if found is None or np.shape(found) != (2,) or found.dtype != UINT64:
            actual = f"keys {list(state)}" if isinstance(state, dict) else type(state).__name__
            raise CheckpointError(
                "Generator.load_state_dict: not the state of a generator",
                expected='{"state": uint64[2]}',
                actual=actual,
            )
        self.state.assign(to_device(lift(found), self.state.device))

    def __repr__(self) -> str:
        if self.state.is_symbolic:
            return "Generator(symbolic)"
        key, counter = self.state.numpy()
        return f"Generator(seed={key}, counter={counter})"


default_generator = Generator(name="random.default_generator.state")
seed, uniform, normal, bernoulli = (
    default_generator.seed,
    default_generator.uniform,
    default_generator.normal,
    default_generator.bernoulli,
)
integers, permutation, choice, spawn = (
    default_generator.integers,
    default_generator.permutation,
    default_generator.choice,
    default_generator.spawn,
)
