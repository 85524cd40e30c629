"""Modules: functions with parameters, arranged in a tree.

A module is a Python object whose attributes are parameters (variables that an optimiser changes), buffers (variables
that it does not, such as running means), other modules, and plain values. `forward` says what it computes. Calling the
module names the scope, so that every node made inside knows which part of the model it belongs to: that is what folds
drawings and tables by layer, and what errors name.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Iterator
from typing import Any

from .. import tree as pytree
from ..errors import ArgumentError, CheckpointError, DTypeError, MinigraphError
from ..interrupt import held
from ..op import ROOT, Scope, mode, scope
from ..tensor import Tensor, asarray
from ..variable import Variable, move_all

_get_scope, _set_scope, _reset_scope, _mode = scope.get, scope.set, scope.reset, mode.get


class Parameter(Variable):
    """A variable that belongs to a module and is trained: it requires gradients unless told otherwise.

    >>> mg.nn.Parameter([1.0, 2.0])
    Parameter([1., 2.], dtype=float32)
    """

    def __init__(
        self, data: Any, *, dtype: Any = None, device: Any = None, requires_grad: bool = True, name: str | None = None
    ):
        super().__init__(data, dtype=dtype, device=device, requires_grad=requires_grad, name=name)


class Handle:
    """What registering a hook returns; `remove()` takes the hook away. Also a context manager.

    >>> layer = mg.nn.Identity()
    >>> with layer.register_forward_hook(lambda module, args, result: result * 2):
    ...     y = layer(mg.tensor(1.0))
    >>> y, layer(mg.tensor(1.0))
    (tensor(2., dtype=float32), tensor(1., dtype=float32))
    """

    def __init__(self, module: Module, hooks: dict[int, Callable], hook: Callable):
        self.module, self.hooks, self.key = module, hooks, max(hooks, default=0) + 1
        hooks[self.key] = hook
        module._edited()

    def remove(self) -> None:
        """Take the hook away; doing it twice is harmless."""
        if self.hooks.pop(self.key, None) is not None:
            self.module._edited()

    def __enter__(self) -> Handle:
        return self

    def __exit__(self, *exc: object) -> None:
        self.remove()


class Module:
    """Base of layers and models.

    Assign parameters, buffers and submodules as attributes in `__init__` (after `super().__init__()`), and define
    `forward`. Names follow PyTorch.

    Attributes:
        training: whether the module behaves as in training; `train()` and `eval()` set it.

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
    _name: str
    _variables: dict[str, Variable]
    _modules: dict[str, Module]
    _before: dict[int, Callable[..., Any]]
    _after: dict[int, Callable[..., Any]]
    _scopes: dict[Any, Any]
    _holders: tuple[Any, ...]
    _edits: int
    _transparent = False  # a container that is not called itself, but gives its name to the calls of its members
    _not_watched = ("_scopes", "_name", "_holders", "_variables", "_modules")  # by the guards of a compiled function

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        pytree.register(cls, _flatten, _unflatten)

    def __init__(self) -> None:
        set_ = object.__setattr__
        set_(self, "_variables", {})  # parameters and buffers by attribute name
        set_(self, "_modules", {})
        set_(self, "_before", {})  # hooks
        set_(self, "_after", {})
        set_(self, "_scopes", {})  # of the calls of this module, by the scope of the caller
        set_(self, "_name", "")  # the attribute of the parent that holds this module
        set_(self, "_holders", ())  # the transparent containers between the parent and this module
        set_(self, "_edits", 0)  # compiled functions watch it, to notice other hooks, parameters or submodules
        set_(self, "training", True)

    # ------------------------------------------------------------------------------------------------- attributes
    def __setattr__(self, name: str, value: Any) -> None:
        if "_edits" not in self.__dict__:
            raise not_initialised(self)
        if not isinstance(value, Variable | Module):
            check_attribute(self, name, value)
            self._forget(name)
            object.__setattr__(self, name, value)
            return
        if isinstance(value, Module) and any(m is self for m in value.modules()):
            raise ArgumentError(f"{type(self).__name__}.{name}: a module cannot contain itself")
        self._forget(name)
        if isinstance(value, Module):
            self._modules[name] = value
            value._rename(name, self._held())
        else:
            self._variables[name] = value
        object.__setattr__(self, name, value)
        self._edited()
        self._qualify()

    def __delattr__(self, name: str) -> None:
        self._forget(name)
        object.__delattr__(self, name)

    def _forget(self, name: str) -> None:
        """The attribute is no longer a parameter, buffer or submodule."""
        if name in self._variables or name in self._modules:
            self._variables.pop(name, None)
            self._modules.pop(name, None)
            self._edited()

    def _edited(self) -> None:
        object.__setattr__(self, "_edits", self._edits + 1)

    def _held(self) -> tuple[tuple[str, str], ...]:
        """The transparent containers that stand between a submodule and the module that calls it."""
        return (*self._holders, (self._name, type(self).__name__)) if self._transparent else ()

    def _rename(self, name: str, holders: tuple[tuple[str, str], ...]) -> None:
        """The parent holds this module under `name`, in these transparent containers."""
        object.__setattr__(self, "_name", name)
        object.__setattr__(self, "_holders", holders)
        self._scopes.clear()
        if self._transparent:
            for key, module in self._modules.items():
                module._rename(key, self._held())

    def _qualify(self) -> None:
        """Give the variables below the names under which they are known from here: `layers.0.weight`."""
        for path, v in self.named_variables():
            v.name = v._tensor.name = path

    def add_module(self, name: str, module: Module) -> None:
        """Add a submodule under a name that is computed; write `self.encoder = module` where it is not.

        Raises:
            ArgumentError: the name is taken, empty, or contains a dot (which separates the parts of a path).
        """
        taken = isinstance(name, str) and name not in self._modules and hasattr(self, name)
        if not isinstance(name, str) or not name or "." in name or taken:
            raise ArgumentError(
                f"{type(self).__name__}: the name of a submodule",
                expected="a string without dots that is not the name of another attribute",
                actual=f"{name!r}",
            )
        setattr(self, name, module)

    def register_buffer(self, name: str, data: Any) -> None:
        """Add a variable that is saved and moved with the module but not trained.

        Args:
            name: the attribute. data: its first value, anything `mg.tensor` takes.

        Raises:
            DTypeError: `data` is a parameter.
        """
        if isinstance(data, Parameter):
            raise DTypeError(
                f"{type(self).__name__}.register_buffer: a buffer is not trained",
                actual=f"a parameter, {data.name!r}",
                remedy=f"self.{name} = parameter",
            )
        setattr(self, name, data if isinstance(data, Variable) else Variable(data, name=name))

    # ------------------------------------------------------------------------------------------------------ calls
    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What the module computes."""
        raise NotImplementedError(f"{type(self).__name__} does not define forward")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        parent = _get_scope()
        try:
            here = self._scopes[parent]
        except (KeyError, AttributeError):
            here = self._scope_below(parent)
        now = _mode()
        if now is not None and now.recorder is not None and now.recorder.symbolic:
            self._watch(now.recorder.objects)
        token = _set_scope(here)
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
        except Exception as error:
            add_place(error, self, here)
            raise
        finally:
            _reset_scope(token)

    def _scope_below(self, parent: Scope | None) -> Scope:
        """The scope of a call of this module from `parent`: always the same one."""
        if "_scopes" not in self.__dict__:
            raise not_initialised(self)
        here = parent or ROOT
        for name, kind in self._holders:
            here = here.child(name, kind) if name else here
        here = self._scopes[parent] = here.child(self._name or type(self).__name__, type(self).__name__)
        return here

    def _watch(self, objects: dict[int, Any]) -> None:
        """Tell a trace that this module was used, and the transparent containers below it."""
        objects[id(self)] = self
        for module in self._modules.values():
            if module._transparent:
                module._watch(objects)

    def where(self) -> str:
        """This layer and its place in the model, for error messages: `net.0: Linear(in_features=64, ...)`."""
        here = str(_get_scope() or "")
        return f"{here}: {self!r}" if here else repr(self)

    def register_forward_pre_hook(self, hook: Callable) -> Handle:
        """Call `hook(module, args)` before each forward; what it returns, unless None, replaces the arguments."""
        return Handle(self, self._before, hook)

    def register_forward_hook(self, hook: Callable) -> Handle:
        """Call `hook(module, args, result)` after each forward; what it returns, unless None, replaces the result."""
        return Handle(self, self._after, hook)

    # ------------------------------------------------------------------------------------------------- going over
    def _walk(self, prefix: str = "") -> Iterator[tuple[str, Module]]:
        """(path, module) for this module and every module below it, shared ones under each of their paths."""
        if "_modules" not in self.__dict__:
            raise not_initialised(self)
        stack: list[tuple[str, Module]] = [(prefix, self)]
        while stack:
            path, module = stack.pop()
            yield path, module
            stack.extend((f"{path}.{name}" if path else name, m) for name, m in reversed(module._modules.items()))

    def _all_variables(self) -> Iterator[tuple[str, Variable]]:
        """(path, variable) for every parameter and buffer, shared ones under each of their paths."""
        for path, module in self._walk():
            for name, v in module._variables.items():
                yield (f"{path}.{name}" if path else name), v

    def named_modules(self, prefix: str = "") -> Iterator[tuple[str, Module]]:
        """(path, module) for this module (path "") and every module below it, each once, parents first."""
        seen: set[int] = set()
        for path, module in self._walk(prefix):
            if id(module) not in seen:
                seen.add(id(module))
                yield path, module

    def modules(self) -> Iterator[Module]:
        """This module and every module below it."""
        return (m for _, m in self.named_modules())

    def children(self) -> Iterator[Module]:
        """The modules directly below this one."""
        return iter(list(self._modules.values()))

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """(name, module) for the modules directly below this one."""
        return iter(list(self._modules.items()))

    def named_variables(self) -> Iterator[tuple[str, Variable]]:
        """(path, variable) for every parameter and buffer, shared ones once."""
        seen: set[int] = set()
        for path, v in self._all_variables():
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
        with held():
            for p in self.parameters():
                p.grad = None

    def requires_grad_(self, flag: bool = True) -> Module:
        """Freeze (False) or unfreeze all parameters. Returns the module."""
        for p in self.parameters():
            p.requires_grad = flag
        return self

    def to(self, device: Any) -> Module:
        """Move every variable to a device, in place. Returns the module.

        Raises:
            DeviceError: there is no such device here; nothing has been moved.
        """
        move_all([v for _, v in self.named_variables()], device)
        return self

    # ------------------------------------------------------------------------------------------------------- state
    def state_dict(self) -> dict[str, Tensor]:
        """{path: tensor} of every parameter and buffer. The tensors keep their values when training goes on."""
        return {path: v.read() for path, v in self._all_variables()}

    def load_state_dict(self, state: dict[str, Any], *, strict: bool = True) -> None:
        """Assign parameters and buffers from `{path: array or tensor}`. Nothing changes unless everything fits.

        Args:
            strict: every path must be there, and no other.

        Raises:
            CheckpointError: paths are missing or unknown, shapes differ, or something is not an array of numbers; the
                message lists them.
        """
        own = dict(self._all_variables())
        problems, new = [], []
        if strict:
            problems += [f"missing: {path}" for path in own if path not in state]
            problems += [f"unknown: {path}" for path in state if path not in own]
        for path, value in state.items():
            if path not in own:
                continue
            v = own[path]
            try:
                t = asarray(value, dtype=v.dtype, device=v.device).detach()
            except MinigraphError as error:
                problems.append(f"{path}: {error.what}")
                continue
            if t.shape != v.shape:
                problems.append(f"{path}: shape {v.shape} expected, {t.shape} given")
            new.append((v, t))
        if problems:
            rest = f"\nand {len(problems) - 10} more" if len(problems) > 10 else ""
            raise CheckpointError(
                f"{type(self).__name__}.load_state_dict: the state does not fit",
                actual="\n".join(problems[:10]) + rest,
                remedy="build the model with the sizes it was saved with; strict=False ignores paths",
            )
        with held():
            for v, t in new:
                v.assign(t)

    # ----------------------------------------------------------------------------------------------------- showing
    def extra_repr(self) -> str:
        """What stands in the parentheses of the repr: the settings of a layer."""
        return ""

    def __repr__(self) -> str:
        head = type(self).__name__
        if not self.__dict__.get("_modules"):
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
        new = type(self).__new__(type(self))
        memo[id(self)] = new
        for key, value in self.__dict__.items():
            fresh = {} if key in ("_scopes", "_compiled_methods") else copy.deepcopy(value, memo)
            object.__setattr__(new, key, fresh)
        return new


# -------------------------------------------------------------------------------------------------- errors that teach


def size(owner: str, name: str, value: Any, *, least: int = 1) -> int:
    """A number of features or the like: an integer of at least `least`, or the error that says so."""
    try:
        n = value.__index__()
    except (AttributeError, TypeError):
        raise DTypeError(f"{owner}: {name} is an integer", actual=f"{type(value).__name__} {value!r}") from None
    if n < least or isinstance(value, bool):
        raise ArgumentError(f"{owner}: {name}", expected=f"an integer of at least {least}", actual=f"{value!r}")
    return n


def not_initialised(module: Module) -> ArgumentError:
    """The error for a module whose `__init__` does not call the one of `Module`."""
    return ArgumentError(
        f"{type(module).__name__}: super().__init__() has not been called",
        remedy="call super().__init__() first thing in __init__",
    )


def check_attribute(module: Module, name: str, value: Any) -> None:
    """Raise for what looks like a part of the module but would not be found by `parameters()` and `state_dict()`."""
    kind, owner = type(value), f"{type(module).__name__}.{name}"
    if kind in (list, tuple, dict):
        members = list(value.values()) if kind is dict else value
        found = next((x for x in members if isinstance(x, Module | Parameter)), None)
        if found is not None:
            container = "nn.ModuleDict" if kind is dict else "nn.ModuleList"
            of_modules = isinstance(found, Module)
            raise DTypeError(
                f"{owner}: parts in a plain {kind.__name__} would not be trained, saved or moved",
                expected=f"{container}, or an attribute for each" if of_modules else "an attribute for each",
                actual=f"a {kind.__name__} that holds {type(found).__name__}",
                remedy=f"self.{name} = {container}(...)"
                if of_modules
                else f'setattr(self, f"{name}_{{i}}", parameter) for each, or put each into a small module',
            )
    if kind is Tensor and value.requires_grad and value.op is None:
        raise DTypeError(
            f"{owner}: a tensor never changes, so it cannot be trained",
            expected="nn.Parameter",
            actual=f"{value!r}",
            remedy=f"self.{name} = nn.Parameter(tensor); if it is not trained, self.register_buffer({name!r}, tensor)",
        )


def add_place(error: Exception, module: Module, here: Scope) -> None:
    """Note at an error in which module it happened, unless it says so already."""
    notes = getattr(error, "__notes__", ())
    if any(note.startswith("  in ") for note in notes):
        return
    if isinstance(error, MinigraphError):
        if not error.what.startswith(str(here)):
            error.add_note(f"  in        {here}: {type(module).__name__}")
    elif type(error) is TypeError and error.__traceback__ is not None and error.__traceback__.tb_next is None:
        signature = inspect.signature(module.forward)  # the call itself failed: nothing below it is in the traceback
        error.add_note(f"  in        {here}: {type(module).__name__}, whose forward takes {signature}")


# ------------------------------------------------------------------------------------------------------- as a pytree


def _flatten(module: Module) -> tuple[list[Variable], Any]:
    found = [(path, v) for path, v in module.named_variables() if v.requires_grad]
    return [v for _, v in found], (module, tuple(path for path, _ in found))


def _unflatten(aux: Any, leaves: list[Any]) -> Any:
    """The module itself from its own variables; a dict {path: value} from anything else, such as gradients."""
    module, paths = aux
    if all(isinstance(x, Variable) for x in leaves):
        return module
    return dict(zip(paths, leaves, strict=True))
