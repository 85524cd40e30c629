"""Arrays in a few hundred bytes: what a view shows of a value, whatever its size.

A view never carries an array. It carries a summary: the number itself, a few numbers, or a thumbnail with the extremes
it is scaled by, and statistics. Large arrays are looked at through a sample of evenly spaced elements, and the summary
says so; a gigabyte is never copied.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

FEW = 6  # elements that are written out
SIDE = 16  # pixels of a thumbnail, each way
SAMPLE = 250_000  # elements that statistics look at
BINS = 16
DIGITS = 4

Summary = Mapping[str, Any]


def number(x: Any) -> str:
    """A number in four digits, as it stands on a node.

    >>> from minigraph_widgets.values import number
    >>> number(0.123456), number(-0.0), number(float("nan")), number(3)
    ('0.1235', '-0', 'nan', '3')
    """
    return f"{x:.{DIGITS}g}" if isinstance(x, float | np.floating) else str(x)


def rounded(x: Any) -> float | str:
    """A number for JSON, which knows neither NaN nor infinity."""
    x = float(x)
    return float(f"{x:.{DIGITS}g}") if math.isfinite(x) else str(x)


def to_numpy(value: Any) -> np.ndarray:
    """The array of a tensor or array, on the CPU. A large one is sampled first, where it lives."""
    value = getattr(value, "value", value)
    return np.asarray(value.get() if hasattr(value, "get") and not isinstance(value, np.ndarray) else value)


def sample(array: Any, limit: int = SAMPLE) -> tuple[np.ndarray, int]:
    """Evenly spaced elements, at most `limit` of them, flat and on the CPU; and how many there are in all."""
    size = math.prod(array.shape)
    if size <= limit:
        return to_numpy(array).reshape(-1), size
    axes = [slice(None)] * len(array.shape)
    while math.prod(len(range(*s.indices(n))) for s, n in zip(axes, array.shape, strict=True)) > limit:
        lengths = [len(range(*s.indices(n))) for s, n in zip(axes, array.shape, strict=True)]
        axis = lengths.index(max(lengths))
        axes[axis] = slice(None, None, (axes[axis].step or 1) * 2)
    return to_numpy(array[tuple(axes)]).reshape(-1), size


def statistics(array: Any) -> dict[str, Any]:
    """Extremes, mean, standard deviation, how many zeros, NaN and infinities, and a histogram.

    >>> from minigraph_widgets.values import statistics
    >>> found = statistics(np.array([0.0, 1.0, 2.0, np.nan]))
    >>> found["min"], found["max"], found["mean"], found["nan"], found["zero"]
    (0.0, 2.0, 1.0, 1, 1)
    """
    flat, size = sample(array)
    found: dict[str, Any] = {"size": size}
    if flat.size < size:
        found["sampled"] = int(flat.size)
    if not flat.size or flat.dtype.kind not in "biuf":
        return found
    flat = flat.astype(np.float64)
    finite = flat[np.isfinite(flat)]
    found["nan"], found["inf"] = int(np.isnan(flat).sum()), int(np.isinf(flat).sum())
    found["zero"] = int((flat == 0).sum())
    if finite.size:
        lo, hi = float(finite.min()), float(finite.max())
        with np.errstate(over="ignore"):
            found["min"], found["max"] = rounded(lo), rounded(hi)
            found["mean"], found["std"] = rounded(finite.mean()), rounded(finite.std())
        if hi > lo and math.isfinite(hi - lo):
            found["bins"] = np.histogram(finite, BINS, (lo, hi))[0].tolist()
    return found


def thumbnail(array: Any) -> dict[str, Any]:
    """A small picture of an array: its last two axes, with what comes before them below one another.

    Larger arrays are reduced by the mean of blocks of equal size (the rest at the edges is left out). One byte for
    each pixel: 0 is the smallest value, 254 the largest, on a scale that is symmetric about zero if both signs occur;
    255 stands for NaN and infinity.
    """
    shape = array.shape
    rows, columns = math.prod(shape[:-1]), shape[-1]
    step = max(1, math.ceil(rows * columns / SAMPLE))
    flat = to_numpy(array.reshape(rows, columns)[:: min(step, max(rows // SIDE, 1))]).astype(np.float64)
    small = _reduced(_reduced(flat, 0), 1)
    finite = small[np.isfinite(small)]
    lo, hi = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)
    if lo < 0 < hi:
        hi = max(-lo, hi)
        lo = -hi
    scale = (hi - lo) or 1.0
    with np.errstate(invalid="ignore", over="ignore"):
        pixels = np.where(np.isfinite(small), np.clip((small - lo) / scale, 0, 1) * 254, 255).round().astype(np.uint8)
    return {
        "pixels": base64.b64encode(pixels.tobytes()).decode(),
        "size": [int(small.shape[1]), int(small.shape[0])],
        "lo": rounded(lo),
        "hi": rounded(hi),
    }


def _reduced(a: np.ndarray, axis: int) -> np.ndarray:
    """At most SIDE elements along an axis, each the mean of a block."""
    n = a.shape[axis]
    if n <= SIDE:
        return a
    block = n // SIDE
    a = a.take(range(block * SIDE), axis)
    shape = (SIDE, block, a.shape[1]) if axis == 0 else (a.shape[0], SIDE, block)
    return a.reshape(shape).mean(axis=axis + 1)


def summary(value: Any) -> Summary:
    """What a view shows of a value: `text` always, `numbers` of a few elements or a `map`, and `stats` of many.

    >>> from minigraph_widgets.values import summary
    >>> summary(np.float32(0.5))
    {'text': '0.5', 'type': 'float32[]', 'numbers': ['0.5']}
    >>> summary(np.zeros((2, 0)))
    {'text': 'empty', 'type': 'float64[2, 0]'}
    >>> summary(np.arange(12.0).reshape(3, 4))["text"]
    '0 to 11'
    """
    value = getattr(value, "value", value)
    if type(value) is tuple:
        return {"text": f"{len(value)} results", "type": ", ".join(map(type_of, value))}
    size = math.prod(value.shape)
    shown: dict[str, Any] = {"text": "empty", "type": type_of(value)}
    if not size:
        return shown
    if size <= FEW:
        shown["numbers"] = [number(x) for x in to_numpy(value).reshape(-1)]
        joined = ", ".join(shown["numbers"])
        shown["text"] = joined if value.shape == () else f"[{joined}]"
        if len(value.shape) > 1 or size > 3:
            shown["map"] = thumbnail(value)
        return shown
    stats = statistics(value)
    shown["stats"] = stats
    shown["map"] = thumbnail(value) if value.dtype.kind in "biuf" else None
    if "min" in stats:
        shown["text"] = f"{number(float(stats['min']))} to {number(float(stats['max']))}"
    else:
        shown["text"] = f"{size:,} elements"
    bad = [f"{stats[k]:,} {name}" for k, name in (("nan", "NaN"), ("inf", "infinite")) if stats.get(k)]
    if bad:
        shown["text"] = ", ".join(bad)
    return shown


def type_of(value: Any) -> str:
    """`float32[2, 3]`."""
    return f"{value.dtype.name}[{', '.join(map(str, value.shape))}]"
