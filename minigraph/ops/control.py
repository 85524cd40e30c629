"""Control flow and calls: operations whose attribute is a graph.

In dynamic mode `cond`, `while_loop` and `scan` are what they say in Python: an `if`, a `while`, a `for`; the operations
inside are recorded one by one. Under tracing, the branches and bodies are traced into nested graphs, and one operation
stands for the whole. Its gradient is again such an operation, on the graph of the gradient of its body, so all orders
follow. A loop whose number of steps is not known before it runs cannot be differentiated as a static graph: its
gradient replays the loop define-by-run when it runs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .. import tree as pytree
from ..autodiff import complete, follow, gradients, zeros_for
from ..errors import ArgumentError, ShapeError, TraceError
from ..graph import Graph
from ..namespace import TensorFunctions
from ..op import ORDINARY, Op, Operand, Spec, mode, modified, spec_of
from ..tensor import Tensor, bind, lift
from ..variable import INPUT, Variable, leaf
from .shape import ITEM

__all__ = ["cond", "scan", "while_loop"]


# ------------------------------------------------------------------------------------------------- nested graphs


class Body:
    """A traced function, and what it uses and changes besides its arguments."""

    def __init__(self, fn: Callable, args: Sequence[Tensor], name: str):
        from ..trace import trace

        specs, flags = [spec_of(x.value) for x in args], [x.requires_grad for x in args]
        self.graph, self.structure, captured = trace(fn, specs, name, flags)
        if any(not isinstance(cell, Variable) for cell in [*self.graph.reads, *self.graph.assigns]):
            raise TraceError(
                f"{name}: backward() inside a nested graph", remedy="use mg.grad inside, or backward outside"
            )
        self.arguments = self.graph.inputs[: len(args)]
        self.captured = captured


class Closed:
    """Several bodies made into graphs without variables and captured tensors, which all take the same further inputs.

    Attributes:
        graphs: inputs are the arguments, then one for each of `operands`; outputs are the results, then the new values
            of `assigned`.
        operands: what the enclosing function passes: assigned variables first, then those only read, then tensors.
        assigned: the variables that some body assigns.
    """

    def __init__(self, bodies: Sequence[Body]):
        assigned = dict.fromkeys(v for b in bodies for v in b.graph.assigns)
        only_read = [v for v in dict.fromkeys(v for b in bodies for v in b.graph.reads) if v not in assigned]
        self.assigned = list(assigned)
        variables = [*self.assigned, *only_read]
        outer = list({id(t): t for b in bodies for t, _ in b.captured}.values())
        self.operands = [*[v.read() for v in variables], *outer]
        self.graphs = []
        for b in bodies:
            found = {id(t): x for t, x in b.captured}
            reads = [
                b.graph.reads[v] if v in b.graph.reads else unused(t)
                for v, t in zip(variables, self.operands, strict=False)
            ]
            extra = [*reads, *[found[id(t)] if id(t) in found else unused(t) for t in outer]]
            new: list[Any] = [b.graph.assigns.get(v, x) for v, x in zip(self.assigned, reads, strict=False)]
            inputs = [*b.arguments, *extra]
            known = set(map(id, inputs))
            nodes = [*inputs, *[n for n in b.graph.nodes if id(n) not in known]]
            self.graphs.append(Graph(nodes, inputs, [*b.graph.outputs, *new], name=b.graph.name))


def unused(t: Tensor) -> Tensor:
    """An input like `t` that a body does not use."""
    return leaf(INPUT, spec_of(t.value), {"name": t.name}, t.requires_grad, t.name)


def executable(graph: Graph) -> Any:
    """The graph made ready to run, once."""
    if "executable" not in graph._programs:
        from ..compiler import Program

        backend = graph._programs.get("backend", "numpy")  # bodies of loops are small, and run by NumPy
        program = Program(graph, backend=backend)
        graph._programs["executable"] = program.executable if program.native is None else program.run
    return graph._programs["executable"]


def gradient_graph(graph: Graph, needs: Sequence[bool]) -> Graph:
    """The graph of a graph's gradient: (inputs, gradients at the outputs) -> gradients at the needed inputs. Cached."""
    key = ("gradient", tuple(needs))
    if key not in graph._programs:
        from ..trace import trace

        n = len(graph.inputs)

        def pull(*args: Tensor) -> list[Tensor]:
            inputs = [follow(x) if need else x for x, need in zip(args[:n], needs, strict=True)]
            with modified(grad=True):
                outputs = graph.replay(inputs)
            floating = [(y, g) for y, g in zip(outputs, args[n:], strict=True) if y.dtype.kind == "f"]
            return gradients([y for y, _ in floating], [g for _, g in floating],
                             [x for x, need in zip(inputs, needs, strict=True) if need])  # fmt: skip

        specs = [spec_of(x.value) for x in (*graph.inputs, *graph.outputs)]
        graph._programs[key] = trace(pull, specs, f"gradient of {graph.name}")[0]
        if "backend" in graph._programs:
            graph._programs[key]._programs["backend"] = graph._programs["backend"]
    return graph._programs[key]


def results(node: Tensor) -> list[Tensor]:
    """The results of a node with several, as tensors; those that are not floating point carry no gradient."""
    out = []
    for i, v in enumerate(node.value):
        if v.dtype.kind == "f":
            out.append(bind(ITEM, node, index=i))
        else:
            with modified(grad=False):
                out.append(bind(ITEM, node, index=i))
    return out


# -------------------------------------------------------------------------------------------------------- a call


def _call_run(xp: Any, *inputs: Any, graph: Graph) -> tuple[Any, ...]:
    return tuple(executable(graph)(inputs))


def _call_infer(*specs: Spec, graph: Graph) -> tuple[Spec, ...]:
    return tuple(spec_of(t.value) for t in graph.outputs)


def _call_vjp(F: Any, needs: Sequence[bool], g: Sequence[Any], y: Any, *inputs: Any, graph: Graph) -> list[Any]:
    back, g = gradient_graph(graph, needs), complete(F, g, y)
    if isinstance(F, TensorFunctions):
        found = iter(call(back, [*inputs, *g]))
    else:
        found = iter(executable(back)([*inputs, *g]))
    return [next(found) if need else None for need in needs]


CALL = Op("call", run=_call_run, infer=_call_infer, vjp=_call_vjp, saves=("inputs",))


def _recompute_vjp(F: Any, needs: Sequence[bool], g: Sequence[Any], y: Any, *inputs: Any, graph: Graph) -> list[Any]:
    back, g = gradient_graph(graph, needs), complete(F, g, y)
    if isinstance(F, TensorFunctions):
        found = iter(results(bind(RECOMPUTE, *inputs, *g, graph=back)))
    else:
        found = iter(executable(back)([*inputs, *g]))
    return [next(found) if need else None for need in needs]


RECOMPUTE = Op("recompute", run=_call_run, infer=_call_infer, vjp=_recompute_vjp, saves=("inputs",), barrier=True)


def call(graph: Graph, inputs: Sequence[Tensor]) -> list[Tensor]:
    """A graph as one operation on tensors."""
    return results(bind(CALL, *inputs, graph=graph))


def finish(node: Tensor, closed: Closed, at: int, count: int) -> list[Tensor]:
    """The results of a node; those from `at` on are new values of the assigned variables."""
    out = results(node)
    for variable, t in zip(closed.assigned, out[at : at + len(closed.assigned)], strict=True):
        variable.assign(t)
    return out[:count]


def is_tracing() -> bool:
    recorder = (mode.get() or ORDINARY).recorder
    return recorder is not None and recorder.symbolic


def checkpoint_static(fn: Callable, args: Any, kwargs: Any) -> Any:
    """`mg.checkpoint` under tracing: one operation that holds the graph of `fn` and is never merged with its twin."""
    leaves, structure = pytree.flatten((args, kwargs))
    places = [i for i, x in enumerate(leaves) if isinstance(x, Tensor)]

    def function(*tensors: Tensor) -> Any:
        filled = list(leaves)
        for i, t in zip(places, tensors, strict=True):
            filled[i] = t
        a, k = pytree.unflatten(structure, filled)
        return fn(*a, **k)

    given = [leaves[i] for i in places]
    body = Body(function, given, getattr(fn, "__name__", "checkpoint"))
    closed = Closed([body])
    node = bind(RECOMPUTE, *given, *closed.operands, graph=closed.graphs[0])
    n = len(body.graph.outputs)
    return pytree.unflatten(body.structure, finish(node, closed, n, n))


# ---------------------------------------------------------------------------------------------------------- cond


def _cond_run(xp: Any, pred: Any, *operands: Any, true_graph: Graph, false_graph: Graph) -> tuple[Any, ...]:
    return tuple(executable(true_graph if bool(pred) else false_graph)(operands))


def _cond_infer(pred: Spec, *operands: Spec, true_graph: Graph, false_graph: Graph) -> tuple[Spec, ...]:
    if pred.shape != ():
        raise ShapeError(
            "cond: pred is a single truth value",
            expected="shape ()",
            actual=repr(pred),
            remedy="reduce it with mg.any or mg.all, or use mg.where to choose element by element",
        )
    a, b = [[spec_of(t.value) for t in g.outputs] for g in (true_graph, false_graph)]
    if [(s.shape, s.dtype) for s in a] != [(s.shape, s.dtype) for s in b]:
        raise ShapeError(
            "cond: both branches must return the same shapes and dtypes",
            expected=f"true_fn: {a}",
            actual=f"false_fn: {b}",
        )
    return tuple(a)


def _cond_vjp(
    F: Any,
    needs: Sequence[bool],
    g: Sequence[Any],
    y: Any,
    pred: Any,
    *operands: Any,
    true_graph: Graph,
    false_graph: Graph,
) -> list[Any]:
    back = [gradient_graph(graph, needs[1:]) for graph in (true_graph, false_graph)]
    g = complete(F, g, y)
    if isinstance(F, TensorFunctions):
        found = iter(results(bind(COND, pred, *operands, *g, true_graph=back[0], false_graph=back[1])))
    else:
        found = iter(_cond_run(None, pred, *operands, *g, true_graph=back[0], false_graph=back[1]))
    return [None, *[next(found) if need else None for need in needs[1:]]]


COND = Op("cond", run=_cond_run, infer=_cond_infer, vjp=_cond_vjp, saves=("pred", "operands"))


def cond(pred: Any, true_fn: Callable, false_fn: Callable, *operands: Any) -> Any:
    """`true_fn(*operands)` if `pred`, else `false_fn(*operands)`; only that one is computed.

    Args:
        pred: a 0-d tensor or a Python truth value.
        true_fn, false_fn: under tracing, both are traced and must return the same structure, shapes and dtypes.
        operands: tensors, or trees of them.

    Raises:
        ShapeError: `pred` is not 0-d, or (under tracing) the branches return different shapes or dtypes.
        ArgumentError: (under tracing) the branches return different structures.

    >>> mg.cond(mg.tensor(3.0) > 2, lambda x: x + 1, lambda x: x - 1, mg.tensor(10.0))
    tensor(11., dtype=float32)
    """
    if not isinstance(pred, Operand) or not lift(pred).is_symbolic:
        return true_fn(*operands) if pred else false_fn(*operands)
    leaves, structure = pytree.flatten(operands)
    given = [lift(x) for x in leaves]
    bodies = [
        Body(lambda *tensors, fn=fn: fn(*pytree.unflatten(structure, list(tensors))), given, name)
        for fn, name in ((true_fn, "true_fn"), (false_fn, "false_fn"))
    ]
    if bodies[0].structure != bodies[1].structure:
        raise ArgumentError("cond: both branches must return the same structure",
                            actual=pytree.explain_difference(bodies[0].structure, bodies[1].structure))  # fmt: skip
    closed = Closed(bodies)
    node = bind(COND, lift(pred), *given, *closed.operands, true_graph=closed.graphs[0], false_graph=closed.graphs[1])
    n = len(bodies[0].graph.outputs)
    return pytree.unflatten(bodies[0].structure, finish(node, closed, n, n))


# -------------------------------------------------------------------------------------------------------- a loop


class Replayed:
    """A function of tensors as an operation: run define-by-run when the static graph gets there.

    For what a static graph cannot express, the gradient of a loop of unknown length. The gradient of such an operation
    is another one, on the function's `pull`, so all orders follow.
    """

    def __init__(self, function: Callable[..., list[Tensor]], specs: Callable[..., tuple[Spec, ...]]):
        self.function, self.specs = function, specs

    def pull(self, needs: Sequence[bool]) -> Replayed:
        n = len(needs)

        def back(*args: Tensor) -> list[Tensor]:
            inputs = [follow(x) if need else x for x, need in zip(args[:n], needs, strict=True)]
            with modified(grad=True):
                outputs = self.function(*inputs)
            pairs = [(y, g) for y, g in zip(outputs, args[n:], strict=True) if y.dtype.kind == "f"]
            return gradients(
                [y for y, _ in pairs], [g for _, g in pairs], [x for x, need in zip(inputs, needs, strict=True) if need]
            )

        return Replayed(back, lambda *specs: tuple(s for s, need in zip(specs[:n], needs, strict=True) if need))


def _replayed_run(xp: Any, *arrays: Any, function: Replayed) -> tuple[Any, ...]:
    with modified(recorder=None, hooks=(), sites=False):
        return tuple(t.value for t in function.function(*[Tensor(a) for a in arrays]))


def _replayed_vjp(
    F: Any, needs: Sequence[bool], g: Sequence[Any], y: Any, *inputs: Any, function: Replayed
) -> list[Any]:
    back, g = function.pull(needs), complete(F, g, y)
    if isinstance(F, TensorFunctions):
        found = iter(results(bind(REPLAYED, *inputs, *g, function=back)))
    else:
        found = iter(_replayed_run(None, *inputs, *g, function=back))
    return [next(found) if need else None for need in needs]


REPLAYED = Op("replayed", run=_replayed_run, infer=lambda *specs, function: function.specs(*specs), vjp=_replayed_vjp,
              saves=("arrays",))  # fmt: skip


def _while_run(xp: Any, *inputs: Any, condition: Graph, body: Graph, carried: int) -> tuple[Any, ...]:
    carry, rest = list(inputs[:carried]), inputs[carried:]
    test, step = executable(condition), executable(body)
    while bool(test([*carry, *rest])[0]):
        carry = step([*carry, *rest])
    return tuple(carry)


def _while_infer(*specs: Spec, condition: Graph, body: Graph, carried: int) -> tuple[Spec, ...]:
    test = spec_of(condition.outputs[0].value)
    if test.shape != ():
        raise ShapeError("while_loop: cond_fun returns a single truth value", expected="shape ()", actual=repr(test))
    same_carry("while_loop", "body_fun", specs[:carried], body.outputs)
    return tuple(specs[:carried])


def same_carry(name: str, function: str, before: Sequence[Spec], after: Sequence[Tensor]) -> None:
    """Raise unless a loop's body returns what it was given, shape by shape."""
    new = [spec_of(t.value) for t in after]
    if [(s.shape, s.dtype) for s in before] != [(s.shape, s.dtype) for s in new]:
        raise ShapeError(
            f"{name}: {function} must return the shapes and dtypes it was given",
            expected=str(list(before)),
            actual=str(new),
            remedy="use .astype for dtypes; a shape cannot change from step to step",
        )


def _while_vjp(
    F: Any, needs: Sequence[bool], g: Sequence[Any], y: Any, *inputs: Any, condition: Graph, body: Graph, carried: int
) -> list[Any]:
    def loop(*tensors: Tensor) -> list[Tensor]:
        carry, rest = list(tensors[:carried]), tensors[carried:]
        while bool(condition.replay([*carry, *rest])[0]):
            carry = body.replay([*carry, *rest])
        return carry

    return _replayed_vjp(F, needs, g, y, *inputs, function=Replayed(loop, lambda *specs: tuple(specs[:carried])))


WHILE = Op("while_loop", run=_while_run, infer=_while_infer, vjp=_while_vjp, saves=("inputs",))


def while_loop(cond_fun: Callable, body_fun: Callable, init: Any) -> Any:
    """Repeat `carry = body_fun(carry)` while `cond_fun(carry)` is true, starting from `init`.

    Args:
        cond_fun: carry -> 0-d truth value. body_fun: carry -> carry of the same structure, shapes and dtypes.
        init: a tensor, or a tree of them.

    Differentiable in both modes; the number of steps may depend on the data.

    Raises:
        ArgumentError: `body_fun` returns another structure.
        ShapeError: the truth value is not 0-d, or (under tracing) the carry changes its shape or dtype.
        TraceError: (under tracing) `cond_fun` assigns a variable.

    >>> mg.while_loop(lambda x: x < 100, lambda x: x * 2, mg.tensor(3))
    tensor(192, dtype=int64)
    """
    leaves, structure = pytree.flatten(init)
    carry = [lift(x) for x in leaves]
    if not is_tracing():
        state = pytree.unflatten(structure, carry)
        while bool(cond_fun(state)):
            state = body_fun(state)
            if pytree.flatten(state)[1] != structure:
                raise ArgumentError("while_loop: body_fun must return the structure of init",
                                    actual=pytree.explain_difference(structure, pytree.flatten(state)[1]))  # fmt: skip
        return state
    test = Body(lambda *t: cond_fun(pytree.unflatten(structure, list(t))), carry, "cond_fun")
    body = Body(lambda *t: body_fun(pytree.unflatten(structure, list(t))), carry, "body_fun")
    if test.graph.assigns:
        raise TraceError("while_loop: cond_fun assigns a variable", remedy="assign in body_fun")
    if body.structure != structure:
        raise ArgumentError("while_loop: body_fun must return the structure of init",
                            actual=pytree.explain_difference(structure, body.structure))  # fmt: skip
    closed = Closed([test, body])
    n = len(carry)
    condition, step = closed.graphs
    condition = Graph(condition.nodes, condition.inputs, condition.outputs[:1], name=condition.name)
    node = bind(WHILE, *carry, *closed.operands, condition=condition, body=step, carried=n + len(closed.assigned))
    return pytree.unflatten(structure, finish(node, closed, n, n))


# ---------------------------------------------------------------------------------------------------------- scan


def _scan_run(
    xp: Any, *inputs: Any, body: Graph, carried: int, scanned: int, length: int, reverse: bool, history: bool
) -> tuple[Any, ...]:
    carry, xs, rest = list(inputs[:carried]), inputs[carried : carried + scanned], inputs[carried + scanned :]
    step = executable(body)
    stacked = body.outputs[carried:]
    ys: list[Any] = [None] * len(stacked)
    past: list[Any] = [None] * (carried if history else 0)
    if xp is None:
        xp = np
    for k, like in enumerate(stacked):
        ys[k] = xp.empty((length, *like.shape), like.dtype)
    for k in range(len(past)):
        past[k] = xp.empty((length, *inputs[k].shape), inputs[k].dtype)
    for i in reversed(range(length)) if reverse else range(length):
        for k, p in enumerate(past):
            p[i] = carry[k]
        out = step([*carry, *[x[i] for x in xs], *rest])
        carry = out[:carried]
        for a, value in zip(ys, out[carried:], strict=True):
            a[i] = value
    return (*carry, *ys, *past)


def _scan_infer(
    *specs: Spec, body: Graph, carried: int, scanned: int, length: int, reverse: bool, history: bool
) -> tuple[Spec, ...]:
    same_carry("scan", "f", specs[:carried], body.outputs[:carried])
    ys = [Spec((length, *t.shape), t.dtype, t.device) for t in body.outputs[carried:]]
    past = [Spec((length, *s.shape), s.dtype, s.device) for s in specs[:carried]] if history else []
    return (*specs[:carried], *ys, *past)


def _scan_vjp(
    F: Any, needs: Sequence[bool], g: Sequence[Any], y: Any, *inputs: Any,
    body: Graph, carried: int, scanned: int, length: int, reverse: bool, history: bool,
) -> list[Any]:  # fmt: skip
    """The gradient of a loop is a loop in the other direction, over the carries that the forward loop has kept."""
    as_graph = isinstance(F, TensorFunctions)
    outputs = len(body.outputs)
    past = [c for c in g[outputs:] if c is not None]  # gradients at the kept carries: only in higher derivatives
    g = complete(F, g, y)
    floating = [t.dtype.kind == "f" for t in body.inputs]
    kept = [bind(ITEM, y, index=k) for k in range(outputs, outputs + carried)] if as_graph else list(y[outputs:])
    xs, rest = inputs[carried : carried + scanned], inputs[carried + scanned :]
    wanted = [
        f if k < carried else f and need for k, (f, need) in enumerate(zip(floating, needs, strict=True))
    ]  # every floating carry passes gradients on, whether or not its start wants one
    back = gradient_step(body, carried, scanned, tuple(wanted), bool(past))
    float_carry = [k for k in range(carried) if wanted[k]]
    float_rest = [k for k in range(carried + scanned, len(inputs)) if wanted[k]]
    float_out = [k for k in range(carried, outputs) if body.outputs[k].dtype.kind == "f"]
    start = [g[k] for k in float_carry] + [zeros_for(F, inputs[k]) for k in float_rest]
    g_past = [g[outputs + k] for k in float_carry] if past else []
    moving = [*kept, *xs, *[g[k] for k in float_out], *g_past]
    operands = [*start, *moving, *rest]
    attrs: dict[str, Any] = {
        "body": back,
        "carried": len(start),
        "scanned": len(moving),
        "length": length,
        "reverse": not reverse,
    }
    if as_graph:
        found = results(bind(SCAN, *operands, **attrs, history=any(x.requires_grad for x in operands)))
    else:
        from .. import backend

        xp = backend.backend_of(operands[0]).xp
        found = list(_scan_run(xp, *operands, **attrs, history=False))
    result: list[Any] = [None] * len(inputs)
    for k, gradient in zip([*float_carry, *float_rest], found, strict=False):
        result[k] = gradient
    float_xs = [k for k in range(carried, carried + scanned) if wanted[k]]
    for k, gradient in zip(float_xs, found[len(start) :], strict=False):
        result[k] = gradient
    return [r if need else None for r, need in zip(result, needs, strict=True)]


def gradient_step(body: Graph, carried: int, scanned: int, wanted: tuple[bool, ...], past: bool) -> Graph:
    """One step of the backward loop as a graph. Cached on the body.

    (gradients of carry, sums for the rest; carry, x, gradients of y [, of the kept carry]; rest)
        -> (the same gradients and sums, one step earlier; gradients of x)
    """
    key = ("gradient step", wanted, past)
    if key not in body._programs:
        from ..trace import trace

        n, outputs = len(body.inputs), len(body.outputs)
        float_carry = [k for k in range(carried) if wanted[k]]
        float_xs = [k for k in range(carried, carried + scanned) if wanted[k]]
        float_rest = [k for k in range(carried + scanned, n) if wanted[k]]
        float_out = [k for k in range(carried, outputs) if body.outputs[k].dtype.kind == "f"]

        def step(*args: Tensor) -> list[Tensor]:
            at = 0

            def take(count: int) -> list[Tensor]:
                nonlocal at
                at += count
                return list(args[at - count : at])

            g_carry, sums = take(len(float_carry)), take(len(float_rest))
            carry, x, g_out = take(carried), take(scanned), take(len(float_out))
            g_kept, rest = take(len(float_carry) if past else 0), take(n - carried - scanned)
            inputs = [follow(t) if w else t for t, w in zip([*carry, *x, *rest], wanted, strict=True)]
            with modified(grad=True):
                found = body.replay(inputs)
            ends = [found[k] for k in [*float_carry, *float_out]]
            pulled = gradients(ends, [*g_carry, *g_out], [inputs[k] for k in [*float_carry, *float_rest, *float_xs]])
            m = len(float_carry)
            added = [s + d for s, d in zip(sums, pulled[m : m + len(sums)], strict=True)]
            earlier = [d + k for d, k in zip(pulled[:m], g_kept, strict=True)] if past else pulled[:m]
            return [*earlier, *added, *pulled[m + len(sums) :]]

        specs = [spec_of(body.inputs[k].value) for k in [*float_carry, *float_rest]]
        specs += [spec_of(t.value) for t in body.inputs[: carried + scanned]]
        specs += [spec_of(body.outputs[k].value) for k in float_out]
        specs += [spec_of(body.inputs[k].value) for k in float_carry] if past else []
        specs += [spec_of(t.value) for t in body.inputs[carried + scanned :]]
        body._programs[key] = trace(step, specs, f"gradient of {body.name}")[0]
    return body._programs[key]


SCAN = Op("scan", run=_scan_run, infer=_scan_infer, vjp=_scan_vjp, saves=("inputs", "y"))


def scan(
    f: Callable, init: Any, xs: Any = None, length: int | None = None, *, reverse: bool = False
) -> tuple[Any, Any]:
    """A loop over the first axis: `carry, y = f(carry, x)` for each x in `xs`. Returns (last carry, stacked ys).

    Args:
        f: (carry, x) -> (carry, y). The carry keeps its structure, shapes and dtypes; y may be None or a tree.
        init: the first carry, a tensor or a tree of them.
        xs: a tensor, or a tree of tensors with equal first axes; None to repeat `length` times with x = None.
        length: the number of steps, needed only without `xs`.
        reverse: go from the last element to the first (the ys stay in the order of `xs`).

    Raises:
        ShapeError: first axes differ, or the carry changes its shape or dtype.
        ArgumentError: no length, or structures differ.

    >>> mg.scan(lambda total, x: (total + x, total), mg.tensor(0), mg.arange(4))
    (tensor(6, dtype=int64), tensor([0, 0, 1, 3], dtype=int64))
    """
    leaves, carry_structure = pytree.flatten(init)
    carry = [lift(t) for t in leaves]
    xs_leaves, xs_structure = pytree.flatten(xs)
    elements = [lift(x) for x in xs_leaves]
    steps = scan_length(elements, length)

    def one(*args: Any) -> tuple[list[Tensor], Any]:
        state = pytree.unflatten(carry_structure, list(args[: len(carry)]))
        x = pytree.unflatten(xs_structure, list(args[len(carry) :]))
        result = f(state, x)
        if not isinstance(result, tuple) or len(result) != 2:
            raise ArgumentError("scan: f must return a pair (carry, y)", actual=type(result).__name__)
        new, structure = pytree.flatten(result[0])
        if structure != carry_structure:
            raise ArgumentError("scan: f must return a carry of the structure it was given",
                                actual=pytree.explain_difference(carry_structure, structure))  # fmt: skip
        return [lift(t, c) for t, c in zip(new, carry, strict=True)], result[1]

    if not is_tracing():
        return scan_dynamic(one, carry, elements, steps, reverse, carry_structure)
    y_structure: Any = None

    def body_fn(*args: Tensor) -> Any:
        nonlocal y_structure
        new, y = one(*args)
        ys, y_structure = pytree.flatten(y)
        return [*new, *ys]

    body = Body(body_fn, [*carry, *[element(x, 0) for x in elements]], getattr(f, "__name__", "f"))
    closed = Closed([body])
    n, m, a = len(carry), len(elements), len(closed.assigned)
    graph = closed.graphs[0]
    # the variables that the body assigns are carried along: (carry, assigned; xs; rest) -> (carry, assigned; ys)
    inputs = [*graph.inputs[:n], *graph.inputs[n + m : n + m + a], *graph.inputs[n : n + m], *graph.inputs[n + m + a :]]
    ys = len(graph.outputs) - n - a
    outputs = [*graph.outputs[:n], *graph.outputs[n + ys :], *graph.outputs[n : n + ys]]
    graph = Graph(graph.nodes, inputs, outputs, name=graph.name)
    operands = [*carry, *closed.operands[:a], *elements, *closed.operands[a:]]
    now = mode.get() or ORDINARY
    node = bind(SCAN, *operands, body=graph, carried=n + a, scanned=m, length=steps, reverse=reverse,
                history=now.grad and any(x.requires_grad for x in operands))  # fmt: skip
    out = results(node)
    for variable, t in zip(closed.assigned, out[n : n + a], strict=True):
        variable.assign(t)
    return pytree.unflatten(carry_structure, out[:n]), pytree.unflatten(y_structure, out[n + a : n + a + ys])


def scan_length(elements: Sequence[Tensor], length: int | None) -> int:
    """The number of steps, checked."""
    for x in elements:
        if x.ndim == 0:
            raise ShapeError("scan: xs needs a first axis to go over", expected="at least one axis", actual=repr(x))
    sizes = {x.shape[0] for x in elements} | ({length} if length is not None else set())
    if not sizes:
        raise ArgumentError("scan: how many steps?", expected="xs, or length=", actual="neither")
    if len(sizes) > 1:
        raise ShapeError(
            "scan: first axes (and length) must agree", actual=f"{[x.shape for x in elements]}, length={length}"
        )
    return sizes.pop()


def element(x: Tensor, i: int) -> Tensor:
    """x[i] without its history mattering: only the type is looked at when a body is traced."""
    return x[i] if x.shape[0] else Tensor(np.zeros(x.shape[1:], x.dtype))


def scan_dynamic(
    one: Callable, carry: list[Tensor], elements: Sequence[Tensor], steps: int, reverse: bool, structure: Any
) -> tuple[Any, Any]:
    """The loop, step by step."""
    from .shape import stack

    order = range(steps - 1, -1, -1) if reverse else range(steps)
    rows: list[Any] = [None] * steps
    y_structure: Any = None
    for i in order:
        new, y = one(*carry, *[x[i] for x in elements])
        same_carry("scan", "f", [spec_of(c.value) for c in carry], new)
        carry = new
        rows[i], y_structure = pytree.flatten(y)
    if steps == 0:
        raise ArgumentError("scan: no steps", expected="at least one element in xs", actual="length 0")
    stacked = [stack([lift(row[k]) for row in rows]) for k in range(len(rows[0]))]
    return pytree.unflatten(structure, carry), pytree.unflatten(y_structure, stacked)
