"""The words of a picture: what is written on a node, made safe and measured.

Names come from users and attributes can be anything, so every text passes through `clean`: what XML cannot carry, and
what would turn the direction of writing around, is replaced. Escaping itself happens in one place for each language,
`svg.py` and `dot.py`.

Widths are computed from a table and not asked of a font. Pictures then come out alike on every machine, and whichever
sans-serif font a browser has, the text fits its box: the table holds the wider one of Arial and DejaVu Sans for each
character.
"""

from __future__ import annotations

import inspect
import re
import unicodedata
from typing import Any

import numpy as np

from ..graph import Graph, constant_text, input_names, type_text
from ..op import Op, Spec
from ..tensor import Tensor
from ..variable import READ, Gradient, Variable

TIMES = "\N{MULTIPLICATION SIGN}"
LONGEST = 36  # characters of a line in a box; the tooltip has all of it
SMALL = 6  # elements of a value that is shown

_WIDTHS = {
    30: "'Iijl", 35: " ,./:;\\|", 40: "()-[]ft", 45: "!r", 50: '"*J`', 55: "csz", 60: "?L_kvxy",
    65: "$0123456789FTabdeghnopqu{}", 70: "ABEKPSVXYZ", 75: "CNRU", 80: "&DGHOQ", 85: "#+<=>^w~", 90: "M", 100: "%Wm",
    105: "@",
}  # fmt: skip
WIDTH = {c: percent / 100 for percent, characters in _WIDTHS.items() for c in characters}
BOLD = 1.13

# what XML 1.0 does not allow, and the marks that reorder text
_UNSAFE = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]"
)


def clean(text: Any) -> str:
    """The text without characters that cannot or must not be drawn; line breaks and tabs become spaces.

    >>> from minigraph.draw.words import clean
    >>> clean("two\\nlines")
    'two lines'
    """
    return re.sub(r"\s", " ", _UNSAFE.sub("\ufffd", str(text)))


def clean_lines(text: str) -> str:
    """`clean` for a text of several lines."""
    return "\n".join(map(clean, text.split("\n")))


def shorten(text: str, limit: int = LONGEST) -> str:
    """At most `limit` characters; what is left out of the middle is marked, as names differ at both ends."""
    if len(text) <= limit:
        return text
    tail = (limit - 1) // 3
    return text[: limit - 1 - tail] + "…" + text[-tail:]


def width(text: str, size: float, bold: bool = False) -> float:
    """The width of a line in points, in the widest of the fonts that a browser may choose."""
    total = 0.0
    for c in text:
        if c in WIDTH:
            total += WIDTH[c]
        elif unicodedata.combining(c):
            continue
        else:
            total += 1.1 if unicodedata.east_asian_width(c) in "WF" else 0.9
    return total * size * (BOLD if bold else 1.0)


def plural(number: int, word: str) -> str:
    """`1 operation`, `2,000 operations`."""
    return f"{number:,} {word}{'' if number == 1 else 's'}"


# ------------------------------------------------------------------------------------------------------------ values


def number_text(x: Any) -> str:
    """A number in four digits: enough to follow a computation, few enough to be the same on every machine."""
    return f"{x:.4g}" if isinstance(x, float | np.floating) else str(x)


def value_text(t: Any) -> str:
    """A small value of a tensor, "" for a large or absent one."""
    if t is None or type(t.value) is tuple or t.is_symbolic or not 0 < t.size <= SMALL:
        return ""
    array = t.numpy()
    if array.ndim == 0:
        return number_text(array[()])
    text = np.array2string(array, separator=", ", formatter={"float_kind": number_text}, max_line_width=1000)
    return " ".join(text.split())


def plain_text(v: Any) -> str:
    """An attribute's value in words that are the same in every run: never an address."""
    if isinstance(v, Graph):
        return f"graph {v.name} ({plural(len(v.operations), 'operation')})"
    if isinstance(v, bool | int | str | bytes | type(None) | type(Ellipsis)):
        return "..." if v is Ellipsis else repr(v)
    if isinstance(v, float | np.generic):
        return number_text(v)
    if isinstance(v, np.dtype):
        return v.name
    if isinstance(v, slice):
        ends = ["" if x is None else plain_text(x) for x in (v.start, v.stop, v.step)]
        return ":".join(ends if v.step is not None else ends[:2])
    if isinstance(v, tuple | list):
        inside = ", ".join(plain_text(x) for x in v[:12]) + (", ..." if len(v) > 12 else "")
        return f"[{inside}]" if isinstance(v, list) else f"({inside}{',' if len(v) == 1 else ''})"
    if isinstance(v, Variable | Gradient):
        return v.name or type(v).__name__
    if isinstance(v, np.ndarray | Spec):
        return f"{v.dtype.name}[{', '.join(map(str, v.shape))}]"
    if isinstance(v, Tensor):
        return type_text(v)
    if isinstance(v, Op):
        return v.name
    if isinstance(name := getattr(v, "__name__", None), str):
        return name
    if all("__repr__" not in vars(base) for base in type(v).__mro__[:-1]):  # all that it says of itself is its address
        return type(v).__name__
    return re.sub(r" at 0x[0-9a-fA-F]+", "", repr(v))


def attribute_texts(node: Tensor) -> list[str]:
    """`axis=(0,)` for each attribute of an operation."""
    return [f"{k}={plain_text(v)}" for k, v in (node.attrs or {}).items()]


def notable_attributes(node: Tensor) -> str:
    """The attributes that say something: those that differ from the operation's defaults, graphs excepted, as far as
    they go on a line."""
    try:
        parameters = inspect.signature(node.op.run).parameters
    except (TypeError, ValueError):  # written in C: nothing is known of its defaults
        parameters = {}  # type: ignore[assignment]
    found = []
    for k, v in (node.attrs or {}).items():
        default = parameters[k].default if k in parameters else inspect.Parameter.empty
        text = plain_text(v)
        if not isinstance(v, Graph) and (default is inspect.Parameter.empty or plain_text(default) != text):
            found.append(f"{k}={text}")
    line = ", ".join(found)
    while len(line) > LONGEST and len(found) > 1:
        found.pop()
        line = ", ".join(found) + ", …"
    return line


# --------------------------------------------------------------------------------------------------------- tooltips


def leaf_name(node: Tensor, number: int | None = None) -> str:
    """What a node without inputs is called: its name, its variable's name, or its place."""
    if node.op is READ:
        attrs = node.attrs or {}
        return getattr(attrs.get("variable", attrs.get("gradient")), "name", None) or "variable"
    if node.name:
        return node.name
    return f"input{number}" if number is not None else "tensor"


def size_text(node: Tensor) -> str:
    """`float32[64, 10], 2,560 bytes, cpu`."""
    if type(node.value) is tuple:
        return type_text(node)
    return f"{type_text(node)}, {plural(node.nbytes, 'byte')}, {node.device}"


def details(node: Tensor, heading: str) -> str:
    """Everything that is known of a node, line by line: its tooltip."""
    lines = [heading, size_text(node)]
    if node.op is not None and node.inputs:
        for name, x in zip(input_names(node), node.inputs, strict=True):
            lines.append(f"{name}: {type_text(x)}" + (f" ({x.name})" if x.name else ""))
        lines += attribute_texts(node)
    if value := value_text(node):
        lines.append(f"value {value}")
    if node.scope is not None and str(node.scope):
        lines.append(f"in {node.scope} ({node.scope.kind})")
    if node.site is not None and not node.site.in_doctest:
        lines.append(f"at {node.site}" + (f": {node.site.code}" if node.site.code else ""))
    return "\n".join(clean(line) for line in lines)


__all__ = [
    "attribute_texts", "clean", "constant_text", "details", "leaf_name", "notable_attributes", "number_text",
    "plain_text", "plural", "shorten", "size_text", "type_text", "value_text", "width",
]  # fmt: skip
