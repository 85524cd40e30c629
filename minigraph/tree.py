"""Pytrees: nested containers seen as a flat list of leaves and a structure.

Parameters come as dicts, batches as tuples, states as lists of named tuples. `grad`, `compile` and checkpoints do not
care: they work on a flat list. `flatten` takes a tree apart into its leaves, in reading order, and a `Structure` that
remembers how they were nested; `unflatten` puts leaves back. Containers are dict, OrderedDict, list, tuple, named
tuples, None (an empty container, so an optional part is simply absent) and the classes given to `register`. Everything
else, subclasses of dict and list included, is a leaf.

A structure is kept as the tree's containers and leaves in preorder, one flat tuple: `[a, (b,)]` is "list of 2, leaf,
tuple of 1, leaf". Comparing and hashing two structures is therefore comparing and hashing two tuples, which is fast
enough to be done at every call of a compiled function, and nothing here recurses, so depth is not limited.

Dicts keep their insertion order: `{"a": x, "b": y}` and `{"b": y, "a": x}` are different structures.
"""

from __future__ import annotations

import dataclasses
import json
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple, TypeVar

from .errors import ArgumentError, DTypeError

__all__ = ["Structure", "explain_difference", "flatten", "map", "paths", "register", "unflatten"]

T = TypeVar("T")


class Container(NamedTuple):
    """How one class of container is taken apart and put together, and how its children are called in a path."""

    take_apart: Callable[[Any], tuple[Sequence[Any], Any]]
    """container -> (children, meta): meta is hashable and, with the children, all there is to know."""
    put_together: Callable[[type, Any, list[Any]], Any]
    """(class, meta, children) -> container."""
    steps: Callable[[Any, int], list[str]]
    """(meta, number of children) -> what follows the container in the path of each child: `["w"]`, `[0]`, `.bias`."""


def _key(key: Any) -> str:
    return f"[{json.dumps(key, ensure_ascii=False) if type(key) is str else repr(key)}]"


def _positions(meta: Any, n: int) -> list[str]:
    return [f"[{i}]" for i in range(n)]


def _fields(meta: Any, n: int) -> list[str]:
    return [f".{name}" for name in meta]


def _registered_steps(meta: Any, n: int) -> list[str]:
    named = type(meta) is tuple and len(meta) == n and all(type(name) is str for name in meta)
    return _fields(meta, n) if named else _positions(meta, n)


_KEYED = Container(
    lambda tree: (list(tree.values()), tuple(tree)),
    lambda kind, keys, children: kind(zip(keys, children, strict=True)),
    lambda keys, n: [_key(key) for key in keys],
)
_ROW = Container(lambda tree: (tree, None), lambda kind, meta, children: kind(children), _positions)
_NAMED_TUPLE = Container(
    lambda tree: (tree, type(tree)._fields),
    lambda kind, meta, children: kind._make(children),  # type: ignore[attr-defined]
    _fields,
)
_NOTHING = Container(lambda tree: ((), None), lambda kind, meta, children: None, _positions)

_BUILT_IN: dict[type, Container] = {dict: _KEYED, OrderedDict: _KEYED, list: _ROW, tuple: _ROW, type(None): _NOTHING}
CONTAINERS: dict[type, Container] = dict(_BUILT_IN)


def _container(kind: type) -> Container | None:
    """The container that `kind` is, or None for a leaf."""
    found = CONTAINERS.get(kind)
    if found is None and issubclass(kind, tuple) and hasattr(kind, "_fields"):
        return _NAMED_TUPLE
    return found


class _Leaf:
    """The mark that stands for a leaf in a structure."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "*"


LEAF = _Leaf()


class Structure:
    """How the leaves of a tree are nested. Hashable; equal for trees that are nested in the same way.

    Attributes:
        tokens: the tree in preorder: `LEAF`, or (class, meta, number of children) for a container.
        size: the number of leaves.

    >>> mg.tree.flatten({"w": [1, 2], "b": None})[1]
    Structure({"w": [*, *], "b": None})
    """

    __slots__ = ("_hash", "size", "tokens")

    tokens: tuple[Any, ...]
    size: int
    _hash: int | None

    def __init__(self, tokens: tuple[Any, ...], size: int):
        self.tokens, self.size, self._hash = tokens, size, None

    def __eq__(self, other: object) -> bool:
        return self is other or (type(other) is Structure and self.tokens == other.tokens)

    def __hash__(self) -> int:
        if self._hash is None:
            self._hash = hash(self.tokens)
        return self._hash

    def __repr__(self) -> str:
        done: list[str] = []
        for token in reversed(self.tokens):
            if token is LEAF:
                done.append("*")
            else:
                n = token[2]
                children = done[: -n - 1 : -1]
                del done[len(done) - n :]
                done.append(_show(token, children))
        return f"Structure({done[0]})"

    def paths(self, name: str = "tree") -> list[str]:
        """Where each leaf is, in order, as one would write it in Python."""
        return [path for path, token in self._walk(name) if token is LEAF]

    def _walk(self, name: str) -> Iterable[tuple[str, Any]]:
        """Every container and leaf with its path, in preorder."""
        waiting = [name]
        for token in self.tokens:
            path = waiting.pop()
            yield path, token
            if token is not LEAF:
                kind, meta, n = token
                steps = _container(kind).steps(meta, n)  # type: ignore[union-attr]
                waiting.extend([path + step for step in reversed(steps)])


def _show(token: Any, children: list[str]) -> str:
    """A container of `children`, already written, as a Python programmer would write it."""
    kind, meta, n = token
    inside = ", ".join(children)
    if kind is list:
        return f"[{inside}]"
    if kind is tuple:
        return f"({inside},)" if n == 1 else f"({inside})"
    if kind is type(None):
        return "None"
    if kind is dict or kind is OrderedDict:
        pairs = ", ".join([f"{_key(key)[1:-1]}: {child}" for key, child in zip(meta, children, strict=True)])
        return f"{{{pairs}}}" if kind is dict else f"OrderedDict({{{pairs}}})"
    steps = _container(kind).steps(meta, n)  # type: ignore[union-attr]
    if steps and steps[0].startswith("."):
        inside = ", ".join([f"{step[1:]}={child}" for step, child in zip(steps, children, strict=True)])
    return f"{kind.__name__}({inside})"


@lru_cache(maxsize=256)
def _flat(kind: type, n: int) -> Structure:
    """The structure of a tuple or list of n leaves: by far the most frequent ones, so they are made once."""
    return Structure(((kind, None, n), *(LEAF,) * n), n)


_ONE_LEAF = Structure((LEAF,), 1)
_SUSPICIOUS = 10_000  # containers met before we make sure that the tree does not contain itself


def flatten(tree: Any, is_leaf: Callable[[Any], bool] | None = None) -> tuple[list[Any], Structure]:
    """Take a tree apart into the list of its leaves and its structure.

    Args:
        tree: any nesting of dict, OrderedDict, list, tuple, named tuple, None and registered classes around leaves.
        is_leaf: asked about every container (and leaf); where it says True, the container counts as a leaf.

    Returns:
        leaves, in reading order (dicts in insertion order), and the `Structure` for `unflatten`.

    Raises:
        ArgumentError: the tree contains itself.

    >>> leaves, structure = mg.tree.flatten({"w": [1, 2], "b": 3})
    >>> leaves
    [1, 2, 3]
    >>> mg.tree.unflatten(structure, [10, 20, 30])
    {'w': [10, 20], 'b': 30}
    """
    kind = type(tree)
    if is_leaf is None and (kind is tuple or kind is list):
        for x in tree:
            if type(x) in CONTAINERS or isinstance(x, tuple):
                break
        else:
            return list(tree), _flat(kind, len(tree))  # type: ignore[arg-type]
    leaves: list[Any] = []
    tokens: list[Any] = []
    waiting = [tree]
    met = 0
    while waiting:
        x = waiting.pop()
        kind = type(x)
        container = CONTAINERS.get(kind)
        if container is None and isinstance(x, tuple):
            container = _container(kind)
        if container is None or (is_leaf is not None and is_leaf(x)):
            leaves.append(x)
            tokens.append(LEAF)
            continue
        met += 1
        if met == _SUSPICIOUS:
            _refuse_cycle(tree)
        children, meta = container.take_apart(x)
        tokens.append((kind, meta, len(children)))
        waiting.extend(children[::-1])
    return leaves, (_ONE_LEAF if tokens == [LEAF] else Structure(tuple(tokens), len(leaves)))


def _refuse_cycle(tree: Any) -> None:
    """Raise if a container contains itself, which would keep `flatten` busy for ever."""
    left = object()
    around: dict[int, Any] = {}  # the containers that we are inside of (held, so that no id is used twice)
    waiting: list[Any] = [tree]
    while waiting:
        x = waiting.pop()
        if x is left:
            del around[waiting.pop()]
            continue
        container = _container(type(x))
        if container is None:
            continue
        children = container.take_apart(x)[0]
        if len(children) == 0:
            continue
        if id(x) in around:
            raise ArgumentError(
                "tree: a container contains itself",
                expected="a finite tree",
                actual=f"a {type(x).__name__} inside itself",
                remedy="store a copy of it instead",
            )
        around[id(x)] = x
        waiting += (id(x), left, *children)


def unflatten(structure: Structure, leaves: Iterable[Any]) -> Any:
    """Put leaves back into the containers of `structure`: the inverse of `flatten`.

    Raises:
        ArgumentError: the number of leaves is not the structure's.

    >>> _, structure = mg.tree.flatten((0, [0, 0]))
    >>> mg.tree.unflatten(structure, "abc")
    ('a', ['b', 'c'])
    """
    leaves = list(leaves)
    if len(leaves) != structure.size:
        raise ArgumentError(
            "unflatten: as many leaves as the structure has",
            expected=f"{structure.size} leaves for {structure}",
            actual=f"{len(leaves)} leaves",
            remedy="pass the list that flatten gave, changed in place only",
        )
    # Read from the end, every container finds its finished children on top of the stack, the first one uppermost.
    done: list[Any] = []
    for token in reversed(structure.tokens):
        if token is LEAF:
            done.append(leaves.pop())
            continue
        kind, meta, n = token
        children = done[: -n - 1 : -1]
        del done[len(done) - n :]
        done.append(_container(kind).put_together(kind, meta, children))  # type: ignore[union-attr]
    return done[0]


def map(fn: Callable[..., Any], tree: Any, *rest: Any) -> Any:
    """A tree like `tree` with `fn(leaf, *leaves of the rest)` for each leaf.

    Args:
        fn: called once per leaf, in order.
        tree, rest: trees of the same structure.

    Raises:
        ArgumentError: the structures differ; the message says where.

    >>> mg.tree.map(lambda p, g: p - 0.1 * g, {"w": 1.0, "b": [2.0]}, {"w": 10.0, "b": [20.0]})
    {'w': 0.0, 'b': [0.0]}
    """
    leaves, structure = flatten(tree)
    columns = [leaves]
    for i, other in enumerate(rest):
        more, its = flatten(other)
        if its != structure:
            raise ArgumentError(
                "tree.map: trees of the same structure",
                expected=f"argument {i + 2} nested like the first tree",
                actual=explain_difference(structure, its),
                remedy="build both trees in the same way",
            )
        columns.append(more)
    return unflatten(structure, [fn(*row) for row in zip(*columns, strict=True)])


def paths(tree: Any, name: str = "tree") -> list[str]:
    """Where each leaf of a tree is, as one would write it in Python, in the order of `flatten`.

    Args:
        tree: a tree.
        name: what to call the tree itself.

    >>> mg.tree.paths({"w1": [0, 0], "b": 0}, "params")
    ['params["w1"][0]', 'params["w1"][1]', 'params["b"]']
    """
    return flatten(tree)[1].paths(name)


def register(
    kind: type[T],
    flatten_fn: Callable[[Any], tuple[Sequence[Any], Any]] | None = None,
    unflatten_fn: Callable[[Any, list[Any]], Any] | None = None,
) -> type[T]:
    """Make a class a container. A dataclass needs no functions, so `register` can stand above it as a decorator.

    Args:
        kind: the class; subclasses are not included.
        flatten_fn: `flatten_fn(instance) -> (children, meta)`. `meta` is hashable and comparable: it becomes part of
            the structure. If it is a tuple with one string per child, these name the children in paths.
        unflatten_fn: `unflatten_fn(meta, children) -> instance`. Children may be any objects, not only tensors.

    Returns:
        the class.

    Raises:
        ArgumentError: the class is a container already by nature, or is no dataclass and a function is missing.

    >>> import dataclasses
    >>> @mg.tree.register
    ... @dataclasses.dataclass
    ... class Point:
    ...     x: float
    ...     y: float
    >>> mg.tree.map(lambda v: v + 1, Point(1, 2))
    Point(x=2, y=3)
    """
    if not isinstance(kind, type):
        raise DTypeError(
            "tree.register: a class", expected="a class", actual=f"{kind!r}", remedy=f"register type({kind!r})"
        )
    if kind in _BUILT_IN:
        raise ArgumentError(
            f"tree.register: {kind.__name__} is a container already", remedy="register a class of your own"
        )
    if flatten_fn is None and unflatten_fn is None and dataclasses.is_dataclass(kind):
        names = tuple(field.name for field in dataclasses.fields(kind) if field.init)
        CONTAINERS[kind] = Container(
            lambda tree: ([getattr(tree, name) for name in names], names),
            lambda cls, meta, children: cls(**dict(zip(meta, children, strict=True))),
            _registered_steps,
        )
        return kind
    if flatten_fn is None or unflatten_fn is None:
        raise ArgumentError(
            f"tree.register: how to take {kind.__name__} apart and put it together",
            expected="flatten_fn and unflatten_fn, or a dataclass",
            actual=f"flatten_fn={flatten_fn}, unflatten_fn={unflatten_fn}",
            remedy="make it a dataclass, or pass both functions",
        )

    def take_apart(tree: Any) -> tuple[Sequence[Any], Any]:
        children, meta = flatten_fn(tree)
        return list(children), meta

    CONTAINERS[kind] = Container(
        take_apart, lambda cls, meta, children: unflatten_fn(meta, children), _registered_steps
    )
    return kind


def explain_difference(a: Structure, b: Structure, name: str = "tree") -> str:
    """One sentence that says where and how two structures differ first.

    Args:
        a, b: structures (not trees).
        name: what to call the tree.

    >>> a, b = [mg.tree.flatten(t)[1] for t in ({"w": (1, 2)}, {"w": (1, 2, 3)})]
    >>> mg.tree.explain_difference(a, b, "params")
    'params["w"] is a tuple of 2 in the first, a tuple of 3 in the second'
    """
    # Preorder: as long as all tokens so far are equal, the next ones stand at the same place.
    for (path, x), (_, y) in zip(a._walk(name), b._walk(name), strict=False):
        if x != y:
            return _difference(path, x, y)
    return "the structures are equal"


def _difference(path: str, x: Any, y: Any) -> str:
    if x is not LEAF and y is not LEAF and x[0] is y[0]:
        kind, mine, n = x
        _, other, m = y
        if CONTAINERS.get(kind) is _KEYED:
            missing = [key for key in mine if key not in other]
            extra = [key for key in other if key not in mine]
            if not missing and not extra:
                return f"{path} has the keys {_keys(mine)} in the first, in the order {_keys(other)} in the second"
            lacks = [f"lacks {_keys(missing)}"] if missing else []
            has = [f"has {_keys(extra)} in addition"] if extra else []
            return f"{path}: the second {kind.__name__} " + " and ".join(lacks + has)
        if n == m:
            return f"{path}: the metadata of the {kind.__name__} is {mine!r} in the first, {other!r} in the second"
    first, second = _describe(x), _describe(y)
    if first == second:
        second += " of another class of that name (was the cell that defines it run again?)"
    return f"{path} is {first} in the first, {second} in the second"


def _keys(keys: Iterable[Any]) -> str:
    keys = list(keys)
    shown = ", ".join([_key(key)[1:-1] for key in keys[:6]])
    return f"{shown} and {len(keys) - 6} more" if len(keys) > 6 else shown


def _describe(token: Any) -> str:
    if token is LEAF:
        return "a leaf"
    kind, meta, n = token
    if kind is type(None):
        return "None"
    if CONTAINERS.get(kind) is _KEYED:
        return f"a {kind.__name__} with {_keys(meta)}" if n else f"an empty {kind.__name__}"
    return f"{'an' if kind.__name__[0] in 'AEIOUaeiou' else 'a'} {kind.__name__} of {n}"
