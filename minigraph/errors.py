"""Errors that teach.

Every error of minigraph says the same five things in the same order: which operation and argument, what was expected,
what was there, what to write instead, and the line of the *user's* program (never a line of ours). The classes also
derive from the built-in exception a Python programmer would try to catch (`ShapeError` is a `ValueError`, `DTypeError`
a `TypeError`, ...), so a program that knows nothing of minigraph handles them sensibly.
"""

from __future__ import annotations

import contextlib
import functools
import linecache
import os
import re
import sys
from types import FrameType
from typing import NamedTuple

import numpy as np

PACKAGE = os.path.dirname(os.path.abspath(__file__)) + os.sep
NOT_THE_USER: tuple[str, ...] = (  # what may stand between the user's line and ours
    PACKAGE, os.path.dirname(np.__file__) + os.sep, contextlib.__file__, functools.__file__, "<frozen", "<minigraph",
)  # fmt: skip


class Site(NamedTuple):
    """A line of the user's program.

    >>> print(mg.errors.Site("train.py", 12, "step"))
    train.py:12 in step
    """

    file: str
    line: int
    function: str

    @property
    def in_notebook(self) -> bool:
        """True when the line is in a notebook cell (whose file name is temporary and means nothing to a reader)."""
        return self.file.startswith("<ipython-input") or re.search(r"ipykernel_\d+", self.file) is not None

    @property
    def in_doctest(self) -> bool:
        """True when the line is in an example of a docstring."""
        return self.file.startswith("<doctest")

    @property
    def code(self) -> str:
        """The text of the line, stripped; empty when its source is not available."""
        return linecache.getline(self.file, self.line).strip()

    def __str__(self) -> str:
        place = f"cell line {self.line}" if self.in_notebook else f"{os.path.basename(self.file)}:{self.line}"
        return place if self.function == "<module>" else f"{place} in {self.function}"


def user_site() -> Site | None:
    """The innermost frame that is not ours nor NumPy's: the line the user wrote; None outside any user code."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        code = frame.f_code
        if not code.co_filename.startswith(NOT_THE_USER):
            return Site(code.co_filename, frame.f_lineno, code.co_name)
        frame = frame.f_back
    return None


def overlook(directory: str) -> None:
    """Let a package that is built on minigraph stand between the user's line and ours, as NumPy does.

    Args:
        directory: of the package. Sites are looked for outside it from now on.
    """
    global NOT_THE_USER
    NOT_THE_USER = (*NOT_THE_USER, os.path.join(directory, ""))


class MinigraphError(Exception):
    """Base of all errors raised by minigraph on purpose.

    The parts of the message are kept as attributes, so that a widget can show them beside the failing node.

    >>> raise mg.errors.ShapeError("matmul: inner sizes differ", expected="x1.shape[1] == x2.shape[0]", actual="3 != 4")
    Traceback (most recent call last):
    minigraph.errors.ShapeError: matmul: inner sizes differ
      expected  x1.shape[1] == x2.shape[0]
      actual    3 != 4
      ...
    """

    def __init__(self, what: str, *, expected: str = "", actual: str = "", remedy: str = "", site: Site | None = None):
        self.what, self.expected, self.actual, self.remedy = what, expected, actual, remedy
        self.site = site or user_site()
        lines = [what]
        for label, text in (("expected", expected), ("actual", actual), ("remedy", remedy)):
            if text:
                lines.append(f"  {label:<9} " + text.replace("\n", "\n            "))
        if self.site:
            code = self.site.code
            lines.append(f"  {'at':<9} {self.site}" + (f":  {code}" if code else ""))
        super().__init__("\n".join(lines))


class ShapeError(MinigraphError, ValueError):
    """Shapes, axes or sizes that do not fit each other."""


class CompilerError(MinigraphError, RuntimeError):
    """The C compiler could not be run, or refused the generated code."""


class DTypeError(MinigraphError, TypeError):
    """A dtype or a Python type that an operation cannot take."""


class ArgumentError(MinigraphError, ValueError):
    """An argument whose value makes no sense (a negative size, an unknown name, an empty list)."""


class BoundsError(MinigraphError, IndexError):
    """An index or a label outside the range that exists."""


class DeviceError(MinigraphError, RuntimeError):
    """Operands on different devices, or a device that this machine does not have."""


class GraphError(MinigraphError, RuntimeError):
    """A graph that cannot be used as asked: already freed, malformed, or missing an input."""


class TraceError(MinigraphError, RuntimeError):
    """Something that would silently go wrong under tracing, such as branching on a value that does not exist yet."""


class MutationError(MinigraphError, TypeError):
    """An attempt to change a tensor in place."""


class CheckpointError(MinigraphError, ValueError):
    """A file that cannot be written or is not what it claims to be."""


class NumericalError(MinigraphError, FloatingPointError):
    """The first NaN or infinity, found by anomaly mode."""
