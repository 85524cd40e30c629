"""Ctrl-C at the right moment.

Python raises KeyboardInterrupt between any two instructions, also between the assignment of one variable and of the
next. A training step stopped there would leave half of the parameters updated, and no program could tell. Inside
`held()`, Ctrl-C waits until everything has been assigned and is raised then. What takes long stays outside of it.

The handlers are exchanged by `_signal`, what the module `signal` is made of: that one converts every handler to and
from an enumeration, which takes as long as the update of a small model.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import threading
from typing import Any

MAIN = threading.main_thread().ident  # the only thread that Python interrupts, and that may exchange handlers


class held:
    """Context manager: Ctrl-C waits until the end of the block."""

    __slots__ = ("before", "pressed")

    def __enter__(self) -> held:
        self.pressed: tuple[Any, ...] = ()
        self.before: Any = None
        if threading.get_ident() == MAIN:
            self.before = _signal.signal(_signal.SIGINT, self.note)
        return self

    def note(self, *arguments: Any) -> None:
        """Instead of the handler that was there."""
        self.pressed = arguments

    def __exit__(self, *exc: object) -> None:
        if self.before is not None:
            _signal.signal(_signal.SIGINT, self.before)
            self.deliver()

    def deliver(self) -> None:
        """Do what Ctrl-C would have done, if it was pressed."""
        arguments, self.pressed = self.pressed, ()
        if arguments and callable(self.before):
            self.before(*arguments)
