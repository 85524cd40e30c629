"""Formulas of operations as MathML, which browsers draw by themselves: no script, no fonts.

The formula and the local derivatives come from the operation's own definition (`Op.latex`, `Op.derivative`), with the
names that inputs have in the picture, or with their numbers.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from latex2mathml.converter import convert

from minigraph.op import Op, argument_names

_NAME = re.compile(r"^[A-Za-z][A-Za-z0-9]*$")


@lru_cache(maxsize=4096)
def mathml(latex: str) -> str:
    r"""LaTeX as MathML.

    >>> from minigraph_widgets.formulas import mathml
    >>> mathml(r"x^2").startswith("<math")
    True
    """
    return convert(latex).replace(' xmlns="http://www.w3.org/1998/Math/MathML"', "")


def symbol(name: str) -> str:
    r"""A user's name in LaTeX: a letter as a variable, words upright, nothing that TeX would act upon.

    >>> from minigraph_widgets.formulas import symbol
    >>> symbol("w1"), symbol("layers.0.weight"), symbol("x")
    ('w_{1}', '\\mathrm{layers{.}0{.}weight}', 'x')
    """
    if (found := re.fullmatch(r"([A-Za-z])_?(\d*)", name)) is not None:
        return found[1] + (f"_{{{found[2]}}}" if found[2] else "")
    safe = re.sub(r"[^A-Za-z0-9. ]", "-", name)[:40]
    return r"\mathrm{" + safe.replace(".", "{.}").replace("-", "{-}").replace(" ", r"\ ") + "}"


def filled(template: str, op: Op, texts: Sequence[str], attrs: dict[str, Any] | None) -> str | None:
    """A template of the catalogue with these texts for the inputs; None where it mentions something else."""
    names = dict(zip(argument_names(op, len(texts)), texts, strict=True))
    for key, value in (attrs or {}).items():
        text = f"{value:g}" if _is_number(value) else getattr(value, "name", None) or symbol(str(value))
        names.setdefault(key, text)
    try:
        return template.format(**names)
    except (KeyError, IndexError, ValueError):
        return None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def formula(op: Op, texts: Sequence[str], attrs: dict[str, Any] | None = None) -> str | None:
    """The operation's formula as LaTeX, None if it has none."""
    return filled(op.latex, op, texts, attrs) if op.latex else None


def derivative(op: Op, index: int, texts: Sequence[str], attrs: dict[str, Any] | None = None) -> str | None:
    """The local derivative with respect to input number `index` as LaTeX, None if the operation tells none."""
    if index >= len(op.derivative):
        return None
    return filled(op.derivative[index], op, texts, attrs)


def digits(text: str) -> str:
    r"""A number as it stands at the end of a formula.

    >>> from minigraph_widgets.formulas import digits, in_brackets
    >>> digits("-1.5e-07"), digits("nan"), in_brackets("-2"), in_brackets("2")
    ('{-}1.5 \\cdot 10^{-7}', '\\mathrm{NaN}', '({-}2)', '2')
    """
    sign, text = ("{-}", text[1:]) if text.startswith("-") else ("", text)  # in braces: a sign, not a difference
    if "e" in text and text[-1].isdigit():
        mantissa, power = text.split("e")
        return rf"{sign}{mantissa} \cdot 10^{{{int(power)}}}"
    return sign + {"inf": r"\infty", "nan": r"\mathrm{NaN}"}.get(text, text)


def in_brackets(text: str) -> str:
    """A number as it stands within a formula: in brackets if it has a sign or a power of ten."""
    return f"({digits(text)})" if text.startswith("-") or "e" in text else digits(text)
