"""Looking for mistakes: checks of gradients and of operations, anomaly mode, and hooks.

`gradcheck` compares a function's gradients with finite differences; `opcheck` does everything that can be checked
about one operation; `detect_anomaly` finds the line that made the first NaN; `hooks` lets an object of yours watch
every node.
"""

from .anomaly import detect_anomaly
from .gradcheck import GradCheckError, GradReport, gradcheck
from .hooks import Hook, MemoryMeter, Printer, Timer, hooks
from .opcheck import OpCheckError, OpReport, opcheck

__all__ = [
    "GradCheckError", "GradReport", "Hook", "MemoryMeter", "OpCheckError", "OpReport", "Printer", "Timer",
    "detect_anomaly", "gradcheck", "hooks", "opcheck",
]  # fmt: skip
