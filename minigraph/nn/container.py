"""Modules made of modules: a chain, a list, a dictionary."""

from __future__ import annotations

from collections.abc import ItemsView, Iterable, Iterator, KeysView, Mapping, ValuesView
from typing import Any

from ..errors import ArgumentError, BoundsError, DTypeError
from .module import Module


def checked(owner: str, module: Any, where: str) -> Module:
    """The module, or the error that says what was given instead."""
    if isinstance(module, Module):
        return module
    if isinstance(module, type) and issubclass(module, Module):
        raise DTypeError(
            f"{owner}: {where} is a class",
            expected="a module",
            actual=f"nn.{module.__name__}",
            remedy=f"make one: nn.{module.__name__}(...)",
        )
    remedy = "wrap a function in a small nn.Module, or use the layer of the same name" if callable(module) else ""
    if isinstance(module, list | tuple):
        remedy = "unpack the list: nn.Sequential(*layers)"
    raise DTypeError(
        f"{owner}: {where} is not a module", expected="an nn.Module", actual=f"{type(module).__name__}", remedy=remedy
    )


class _Listed(Module):
    """What Sequential and ModuleList share: the behaviour of a Python list. Members are named by their position."""

    def __len__(self) -> int:
        return len(self._modules)

    def __iter__(self) -> Iterator[Module]:
        return iter(list(self._modules.values()))

    def __contains__(self, module: object) -> bool:
        return any(m is module for m in self._modules.values())

    def _position(self, index: Any) -> int:
        try:
            k = index.__index__()
        except AttributeError:
            raise DTypeError(f"{type(self).__name__}: an index is an integer or a slice", actual=f"{index!r}") from None
        if not -len(self) <= k < len(self):
            raise BoundsError(
                f"{type(self).__name__}: no module {k}",
                expected=f"0 to {len(self) - 1}, or counted from the end" if len(self) else "none: it is empty",
                actual=f"{k}",
            )
        return k % len(self)

    def __getitem__(self, index: Any) -> Any:
        members = list(self._modules.values())
        if isinstance(index, slice):
            return type(self)._of(list(self._modules.items())[index])
        return members[self._position(index)]

    @classmethod
    def _of(cls, items: list[tuple[str, Module]]) -> Any:
        """A new container of the same modules."""
        new = cls()
        for position, (name, module) in enumerate(items):
            object.__setattr__(new, key := str(position) if name.isdecimal() else name, module)
            new._modules[key] = module
        return new

    def _replace(self, members: list[Module]) -> None:
        """Hold these modules, named by their position."""
        for name in list(self._modules):
            delattr(self, name)
        for k, m in enumerate(members):
            setattr(self, str(k), checked(type(self).__name__, m, f"element {k}"))

    def __setitem__(self, index: int, module: Module) -> None:
        name = list(self._modules)[self._position(index)]
        order = list(self._modules)
        setattr(self, name, checked(type(self).__name__, module, f"element {name}"))
        for key in order:  # assigning puts a name last
            self._modules[key] = self._modules.pop(key)

    def __delitem__(self, index: Any) -> None:
        members = list(self._modules.values())
        if isinstance(index, slice):
            del members[index]
        else:
            del members[self._position(index)]
        self._replace(members)

    def append(self, module: Module) -> Any:
        """Add a module at the end. Returns the container."""
        k = len(self)
        while str(k) in self._modules:  # names given by a dict
            k += 1
        setattr(self, str(k), checked(type(self).__name__, module, f"element {k}"))
        return self

    def extend(self, modules: Iterable[Module]) -> Any:
        """Add modules at the end. Returns the container."""
        for m in modules:
            self.append(m)
        return self

    def insert(self, index: int, module: Module) -> Any:
        """Add a module before position `index`. Returns the container."""
        members = list(self._modules.values())
        members.insert(index, checked(type(self).__name__, module, f"element {index}"))
        self._replace(members)
        return self


class Sequential(_Listed):
    """Modules one after another: the result of each is the input of the next.

    Args:
        modules: any number of modules, or one dict {name: module}.

    Raises:
        DTypeError: something is not a module (a class, a function, a list).

    >>> net = mg.nn.Sequential(mg.nn.Linear(4, 8), mg.nn.ReLU(), mg.nn.Linear(8, 2))
    >>> net(mg.ones((5, 4))).shape, len(net), net[0].out_features
    ((5, 2), 3, 8)
    >>> net[:2]
    Sequential(
      (0): Linear(in_features=4, out_features=8, bias=True)
      (1): ReLU()
    )
    >>> list(mg.nn.Sequential({"first": mg.nn.Linear(2, 1)}).state_dict())
    ['first.weight', 'first.bias']
    """

    def __init__(self, *modules: Module | Mapping[str, Module]):
        super().__init__()
        if len(modules) == 1 and isinstance(modules[0], Mapping):
            for name, module in modules[0].items():
                self.add_module(name, checked("Sequential", module, f"{name!r}"))
        else:
            members: Any = modules  # `_replace` checks what they are
            self._replace(list(members))

    def forward(self, x: Any) -> Any:
        for module in self._modules.values():
            x = module(x)
        return x


class ModuleList(_Listed):
    """A list of modules. It is not called itself: index it or go over it in `forward`.

    Its members, unlike those of a Python list, are found by `parameters()`, `state_dict()`, `train()` and `to()`.

    >>> layers = mg.nn.ModuleList([mg.nn.Linear(2, 2) for _ in range(3)])
    >>> x = mg.ones(2)
    >>> for layer in layers:
    ...     x = layer(x)
    >>> len(layers), sum(p.size for p in layers.parameters())
    (3, 18)
    """

    _transparent = True

    def __init__(self, modules: Iterable[Module] = ()):
        super().__init__()
        given: Any = modules
        if isinstance(given, Module) and not isinstance(given, _Listed):
            raise DTypeError(
                "ModuleList: a list of modules", actual=f"{type(modules).__name__}", remedy="nn.ModuleList([module])"
            )
        self._replace(list(modules))

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError("a ModuleList is not called: go over its members, or use nn.Sequential")


class ModuleDict(Module):
    """A dictionary of modules by name. It is not called itself: index it in `forward`.

    >>> heads = mg.nn.ModuleDict({"policy": mg.nn.Linear(4, 2), "value": mg.nn.Linear(4, 1)})
    >>> heads["value"](mg.ones(4)).shape, list(heads)
    ((1,), ['policy', 'value'])
    """

    _transparent = True

    def __init__(self, modules: Mapping[str, Module] | None = None):
        super().__init__()
        self.update(modules or {})

    def update(self, modules: Mapping[str, Module]) -> None:
        """Add or replace modules."""
        for name, module in modules.items():
            self[name] = module

    def __setitem__(self, name: str, module: Module) -> None:
        self.add_module(name, checked("ModuleDict", module, f"{name!r}"))

    def __getitem__(self, name: str) -> Module:
        try:
            return self._modules[name]
        except KeyError:
            raise ArgumentError(
                "ModuleDict: no such module", expected=f"one of {list(self._modules)}", actual=f"{name!r}"
            ) from None

    def __delitem__(self, name: str) -> None:
        self[name]
        delattr(self, name)

    def __len__(self) -> int:
        return len(self._modules)

    def __iter__(self) -> Iterator[str]:
        return iter(list(self._modules))

    def __contains__(self, name: object) -> bool:
        return name in self._modules

    def keys(self) -> KeysView[str]:
        """The names."""
        return self._modules.keys()

    def values(self) -> ValuesView[Module]:
        """The modules."""
        return self._modules.values()

    def items(self) -> ItemsView[str, Module]:
        """Pairs of name and module."""
        return self._modules.items()

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError("a ModuleDict is not called: call one of its members, modules[name](x)")
