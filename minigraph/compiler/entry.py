"""The way into a compiled function, written as text.

Between a call and its C there is little to do: see whether the arguments are what was compiled for, whether the guards
hold, and whether the variables are where the program left them; hand over addresses; make arrays for the results and
wrap them. Done by loops over lists, that takes longer than the update of a small model. So the loops are gone through
once, and what they do is written down: straight lines of Python, for exactly these arguments.

They do the usual thing only. At anything else (another shape, a guard that does not hold, arguments with gaps in
memory, somebody who holds a variable's old value) they say so before anything has been changed, and the call goes the
general way, which knows what to do about it.
"""

from __future__ import annotations

import builtins
import ctypes
import math
from collections.abc import Sequence
from sys import getrefcount
from typing import Any

import numpy as np

from .. import tree as pytree
from ..op import mode
from ..tensor import Tensor
from ..tree import LEAF, Structure
from ..variable import Gradient
from .codegen import identifier
from .statements import FIRST

MISSED = type("Missed", (), {"__repr__": lambda self: "missed"})()  # what an entry returns for calls it is not made for
LARGE = 1 << 18  # bytes from which on an output's memory is used again
WIDE = 100  # containers and leaves in a result from which on it is put together by `unflatten`


def load(source: str, names: dict[str, Any]) -> dict[str, Any]:
    """Run the text of functions; their names, with the names of the objects that they refer to."""
    exec(builtins.compile(source, "<minigraph entry>", "exec"), names)
    return names


# ------------------------------------------------------------------------------------------ from arrays to C and back

COUNT = """
/* The program, if the objects from p[{first}] on have p[{last}] references altogether: then nobody else holds them.
   CPython counts at the very beginning of each object. */
int {symbol}_counting(char **p) {{
  size_t references = 0;
  for (int i = {first}; i < {last}; i++) references += *(size_t *)p[i];
  return references == (size_t)p[{last}] ? {symbol}(p) : {held};
}}
"""


def references(addresses: Sequence[int]) -> int:
    """The sum of the counts that are at these addresses, as `COUNT` finds it."""
    return sum([ctypes.c_size_t.from_address(a).value for a in addresses])


def countable() -> bool:
    """Whether this Python counts references where `COUNT` looks. (One without its global lock does not.)"""
    x = object()
    before = references([id(x)])
    another = x
    return references([id(another)]) == before + 1


COUNTABLE = countable()
AT_HOME = """def shown():
    return (
        {conditions}
    )

def at_home():
    return shown() and sum(map(getrefcount, watched)) == alone
"""
STEP = """
def step({arguments}):
    with lock:
        if not (ready and {there}()):
            return None
        {lines}
        if failed:
            return None
    return [{results}]
"""


def write_native(native: Any) -> tuple[str, dict[str, Any]]:
    """For a program in C: the text of two functions, and the names that it uses.

    `shown()` says whether all variables that the program assigns show the arrays that it left there, and `at_home()`
    whether besides nobody else can see these. `step(*arrays)` runs the program, and returns the results; or None, and
    nothing has happened. That nobody holds a variable's value is then found out in C (`COUNT`).

    Addresses are entered and the C is called in one line, in which there is nothing at which Python would look for
    signals: their handlers may call the same function, which uses the same table, and may keep values of variables.
    """
    names: dict[str, Any] = {
        "lock": native.lock, "table": native.table, "address": native.address,
        "function": native.counting if COUNTABLE else native.function,
        "result": native.result, "empty": np.empty, "ndarray": np.ndarray, "getrefcount": getrefcount,
        "watched": [], "alone": -1 if native.cells else 0, "ready": False,
    }  # fmt: skip
    conditions = []
    for i, cell in enumerate(native.cells):
        gradient = isinstance(cell, Gradient)
        names[f"v{i}"], names[f"t{i}"] = cell.variable if gradient else cell, None
        conditions.append(f"v{i}.{'_grad' if gradient else '_tensor'} is t{i}")
    source = AT_HOME.format(conditions="\n        and ".join(conditions) or "True")
    if not native.calls_back and not native.cleared:
        arguments = [f"x{i}" for i in range(native.inputs)]
        others = [f"o{i}" for i in range(len(native.others))]
        results = [f"r{i}" for i in range(len(native.outputs))]
        lines = []
        for i, cell in enumerate(native.others):
            names[f"w{i}"] = cell
            lines += [f"o{i} = w{i}._tensor.value", f"if type(o{i}) is not ndarray:", "    return None"]
        for i, (shape, dtype) in enumerate(native.outputs):
            names[f"d{i}"] = dtype
            sizes = tuple(map(int, shape))
            large = dtype.itemsize * math.prod(sizes) >= LARGE
            lines.append(f"r{i} = result({i})" if large else f"r{i} = empty({sizes}, d{i})")
        entries = [*range(FIRST, FIRST + native.inputs), *native.where_others]
        entries += range(native.program.first_root, native.program.first_root + len(results))
        lines += [f"a{k} = id({x})" for k, x in zip(entries, [*arguments, *others, *results], strict=True)]
        lines.append("; ".join([*[f"table[{k}] = a{k}" for k in entries], "failed = function(address)"]))
        source += STEP.format(
            there="shown" if COUNTABLE else "at_home",
            arguments=", ".join(arguments),
            lines="\n        ".join(lines),
            results=", ".join(results),
        )
    return source, names


# --------------------------------------------------------------------------------------- from a call to arrays and back

ENTER = """def enter(args, kwargs):
    if mode() is not None:  # somebody watches, or gradients are switched off
        return MISSED
    {lines}
    if not watch.holds():
        return MISSED
    {run}
    return {answer}
"""


def write_entry(
    structure: Structure,
    leaves: Sequence[Any],
    signature: Sequence[Any],
    labels: Sequence[str],
    constants: Sequence[Any],
    program: Any,
    watch: Any,
    results: tuple[Structure, Sequence[Any]],
) -> tuple[str, dict[str, Any]] | None:
    """The text of `enter(args, kwargs)`, which does a whole call or returns `MISSED`, and the names that it uses; None
    where there are containers or arrays of kinds that it does not know.

    Args:
        structure, leaves, signature, labels: of `(args, kwargs)`: its structure, and for each leaf one that was
            accepted, what is asked of it, and what the user calls it.
        constants: arrays that the program gets after those of the arguments.
        program, watch: what to run, and the guards that have to hold.
        results: the structure of the result, and for each leaf ("tensor" | "float", index) or ("static", value).
    """
    names: dict[str, Any] = {
        "mode": mode.get, "MISSED": MISSED, "Tensor": Tensor, "ndarray": np.ndarray, "array": np.array, "watch": watch,
        "run": program.run,
    }  # fmt: skip
    taken = {*names, *dir(builtins), "args", "kwargs", "results", "step", "unflatten", "structure"}
    lines: list[str] = []
    arrays: list[str] = []

    def insist(condition: str) -> None:
        lines.extend([f"if {condition}:", "    return MISSED"])

    def name(x: Any, hint: str) -> str:
        text = identifier(None, f"{hint}{len(names)}", taken)
        names[text] = x
        return text

    called, asked, accepted = [], iter(signature), iter(leaves)  # `called`: what each container and leaf is called
    ours = iter(labels)
    for k, token in enumerate(structure.tokens):
        label = next(ours) if token is LEAF else f"part{k}"
        called.append(identifier(label if label.isascii() else None, f"x{k}", taken) if k else "args, kwargs")
    called[1] = "args"
    children = children_of(structure)
    called[children[0][1]] = "kwargs"
    for here, token, inside in zip(called[1:], structure.tokens[1:], children[1:], strict=True):
        if token is LEAF:
            x, (kind, what) = next(accepted), next(asked)
            if kind == "static":
                insist(f"{here} is not {name(x, 'k')}")
            elif kind == "float":
                insist(f"type({here}) is not float")
                arrays.append(f"array({here})")
            else:
                shape, dtype, device, needs = what
                if device.kind != "cpu" or type(x) not in (Tensor, np.ndarray):
                    return None
                if type(x) is Tensor:
                    insist(f"type({here}) is not Tensor or {'not ' * needs}{here}.requires_grad")
                    lines.append(f"{here} = {here}.value")
                insist(f"type({here}) is not ndarray or {here}.dtype is not {name(dtype, 'd')} "
                       f"or {here}.shape != {tuple(map(int, shape))}")  # fmt: skip
                arrays.append(here)
            continue
        kind, meta, n = token
        parts = ", ".join([called[k] for k in inside])
        if kind is type(None):
            insist(f"{here} is not None")
        elif kind in (tuple, list):
            insist(
                f"type({here}) is not {kind.__name__} or len({here}) != {n}" if here != "args" else f"len(args) != {n}"
            )
            lines += [f"{parts}, = {here}"] * (n > 0)
        elif kind is dict and all(type(key) is str for key in meta):
            different = f"(*{here},) != {meta}" if n else here
            insist(f"type({here}) is not dict or {different}" if here != "kwargs" else different)
            lines += [f"{parts}, = {here}.values()"] * (n > 0)
        else:
            return None
    for x in constants:
        if type(x) is not np.ndarray:
            return None
        arrays.append(name(x, "c"))
    given = ", ".join(arrays)
    step = getattr(program.native, "step", None)
    if step is not None:
        names["step"] = step
        run = [f"results = step({given})", "if results is None:", f"    results = run([{given}])"]
    else:
        run = [f"results = run([{given}])"]
    made, template = results
    values = [f"r{i}" for i in range(sum(kind != "static" for kind, _ in template))]
    if values:
        run.append(f"{', '.join(values)}, = results")
    wrapped = {"tensor": "Tensor(r{})", "float": "float(r{})"}
    answers = [name(v, "k") if kind == "static" else wrapped[kind].format(v) for kind, v in template]
    source = ENTER.format(lines="\n    ".join(lines), run="\n    ".join(run), answer=put_together(made, answers, names))
    return source, names


def children_of(structure: Structure) -> list[list[int]]:
    """For each token of a structure the positions of its children."""
    found: list[list[int]] = [[] for _ in structure.tokens]
    done: list[int] = []
    for k in reversed(range(len(structure.tokens))):
        token = structure.tokens[k]
        if token is not LEAF:
            found[k] = [done.pop() for _ in range(token[2])]
        done.append(k)
    return found


def put_together(structure: Structure, leaves: Sequence[str], names: dict[str, Any]) -> str:
    """The text of an expression that makes a tree of leaves."""
    rest, done = list(leaves), list[str]()
    for token in reversed(structure.tokens if len(structure.tokens) <= WIDE else ()):
        if token is LEAF:
            done.append(rest.pop())
            continue
        kind, meta, n = token
        children = [done.pop() for _ in range(n)]
        if kind is tuple:
            done.append(f"({' '.join(f'{c},' for c in children)})")
        elif kind is list:
            done.append(f"[{', '.join(children)}]")
        elif kind is dict and all(type(key) is str for key in meta):
            done.append("{" + ", ".join([f"{key!r}: {c}" for key, c in zip(meta, children, strict=True)]) + "}")
        elif kind is type(None):
            done.append("None")
        else:
            break
    else:
        if done:
            return done[0]
    names["unflatten"], names["structure"] = pytree.unflatten, structure
    return f"unflatten(structure, [{', '.join(leaves)}])"
