"""Charts where no script runs: SVG as text, with axes, written by hand.

The script draws the same charts, and lets one point at things. These stand in saved notebooks, on pages of
repositories and in print; so they are plain, have no style sheet, and take the colour of their text from the page.
The other colours are those of Okabe and Ito, each with a second sign: a dash or a mark.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from html import escape
from typing import Any, NamedTuple

BLUE, ORANGE, GREEN, PURPLE, RED, SKY = "#0072b2", "#e69f00", "#009e73", "#cc79a7", "#d55e00", "#56b4e9"
COLOURS = (BLUE, RED, GREEN, PURPLE, ORANGE, SKY)
DASHES = ("", "7 3", "2 3", "10 3 2 3", "14 4", "1 4")

Scale = Callable[[float], float]


def ticks(lo: float, hi: float, count: int = 5) -> list[float]:
    """About `count` round numbers between two others.

    >>> from minigraph_widgets.charts import ticks
    >>> ticks(0, 10), ticks(0.1, 0.32), ticks(3, 3)
    ([0.0, 2.0, 4.0, 6.0, 8.0, 10.0], [0.1, 0.15, 0.2, 0.25, 0.3], [3.0])
    """
    if not hi > lo or not math.isfinite(hi - lo):
        return [float(lo)]
    raw = (hi - lo) / count
    power = 10.0 ** math.floor(math.log10(raw))
    step = power * min((f for f in (1, 2, 5, 10)), key=lambda f: abs(f * power - raw))
    first = math.ceil(lo / step - 1e-9)
    return [round(k * step, 12) for k in range(first, math.floor(hi / step + 1e-9) + 1)]


def powers(lo: float, hi: float) -> list[float]:
    """The powers of ten between two positive numbers, at most about eight of them.

    >>> from minigraph_widgets.charts import powers
    >>> powers(0.5, 2000)
    [1.0, 10.0, 100.0, 1000.0]
    """
    exponents = range(math.ceil(math.log10(lo) - 1e-9), math.floor(math.log10(hi) + 1e-9) + 1)
    return [10.0**k for k in exponents[:: max(1, len(exponents) // 6)]]


def linear(domain: tuple[float, float], pixels: tuple[float, float]) -> Scale:
    """The scale that maps one interval to another one."""
    (a, b), (p, q) = domain, pixels
    return lambda v: p + (v - a) / ((b - a) or 1) * (q - p)


def logarithmic(domain: tuple[float, float], pixels: tuple[float, float]) -> Scale:
    """The same for the logarithms of positive numbers."""
    inner = linear((math.log10(domain[0]), math.log10(domain[1])), pixels)
    return lambda v: inner(math.log10(v))


class Frame(NamedTuple):
    """The part of a drawing that an axis belongs to, in pixels from its upper left corner."""

    left: float
    top: float
    right: float
    bottom: float


class Drawing:
    """An SVG drawing that is put together piece by piece; all text is escaped."""

    def __init__(self, width: float, height: float, label: str):
        self.width, self.height, self.label = width, height, label
        self.parts: list[str] = []

    def add(self, tag: str, text: str | None = None, title: str | None = None, **attributes: object) -> None:
        """An element; `_` in the name of an attribute stands for `-`, numbers get one decimal."""
        pairs = "".join(
            f' {name.rstrip("_").replace("_", "-")}="{escape(_short(value))}"'
            for name, value in attributes.items()
            if value is not None and value != ""
        )
        inside = (f"<title>{escape(title)}</title>" if title else "") + escape(text or "")
        self.parts.append(f"<{tag}{pairs}>{inside}</{tag}>" if inside else f"<{tag}{pairs}/>")

    def text(self, x: float, y: float, text: str, anchor: str = "start", **more: Any) -> None:
        self.add("text", text, x=x, y=y, text_anchor=anchor, fill="currentColor", **more)

    def line(self, x0: float, y0: float, x1: float, y1: float, colour: str = "currentColor", **more: Any) -> None:
        self.add("line", x1=x0, y1=y0, x2=x1, y2=y1, stroke=colour, **more)

    def path(self, points: Sequence[tuple[float, float]], colour: str, **more: Any) -> None:
        """A line through points."""
        if points:
            d = "M" + "L".join(f"{_short(x)},{_short(y)}" for x, y in points)
            self.add("path", d=d, fill=more.pop("fill", "none"), stroke=colour, **more)

    def y_axis(self, f: Frame, scale: Scale, at: Sequence[float], words: Callable[[float], str], label: str) -> None:
        """Ticks on the left with lines across, and what is measured above them."""
        for v in at:
            self.line(f.left, scale(v), f.right, scale(v), stroke_opacity=0.15)
            self.text(f.left - 6, scale(v) + 4.5, words(v), "end")
        self.text(f.left, f.top - 8, label, "start", font_weight="600")

    def x_axis(self, f: Frame, scale: Scale, at: Sequence[float], words: Callable[[float], str], label: str) -> None:
        """Ticks below, and what is measured to the right of them."""
        self.line(f.left, f.bottom, f.right, f.bottom)
        for v in at:
            self.line(scale(v), f.bottom, scale(v), f.bottom + 4)
            self.text(scale(v), f.bottom + 18, words(v), "middle")
        self.text(f.right, f.bottom + 36, label, "end")

    def svg(self) -> str:
        """The whole drawing. It shrinks on a narrow page, and does not grow."""
        size = f'viewBox="0 0 {_short(self.width)} {_short(self.height)}" width="{_short(self.width)}"'
        head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" aria-label="{escape(self.label)}"'
        style = 'style="max-width:100%;height:auto;font:14px system-ui,sans-serif"'
        return f"{head} {style}>\n" + "\n".join(self.parts) + "\n</svg>"


def _short(value: object) -> str:
    return f"{value:.1f}".removesuffix(".0") if isinstance(value, float) else str(value)
