"""Modules: functions with parameters, arranged in a tree.

A module is a Python object whose attributes are parameters (variables that an optimiser changes), buffers (variables
that it does not, such as running means), other modules, and plain values. `forward` says what it computes. Calling the
module names the scope, so that every node made inside knows which part of the model it belongs to: that is what folds
drawings and tables by layer.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from .. import tree as pytree
from ..errors import ArgumentError, CheckpointError, DTypeError
from ..op import ROOT, mode, scope
from ..tensor import Tensor
from ..variable import Variable

_scope, _mode = scope.get, mode.get


class Parameter(Variable):
    """A variable that belongs to a module and is trained: it requires gradients unless told otherwise.

    >>> mg.nn.Parameter([1.0, 2.0])
    Parameter([1., 2.], dtype=float32)
    """

    def __init__(self, data: Any, *, dtype: Any = None, device: Any = None, requires_grad: bool = True, name: str | None = None):
        super().__init__(data, dtype=dtype, device=device, requires_grad=requires_grad, name=name)


class Handle:
    """What registering a hook returns; `remove()` takes the hook away. Also a context manager."""

    def __init__(self, hooks: dict[int, Callable], key: int):
        self.hooks, self.key = hooks, key

    def remove(self) -> None:
        """Take the hook away; doing it twice is harmless."""
        self.hooks.pop(self.key, None)

    def __enter__(self) -> Handle:
        return self

    def __exit__(self, *exc: object) -> None:
        self.remove()


class Module:
    """Base of layers and models.

    Assign parameters, buffers and submodules as attributes in `__init__` (after `super().__init__()`), and define
    `forward`. Names follow PyTorch.

    >>> class Scale(mg.nn.Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.weight = mg.nn.Parameter(2.0)
    ...
    ...     def forward(self, x):
    ...         return x * self.weight
    >>> scale = Scale()
    >>> scale(mg.tensor([1.0, 2.0]))
    tensor([2., 4.], dtype=float32, op=multiply)
    >>> dict(scale.named_parameters())
    {'weight': Parameter(2., dtype=float32, name='weight')}
    """

    training: bool
    _not_watched = ("_scopes", "_name", "_variables", "_modules")  # by the guards of a compiled function

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        pytree.register(cls, _flatten, _unflatten)

    def __init__(self) -> None:
        set_ = object.__setattr__
        set_(self, "_variables", {})  # parameters and buffers by attribute name
        set_(self, "_modules", {})
        set_(self, "_before", OrderedDict())
        set_(self, "_after", OrderedDict())
        set_(self, "_scopes", {})
        set_(self, "_name", "")
        set_(self, "training", True)

    # ------------------------------------------------------------------------------------------------- attributes
    def __setattr__(self, name: str, value: Any) -> None:
        if "_variables" not in self.__dict__:
            raise ArgumentError(f"{type(self).__name__}: super().__init__() has not been called",
                                remedy="call super().__init__() first thing in __init__")  # fmt: skip
        self._variables.pop(name, None)
        self._modules.pop(name, None)
        if isinstance(value, Variable):
            self._variables[name] = value
            if value.name is None:
                value.name = value._tensor.name = name
        elif isinstance(value, Module):
            self._modules[name] = value
            value._rename(name)
        object.__setattr__(self, name, value)
        if isinstance(value, Variable | Module):
            self._qualify()

    def __delattr__(self, name: str) -> None:
        self._variables.pop(name, None)
        self._modules.pop(name, None)
        object.__delattr__(self, name)

    def _rename(self, name: str) -> None:
        object.__setattr__(self, "_name", name)
        self._scopes.clear()

    def _qualify(self) -> None:
        """Give the variables below the names under which they are known from here: `layers.0.weight`."""
        for path, v in self._named(Variable):
            v.name = v._tensor.name = path

    def register_buffer(self, name: str, data: Any) -> None:
        """Add a variable that is saved and moved with the module but not trained.

        Args:
            name: the attribute. data: its first value, anything `mg.tensor` takes.
        """
        setattr(self, name, data if isinstance(data, Variable) else Variable(data, name=name))

    # ------------------------------------------------------------------------------------------------------ calls
    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What the module computes."""
        raise NotImplementedError(f"{type(self).__name__} does not define forward")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        parent = _scope() or ROOT
        here = self._scopes.get(parent)
        if here is None:
            here = self._scopes[parent] = parent.child(self._name or type(self).__name__, type(self).__name__)
        now = _mode()
        if now is not None and now.recorder is not None and now.recorder.symbolic:
            now.recorder.objects[id(self)] = self
        token = scope.set(here)
        try:
            if self._before:
                for hook in list(self._before.values()):
                    changed = hook(self, args)
                    if changed is not None:
                        args = changed if isinstance(changed, tuple) else (changed,)
            result = self.forward(*args, **kwargs)
            if self._after:
                for hook in list(self._after.values()):
                    changed = hook(self, args, result)
                    if changed is not None:
                        result = changed
            return result
        finally:
            scope.reset(token)

    def register_forward_pre_hook(self, hook: Callable) -> Handle:
        """Call `hook(module, args)` before each forward; what it returns, unless None, replaces the arguments."""
        return _register(self._before, hook)

    def register_forward_hook(self, hook: Callable) -> Handle:
        """Call `hook(module, args, result)` after each forward; what it returns, unless None, replaces the result."""
        return _register(self._after, hook)

    # ------------------------------------------------------------------------------------------------- going over
    def _named(self, kind: type, prefix: str = "") -> Iterator[tuple[str, Variable]]:
        for path, module in self.named_modules(prefix):
            for name, v in module._variables.items():
                if isinstance(v, kind):
                    yield (f"{path}.{name}" if path else name), v

    def named_modules(self, prefix: str = "") -> Iterator[tuple[str, Module]]:
        """(path, module) for this module (path "") and every module below it, each once, parents first."""
        stack: list[tuple[str, Module]] = [(prefix, self)]
        seen: set[int] = set()
        while stack:
            path, module = stack.pop()
            if id(module) in seen:
                continue
            seen.add(id(module))
            yield path, module
            children = [(f"{path}.{name}" if path else name, m) for name, m in module._modules.items()]
            stack.extend(reversed(children))

    def modules(self) -> Iterator[Module]:
        """This module and every module below it."""
        return (m for _, m in self.named_modules())

    def children(self) -> Iterator[Module]:
        """The modules directly below this one."""
        return iter(self._modules.values())

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """(name, module) for the modules directly below this one."""
        return iter(self._modules.items())

    def named_variables(self) -> Iterator[tuple[str, Variable]]:
        """(path, variable) for every parameter and buffer, shared ones once."""
        seen: set[int] = set()
        for path, v in self._named(Variable):
            if id(v) not in seen:
                seen.add(id(v))
                yield path, v

    def named_parameters(self) -> Iterator[tuple[str, Parameter]]:
        """(path, parameter) for every parameter, shared ones once."""
        return ((path, v) for path, v in self.named_variables() if isinstance(v, Parameter))

    def parameters(self) -> Iterator[Parameter]:
        """Every parameter, shared ones once."""
        return (p for _, p in self.named_parameters())

    def named_buffers(self) -> Iterator[tuple[str, Variable]]:
        """(path, variable) for every variable that is not a parameter."""
        return ((path, v) for path, v in self.named_variables() if not isinstance(v, Parameter))

    def buffers(self) -> Iterator[Variable]:
        """Every variable that is not a parameter."""
        return (v for _, v in self.named_buffers())

    def apply(self, fn: Callable[[Module], None]) -> Module:
        """Call `fn` on every module, children first; returns the module."""
        for module in reversed(list(self.modules())):
            fn(module)
        return self

    # ---------------------------------------------------------------------------------------------------- changing
    def train(self, flag: bool = True) -> Module:
        """Switch to training behaviour (dropout, batch statistics), here and below. Returns the module."""
        for module in self.modules():
            object.__setattr__(module, "training", bool(flag))
        return self

    def eval(self) -> Module:
        """Switch to evaluation behaviour: `train(False)`."""
        return self.train(False)

    def zero_grad(self) -> None:
        """Forget the gradients of all parameters."""
        for p in self.parameters():
            p.grad = None

    def requires_grad_(self, flag: bool = True) -> Module:
        """Freeze (False) or unfreeze all parameters. Returns the module."""
        for p in self.parameters():
            p.requires_grad = flag
        return self

    def to(self, device: Any) -> Module:
        """Move every variable to a device, in place. Returns the module."""
        for _, v in self.named_variables():
            v.move(device)
        return self

    # ------------------------------------------------------------------------------------------------------- state
    def state_dict(self) -> dict[str, Tensor]:
        """{path: tensor} of every parameter and buffer. The tensors keep their values when training goes on."""
        return {path: v.read() for path, v in self._named(Variable)}

    def load_state_dict(self, state: dict[str, Any], *, strict: bool = True) -> None:
        """Assign parameters and buffers from `{path: array or tensor}`. Nothing changes unless everything fits.

        Args:
            strict: every path must be there, and no other.

        Raises:
            CheckpointError: paths are missing or unknown, or shapes or dtypes differ; the message lists them.
        """
        own = dict(self._named(Variable))
        problems = []
        if strict:
            problems += [f"missing: {path}" for path in own if path not in state]
            problems += [f"unknown: {path}" for path in state if path not in own]
        for path, value in state.items():
            if path in own:
                v = own[path]
                shape = np.shape(value.value if isinstance(value, Tensor | Variable) else value)
                if shape != v.shape:
                    problems.append(f"{path}: shape {v.shape} expected, {shape} given")
        if problems:
            shown = "\n".join(problems[:10]) + (f"\nand {len(problems) - 10} more" if len(problems) > 10 else "")
            raise CheckpointError(f"{type(self).__name__}.load_state_dict: the state does not fit", actual=shown,
                                  remedy="build the model with the sizes it was saved with; strict=False ignores paths")  # fmt: skip
        from ..tensor import asarray

        new = [(own[path], asarray(value, dtype=own[path].dtype, device=own[path].device)) for path, value in state.items() if path in own]
        for v, value in new:
            v.assign(value.detach())

    # ----------------------------------------------------------------------------------------------------- showing
    def extra_repr(self) -> str:
        """What stands in the parentheses of the repr: the settings of a layer."""
        return ""

    def __repr__(self) -> str:
        head = type(self).__name__
        if not self._modules:
            return f"{head}({self.extra_repr()})"
        lines = [f"{head}({self.extra_repr()}"]
        for name, m in self._modules.items():
            lines.append(f"  ({name}): " + repr(m).replace("\n", "\n  "))
        return "\n".join([*lines, ")"])

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        from ..draw import repr_mimebundle

        return repr_mimebundle(self)

    def __reduce__(self) -> Any:
        raise DTypeError("modules are not pickled", remedy="mg.save(path, module.state_dict())")

    def __deepcopy__(self, memo: Any) -> Module:
        import copy

        new = type(self).__new__(type(self))
        memo[id(self)] = new
        for key, value in self.__dict__.items():
            fresh = {} if key == "_scopes" else copy.deepcopy(value, memo)
            object.__setattr__(new, key, fresh)
        return new


def _register(hooks: dict[int, Callable], hook: Callable) -> Handle:
    key = max(hooks, default=0) + 1
    hooks[key] = hook
    return Handle(hooks, key)


def _flatten(module: Module) -> tuple[list[Variable], Any]:
    found = [(path, v) for path, v in module.named_variables() if v.requires_grad]
    return [v for _, v in found], (module, tuple(path for path, _ in found))


def _unflatten(aux: Any, leaves: list[Any]) -> Any:
    """The module itself from its own variables; a dict {path: value} from anything else, such as gradients."""
    module, paths = aux
    if all(isinstance(x, Variable) for x in leaves):
        return module
    return dict(zip(paths, leaves, strict=True))
