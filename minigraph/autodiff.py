"""Reverse-mode differentiation: one walk back through the graph, and every transform on top of it.

`pull_back` takes the gradient with respect to some results and carries it back: nodes are visited in the reverse of
their creation order, each node's rule turns the gradient at its result into gradients at its inputs, and gradients
that meet are added. They live in a dictionary during the walk, not on the nodes, so a second walk starts clean.

The rules are written once, over a namespace `F`. When only values are wanted the walk hands them plain arrays and the
array functions, so that backward costs no bookkeeping; when the gradient must itself be a graph (a higher derivative,
or any derivative under tracing) it hands them tensors and the public functions. That is all there is to higher orders.

No walk recurses: a chain of a million nodes is fine.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from itertools import repeat
from operator import attrgetter
from typing import Any

import numpy as np

from . import backend
from . import tree as pytree
from .errors import ArgumentError, DTypeError, GraphError, ShapeError, TraceError
from .interrupt import held
from .namespace import TensorFunctions, array_functions, numpy_functions, tensor_functions
from .op import ORDINARY, ROOT, Op, Operand, Scope, mode, modified, named_scope, scope
from .tensor import FREED, Tensor, bind, lift
from .variable import READ, Variable

__all__ = ["backward", "checkpoint", "grad", "hessian", "jacobian", "jvp", "stop_gradient", "value_and_grad", "vjp"]

_by_creation = attrgetter("seq")


# ---------------------------------------------------------------------------------------------------- the walk


def history(
    roots: Sequence[Tensor], stop: frozenset[int] | set[int] = frozenset()
) -> tuple[list[Tensor], list[Tensor]]:
    """Every node that carries gradient into `roots`: (inner nodes, newest first; leaves). Stops at `stop`."""
    nodes: list[Tensor] = []
    leaves: list[Tensor] = []
    seen = {id(t) for t in roots}
    stack: list[Tensor] = []
    for t in roots:
        if t.requires_grad:
            (stack if t.inputs and id(t) not in stop else leaves).append(t)
    while stack:
        t = stack.pop()
        inner = False
        for x in t.inputs:
            if x.requires_grad:
                inner = True
                if (key := id(x)) not in seen:
                    seen.add(key)
                    (stack if x.inputs and (not stop or key not in stop) else leaves).append(x)
        (nodes if inner else leaves).append(t)  # under tracing, a node can require gradients by itself (see `follow`)
    for t in leaves:
        if t.inputs is FREED:
            raise freed(t)
    if len(nodes) > 1:
        nodes.sort(key=_by_creation, reverse=True)
    return nodes, leaves


def freed(t: Tensor) -> GraphError:
    """The error for a second backward."""
    return GraphError(
        f"backward: the graph behind {t.op.name if t.op else 'this tensor'} has been freed by an earlier backward",
        expected="one backward for each forward",
        actual="a second one through the same nodes",
        remedy="loss.backward(retain_graph=True) the first time, or compute the loss again",
    )


def pull_back(
    nodes: Sequence[Tensor],
    cotangents: dict[int, Any],
    *,
    as_graph: bool,
    release: bool = False,
    hooks: Sequence[Any] = (),
) -> None:
    """Carry `cotangents` (by `id` of the tensor) back through `nodes`, newest first; what reaches leaves stays in it.

    Args:
        as_graph: compute on tensors with the public functions, so that the result is a graph, instead of on arrays.
        release: cut each node from its inputs when it is done, so that its memory is freed during the walk.
    """
    if as_graph or backend.only_numpy:
        walk(nodes, cotangents, as_graph, release, hooks)
        return
    for node in nodes:  # each where its inputs are
        with backend.on(node.inputs[0].device):
            walk([node], cotangents, as_graph, release, hooks)


def walk(
    nodes: Sequence[Tensor], cotangents: dict[int, Any], as_graph: bool, release: bool, hooks: Sequence[Any]
) -> None:
    """`pull_back` through nodes on the current device."""
    take, get, only_numpy = cotangents.pop, cotangents.get, backend.only_numpy
    F: Any = tensor_functions(backend.cpu) if as_graph else numpy_functions
    if as_graph:  # the caller has entered the scope BACKWARD
        here = scope.get()
        scopes = {s: scope_of_gradient(s, here) for s in {n.scope for n in nodes}}
    y: Any
    values: Sequence[Any]
    found: Sequence[Any]

    def add(x: Tensor, like: Any, gx: Any) -> None:
        """Add `gx` to the gradient of `x`, whose value is `like`."""
        if gx.shape != like.shape or gx.dtype is not like.dtype:
            gx = fit(F, gx, like)
        key = id(x)
        old = get(key)
        cotangents[key] = gx if old is None else old + gx

    plain = only_numpy and not as_graph and not hooks
    for node in nodes:
        g = take(id(node), None)
        if g is None:
            continue
        inputs, attrs, rules = node.inputs, node.attrs, node.op.vjp
        each = type(rules) is tuple  # one rule for each input; otherwise one that gives all gradients
        if plain and each and not attrs and len(inputs) <= 2:  # spelled out: most of a program comes this way
            y = node.value
            if len(inputs) == 2:
                a, b = inputs
                u, v = a.value, b.value
                if a.requires_grad and (rule := rules[0]) is not None:
                    add(a, u, rule(F, g, y, u, v))
                if b.requires_grad and (rule := rules[1]) is not None:
                    add(b, v, rule(F, g, y, u, v))
            elif (rule := rules[0]) is not None:
                a = inputs[0]
                u = a.value
                add(a, u, rule(F, g, y, u))
            if release:
                node.inputs = FREED
            continue
        if as_graph:
            scope.set(scopes[node.scope])
            y, values = node, inputs
            if not only_numpy:
                F = tensor_functions(node.device)
        else:
            y, values = node.value, [x.value for x in inputs]
            if not only_numpy:
                F = array_functions(y)
        for hook in hooks:
            hook.before_backward(node, g)
        if not each:
            found = rules(F, [x.requires_grad for x in inputs], g, y, *values, **attrs)
        for k, x in enumerate(inputs):
            if not x.requires_grad:
                continue
            if each:
                rule = rules[k]
                if rule is None:
                    continue
                gx = rule(F, g, y, *values, **attrs)
            else:
                gx = found[k]
                if gx is None:
                    continue
            xv = x.value
            if type(xv) is tuple:  # a node with several results: the gradient of each is kept by itself
                slots = cotangents.setdefault(id(x), [None] * len(xv))
                at = attrs["index"]
                slots[at] = gx if slots[at] is None else slots[at] + gx
            else:
                add(x, xv, gx)
            for hook in hooks:
                hook.after_backward(node, k, gx)
        if release:
            node.inputs = FREED
    if as_graph:
        scope.set(here)


BACKWARD = ("backward", "backward")  # name and kind of the scope of what `backward` and the transforms compute


def scope_of_gradient(forward: Scope | None, here: Scope | None) -> Scope:
    """The scope of the gradient of a node with the scope `forward`, in a walk that starts in the scope `here`.

    Below `here` comes `backward`, and below it the modules again: "backward.net.0" for a layer "net.0". So the backward
    walk is folded by module as the forward run is. (JAX names it `transpose(jvp(net))/0`.)
    """
    outer, inner = steps(here), steps(forward)
    if BACKWARD in outer:  # a rule that walks back itself, through the body of a loop: no second `backward`
        del outer[outer.index(BACKWARD) :]
    common = 0
    while common < min(len(outer), len(inner)) and outer[common] == inner[common]:
        common += 1
    found = ROOT
    for name, kind in (*outer, BACKWARD, *inner[common:]):
        found = found.child(name, kind)
    return found


def steps(s: Scope | None) -> list[tuple[str, str]]:
    """Name and kind of each scope from the outermost to this one."""
    found = []
    while s is not None and s is not ROOT:
        found.append((s.name, s.kind))
        s = s.parent
    return found[::-1]


def fit(F: Any, g: Any, like: Any) -> Any:
    """Undo broadcasting and promotion: sum `g` over the stretched axes and convert it to the dtype of `like`."""
    shape = like.shape
    if g.shape != shape:
        extra = len(g.shape) - len(shape)
        if extra > 0:
            g = F.sum(g, axis=tuple(range(extra)))
        stretched = tuple([i for i, (n, m) in enumerate(zip(shape, g.shape, strict=True)) if n == 1 and m != 1])
        if stretched:
            g = F.sum(g, axis=stretched, keepdims=True)
    return g if g.dtype == like.dtype else F.astype(g, dtype=like.dtype)


def complete(F: Any, g: Sequence[Any], y: Any) -> list[Any]:
    """For rules of operations with several results: the gradients at all of them, zeros where none arrived (None)."""
    values = y.value if type(y) is Tensor else y
    return [zeros_for(F, v) if c is None else c for c, v in zip(g, values, strict=True)]


def zeros_for(F: Any, v: Any) -> Any:
    """Zeros like `v` (an array, tensor or Spec), as the namespace `F` makes them."""
    return F.zeros(v.shape, dtype=v.dtype)


def backward(root: Tensor, gradient: Any = None, *, retain_graph: bool = False, create_graph: bool = False) -> None:
    """Accumulate the gradient of `root` in `.grad` of every leaf that requires it. See `Tensor.backward`."""
    now = mode.get()
    recorder = None if now is None else now.recorder
    tracing = recorder is not None and recorder.symbolic
    seed = starting_gradient(root, gradient, tracing or create_graph)
    nodes, leaves = history([root])
    cotangents = {id(root): seed}
    hooks = () if now is None else now.hooks
    if recorder is None:
        as_graph, release = create_graph, not (retain_graph or create_graph)
    else:  # the nodes of a recording stay readable: they are marked instead of cut
        as_graph, release = tracing or create_graph, False
        recorder.mark_freed(nodes, freed, keep=retain_graph or create_graph)
    if as_graph:
        with modified(grad=create_graph), named_scope(*BACKWARD):
            pull_back(nodes, cotangents, as_graph=True, hooks=hooks)
            with held():  # the gradients of all leaves, or of none
                for t in leaves:
                    if (g := cotangents.pop(id(t), None)) is not None:
                        accumulate(t, g)
    else:
        pull_back(nodes, cotangents, as_graph=False, release=release, hooks=hooks)
        accumulate_arrays(leaves, cotangents)


def accumulate(t: Tensor, g: Any) -> None:
    """Add `g` (an array, or a tensor when it is part of a graph) to the gradient cell of the leaf `t`."""
    recorder = (mode.get() or ORDINARY).recorder
    cell: Any = t.attrs["variable"] if t.op is READ else t if recorder is None else recorder.cells.get(id(t), t)
    if type(g) is Tensor:
        if g.is_symbolic and not t.is_symbolic and t.op is not READ:
            raise TraceError(
                "backward inside a compiled function reaches a tensor from outside that collects gradients",
                expected="a variable, whose gradient the graph can assign, or an argument of the function",
                actual=f"{t.name or 'a tensor'}: {t!r}",
                remedy="make it an nn.Parameter or mg.Variable(..., requires_grad=True), or pass it as an argument",
            )
        old = cell.grad
        cell.grad = g if old is None else old + g
    else:
        cell._grad = total(cell._grad, g)


def accumulate_arrays(leaves: Sequence[Tensor], cotangents: dict[int, Any]) -> None:
    """Add the array that has arrived at each leaf to its gradient cell.

    All cells are assigned by one call of a C function, which Ctrl-C does not interrupt: all of them, or none.
    """
    take = cotangents.pop
    arrived = [(t.attrs["variable"] if t.op is READ else t, g) for t in leaves if (g := take(id(t), None)) is not None]
    if len({id(cell) for cell, _ in arrived}) == len(arrived):
        sums = [total(cell._grad, g) for cell, g in arrived]
        deque(map(setattr, [cell for cell, _ in arrived], repeat("_grad"), sums), maxlen=0)
        return
    with held():  # a variable has been read as several leaves, one after another
        for cell, g in arrived:
            cell._grad = total(cell._grad, g)


def total(old: Any, g: Any) -> Any:
    """The gradient `g` added to what a cell holds: nothing, an array, or a tensor that the user assigned."""
    if old is None:
        return g
    with backend.on(backend.device_of(g)):
        return (old.value if type(old) is Tensor else old) + g


def starting_gradient(root: Tensor, gradient: Any, as_graph: bool) -> Any:
    """The gradient to start from: ones for a scalar, or what the user gave, checked."""
    if not root.requires_grad:
        raise GraphError(
            "backward: nothing here requires a gradient",
            expected="a result of tensors with requires_grad=True, or of nn.Parameters",
            actual=repr(root),
            remedy="mg.tensor(..., requires_grad=True); and check that no stop_gradient, no_grad or integer dtype "
            "lies between",
        )
    if gradient is None:
        if root.shape != ():
            raise ShapeError(
                "backward: only a scalar has a gradient of its own",
                expected="shape ()",
                actual=f"shape {root.shape}",
                remedy="reduce it first, for example loss.sum() or loss.mean(), or pass gradient= of the same shape",
            )
        if not as_graph and backend.only_numpy:
            return root.value.dtype.type(1)
        from .ops import ones

        start = ones((), dtype=root.dtype, device=root.device)
    else:
        start = lift(gradient, root)
        if start.shape != root.shape:
            raise ShapeError(
                "backward: gradient and tensor have the same shape", expected=f"{root.shape}", actual=f"{start.shape}"
            )
        if start.dtype != root.dtype:
            start = start.astype(root.dtype)
    return start if as_graph else start.value


# -------------------------------------------------------------------------------------------------- transforms


def gradients(outputs: Sequence[Tensor], cotangents: Sequence[Any], targets: Sequence[Tensor]) -> list[Tensor]:
    """The gradients of `outputs`, weighted by `cotangents`, with respect to `targets`: what `vjp` and `grad` stand on.

    The result is itself a graph whenever somebody could differentiate it: under tracing, when the targets hang on
    something that requires gradients (nesting), or when the outputs also depend on other leaves that do.
    """
    now = mode.get() or ORDINARY
    tracing = now.recorder is not None and now.recorder.symbolic
    aims = {id(t) for t in targets}
    live = [(t, c) for t, c in zip(outputs, cotangents, strict=True) if t.requires_grad]
    nodes, leaves = history([t for t, _ in live], aims)
    outer = any(x.requires_grad for t in targets for x in t.inputs) or any(id(t) not in aims for t in leaves)
    differentiable = outer or any(c.requires_grad for _, c in live)
    as_graph = tracing or differentiable
    collected: dict[int, Any] = {}
    for t, c in live:
        g = c if as_graph else c.value
        collected[id(t)] = g if id(t) not in collected else collected[id(t)] + g
    if as_graph:
        with modified(grad=differentiable), named_scope(*BACKWARD):
            pull_back(nodes, collected, as_graph=True, hooks=now.hooks)
    else:
        pull_back(nodes, collected, as_graph=False, hooks=now.hooks)
    results = []
    for t in targets:
        g = collected.get(id(t))
        if g is None:
            from .ops import zeros

            g = zeros(t.shape, dtype=t.dtype, device=t.device)
        results.append(g if type(g) is Tensor else Tensor(g))
    return results


class Region:
    """The arguments of a function, made ready to be differentiated with respect to some of them.

    Each chosen tensor is replaced by a fresh node: `identity(x)` if `x` itself requires gradients (then we are nested
    in another differentiation and the new node hangs on it), a new leaf otherwise. Parameters of a module argument are
    variables: their tensors are the targets.
    """

    def __init__(self, name: str, args: Sequence[Any], argnums: int | Sequence[int]):
        self.single = isinstance(argnums, int)
        chosen = [argnums] if isinstance(argnums, int) else list(argnums)
        args = list(args)
        self.targets: list[Tensor] = []
        self.structures = []
        for k in chosen:
            if not -len(args) <= k < len(args):
                raise ArgumentError(
                    f"{name}: argnums", expected=f"positions of the {len(args)} positional arguments", actual=f"{k}"
                )
            leaves, structure = pytree.flatten(args[k])
            fresh = [self.prepare(name, k, x) for x in leaves]
            self.structures.append((structure, len(leaves)))
            args[k] = pytree.unflatten(structure, fresh)
        self.args = args

    def prepare(self, name: str, position: int, x: Any) -> Any:
        if isinstance(x, Variable):
            t = x.read()
            if not t.requires_grad:
                raise ArgumentError(
                    f"{name}: {x.name or 'a variable'} of argument {position} does not require gradients",
                    remedy="set variable.requires_grad = True, or leave it out of argnums",
                )
            self.targets.append(t)
            return x
        t = lift(x)
        if t.dtype.kind != "f":
            raise DTypeError(
                f"{name}: argument {position} must be floating point to be differentiated",
                expected="float16, float32 or float64",
                actual=repr(t),
                remedy="x.astype(mg.float32), or other argnums",
            )
        fresh = follow(t)
        self.targets.append(fresh)
        return fresh

    def pack(self, values: Sequence[Any]) -> Any:
        """Values in the order of the targets -> the structure of the chosen arguments."""
        results, at = [], 0
        for structure, n in self.structures:
            results.append(pytree.unflatten(structure, list(values[at : at + n])))
            at += n
        return results[0] if self.single else tuple(results)


def follow(t: Tensor) -> Tensor:
    """A new node with the value of `t` that requires gradients: hanging on `t` if `t` does, a leaf otherwise."""
    now = mode.get() or ORDINARY
    if t.requires_grad and now.grad:
        return bind(IDENTITY, t)
    if t.is_symbolic:
        fresh = bind(IDENTITY, t)
        fresh.requires_grad = True
        return fresh
    return Tensor(t.value, requires_grad=True, name=t.name)


IDENTITY = Op(
    "identity",
    run=lambda xp, x: x,
    infer=lambda x: x,
    numpy=lambda x: x,
    vjp=(lambda F, g, y, x: g,),
    view=True,
    elementwise=True,
    expression="x",
    latex="{x}",
    derivative=("1",),
)
STOP_GRADIENT = Op("stop_gradient", run=lambda xp, x: x, infer=lambda x: x, numpy=lambda x: x, view=True,
                   elementwise=True, expression="x", latex=r"\mathrm{{stop}}({x})")  # fmt: skip


def stop_gradient(x: Any) -> Tensor:
    """The same value, through which no gradient flows. `x`: any shape and dtype; the result has the same.

    >>> mg.grad(lambda x: x * mg.stop_gradient(x))(mg.tensor(3.0))
    tensor(3., dtype=float32)
    """
    return bind(STOP_GRADIENT, lift(x))


def need_function(name: str, fn: Any) -> None:
    """Raise unless `fn` can be called."""
    if not callable(fn):
        raise DTypeError(f"{name}: a function is expected", expected=f"mg.{name}(function, ...)",
                         actual=type(fn).__name__, remedy="tensor.backward() differentiates a tensor")  # fmt: skip


def value_and_grad(fn: Callable, argnums: int | Sequence[int] = 0, *, has_aux: bool = False) -> Callable:
    """A function that returns the value of `fn` and its gradient: `(value, gradient)`.

    Args:
        fn: returns a scalar tensor; with `has_aux`, a pair (scalar, anything).
        argnums: the position, or positions, of the arguments to differentiate. Each may be a tensor, a number, or a
            tree (dict, list, tuple, module) of them; the gradient has the same structure.
        has_aux: `fn` returns `(value, aux)`; the new function then returns `((value, aux), gradient)`.

    Raises:
        ShapeError: `fn` did not return a scalar. DTypeError: an argument is not floating point.

    >>> mg.value_and_grad(lambda p: (p["w"] ** 2).sum())({"w": mg.tensor([1.0, 2.0])})
    (tensor(5., dtype=float32), {'w': tensor([2., 4.], dtype=float32)})
    """

    need_function("grad", fn)

    need_function("value_and_grad", fn)

    def differentiated(*args: Any, **kwargs: Any) -> Any:
        name = getattr(fn, "__name__", "function")
        region = Region(f"grad of {name}", args, argnums)
        with modified(grad=True):
            result = fn(*region.args, **kwargs)
        value, aux = result if has_aux else (result, None)
        value = scalar_result(name, value)
        from .ops import ones

        found = gradients([value], [ones((), dtype=value.dtype, device=value.device)], region.targets)
        value = sealed(value, region.targets)
        return ((value, aux) if has_aux else value), region.pack(found)

    differentiated.__name__ = f"value_and_grad_{getattr(fn, '__name__', 'function')}"
    return differentiated


def sealed(t: Tensor, own: Sequence[Tensor]) -> Tensor:
    """A result as the caller may see it: without the history of this differentiation, whose leaves are `own`.

    A result that also hangs on something outside that requires gradients is returned as it is.
    """
    if not t.requires_grad:
        return t
    aims = {id(x) for x in own}
    for leaf_ in history([t], aims)[1]:
        if id(leaf_) not in aims or any(x.requires_grad for x in leaf_.inputs):
            return t
    return stop_gradient(t)


def scalar_result(name: str, value: Any) -> Tensor:
    if not isinstance(value, Operand):
        raise DTypeError(
            f"grad of {name}: the function must return a scalar tensor",
            expected="a 0-d tensor",
            actual=type(value).__name__,
            remedy="with auxiliary results, pass has_aux=True",
        )
    value = lift(value)
    if value.shape != ():
        raise ShapeError(
            f"grad of {name}: the function must return a scalar",
            expected="shape ()",
            actual=f"shape {value.shape}",
            remedy="reduce it (.sum(), .mean()), or use mg.jacobian or mg.vjp",
        )
    return value


def grad(fn: Callable, argnums: int | Sequence[int] = 0, *, has_aux: bool = False) -> Callable:
    """The gradient of a scalar function, as a function. Arguments as for `value_and_grad`. Nests to any order.

    With `has_aux` the result is `(gradient, aux)`. The gradient has the structure, shapes and dtypes of the arguments.

    Raises:
        ShapeError: `fn` did not return a scalar. DTypeError: an argument is not floating point.

    >>> mg.grad(mg.grad(lambda x: x**3))(mg.tensor(2.0))
    tensor(12., dtype=float32)
    """
    need_function("grad", fn)
    both = value_and_grad(fn, argnums, has_aux=has_aux)

    def gradient(*args: Any, **kwargs: Any) -> Any:
        value, g = both(*args, **kwargs)
        return (g, value[1]) if has_aux else g

    gradient.__name__ = f"grad_{getattr(fn, '__name__', 'function')}"
    return gradient


def vjp(fn: Callable, *primals: Any) -> tuple[Any, Callable]:
    """Value of `fn` at `primals`, and the function that carries gradients back: `cotangents -> gradients of primals`.

    The returned function takes the structure of the result and returns a tuple, one entry for each primal; it may be
    called any number of times.

    Raises:
        DTypeError: a primal is not floating point.
        ArgumentError, ShapeError: when called, if the cotangents do not have the structure and shapes of the result.

    >>> y, back = mg.vjp(lambda x: x * x, mg.tensor([1.0, 2.0]))
    >>> back(mg.tensor([1.0, 10.0]))
    (tensor([ 2., 40.], dtype=float32),)
    """
    need_function("vjp", fn)
    name = getattr(fn, "__name__", "function")
    region = Region(f"vjp of {name}", primals, tuple(range(len(primals))))
    with modified(grad=True):
        result = fn(*region.args)
    outputs, structure = pytree.flatten(result)
    outputs = [lift(t) for t in outputs]

    def back(cotangents: Any) -> tuple[Any, ...]:
        given, shape = pytree.flatten(cotangents)
        if shape != structure:
            raise ArgumentError(f"vjp of {name}: cotangents have the structure of the result",
                                actual=pytree.explain_difference(structure, shape))  # fmt: skip
        checked = []
        for y, c in zip(outputs, given, strict=True):
            c = lift(c, y)
            if c.shape != y.shape:
                raise ShapeError(
                    f"vjp of {name}: cotangent and result have the same shape",
                    expected=f"{y.shape}",
                    actual=f"{c.shape}",
                )
            checked.append(c)
        return region.pack(gradients(outputs, checked, region.targets))

    return pytree.unflatten(structure, [sealed(t, region.targets) for t in outputs]), back


def jvp(fn: Callable, primals: Sequence[Any], tangents: Sequence[Any]) -> tuple[Any, Any]:
    """Value of `fn`, and its derivative in the direction `tangents` (forward mode).

    Reverse mode is linear in the gradient it carries back, so carrying *it* back once more gives the forward
    derivative: no second set of rules is needed (J. Townsend, "A new trick for calculating Jacobian vector products",
    2017).

    Args:
        primals, tangents: sequences of equal length, structure and shapes.

    Returns:
        (value, derivative), both of the structure, shapes and dtypes of the result of `fn`.

    Raises:
        ArgumentError, ShapeError: primals and tangents do not match. DTypeError: a primal is not floating point.

    >>> mg.jvp(lambda x: x**2, (mg.tensor(3.0),), (mg.tensor(1.0),))
    (tensor(9., dtype=float32), tensor(6., dtype=float32))
    """
    given, structure = pytree.flatten(tuple(primals))
    directions, other = pytree.flatten(tuple(tangents))
    if structure != other:
        raise ArgumentError(
            "jvp: tangents have the structure of primals", actual=pytree.explain_difference(structure, other)
        )
    points = [lift(p) for p in given]
    directions = [lift(v, p) for v, p in zip(directions, points, strict=True)]
    for p, v in zip(points, directions, strict=True):
        if p.shape != v.shape:
            raise ShapeError(
                "jvp: each tangent has the shape of its primal", expected=f"{p.shape}", actual=f"{v.shape}"
            )
    from .ops import zeros

    with modified(grad=True):
        fresh = [follow(p) for p in points]
        result = fn(*pytree.unflatten(structure, fresh))
        flat, out = pytree.flatten(result)
        outputs = [lift(y) for y in flat]
        dummies = []
        for y in outputs:
            dummies.append(follow(zeros(y.shape, dtype=y.dtype, device=y.device)))
        pulled = gradients(outputs, dummies, fresh)
        derivative = gradients(pulled, directions, dummies)
    own = [*fresh, *dummies]
    return (
        pytree.unflatten(out, [sealed(y, own) for y in outputs]),
        pytree.unflatten(out, [sealed(d, own) for d in derivative]),
    )


def jacobian(fn: Callable, argnums: int | Sequence[int] = 0) -> Callable:
    """The matrix of all first derivatives: entry [i..., j...] is d fn(x)[i...] / d x[j...].

    Args:
        fn: returns one tensor. argnums: as for `value_and_grad`; for a tree the result is a tree.

    Its shape is the shape of the result followed by that of the argument. One backward walk for each element of the
    result, so it suits functions with few results.

    Raises:
        DTypeError: `fn` did not return one tensor, or an argument is not floating point.

    >>> mg.jacobian(lambda x: x * x)(mg.tensor([1.0, 2.0]))
    tensor([[2., 0.],
            [0., 4.]], dtype=float32)
    """

    need_function("jacobian", fn)

    def differentiated(*args: Any, **kwargs: Any) -> Any:
        from .ops import reshape, stack, zeros

        name = getattr(fn, "__name__", "function")
        region = Region(f"jacobian of {name}", args, argnums)
        with modified(grad=True):
            result = fn(*region.args, **kwargs)
        if not isinstance(result, Operand):
            raise DTypeError(f"jacobian of {name}: the function must return one tensor", actual=type(result).__name__)
        y = lift(result)
        rows: list[list[Tensor]] = []
        for k in range(y.size):
            rows.append(gradients([y], [unit(y, k)], region.targets))
        blocks = []
        for j, x in enumerate(region.targets):
            shape = y.shape + x.shape
            blocks.append(
                reshape(stack([r[j] for r in rows]), shape) if rows else zeros(shape, dtype=x.dtype, device=x.device)
            )
        return region.pack(blocks)

    differentiated.__name__ = f"jacobian_{getattr(fn, '__name__', 'function')}"
    return differentiated


def unit(y: Tensor, k: int) -> Tensor:
    """The tensor like `y` that is 1 at its k-th element and 0 elsewhere."""
    flat = np.zeros(y.size, y.dtype)
    flat[k] = 1
    return Tensor(backend.transfer(flat.reshape(y.shape), y.device))


def hessian(fn: Callable, argnums: int = 0) -> Callable:
    """The matrix of all second derivatives of a scalar function: the jacobian of its gradient, shape `(*x, *x)`.

    Raises:
        ShapeError: `fn` did not return a scalar. DTypeError: the argument is not floating point.

    >>> mg.hessian(lambda x: (x**3).sum())(mg.tensor([1.0, 2.0]))
    tensor([[ 6.,  0.],
            [ 0., 12.]], dtype=float32)
    """
    return jacobian(grad(fn, argnums), argnums)


# --------------------------------------------------------------------------------------------------- checkpoint


def checkpoint(fn: Callable) -> Callable:
    """`fn`, without keeping what happens inside it for backward: it is computed again when backward gets there.

    Memory for time (A. Griewank and A. Walther, "Revolve", 2000; T. Chen et al., "Training deep nets with sublinear
    memory cost", 2016). Values and gradients are those of `fn`; random numbers (dropout) are the same both times.

    Raises:
        GraphError: when called, if `fn` calls `backward()` itself.

    >>> mg.grad(mg.checkpoint(lambda x: mg.exp(mg.sin(x))))(mg.tensor(0.0))
    tensor(1., dtype=float32)
    """

    def checkpointed(*args: Any, **kwargs: Any) -> Any:
        now = mode.get() or ORDINARY
        if now.recorder is not None and now.recorder.symbolic:
            from .ops.control import checkpoint_static

            return checkpoint_static(fn, args, kwargs)
        if not now.grad:
            return fn(*args, **kwargs)
        leaves, structure = pytree.flatten((args, kwargs))
        places = [i for i, x in enumerate(leaves) if isinstance(x, Tensor)]
        given = [leaves[i] for i in places]

        def function(*tensors: Tensor) -> Any:
            for i, t in zip(places, tensors, strict=True):
                leaves[i] = t
            a, k = pytree.unflatten(structure, leaves)
            return fn(*a, **k)

        first = Watch()
        with modified(grad=False, recorder=first):
            outputs, out = pytree.flatten(function(*given))
        outputs = [lift(t) for t in outputs]
        own = {id(t) for t in given}
        captured = [t for key, t in first.found.items() if key not in own]
        replay = Replay(function, len(given), captured, first.before, [t.value for t in outputs])
        node = bind(CHECKPOINT, *given, *captured, replay=replay)
        replay.first = None
        return pytree.unflatten(out, [bind(ITEM(), node, index=i) for i in range(len(outputs))])

    checkpointed.__name__ = getattr(fn, "__name__", "function")
    return checkpointed


def ITEM() -> Op:  # noqa: N802
    """The operation that picks one result (it is part of the catalogue, which is made of operations defined here)."""
    from .ops.shape import ITEM

    return ITEM


class Watch:
    """A recorder that keeps no node: it notes the tensors from outside that require gradients, and the values that
    variables had before they were assigned."""

    symbolic = virtual = False

    def __init__(self) -> None:
        self.found: dict[int, Tensor] = {}
        self.before: dict[Variable, Tensor] = {}

    def add(self, node: Tensor) -> None:
        for x in node.inputs:
            if x.requires_grad:
                self.found[id(x)] = x
        node.op, node.inputs, node.attrs = None, (), None

    def assign(self, variable: Variable, t: Tensor) -> None:
        if isinstance(variable, Variable) and variable.requires_grad:
            raise TraceError(
                "checkpoint: a variable that collects gradients is assigned in a checkpointed function",
                actual=variable.name or "a variable",
                remedy="assign it outside of the function",
            )
        self.before.setdefault(variable, variable._tensor)

    def mark_freed(self, nodes: Any, error: Any, *, keep: bool) -> None:
        raise GraphError("checkpoint: backward inside a checkpointed function", remedy="call backward outside of it")


class Overlay:
    """A recorder for computing a second time: variables have the values they had the first time.

    Assignments stay in it.
    """

    symbolic, virtual = False, True

    def __init__(self, values: dict[Any, Tensor]):
        self.values = dict(values)

    def add(self, node: Tensor) -> None:
        if not node.requires_grad:
            node.op, node.inputs, node.attrs = None, (), None

    def read(self, cell: Any) -> Any:
        return self.values.get(cell, cell._tensor)

    def assign(self, cell: Any, t: Any) -> None:
        self.values[cell] = t if t is None else stop_gradient(t)  # as a variable reads after it was assigned

    def mark_freed(self, nodes: Any, error: Any, *, keep: bool) -> None:
        raise GraphError("checkpoint: backward inside a checkpointed function", remedy="call backward outside of it")


class Replay:
    """What a checkpoint remembers: the function, the tensors it used from outside, and the values of the variables that
    it assigned."""

    def __init__(
        self,
        function: Callable,
        arguments: int,
        captured: Sequence[Tensor],
        before: dict[Variable, Tensor],
        first: list[Any] | None,
    ):
        self.function, self.arguments, self.captured, self.before, self.first = (
            function,
            arguments,
            captured,
            before,
            first,
        )
        self.variables = {t.attrs["variable"]: t for t in captured if t.op is READ and t.attrs}

    def run(self, xp: Any, *arrays: Any) -> tuple[Any, ...]:
        if self.first is not None:
            return tuple(self.first)
        with modified(grad=False, recorder=Overlay(self.variables | self.before)):
            outputs, _ = pytree.flatten(self.function(*[Tensor(a) for a in arrays[: self.arguments]]))
        return tuple(lift(t).value for t in outputs)

    def pull_back(self, F: Any, needs: Sequence[bool], g: Sequence[Any], y: Any, *inputs: Any) -> list[Any]:
        """Compute again, with history, and differentiate."""
        as_graph = isinstance(F, TensorFunctions)
        arguments = [
            (follow(x) if as_graph else Tensor(x, requires_grad=True)) if need else (x if as_graph else Tensor(x))
            for x, need in zip(inputs[: self.arguments], needs, strict=False)
        ]
        with modified(grad=True, recorder=Overlay(self.variables | self.before), hooks=()):
            outputs, _ = pytree.flatten(self.function(*arguments))
        outputs = [lift(t) for t in outputs]
        targets = [t for t, need in zip([*arguments, *self.captured], needs, strict=True) if need]
        cotangents = [c if as_graph else Tensor(c) for c in complete(F, g, y)]
        found = iter(gradients(outputs, cotangents, targets))
        results = [next(found) if need else None for need in needs]
        return results if as_graph else [r if r is None else r.value for r in results]


CHECKPOINT = Op(
    "checkpoint",
    run=lambda xp, *inputs, replay: replay.run(xp, *inputs),
    vjp=lambda F, needs, g, y, *inputs, replay: replay.pull_back(F, needs, g, y, *inputs),
    saves=("inputs",),
    barrier=True,
)
