"""Optimisers: a formula each, applied to many parameters.

The formula of an optimiser is its `rule(F, p, g, *state, lr, t)`: the new parameter and the new state from the old
ones, the gradient, the learning rate and the number of the step, over a namespace `F` as for gradient rules. What it
needs of the rate and the step number alone is worked out beforehand, once for all parameters (`numbers`). Everything
that changes is a variable: the parameters, the state of each parameter, the learning rate and the step count, so the
state can be saved, and a compiled training step assigns it like everything else.

`step()` in dynamic mode compiles the rule once for one flat array (`optim/flat.py`) and runs it on all parameters at a
time, in place. Under tracing it applies the rule to each parameter's symbolic tensor. Both compute the same numbers, to
the last bit: the rule works element by element.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from .. import backend
from ..compiler import Executable, default_passes, optimize
from ..errors import ArgumentError, CheckpointError, DTypeError
from ..graph import Graph
from ..interrupt import held
from ..namespace import numpy_functions, tensor_functions
from ..op import ORDINARY, Spec, mode, named_scope
from ..ops.common import number, several, shown
from ..tensor import Tensor, lift
from ..variable import Variable
from .flat import Flat


class Part(NamedTuple):
    """The parameters of a group that have one dtype and device, and what updates them."""

    members: list[int]  # their positions in the group
    flat: Flat
    gradient: Any  # a flat array for the gradients
    views: list[tuple[int, Any]]  # (position in the group, its part of that array)
    program: Executable


class Group:
    """Parameters that share hyper-parameters; the hyper-parameters are attributes, which may be assigned."""

    _not_watched = ("parts", "kinds")  # by the guards of a compiled step: they serve steps in dynamic mode

    def __init__(self, parameters: Sequence[Variable], lr: float, options: dict[str, Any], names: Sequence[str]):
        self.parameters = list(parameters)
        self.lr = Variable(np.float64(lr), name="lr")
        self.steps = Variable(0, name="steps")
        self.state = {
            name: [Variable(_zeros(p), name=f"{p.name or 'parameter'}.{name}") for p in self.parameters]
            for name in names
        }
        self.devices = [p._tensor.device for p in self.parameters]
        self.parts: list[Part] | None = None  # made by `Optimizer._parts` for the options and members of the last step
        self.kinds: list[type] = []  # the type of each parameter's gradient at the last step
        self.options = list(options)
        self.__dict__.update(options)

    def __setattr__(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)
        if name in self.__dict__.get("options", ()):
            self.kinds, self.parts = [], None

    def follow(self) -> None:
        """Move the state of parameters that have been moved to another device since."""
        devices = [p._tensor.device for p in self.parameters]
        if devices != self.devices:
            self.devices, self.kinds, self.parts = devices, [], None
            for cells in self.state.values():
                for cell, device in zip(cells, devices, strict=True):
                    cell.move(device)


def _zeros(p: Variable) -> Tensor:
    from ..ops import zeros

    return zeros(p.shape, dtype=p.dtype, device=p.device)


class Optimizer:
    """Base of the optimisers. A subclass gives `rule` and the names of its state.

    Args:
        parameters: variables (`module.parameters()`), or a list of dicts `{"params": [...], "lr": ..., ...}` whose
            other entries override the hyper-parameters for these parameters.
        lr: learning rate.
        options: the rule's hyper-parameters.

    An optimiser of your own is a rule:

    >>> class SignDescent(mg.optim.Optimizer):
    ...     @staticmethod
    ...     def rule(F, p, g, *, lr, t):
    ...         return (p - F.sign(g) * lr,)
    >>> w = mg.nn.Parameter([1.0, -2.0])
    >>> optimizer = SignDescent([w], lr=0.25)
    >>> (w * w).sum().backward()
    >>> optimizer.step()
    >>> w.tolist()
    [0.75, -1.75]
    """

    state_names: Sequence[str] = ()

    def __init__(self, parameters: Iterable[Any], lr: float, **options: Any):
        if isinstance(parameters, Variable | Tensor):
            raise DTypeError(f"{type(self).__name__}: parameters must be an iterable", expected="module.parameters()",
                             actual=type(parameters).__name__, remedy="[parameter]")  # fmt: skip
        given = list(several(type(self).__name__, "parameters", parameters, "an iterable: module.parameters()"))
        if not given:
            raise ArgumentError(
                f"{type(self).__name__}: no parameters",
                expected="at least one nn.Parameter",
                remedy="pass module.parameters(), and make sure it was not used up by an earlier loop",
            )
        specified: list[dict[str, Any]] = given if isinstance(given[0], dict) else [{"params": given}]
        self.groups = []
        seen: set[int] = set()
        for s in specified:
            if not isinstance(s, dict) or "params" not in s:
                raise ArgumentError(
                    f"{type(self).__name__}: a group of parameters",
                    expected='{"params": [...], "lr": ...}',
                    actual=shown(s),
                )
            s = {"lr": lr, **options, **s}
            parameters = list(s.pop("params"))
            unknown = set(s) - {"lr", *options}
            if unknown:
                raise ArgumentError(
                    f"{type(self).__name__}: unknown option",
                    expected=f"lr, {', '.join(options)}",
                    actual=f"{sorted(unknown)}",
                )
            for p in parameters:
                if not isinstance(p, Variable) or p.dtype.kind != "f":
                    raise DTypeError(
                        f"{type(self).__name__}: parameters are floating-point variables",
                        expected="nn.Parameter",
                        actual=repr(p),
                        remedy="nn.Parameter(data)",
                    )
                if id(p) in seen:
                    raise ArgumentError(
                        f"{type(self).__name__}: a parameter is given twice",
                        expected="each once",
                        actual=repr(p),
                        remedy="module.parameters() gives shared ones once",
                    )
                seen.add(id(p))
            rate = float(number(type(self).__name__, "lr", s.pop("lr")))
            if not rate >= 0:
                raise ArgumentError(f"{type(self).__name__}: lr", expected="a number >= 0", actual=f"{rate}")
            self.check(**s)
            self.groups.append(Group(parameters, rate, s, self.names(**s)))

    def check(self, **options: Any) -> None:
        """Raise an ArgumentError for hyper-parameters that make no sense."""

    def names(self, **options: Any) -> Sequence[str]:
        """The names of the state that these hyper-parameters need."""
        return self.state_names

    @staticmethod
    def numbers(F: Any, lr: Any, t: Any, **options: Any) -> dict[str, Any]:
        """What the rule takes as keywords beside the options: by default the learning rate `lr` and the step `t`.

        They are given as 0-d float64; the rule gets the results in the dtype of the parameter.
        """
        return {"lr": lr, "t": t}

    @staticmethod
    def rule(*args: Any, **options: Any) -> tuple[Any, ...]:
        """`rule(F, p, g, *state, **numbers, **options)`: (new parameter, new state...) from the old ones.

        `g` is the gradient. The rule must work element by element.
        """
        raise NotImplementedError

    # ---------------------------------------------------------------------------------------------------- using it
    @property
    def lr(self) -> float:
        """The learning rate (of the first group). Assign to change it in all groups."""
        return self.groups[0].lr.item()

    @lr.setter
    def lr(self, value: float) -> None:
        rate = np.float64(number(type(self).__name__, "lr", value))
        _at_least_zero(type(self).__name__, lr=rate)
        with held():
            for group in self.groups:
                group.lr.assign(rate)

    def zero_grad(self) -> None:
        """Forget the gradients of all parameters: `grad` is None afterwards."""
        with held():
            for group in self.groups:
                for p in group.parameters:
                    p.grad = None

    def step(self) -> None:
        """Update every parameter that has a gradient."""
        if not backend.only_numpy:
            for group in self.groups:
                group.follow()
        recorder = (mode.get() or ORDINARY).recorder
        if recorder is not None and recorder.virtual:
            for group in self.groups:
                recorder.objects[id(group)] = group
                with named_scope("update", type(self).__name__):
                    self._step_traced(group)
            return
        updates = [update for group in self.groups for update in self._updates(group)]
        with held():  # all groups, or none
            for group in self.groups:
                group.steps.store(group.steps._tensor.value + 1)
            for part, arrays in updates:
                with backend.on(part.flat.device):
                    part.program(arrays)

    def _options(self, group: Group) -> dict[str, Any]:
        return {name: getattr(group, name) for name in group.options}

    def _step_traced(self, group: Group) -> None:
        group.steps.assign(group.steps + 1)
        options, known = self._options(group), {}
        for i, p in enumerate(group.parameters):
            g = p.grad
            if g is None:
                continue
            cells = [p, *[group.state[name][i] for name in group.state]]
            old = [c.read().detach() for c in cells]
            F = tensor_functions(p.device)
            if (kind := (p.dtype, p.device)) not in known:
                here = tensor_functions(group.lr.device)
                found = self.numbers(here, group.lr.read(), group.steps.astype("float64"), **options)
                known[kind] = {name: lift(x).astype(p.dtype).to(p.device) for name, x in found.items()}
            new = self.rule(F, old[0], g.detach(), *old[1:], **known[kind], **options)
            for cell, value in zip(cells, new, strict=True):
                cell.assign(value)

    def _updates(self, group: Group) -> list[tuple[Part, list[Any]]]:
        """The parts of a group, each with the arrays for its program, which it may overwrite."""
        gradients = [p._grad for p in group.parameters]
        kinds = list(map(type, gradients))
        if kinds != group.kinds:
            group.parts, group.kinds = self._parts(group, gradients), kinds
        updates = []
        options = self._options(group)
        lr, t = group.lr._tensor.value, np.float64(group.steps._tensor.value + 1)
        for part in group.parts or ():
            with backend.on(part.flat.device):
                updates.append((part, self._arrays(part, gradients, lr, t, options)))
        return updates

    def _arrays(self, part: Part, gradients: Sequence[Any], lr: Any, t: Any, options: dict[str, Any]) -> list[Any]:
        """What the program of a part works on: parameters, gradients, state, and the numbers of this step."""
        for i, view in part.views:
            g = gradients[i]
            view[...] = g.value if type(g) is Tensor else g
        flat = part.flat
        if flat.device.kind == "cpu":
            found = self.numbers(numpy_functions, lr, t, **options)
            numbers = [np.asarray(x, flat.dtype) for x in found.values()]
        else:
            found = self.numbers(numpy_functions, float(lr), np.float64(int(t)), **options)
            numbers = [flat.xp.asarray(np.asarray(x, flat.dtype)) for x in found.values()]
        parameters, *state = flat.writable()
        return [parameters, part.gradient, *state, *numbers]

    def _parts(self, group: Group, gradients: Sequence[Any]) -> list[Part]:
        """One flat array for each dtype and device among the parameters that have gradients."""
        kinds: dict[Any, list[int]] = {}
        for i, (p, g) in enumerate(zip(group.parameters, gradients, strict=True)):
            if g is not None:
                kinds.setdefault((p.dtype, p.device), []).append(i)
        members = list(kinds.values())
        if group.parts is not None and members == [part.members for part in group.parts]:
            return group.parts
        parts = []
        for positions in members:
            rows = [group.parameters, *group.state.values()]
            with backend.on(group.parameters[positions[0]]._tensor.device):
                flat = Flat([[row[i] for i in positions] for row in rows])
                gradient = flat.xp.empty(flat.size, flat.dtype)
                views = list(zip(positions, flat.views(gradient), strict=True))
            program = self._program(Spec((flat.size,), flat.dtype, flat.device), self._options(group))
            parts.append(Part(positions, flat, gradient, views, program))
        return parts

    def _program(self, spec: Spec, options: dict[str, Any]) -> Executable:
        """The rule, compiled for one flat array, writing the new parameter and state over the old."""
        from ..trace import trace

        number = Spec((), spec.dtype, spec.device)
        states = self.names(**options)
        words = list(self.numbers(numpy_functions, np.float64(0.1), np.float64(1), **options))

        def update(p: Tensor, g: Tensor, *rest: Tensor) -> Any:
            numbers = dict(zip(words, rest[len(states) :], strict=True))
            return self.rule(tensor_functions(p.device), p, g, *rest[: len(states)], **numbers, **options)

        names = ["p", "g", *states, *words]
        specs = [spec] * (2 + len(states)) + [number] * len(words)
        graph, _, _ = trace(update, specs, f"{type(self).__name__}.rule", names=names)
        self.graph: Graph = optimize(graph, default_passes())[0]
        return Executable(self.graph, donate=[0, *range(2, 2 + len(states))])

    # ------------------------------------------------------------------------------------------------------- state
    def state_dict(self) -> dict[str, Any]:
        """Everything that changes, as nested dicts of tensors, for `mg.save_checkpoint`."""
        return {
            f"group{k}": {
                "lr": group.lr.read(),
                "steps": group.steps.read(),
                **{name: {str(i): v.read() for i, v in enumerate(cells)} for name, cells in group.state.items()},
            }
            for k, group in enumerate(self.groups)
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` gave. Nothing is changed unless everything fits."""
        todo: list[tuple[Variable, Any]] = []
        expected = self.state_dict()

        def pair(cells: Any, want: Any, got: Any, path: str) -> None:
            if isinstance(want, dict):
                if not isinstance(got, dict) or set(got) != set(want):
                    raise CheckpointError(
                        f"optimizer state: {path or 'top level'} does not fit",
                        expected=f"{sorted(want)}",
                        actual=f"{sorted(got) if isinstance(got, dict) else type(got).__name__}",
                    )
                for key in want:
                    pair(cells[key], want[key], got[key], f"{path}.{key}" if path else key)
            elif tuple(np.shape(got)) != want.shape:
                raise CheckpointError(
                    f"optimizer state: {path} has another shape", expected=f"{want.shape}", actual=f"{np.shape(got)}"
                )
            else:
                todo.append((cells, got))

        tree = {
            f"group{k}": {
                "lr": g.lr, "steps": g.steps,
                **{name: {str(i): v for i, v in enumerate(cells)} for name, cells in g.state.items()},
            }
            for k, g in enumerate(self.groups)
        }  # fmt: skip
        pair(tree, expected, state, "")
        new = [(variable, lift(value, variable)) for variable, value in todo]
        for variable, value in new:
            variable.check(value)
        with held():
            for variable, value in new:
                variable.assign(value)

    def __repr__(self) -> str:
        parts = []
        for g in self.groups:
            options = ", ".join(f"{name}={getattr(g, name)!r}" for name in g.options)
            parts.append(f"{len(g.parameters)} parameters, lr={g.lr.item():g}" + (f", {options}" if options else ""))
        return f"{type(self).__name__}({'; '.join(parts)})"


def _at_least_zero(owner: str, **values: float) -> None:
    for name, value in values.items():
        if not number(owner, name, value) >= 0:
            raise ArgumentError(f"{owner}: {name}", expected="a number >= 0", actual=f"{value}")


def _fractions(owner: str, **values: float) -> None:
    for name, value in values.items():
        if not 0 <= number(owner, name, value) < 1:
            raise ArgumentError(f"{owner}: {name}", expected="0 <= value < 1", actual=f"{value}")


def two(owner: str, betas: Any) -> tuple[Any, ...]:
    """The two decays."""
    found = several(owner, "betas", betas, "two numbers")
    if len(found) != 2:
        raise ArgumentError(f"{owner}: betas", expected="two numbers", actual=shown(betas))
    return found


class SGD(Optimizer):
    """Stochastic gradient descent, with momentum (H. Robbins and S. Monro, 1951; B. Polyak, 1964; Y. Nesterov, 1983).

    The formula is PyTorch's: m = momentum m + g; p = p - lr m (with `nesterov`: p - lr (g + momentum m)).

    Args:
        parameters: variables, or groups. lr: learning rate. momentum: 0 <= momentum < 1.
        weight_decay: adds weight_decay * p to the gradient. nesterov: look ahead along the momentum.

    >>> w = mg.nn.Parameter([1.0, 2.0])
    >>> optimizer = mg.optim.SGD([w], lr=0.5)
    >>> (w * w).sum().backward()
    >>> optimizer.step()
    >>> w.read()
    tensor([0., 0.], dtype=float32, requires_grad=True)
    """

    def __init__(
        self,
        parameters: Iterable[Any],
        lr: float = 1e-3,
        momentum: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
    ):
        super().__init__(parameters, lr, momentum=momentum, weight_decay=weight_decay, nesterov=nesterov)

    def check(self, **options: Any) -> None:
        _fractions("SGD", momentum=options["momentum"])
        _at_least_zero("SGD", weight_decay=options["weight_decay"])
        if options["nesterov"] and not options["momentum"]:
            raise ArgumentError("SGD: nesterov needs momentum", expected="momentum > 0", actual="momentum=0")

    def names(self, **options: Any) -> Sequence[str]:
        return ("momentum_buffer",) if options["momentum"] else ()

    @staticmethod
    def numbers(F: Any, lr: Any, t: Any, **options: Any) -> dict[str, Any]:
        return {"lr": lr}

    @staticmethod
    def rule(
        F: Any, p: Any, g: Any, *state: Any, lr: Any, momentum: float, weight_decay: float, nesterov: bool
    ) -> tuple[Any, ...]:
        if weight_decay:
            g = g + p * weight_decay
        if not state:
            return (p - g * lr,)
        m = state[0] * momentum + g
        return p - (g + m * momentum if nesterov else m) * lr, m


class Adam(Optimizer):
    """Adaptive moments (D. Kingma and J. Ba, 2015), in PyTorch's form.

    Args:
        parameters: variables, or groups. lr: learning rate. betas: decay of the two moments, each in [0, 1).
        eps: added to the denominator. weight_decay: adds weight_decay * p to the gradient (AdamW has the other kind).

    >>> w = mg.nn.Parameter([1.0, -2.0])
    >>> optimizer = mg.optim.Adam([w], lr=0.1)
    >>> (w * w).sum().backward()
    >>> optimizer.step()  # the first step has the size of the learning rate, whatever the gradient
    >>> w.tolist()
    [0.9, -1.9]
    """

    state_names = ("exp_avg", "exp_avg_sq")
    decoupled = False

    def __init__(
        self,
        parameters: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ):
        super().__init__(parameters, lr, betas=two(type(self).__name__, betas), eps=eps, weight_decay=weight_decay)

    def check(self, **options: Any) -> None:
        _fractions(type(self).__name__, **{f"betas[{i}]": b for i, b in enumerate(options["betas"])})
        _at_least_zero(type(self).__name__, eps=options["eps"], weight_decay=options["weight_decay"])

    @staticmethod
    def numbers(F: Any, lr: Any, t: Any, **options: Any) -> dict[str, Any]:
        """The moments start at zero, and are divided by 1 - beta**t to make up for it.

        Where the root of the second one is corrected, so are `eps` beside it and the rate before it: one factor less
        for each element.
        """
        b1, b2 = map(np.float64, options["betas"])
        root = F.sqrt(1.0 - F.pow(b2, t))
        return {"rate": lr * root / (1.0 - F.pow(b1, t)), "floor": options["eps"] * root, "lr": lr}

    @classmethod
    def rule(
        cls,
        F: Any,
        p: Any,
        g: Any,
        m: Any,
        v: Any,
        *,
        rate: Any,
        floor: Any,
        lr: Any,
        betas: tuple[float, float],
        eps: float,
        weight_decay: float,
    ) -> tuple[Any, ...]:
        b1, b2 = betas
        if weight_decay and cls.decoupled:
            p = p * (1.0 - lr * weight_decay)
        elif weight_decay:
            g = g + p * weight_decay
        m = m * b1 + g * (1 - b1)
        v = v * b2 + (g * (1 - b2)) * g
        return p - m / (F.sqrt(v) + floor) * rate, m, v


class AdamW(Adam):
    """Adam with decoupled weight decay (I. Loshchilov and F. Hutter, 2019).

    p = (1 - lr weight_decay) p before the step of Adam. Arguments as for `Adam`; weight_decay is 0.01 unless given.

    >>> w = mg.nn.Parameter([1.0])
    >>> w.grad = mg.tensor([0.0])
    >>> mg.optim.AdamW([w], lr=0.1, weight_decay=0.5).step()  # without a gradient, only the decay is left
    >>> w.tolist()
    [0.95]
    """

    decoupled = True

    def __init__(
        self,
        parameters: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
    ):
        super().__init__(parameters, lr, betas, eps, weight_decay)


class RMSprop(Optimizer):
    """Gradients divided by a running mean of their size (T. Tieleman and G. Hinton, 2012, lecture 6.5), as in PyTorch.

    Args:
        parameters: variables, or groups. lr: learning rate. alpha: decay of the mean. eps: added to the denominator.
        weight_decay: adds weight_decay * p to the gradient.

    >>> w = mg.nn.Parameter([1.0])
    >>> optimizer = mg.optim.RMSprop([w], lr=0.01)
    >>> (w * w).sum().backward()
    >>> optimizer.step()
    >>> w.tolist()
    [0.9]
    """

    state_names = ("square_avg",)

    def __init__(
        self,
        parameters: Iterable[Any],
        lr: float = 1e-2,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ):
        super().__init__(parameters, lr, alpha=alpha, eps=eps, weight_decay=weight_decay)

    def check(self, **options: Any) -> None:
        _fractions("RMSprop", alpha=options["alpha"])
        _at_least_zero("RMSprop", eps=options["eps"], weight_decay=options["weight_decay"])

    @staticmethod
    def numbers(F: Any, lr: Any, t: Any, **options: Any) -> dict[str, Any]:
        return {"lr": lr}

    @staticmethod
    def rule(
        F: Any, p: Any, g: Any, s: Any, *, lr: Any, alpha: float, eps: float, weight_decay: float
    ) -> tuple[Any, ...]:
        if weight_decay:
            g = g + p * weight_decay
        s = s * alpha + (g * (1 - alpha)) * g
        return p - g / (F.sqrt(s) + eps) * lr, s
