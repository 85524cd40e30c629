"""Data to learn with that needs no download: handwritten digits (scikit-learn's) and small made-up problems."""

from __future__ import annotations

import numpy as np

from ..errors import ArgumentError
from ..tensor import Tensor
from .dataset import checked_seed


def digits(*, flat: bool = False) -> tuple[Tensor, Tensor]:
    """1,797 real handwritten digits, 8 x 8 pixels (needs scikit-learn, which carries them).

    Args:
        flat: images as rows of 64 numbers.

    Returns:
        images, float32, shape (1797, 1, 8, 8) or (1797, 64), from 0 (paper) to 1 (ink);
        labels, int64, shape (1797,), 0 to 9.

    Raises:
        ModuleNotFoundError: scikit-learn is not installed.

    Source: E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI Machine Learning Repository, 1998.

    >>> images, labels = mg.data.datasets.digits()
    >>> images.shape, labels.shape
    ((1797, 1, 8, 8), (1797,))
    """
    try:
        from sklearn.datasets import load_digits
    except ModuleNotFoundError:
        raise ModuleNotFoundError("the digits come with scikit-learn: pip install scikit-learn") from None
    bunch = load_digits()
    images = (bunch.images / 16).astype(np.float32)
    return Tensor(images.reshape((-1, 64) if flat else (-1, 1, 8, 8))), Tensor(bunch.target.astype(np.int64))


def two_moons(n: int = 200, *, noise: float = 0.1, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Two interleaved half circles of radius 1, which no straight line separates.

    Args:
        n: points in all; half of them (rounded up) in class 0.
        noise: standard deviation of the normal noise added to each coordinate.
        seed: of the points.

    Returns:
        points, float32, shape (n, 2); labels, int64, shape (n,), 0 and 1. The classes alternate.

    >>> x, y = mg.data.datasets.two_moons(4, noise=0.0)
    >>> y
    tensor([0, 1, 0, 1], dtype=int64)
    """
    random = _generator(n, 2, noise, seed, "two_moons")
    label = np.arange(n) % 2
    angle = np.pi * random.random(n)
    x = np.where(label == 0, np.cos(angle), 1 - np.cos(angle))
    y = np.where(label == 0, np.sin(angle), 0.5 - np.sin(angle))
    return _with_noise(x, y, label, noise, random)


def spirals(
    n: int = 300, *, classes: int = 3, turns: float = 0.75, noise: float = 0.02, seed: int = 0
) -> tuple[Tensor, Tensor]:
    """Spirals that wind around each other within the unit circle, one for each class.

    Args:
        n: points in all, spread evenly over the classes.
        classes: number of arms.
        turns: how often an arm winds around the centre.
        noise: standard deviation of the normal noise added to each coordinate.
        seed: of the points.

    Returns:
        points, float32, shape (n, 2); labels, int64, shape (n,), 0 to classes - 1. The classes alternate.

    >>> x, y = mg.data.datasets.spirals(6, classes=3)
    >>> y
    tensor([0, 1, 2, 0, 1, 2], dtype=int64)
    """
    random = _generator(n, classes, noise, seed, "spirals")
    label = np.arange(n) % classes
    radius = random.random(n)
    angle = 2 * np.pi * (label / classes + turns * radius)
    return _with_noise(radius * np.cos(angle), radius * np.sin(angle), label, noise, random)


def _generator(n: int, classes: int, noise: float, seed: int, what: str) -> np.random.Generator:
    if classes < 1 or n < classes:
        raise ArgumentError(
            f"{what}: n", expected=f"at least one point for each class (classes={classes})", actual=f"n={n}"
        )
    if not 0 <= noise < float("inf"):
        raise ArgumentError(f"{what}: noise", expected="a standard deviation >= 0", actual=repr(noise))
    return np.random.Generator(np.random.PCG64(checked_seed(seed, what)))


def _with_noise(
    x: np.ndarray, y: np.ndarray, label: np.ndarray, noise: float, random: np.random.Generator
) -> tuple[Tensor, Tensor]:
    points = np.stack([x, y], axis=1) + noise * random.standard_normal((len(x), 2))
    return Tensor(points.astype(np.float32)), Tensor(label.astype(np.int64))
