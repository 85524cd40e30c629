"""What a traced function uses without the trace seeing it, and how to notice that it has changed.

A trace sees tensors. Numbers, objects and functions that the function finds in its closure, in global variables, in
default arguments or on objects leave no mark in the graph, which would go on with them after they have changed. So the
code is read before it is traced: every name that it looks up, and every chain of attributes behind a name
(`config.model.scale`), also in the user's own functions and methods that it calls, is a *place*. A `Guard` remembers
what a place held: numbers and strings by value, small containers by what is in them, anything else by which object it
is. A compiled function holds its guards against the world at each call.

There may be hundreds, and a call of a Python function for each would take longer than the step of a small model. So a
`Watch` writes all its guards as one expression (`config["scale"] is v0 and ...`) and lets Python compile it.
"""

from __future__ import annotations

import builtins
import dis
import functools
import inspect
import math
import random
import sys
import types
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from operator import is_
from typing import Any, NamedTuple

import numpy as np

from .op import Operand


class Guard(NamedTuple):
    """A value that the trace has used without seeing it: how to get it again, and what to remember of it."""

    description: str
    get: Callable[[], Any]
    value: Any


class Contents(NamedTuple):
    """What is remembered of a container."""

    kind: type
    items: tuple[Any, ...]


PLAIN = (bool, int, float, str, bytes, type(None))
CONTAINERS = (list, tuple, dict, set, frozenset, deque)
SMALL = 1000  # containers with more items are remembered only by which object they are
MISSING = type("Missing", (), {"__repr__": lambda self: "nothing"})()


def snapshot(value: Any, depth: int = 3) -> Any:
    """What to remember of a value in order to notice a change."""
    if not isinstance(value, CONTAINERS) or len(value) > SMALL or not depth:
        return value
    items = [x for pair in value.items() for x in pair] if isinstance(value, dict) else value
    return Contents(type(value), tuple(snapshot(x, depth - 1) for x in items))


def unchanged(old: Any, new: Any) -> bool:
    """Whether a place that held what was remembered as `old` still does, now that it holds `new`."""
    kind = type(old)
    if kind is Contents:
        if type(new) is not old.kind:
            return False
        if not old.items:  # said apart because modules have empty containers for hooks
            return not new
        items = [x for pair in new.items() for x in pair] if isinstance(new, dict) else new
        return len(items) == len(old.items) and all(
            a is b or unchanged(a, b) for a, b in zip(old.items, items, strict=True)
        )
    if old is new:
        return True
    if kind is not type(new):
        return False
    if kind is float:  # nan is not nan, and 0.0 is not -0.0
        return (old == new and math.copysign(1, old) == math.copysign(1, new)) or (old != old and new != new)
    return (kind in PLAIN or kind is types.MethodType) and old == new


def shown(value: Any) -> str:
    """A value, or what is remembered of it, for a sentence."""
    plain = type(value) in PLAIN or value is MISSING
    if type(value) is Contents:
        plain = all(type(x) in PLAIN for x in value.items)
        items = value.items
        is_dict, is_list = issubclass(value.kind, dict), value.kind not in (tuple, set)
        value = dict(zip(items[::2], items[1::2], strict=True)) if is_dict else (list if is_list else value.kind)(items)
    text = repr(value) if plain else "something else"
    return text if len(text) < 50 else text[:47] + "..."


# ------------------------------------------------------------------------------------------------ looking and watching


class Look:
    """How to look at a place: by a call, or, with names for the objects concerned, as the text of Python."""

    def __call__(self) -> Any:
        raise NotImplementedError

    def text(self, name: Callable[[Any], str]) -> str:
        raise NotImplementedError


@dataclass(slots=True, eq=False)
class Entry(Look):
    """What a dictionary holds."""

    own: dict[str, Any]
    key: str

    def __call__(self) -> Any:
        return self.own.get(self.key, MISSING)

    def text(self, name: Callable[[Any], str]) -> str:
        return f"{name(self.own)}[{self.key!r}]"


@dataclass(slots=True, eq=False)
class Cell(Look):
    """What a closure's cell holds."""

    cell: types.CellType

    def __call__(self) -> Any:
        try:
            return self.cell.cell_contents
        except ValueError:
            return MISSING

    def text(self, name: Callable[[Any], str]) -> str:
        return f"{name(self.cell)}.cell_contents"


@dataclass(slots=True, eq=False)
class Attribute(Look):
    """An attribute that is always there."""

    owner: Any
    attribute: str

    def __call__(self) -> Any:
        return getattr(self.owner, self.attribute)

    def text(self, name: Callable[[Any], str]) -> str:
        return f"{name(self.owner)}.{self.attribute}"


class Watch:
    """All guards of a compiled function, held against the world at each call.

    In the usual case every place holds the very object that it held, and `holds()` says so: a function of one
    expression, written for these guards. Otherwise they are gone through one by one, which also finds out what changed.

    Attributes:
        source: the text of that function.

    >>> from minigraph.guards import Entry, Guard, Watch
    >>> config = {"scale": 2.0}
    >>> watch = Watch([Guard("the scale", Entry(config, "scale"), 2.0)])
    >>> watch.holds()
    True
    >>> print(watch.source)
    def holds():
        try:
            return (
                x0['scale'] is v0  # the scale
            )
        except (AttributeError, KeyError, ValueError):  # a place is not there any more
            return False
    >>> config["scale"] = 3.0
    >>> watch.holds()
    False
    >>> watch.change()
    'the scale changed from 2.0 to 3.0'
    """

    def __init__(self, guards: Iterable[Guard]):
        self.guards = list(guards)
        self.names: dict[str, Any] = {}
        self.by_value: set[int] = set()  # positions of those whose places get equal objects again and again

    def holds(self) -> bool:
        """Whether every place holds the very object that it held. (At the first call, the function is written.)"""
        self.write()
        return self.holds()

    def write(self) -> None:
        """Write the guards as one expression about the objects that are there now, and compile it."""
        names: dict[str, Any] = {"is_": is_, "unchanged": unchanged}
        named: dict[int, str] = {}

        def name(x: Any) -> str:
            """The name of an object in the text."""
            if x is None or x is True or x is False:
                return repr(x)
            if id(x) not in named:
                named[id(x)] = f"x{len(named)}"
                names[named[id(x)]] = x
            return named[id(x)]

        lines = []
        for i, guard in enumerate(self.guards):
            comment = ascii(guard.description)[1:-1]
            lines += [f"{text}  # {comment}" for text in self.conditions(i, guard, name, names)]
        expression = "\n            and ".join(lines) or "True"
        self.source = HOLDS.format(expression=expression)
        exec(builtins.compile(self.source, "<minigraph guards>", "exec"), names)
        self.names, self.holds = names, names["holds"]  # type: ignore[method-assign]

    def conditions(self, i: int, guard: Guard, name: Callable[[Any], str], names: dict[str, Any]) -> Iterator[str]:
        """What is to hold so that guard number `i` holds. The object that it has found is called v0, v1, ..."""
        get, value = guard.get, guard.value
        found = get()
        if i in self.by_value or get() is not found or not unchanged(value, found):
            yield f"unchanged({name(value)}, {name(get)}())"
            return
        place = get.text(name) if isinstance(get, Look) and found is not MISSING else f"{name(get)}()"
        if found is None or found is True or found is False:
            yield f"{place} is {found}"
        else:
            own = f"v{i}"
            names[own] = found
            yield f"{place} is {own}"
            yield from inside(value, found, own, name)

    def change(self) -> str | None:
        """The first change, in words; None if there is none."""
        if self.holds():
            return None
        others = set()
        for i, (description, get, value) in enumerate(self.guards):
            new = get()
            if new is not value and not unchanged(value, new):
                return f"{description} changed from {shown(value)} to {shown(snapshot(new))}"
            if new is not self.names.get(f"v{i}", new):
                others.add(i)
        # Equal objects have taken the place of those that were there: from now on, these are compared by value.
        self.by_value |= others or {i for i, g in enumerate(self.guards) if type(g.value) is Contents and g.value.items}
        self.write()
        return None


HOLDS = """def holds():
    try:
        return (
            {expression}
        )
    except (AttributeError, KeyError, ValueError):  # a place is not there any more
        return False"""


def inside(old: Any, held: Any, own: str, name: Callable[[Any], str]) -> Iterator[str]:
    """Conditions for what may change in an object that is still the same one: a container, remembered as `old`."""
    if type(old) is not Contents:
        return
    if not old.items:
        if old.kind is not tuple:
            yield f"not {own}"
    elif old.kind is list:
        yield f"len({own}) == {len(held)} and all(map(is_, {own}, {name(tuple(held))}))"
    elif old.kind is not tuple:
        yield f"unchanged({name(old)}, {own})"
        return
    for part, x in zip(old.items, held if old.items else (), strict=True):
        if type(part) is Contents:
            yield from inside(part, x, name(x), name)


class Place(NamedTuple):
    """Where a function finds something: its name in the code, how to look there, and who is asked for what."""

    description: str
    get: Callable[[], Any]
    key: tuple[Any, ...]


def places(fn: Any) -> list[Place]:
    """What a function finds outside its arguments, also in the user's functions and methods that it calls."""
    found: dict[tuple[Any, ...], Place] = {}
    seen: set[Any] = set()
    todo: list[Any] = [fn]
    while todo:
        f = todo.pop(0)
        while isinstance(f, functools.partial):
            key, given = (id(f), "arguments"), [*f.args, *f.keywords.values()]
            found[key] = Place("an argument of functools.partial", functools.partial(lambda given: given, given), key)
            f = f.func
        f = getattr(f, "__wrapped__", f)  # a compiled or decorated function
        owner = MISSING
        if isinstance(f, types.MethodType):
            owner, f = f.__self__, getattr(f.__func__, "__wrapped__", f.__func__)
        elif not isinstance(f, types.FunctionType) and not isinstance(f, type):  # an object that can be called
            owner, f = f, getattr(type(f), "forward", type(f).__call__)
        if not isinstance(f, types.FunctionType) or (id(f), id(owner)) in seen or not is_users(f):
            continue
        seen.add((id(f), id(owner)))
        for place in roots_and_chains(f, owner):
            if place.key not in found:
                found[place.key] = place
                value = place.get()
                todo += [v for v in (value, *members(value)) if callable(v) and not isinstance(v, type)]
    return list(found.values())


def members(value: Any) -> Iterable[Any]:
    """What is in a small container."""
    if isinstance(value, CONTAINERS) and len(value) <= SMALL:
        return list(value.values()) if isinstance(value, dict) else list(value)
    return ()


def roots_and_chains(f: types.FunctionType, owner: Any) -> Iterator[Place]:
    """The places that the code of one function names; `owner` is its `self`, if it is a method."""
    code, variables = f.__code__, f.__globals__
    roots: dict[str, Place] = {}
    arguments = code.co_varnames[: code.co_argcount]
    if owner is not MISSING and arguments:
        roots[arguments[0]] = Place(arguments[0], lambda: owner, ("self", id(owner)))
    defaults = f.__defaults__ or ()
    for k, name in enumerate(arguments[len(arguments) - len(defaults) :]):
        roots[name] = Place(
            f"the default of {name}", functools.partial(lambda k: (f.__defaults__ or ())[k], k), (id(f), name)
        )
    named = f.__kwdefaults__ or {}
    for name in named:
        roots[name] = Place(f"the default of {name}", Entry(named, name), (id(f), name))
    for name, cell in zip(code.co_freevars, f.__closure__ or (), strict=True):
        roots[name] = Place(name, Cell(cell), (id(cell), name))
    yield from roots.values()
    for name, is_global, attributes in chains(code):
        if is_global and name in variables:
            place = Place(f"global {name}", Entry(variables, name), (id(variables), name))
            yield place
        elif not is_global and name in roots:
            place = roots[name]
        else:
            continue
        for attribute in attributes:
            step = behind(place, attribute)
            if step is None:
                break
            yield step
            place = step


def behind(place: Place, attribute: str) -> Place | None:
    """The place `.attribute` of what a place holds now; None where looking there could have effects, or is pointless.

    A guard of it holds only together with that of the place before.
    """
    owner = place.get()
    if isinstance(owner, Operand | np.ndarray | np.generic) or type(owner) in PLAIN:
        return None  # what these have does not change
    if isinstance(owner, types.ModuleType) and not is_users(owner):
        return None
    held = inspect.getattr_static(owner, attribute, MISSING)
    if isinstance(held, property) and held.fget is not None:
        method = functools.partial(types.MethodType, held.fget, owner)  # its code is read, and not guarded itself
        return Place(f"{place.description}.{attribute}", method, (id(owner), attribute))
    harmless = (types.FunctionType, staticmethod, classmethod, types.MemberDescriptorType)
    if held is MISSING or (hasattr(type(held), "__get__") and not isinstance(held, harmless)):
        return None
    name = f"{place.description.removeprefix('global ')}.{attribute}"
    own = getattr(owner, "__dict__", {})
    if type(own) is dict and attribute in own:
        return Place(name, Entry(own, attribute), (id(owner), attribute))
    return Place(name, functools.partial(getattr, owner, attribute, MISSING), (id(owner), attribute))


def chains(code: types.CodeType) -> list[tuple[str, bool, tuple[str, ...]]]:
    """The names that some code looks up, whether they are global, and the attributes taken: b and c in `a.b.c`.

    Also in the functions defined inside it. A local variable counts as long as it is never assigned: as an argument.
    """
    found: list[tuple[str, bool, tuple[str, ...]]] = []
    assigned = {i.argval for i in dis.get_instructions(code) if i.opname.startswith(("STORE_FAST", "STORE_DEREF"))}
    chain: list[str] = []
    is_global = False
    for i in dis.get_instructions(code):
        if i.opname in ("LOAD_ATTR", "LOAD_METHOD") and chain:
            chain.append(i.argval)
            continue
        if i.opname in ("COPY", "PUSH_NULL", "NOP"):  # `a.b += 1` copies `a` in between
            continue
        if chain:
            found.append((chain[0], is_global, tuple(chain[1:])))
        chain, is_global = [], i.opname in ("LOAD_GLOBAL", "LOAD_NAME")
        if is_global or i.opname == "LOAD_DEREF":
            chain = [i.argval]
        elif i.opname.startswith("LOAD_FAST"):
            name = i.argval[-1] if type(i.argval) is tuple else i.argval  # two at once, in newer Pythons
            chain = [] if name in assigned else [name]
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            found += chains(constant)
    return list(dict.fromkeys(found))


def is_users(thing: Any) -> bool:
    """Whether a function or module is the user's own: not minigraph's, not an installed library's."""
    name = thing.__name__ if isinstance(thing, types.ModuleType) else getattr(thing, "__module__", "") or ""
    if name.split(".")[0] in ("minigraph", "numpy", *sys.builtin_module_names):
        return False
    file = getattr(getattr(thing, "__code__", thing), "co_filename", None) or getattr(thing, "__file__", None) or ""
    return "site-packages" not in file and not file.startswith(sys.base_prefix + "/lib/python")


# ---------------------------------------------------------------------------------------------------- making guards


def guards_of(fn: Any) -> dict[tuple[Any, ...], Guard]:
    """Guards for everything a function finds outside its arguments, by the place that each of them watches."""
    guards: dict[tuple[Any, ...], Guard] = {}
    for place in places(fn):
        value = place.get()
        fresh = isinstance(value, types.MethodType) and place.get() is not value  # a method of a class
        if not fresh and not isinstance(value, types.ModuleType) and place.key[0] != "self":
            guards.setdefault(place.key, Guard(place.description, place.get, snapshot(value)))
        name = place.description.removeprefix("global ")
        for x in (value, *members(value)):
            owners = [(name, x)]
            if hasattr(x, "_modules") and not isinstance(x, type):
                owners += [(type(module).__name__, module) for module in x.modules()]
            for description, owner in owners:
                for key, guard in attribute_guards(description, owner).items():
                    guards.setdefault(key, guard)
    return guards


def attribute_guards(description: str, owner: Any) -> dict[tuple[Any, ...], Guard]:
    """Guards for the numbers, strings and small containers of them among the attributes of an object."""
    guards: dict[tuple[Any, ...], Guard] = {}
    unwatched = (type, types.FunctionType, types.MethodType, types.ModuleType, functools.partial, Operand)
    if isinstance(owner, unwatched) or hasattr(owner, "__wrapped__"):
        return guards
    attributes = getattr(owner, "__dict__", {})
    own_business = getattr(type(owner), "_not_watched", ())
    for key, value in list(attributes.items()):
        old = snapshot(value)
        plain = all(type(x) in PLAIN for x in old.items) if type(old) is Contents else type(old) in PLAIN
        if plain and key not in own_business:
            guards[id(owner), key] = Guard(f"{description}.{key}", Entry(attributes, key), old)
    return guards


def array_guards(fn: Any, read_anew: Iterable[np.ndarray]) -> list[Guard]:
    """Guards for what is in the small NumPy arrays that a function finds.

    Except for those in `read_anew`, which are inputs of the graph: from the others, the function has computed numbers.
    """
    known = {id(a) for array in read_anew for a in (array, array.base)}
    guards = []
    for place in places(fn):
        value = place.get()
        if isinstance(value, np.ndarray) and value.size <= SMALL and value.dtype != object and id(value) not in known:
            guards.append(Guard(f"{place.description} (its elements)", value.tobytes, value.tobytes()))
    return guards


def random_states(fn: Any) -> list[tuple[str, Callable[[], Any]]]:
    """NumPy's and Python's random states that `fn` could draw from."""
    states: list[tuple[str, Callable[[], Any]]] = [
        ("np.random", lambda: repr(np.random.get_state(legacy=False))),  # noqa: NPY002 - it is being watched
        ("random", lambda: hash(random.getstate())),
    ]
    for place in places(fn):
        value = place.get()
        if isinstance(value, np.random.Generator):
            states.append((place.description, functools.partial(generator_state, value)))
        elif isinstance(value, random.Random):
            states.append((place.description, value.getstate))
    return states


def generator_state(generator: np.random.Generator) -> str:
    """The state of a NumPy generator."""
    return repr(generator.bit_generator.state)
