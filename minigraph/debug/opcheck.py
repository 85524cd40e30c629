"""Everything that can be checked about one operation, from nothing but sample inputs.

An `Op` says the same thing in several ways: `run` computes what `infer` predicts, the gradient rules say how it
changes, `expression` spells it for code generators, `saves` promises what the rules read. Each pair of statements can
be held against each other, and that is what `opcheck` does. The catalogue's own tests are nothing but this function;
so an operation that a user defines in a notebook gets the same tests by one call.

Each check is a function below that raises `Failed` with the reason. A check that does not apply to a sample raises
`Skipped`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from .. import backend
from ..autodiff import fit, gradients
from ..errors import ArgumentError, DeviceError, MinigraphError
from ..namespace import array_functions, numpy_functions
from ..op import OPS, Op, argument_names, spec_of
from ..tensor import Tensor, bind, lift
from .gradcheck import gradcheck

__all__ = ["OpCheckError", "OpReport", "opcheck"]

UNITS = 100  # in the last place: how far results may differ that should be equal but for the order of additions


class OpCheckError(MinigraphError, AssertionError):
    """An operation contradicts itself; the report is in `.report`."""

    report: OpReport


class Failed(Exception):
    """A check has found a contradiction."""


class Skipped(Exception):
    """A check does not apply here."""


@dataclass
class Sample:
    """Inputs for one call; `error` is the class that must be raised if the inputs are invalid."""

    arrays: tuple[np.ndarray, ...]
    attrs: dict[str, Any]
    error: type[Exception] | None = None

    def __str__(self) -> str:
        parts = [repr(spec_of(a)) for a in self.arrays]
        return ", ".join(parts + [f"{k}={v!r}" for k, v in self.attrs.items()])

    @property
    def floats(self) -> list[int]:
        """The positions of the floating-point inputs."""
        return [i for i, a in enumerate(self.arrays) if a.dtype.kind == "f"]

    def with_arrays(self, change: Callable[[np.ndarray], Any]) -> list[Any]:
        return [change(a) for a in self.arrays]

    def like(self, arrays: Iterable[Any]) -> Sample:
        return Sample(tuple(arrays), self.attrs)

    def double(self) -> Sample:
        """The same in float64, for finite differences."""
        return self.like(a.astype("f8") if a.dtype.kind == "f" else a for a in self.arrays)


@dataclass
class Check:
    """The outcome of one check over all samples."""

    name: str
    passed: int = 0
    reasons: list[str] = field(default_factory=list)  # of failures
    skipped: str = ""
    note: str = ""

    @property
    def ok(self) -> bool:
        return not self.reasons

    def __str__(self) -> str:
        if self.reasons:
            more = f" (and {len(self.reasons) - 1} more)" if len(self.reasons) > 1 else ""
            return f"✗ {self.name:<32} {self.reasons[0]}{more}"
        if not self.passed:
            return f"- {self.name:<32} {self.skipped or 'no sample for it'}"
        note = f" ({self.note})" if self.note else ""
        return f"✓ {self.name:<32} {self.passed} sample{'s' if self.passed != 1 else ''}{note}"


@dataclass
class OpReport:
    """The outcome of `opcheck`: one line for each check, ✓, ✗ with the reason, or - where it does not apply."""

    op: Op
    checks: list[Check]

    @property
    def ok(self) -> bool:
        return all(c.ok for c in self.checks)

    def __bool__(self) -> bool:
        return self.ok

    def __getitem__(self, name: str) -> Check:
        return next(c for c in self.checks if c.name == name)

    def __repr__(self) -> str:
        title = f"opcheck {self.op.name}: " + (
            "all well" if self.ok else f"{sum(not c.ok for c in self.checks)} checks failed"
        )
        return "\n".join([title, *("  " + str(c).replace("\n", "\n      ") for c in self.checks)])


def opcheck(
    op: Op | str,
    *inputs: Any,
    samples: Callable[[np.random.Generator], Iterable] | None = None,
    seed: int = 0,
    raise_on_failure: bool = True,
    **attrs: Any,
) -> OpReport:
    """Check an operation against itself: shapes, dtypes, gradients of order one and two, both modes, both devices.

    Args:
        op: an `Op` (what `@mg.op` returns) or the name of one.
        inputs: sample inputs, tensors or arrays; without any, the operation's own `samples` are used.
        samples: a generator function of samples in the form that `Op` describes.
        seed: of the generator that `samples` gets.
        attrs: attributes for `inputs`.

    Returns:
        an `OpReport`, which prints as a table.

    Raises:
        OpCheckError: some check failed (unless `raise_on_failure=False`).
        ArgumentError: there are neither inputs nor samples.

    >>> @mg.op
    ... def cube(xp, x):
    ...     return x**3
    >>> _ = cube.defvjp(lambda F, g, y, x: g * 3 * x**2)
    >>> report = mg.debug.opcheck(cube, mg.tensor([1.0, -2.0]), raise_on_failure=False)
    >>> print(report["gradient"])
    ✓ gradient                         1 sample
    """
    if isinstance(op, str):
        if op not in OPS:
            raise ArgumentError(f"opcheck: no operation is called {op!r}", remedy="see mg.OPS")
        op = OPS[op]
    if inputs:
        drawn = [Sample(tuple(np.asarray(lift(x).numpy()) for x in inputs), attrs)]
    else:
        source = samples or op.samples
        if source is None:
            raise ArgumentError(f"opcheck({op.name}): nothing to check with", expected="inputs, or samples",
                                remedy=f"opcheck({op.name}, mg.tensor([1.0, 2.0]))")  # fmt: skip
        drawn = [read_sample(s) for s in source(np.random.default_rng(seed))]
    good = [s for s in drawn if s.error is None]
    checks = []
    for name, function in CHECKS.items():
        check = Check(name)
        with np.errstate(all="ignore"):
            for sample in drawn if name == "bad input" else good:
                attempt(check, function, op, sample)
            if name == "saved values" and check.ok and (unread := unread_saves(op, good)):
                # everything is what `defvjp` declares for you: then it is only a hint
                if set(op.saves) == {*op.arguments, "y"} and not op.builtin:
                    check.note = f"no rule reads {', '.join(unread)}: saves= without it would free memory earlier"
                else:
                    check.reasons.append(f"{', '.join(unread)} declared in saves, but no rule reads it")
        checks.append(check)
    report = OpReport(op, checks)
    if raise_on_failure and not report.ok:
        error = OpCheckError(repr(report), remedy="each line says what contradicts what")
        error.report = report
        raise error
    return report


def read_sample(item: Any) -> Sample:
    if item[0] == "bad" and isinstance(item[0], str):
        _, arrays, attrs, error = item
        return Sample(tuple(map(np.asarray, arrays)), attrs, error)
    arrays, attrs = item
    return Sample(tuple(map(np.asarray, arrays)), attrs)


def attempt(check: Check, function: Callable, op: Op, sample: Any) -> None:
    try:
        function(op, sample)
    except Skipped as why:
        check.skipped = check.skipped or str(why)
    except Failed as why:
        check.reasons.append(str(why) + (f"\n  with {sample}" if isinstance(sample, Sample) else ""))
    except Exception as error:  # whatever a wrong operation raises is the outcome of the check
        check.reasons.append(
            f"{type(error).__name__}: {error}" + (f"\n  with {sample}" if isinstance(sample, Sample) else "")
        )
    else:
        check.passed += 1


# ------------------------------------------------------------------------------------------------------- comparing


def parts(value: Any) -> tuple[Any, ...]:
    return value if type(value) is tuple else (value,)


def same(a: Any, b: Any, what: str, *, exactly: bool = False) -> None:
    """Raise unless two values have the same shape, dtype and elements (but for rounding, unless `exactly`)."""
    if len(parts(a)) != len(parts(b)):
        raise Failed(f"{what}: {len(parts(a))} and {len(parts(b))} results")
    for x, y in zip(parts(a), parts(b), strict=True):
        if x is None or y is None:
            if (x is None) != (y is None):
                raise Failed(f"{what}: one is None, the other is not")
            continue
        if x.shape != y.shape or x.dtype != y.dtype:
            raise Failed(f"{what}: {spec_of(x)!r} and {spec_of(y)!r}")
        x, y = np.asarray(x), np.asarray(y)
        if np.array_equal(x, y, equal_nan=x.dtype.kind == "f"):
            continue
        if not exactly and x.dtype.kind == "f":
            unit = float(np.finfo(x.dtype).eps)
            scale = float(np.max(np.abs(x), where=np.isfinite(x), initial=1.0))
            if np.allclose(x, y, rtol=UNITS * unit, atol=UNITS * unit * scale, equal_nan=True):
                continue
        at = int(np.argmax(~np.isclose(x, y, rtol=0, atol=0, equal_nan=True)))
        raise Failed(f"{what} differ: {x.ravel()[at]!r} and {y.ravel()[at]!r} at {list(np.unravel_index(at, x.shape))}")


def run(op: Op, arrays: Sequence[Any], attrs: dict[str, Any]) -> Any:
    return op.numpy(*arrays, **attrs)


def results(node: Tensor) -> list[Tensor]:
    """The results of a node as tensors, also when there are several."""
    if type(node.value) is not tuple:
        return [node]
    from ..ops.control import results

    return results(node)


def need_gradient(op: Op, sample: Sample) -> None:
    if op.vjp is None:
        raise Skipped("not differentiable")
    rules = op.vjp
    if not sample.floats or (type(rules) is tuple and all(rules[i] is None for i in sample.floats)):
        raise Skipped("no floating-point input with a rule")
    if not any(v.dtype.kind == "f" for v in parts(run(op, sample.arrays, sample.attrs))):
        raise Skipped("no floating-point result")


def differentiable(op: Op, sample: Sample) -> list[int]:
    """The positions of the inputs that have a gradient."""
    return [i for i in sample.floats if callable(op.vjp) or (op.vjp is not None and op.vjp[i] is not None)]


def pull(
    op: Op, F: Any, g: Any, y: Any, values: Sequence[Any], attrs: dict[str, Any], wanted: Sequence[int]
) -> tuple[Any, ...]:
    """What the rules give for the wanted inputs, as they give it."""
    rules: Any = op.vjp
    if type(rules) is tuple:
        return tuple(rules[i](F, g, y, *values, **attrs) for i in wanted)
    found = rules(F, [i in wanted for i in range(len(values))], g, y, *values, **attrs)
    return tuple(found[i] for i in wanted)


def ones_like(y: Any, seed: int = 1) -> Any:
    """A gradient for the result `y`: random numbers of its shapes and dtypes."""
    rng = np.random.default_rng(seed)

    def one(v: Any) -> Any:
        array = rng.standard_normal(v.shape)
        return np.asarray(array).astype(v.dtype if v.dtype.kind == "f" else "f4")

    return tuple(map(one, y)) if type(y) is tuple else one(y)


# ---------------------------------------------------------------------------------------------------------- checks


def infer_agrees(op: Op, sample: Sample) -> None:
    for kind in (None, "f4", "f2"):
        arrays = sample.with_arrays(lambda a: a.astype(kind) if kind and a.dtype.kind == "f" else a)  # noqa: B023
        specs = [spec_of(a) for a in arrays]
        try:
            y = run(op, arrays, sample.attrs)
        except Exception as error:
            try:
                op.infer(*specs, **sample.attrs)
            except Exception:
                if kind is None:
                    raise Failed(f"run raises {type(error).__name__}: {error}") from None
                continue
            raise Failed(f"run raises {type(error).__name__} ({error}) where infer does not, for {specs}") from None
        predicted = op.infer(*specs, **sample.attrs)
        if len(parts(predicted)) != len(parts(y)):
            raise Failed(f"infer says {len(parts(predicted))} results, run gives {len(parts(y))}")
        for p, v in zip(parts(predicted), parts(y), strict=True):
            if tuple(p.shape) != v.shape or np.dtype(p.dtype) != v.dtype:
                raise Failed(f"infer says {p!r}, run gives {spec_of(v)!r}")


def numpy_agrees(op: Op, sample: Sample) -> None:
    if op.numpy is None or getattr(op.numpy, "func", None) is op.run:
        raise Skipped("no separate NumPy spelling")
    same(run(op, sample.arrays, sample.attrs), op.run(np, *sample.arrays, **sample.attrs), "numpy= and run")


def into_agrees(op: Op, sample: Sample) -> None:
    """What static mode computes into a buffer, whatever the buffer held, is what dynamic mode computes."""
    into = op.numpy if isinstance(op.numpy, np.ufunc) else op.into
    y = run(op, sample.arrays, sample.attrs)
    if into is None or op.view or type(y) is tuple:
        raise Skipped("computed into no buffer")
    out = np.full(y.shape, 77, y.dtype)
    into(*sample.arrays, **sample.attrs, out=out)
    same(np.asarray(y), out, "run and what was computed into a buffer", exactly=True)


def order_one(op: Op, sample: Sample) -> None:
    finite_differences(op, sample, 1)


def order_two(op: Op, sample: Sample) -> None:
    finite_differences(op, sample, 2)


def finite_differences(op: Op, sample: Sample, order: int) -> None:
    sample = sample.double()
    need_gradient(op, sample)
    if not all(np.isfinite(sample.arrays[i]).all() for i in sample.floats):
        raise Skipped("no differences between infinities")
    if any(v.dtype.kind == "f" and v.dtype != "f8" for v in parts(run(op, sample.arrays, sample.attrs))):
        raise Skipped("results in less than float64 are too coarse")
    wanted = differentiable(op, sample)

    def fn(*floats: Tensor) -> list[Tensor]:
        arrays: list[Any] = [lift(a) for a in sample.arrays]
        for i, t in zip(wanted, floats, strict=True):
            arrays[i] = t
        return results(bind(op, *arrays, **sample.attrs))

    report = gradcheck(fn, *[sample.arrays[i] for i in wanted], order=order, raise_on_failure=False)
    if not report.ok:
        names = argument_names(op, len(sample.arrays))
        bad = next(c for c in report.comparisons if not c.ok)
        second = bad.name.startswith("2nd ")
        label = bad.name.removeprefix("2nd ").strip("[]")
        name = "the incoming gradient" if label.startswith("g") else names[wanted[int(label)]]
        what = f"derivative of the gradient by {name}" if second else f"gradient of {name}"
        raise Failed(f"{what} at {bad.place or '[]'}: {bad.analytic:.6g}, by finite differences {bad.numeric:.6g}")


def arrays_equal_tensors(op: Op, sample: Sample) -> None:
    need_gradient(op, sample)
    wanted = differentiable(op, sample)
    values = dynamic_gradients(op, sample, wanted, graph=False)
    graph = dynamic_gradients(op, sample, wanted, graph=True)
    for i, a in zip(wanted, values, strict=True):
        if a.shape != sample.arrays[i].shape or a.dtype != sample.arrays[i].dtype:
            raise Failed(f"the gradient of input {i} is {spec_of(a)!r}, the input {spec_of(sample.arrays[i])!r}")
    same(tuple(values), tuple(graph), "gradients computed on arrays and on tensors")


def dynamic_gradients(op: Op, sample: Sample, wanted: Sequence[int], *, graph: bool) -> list[np.ndarray]:
    tensors = [Tensor(a, requires_grad=i in wanted) for i, a in enumerate(sample.arrays)]
    outputs = [y for y in results(bind(op, *tensors, **sample.attrs)) if y.dtype.kind == "f"]
    cotangents = [Tensor(np.asarray(ones_like(y.value, k)), requires_grad=graph) for k, y in enumerate(outputs)]
    return [g.value for g in gradients(outputs, cotangents, [tensors[i] for i in wanted])]


def static_equals_dynamic(op: Op, sample: Sample) -> None:
    from ..trace import compile

    def forward(*tensors: Tensor) -> list[Tensor]:
        return results(bind(op, *tensors, **sample.attrs))

    tensors = [Tensor(a) for a in sample.arrays]
    if not tensors:
        raise Skipped("no inputs")
    dynamic = tuple(y.value for y in forward(*tensors))
    same(dynamic, tuple(y.value for y in compile(forward, backend="numpy")(*tensors)), "dynamic and static result",
         exactly=True)  # fmt: skip


def static_gradients_equal_dynamic(op: Op, sample: Sample) -> None:
    from ..autodiff import vjp
    from ..trace import compile

    need_gradient(op, sample)
    wanted = differentiable(op, sample)
    fixed = [Tensor(a) for a in sample.arrays]

    def backward(floats: list[Tensor], weights: list[Tensor]) -> tuple[Tensor, ...]:
        def forward(*chosen: Tensor) -> list[Tensor]:
            tensors = list(fixed)
            for i, t in zip(wanted, chosen, strict=True):
                tensors[i] = t
            return [y for y in results(bind(op, *tensors, **sample.attrs)) if y.dtype.kind == "f"]

        return vjp(forward, *floats)[1](weights)

    outputs = [y for y in results(bind(op, *fixed, **sample.attrs)) if y.dtype.kind == "f"]
    weights = [Tensor(np.asarray(ones_like(y.value, k))) for k, y in enumerate(outputs)]
    chosen = [fixed[i] for i in wanted]
    dynamic = tuple(g.value for g in backward(chosen, weights))
    same(
        dynamic,
        tuple(g.value for g in compile(backward, backend="numpy")(chosen, weights)),
        "dynamic and static gradient",
    )


class Unread(Exception):
    """A rule used a value that it had not declared."""


class Poison:
    """Stands for an array whose value must not be read: it has a shape and a dtype, and anything else raises.

    `isinstance` takes it for a NumPy array, because a rule may ask on which device its inputs are.
    """

    __class__ = np.ndarray  # type: ignore[assignment]

    def __init__(self, name: str, array: Any):
        self._name, self.shape, self.dtype = name, array.shape, array.dtype
        self.ndim, self.size = array.ndim, array.size

    def _refuse(self, *args: Any, **kwargs: Any) -> Any:
        raise Unread(self._name)

    def __len__(self) -> int:
        return int(self.shape[0])

    def __getattr__(self, name: str) -> Any:
        raise Unread(object.__getattribute__(self, "_name"))

    __array__ = __array_ufunc__ = __array_function__ = __bool__ = __iter__ = __getitem__ = __float__ = __int__ = _refuse
    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __truediv__ = __rtruediv__ = __pow__ = __rpow__ = (
        _refuse
    )
    __matmul__ = __rmatmul__ = __neg__ = __abs__ = __invert__ = __floordiv__ = __rfloordiv__ = __mod__ = __rmod__ = (
        _refuse
    )
    __eq__ = __ne__ = __lt__ = __le__ = __gt__ = __ge__ = __and__ = __rand__ = __or__ = __ror__ = __xor__ = _refuse
    __hash__ = None  # type: ignore[assignment]


def saved_name(op: Op, position: int) -> str:
    """The argument name of an input; all inputs of a variadic operation share the last."""
    return op.arguments[min(position, len(op.arguments) - 1)]


def poisoned(op: Op, sample: Sample, names: Iterable[str]) -> tuple[Any, list[Any]]:
    """The result and the inputs of a call, with those called `names` replaced by poison."""
    names = set(names)
    y = run(op, sample.arrays, sample.attrs)
    values = [Poison(n, a) if (n := saved_name(op, i)) in names else a for i, a in enumerate(sample.arrays)]
    if "y" in names:
        y = tuple(Poison("y", v) for v in y) if type(y) is tuple else Poison("y", y)
    return y, values


def saves_are_honest(op: Op, sample: Sample) -> None:
    need_gradient(op, sample)
    every = {*op.arguments, "y"}
    unknown = set(op.saves) - every
    if unknown:
        raise Failed(f"saves names {sorted(unknown)}, but the arguments are {', '.join(op.arguments)} and y")
    g = ones_like(run(op, sample.arrays, sample.attrs))
    y, values = poisoned(op, sample, every - set(op.saves))
    try:
        pull(op, numpy_functions, g, y, values, sample.attrs, differentiable(op, sample))
    except Unread as name:
        raise Failed(f"a rule reads {name}, which is not in saves={op.saves}") from None


def unread_saves(op: Op, samples: list[Sample]) -> list[str]:
    """The declared names that are read in none of the samples."""
    usable = []
    for sample in samples:
        try:
            need_gradient(op, sample)
        except Skipped:
            continue
        usable.append(sample)
    return [name for name in op.saves if usable and not any(reads(op, sample, name) for sample in usable)]


def reads(op: Op, sample: Sample, name: str) -> bool:
    """Whether some rule uses the value called `name`."""
    g = ones_like(run(op, sample.arrays, sample.attrs))
    y, values = poisoned(op, sample, [name])
    try:
        pull(op, numpy_functions, g, y, values, sample.attrs, differentiable(op, sample))
    except Unread:
        return True
    return False


def to_numpy(value: Any) -> Any:
    return tuple(map(to_numpy, value)) if type(value) is tuple else backend.backend_of(value).to_numpy(value)


def gpu_or_stand_in() -> backend.Device:
    """The GPU where there is one, the stand-in that refuses what CuPy refuses elsewhere."""
    try:
        return backend.device("cuda")
    except DeviceError:
        return backend.device("strict")


def equal_on_strict(op: Op, sample: Sample) -> None:
    """On CuPy, or the stand-in that refuses what CuPy refuses, an operation and its rules do what they do on NumPy."""
    strict = gpu_or_stand_in()
    arrays = [backend.transfer(a, strict) for a in sample.arrays]
    expected = run(op, sample.arrays, sample.attrs)
    y = op.on(backend.backends[strict.kind].xp)(*arrays, **sample.attrs)
    same(expected, to_numpy(y), "NumPy and the CuPy stand-in")
    try:
        need_gradient(op, sample)
    except Skipped:
        return
    wanted = differentiable(op, sample)
    g = ones_like(expected)
    here = pull(op, numpy_functions, g, expected, sample.arrays, sample.attrs, wanted)
    moved = tuple(backend.transfer(v, backend.device_of(w)) for v, w in zip(parts(g), parts(y), strict=True))
    F = array_functions(y)
    there = pull(op, F, moved if type(y) is tuple else moved[0], y, arrays, sample.attrs, wanted)
    for i, a, b in zip(wanted, here, there, strict=True):
        if a is not None and b is not None:
            a, b = fit(numpy_functions, a, sample.arrays[i]), to_numpy(fit(F, b, arrays[i]))
        same(a, b, f"the gradient of input {i} on NumPy and on the CuPy stand-in")


def frozen(a: np.ndarray) -> np.ndarray:
    copy = np.array(a)
    copy.flags.writeable = False
    return copy


def nothing_is_mutated(op: Op, sample: Sample) -> None:
    for spelling in (op.numpy, op.on(np), lambda *a, **k: op.run(np, *a, **k)):
        arrays = sample.with_arrays(np.array)
        spelling(*arrays, **sample.attrs)
        for name, before, after in zip(argument_names(op, len(arrays)), sample.arrays, arrays, strict=True):
            if before.tobytes() != after.tobytes():
                raise Failed(f"run changes its input {name}")
    try:
        y = run(op, [frozen(a) for a in sample.arrays], sample.attrs)
    except ValueError as error:
        if "read-only" not in str(error):
            raise
        raise Failed("run writes to an input") from None
    if op.vjp is None:
        return
    try:
        need_gradient(op, sample)
    except Skipped:
        return
    g = ones_like(y)
    if type(y) is tuple:
        g, y = tuple(map(frozen, g)), tuple(map(frozen, y))
    else:
        g, y = frozen(g), frozen(y)
    try:
        pull(op, numpy_functions, g, y, [frozen(a) for a in sample.arrays], sample.attrs, differentiable(op, sample))
    except ValueError as error:
        if "read-only" not in str(error):
            raise
        raise Failed("a gradient rule writes to what it was given") from None


def no_alias(op: Op, sample: Sample) -> None:
    arrays = sample.with_arrays(np.array)
    for spelling in (op.numpy, op.on(np)):
        for v in parts(spelling(*arrays, **sample.attrs)):
            for position, a in enumerate(arrays):
                if np.may_share_memory(v, a) and not (op.view and position == 0):
                    name = argument_names(op, len(arrays))[position]
                    raise Failed(
                        f"the result shares memory with {name}"
                        + ("" if op.view else ", but the op is not declared as view=True")
                    )


def reversed_view(a: np.ndarray) -> np.ndarray:
    """The same array, as a view with gaps and a negative stride on the last axis."""
    if not a.ndim:
        return a
    wide = np.zeros((*a.shape[:-1], 2 * a.shape[-1]), a.dtype)
    view = wide[..., ::-2]
    view[...] = a
    return view


LAYOUTS: dict[str, Callable[[np.ndarray], Any]] = {
    "Fortran-ordered": lambda a: np.array(a, order="F"),
    "strided": reversed_view,
    "read-only": frozen,
    "0-d (NumPy scalar)": lambda a: a[()],
}


def any_layout(op: Op, sample: Sample) -> None:
    expected = run(op, sample.with_arrays(lambda a: np.array(a, order="C")), sample.attrs)
    for layout, change in LAYOUTS.items():
        same(expected, run(op, sample.with_arrays(change), sample.attrs), f"results for contiguous and {layout} inputs")
    try:
        need_gradient(op, sample)
    except Skipped:
        return
    wanted = differentiable(op, sample)
    g = ones_like(expected)
    expected_g = pull(op, numpy_functions, g, expected, sample.arrays, sample.attrs, wanted)
    for layout, change in LAYOUTS.items():
        moved = tuple(map(change, g)) if type(g) is tuple else change(g)
        found = pull(op, numpy_functions, moved, expected, sample.with_arrays(change), sample.attrs, wanted)
        for i, a, b in zip(wanted, expected_g, found, strict=True):
            if a is not None and b is not None:
                a, b = (fit(numpy_functions, v, sample.arrays[i]) for v in (a, b))
            same(a, b, f"gradients for contiguous and {layout} inputs")


def empty_and_scalar(op: Op, sample: Sample) -> None:
    if not op.elementwise or not sample.arrays:
        raise Skipped("see the samples: only elementwise operations can be reshaped at will")
    if any(not a.size for a in sample.arrays):
        raise Skipped("see the samples")
    for kind, change in (("zero-size", lambda a: a.ravel()[:0]), ("0-d", lambda a: a.ravel()[:1].reshape(()))):
        shape = (0,) if kind == "zero-size" else ()
        arrays = sample.with_arrays(change)
        y = run(op, arrays, sample.attrs)
        for v, p in zip(parts(y), parts(op.infer(*map(spec_of, arrays), **sample.attrs)), strict=True):
            if v.shape != shape or tuple(p.shape) != shape or v.dtype != p.dtype:
                raise Failed(f"{kind} inputs give {spec_of(v)!r}, and infer says {p!r}")
        if sample.floats and op.vjp is not None and any(v.dtype.kind == "f" for v in parts(y)):
            arrays_equal_tensors(op, sample.like(arrays))


def bad_input(op: Op, sample: Sample) -> None:
    """Invalid inputs are refused with the declared error, in both modes, by the public function or by the op itself.

    (The function has a signature of its own: `concat` takes a list.)
    """
    if sample.error is None:
        raise Skipped("no invalid sample given")
    from .. import ops
    from ..trace import compile

    doors = [op] if not op.builtin or not hasattr(ops, op.name) else [getattr(ops, op.name), op]
    for where in ("", " under tracing"):
        outcomes = []
        for door in doors:
            call = partial(door, **sample.attrs)
            outcomes.append(refusal(compile(call, backend="numpy") if where else call, sample))
        if all(outcomes):
            raise Failed(f"{outcomes[0]}{where}")


def refusal(call: Callable[..., Any], sample: Sample) -> str:
    """What is wrong with how `call` refuses the sample; empty if nothing is."""
    assert sample.error is not None
    try:
        y = call(*[Tensor(a) for a in sample.arrays])
    except sample.error as error:
        if isinstance(error, MinigraphError) and not (error.expected or error.actual):
            return f"the {type(error).__name__} says neither what was expected nor what was there: {error.what}"
        return ""
    except Exception as error:
        return f"{type(error).__name__} instead of {sample.error.__name__}: {error}"
    return f"no {sample.error.__name__}, but {y!r}"


def expression_equals_run(op: Op, sample: Sample) -> None:
    if op.expression is None:
        raise Skipped("no expression")
    expected = run(op, sample.arrays, sample.attrs)
    found = evaluate(op.expression, dict(zip(op.arguments, sample.arrays, strict=False)) | sample.attrs)
    found = np.asarray(found)
    if not np.allclose(found.astype("f8"), np.asarray(expected).astype("f8"), rtol=1e-5, atol=1e-6, equal_nan=True):
        raise Failed(f"{op.expression} evaluates to {found!r}, run gives {expected!r}")


def evaluate(expression: str, names: dict[str, Any]) -> Any:
    """The value of an elementwise operation's expression. Calls in it are operations of the catalogue, on arrays."""
    functions = {name: op.numpy for name, op in OPS.items() if op.builtin and op.elementwise}
    return eval(compile(expression, "<expression>", "eval"), {"__builtins__": {}, **functions}, names)


def words_fit(op: Op, sample: Sample) -> None:
    """The formula can be filled in with the names of the inputs; the work can be counted."""
    if op.flops is not None:
        flops = op.flops(*[spec_of(a) for a in sample.arrays], **sample.attrs)
        if not flops >= 0:
            raise Failed(f"flops are {flops}")
    names = {n: n for n in (*op.arguments, *argument_names(op, len(sample.arrays)), *sample.attrs)}
    for formula in (op.latex, *op.derivative):
        if formula:
            try:
                formula.format(**names)
            except (KeyError, IndexError, ValueError) as error:
                raise Failed(f"the formula {formula!r} cannot be filled in with {sorted(names)}: {error!r}") from None
    if op.derivative and len(op.derivative) != len(op.arguments):
        raise Failed(f"{len(op.derivative)} local derivatives for {len(op.arguments)} arguments")


CHECKS: dict[str, Callable[[Op, Any], None]] = {
    "infer agrees with run": infer_agrees,
    "numpy= agrees with run": numpy_agrees,
    "into a buffer": into_agrees,
    "gradient": order_one,
    "second derivative": order_two,
    "arrays and tensors": arrays_equal_tensors,
    "static equals dynamic": static_equals_dynamic,
    "static gradients": static_gradients_equal_dynamic,
    "saved values": saves_are_honest,
    "NumPy equals the CuPy stand-in": equal_on_strict,
    "inputs are not mutated": nothing_is_mutated,
    "no shared memory": no_alias,
    "any memory layout": any_layout,
    "zero-size and 0-d": empty_and_scalar,
    "bad input": bad_input,
    "expression": expression_equals_run,
    "formula and flops": words_fit,
}
