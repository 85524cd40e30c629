"""Datasets: anything with a length and rows.

A dataset answers `len(dataset)` and `dataset[i]`; a list of pairs is one already. `TensorDataset` is the frequent case
of arrays that lie in memory side by side; the loader takes its batches with one indexing operation per array instead of
one call per row.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np

from ..errors import ArgumentError, BoundsError, DTypeError, ShapeError
from ..ops.common import integer
from ..tensor import Tensor, asarray


@runtime_checkable
class Dataset(Protocol):
    """What the loader asks of a dataset: `len(dataset)` and `dataset[i]` for 0 <= i < len(dataset).

    >>> isinstance([(0.0, 1), (0.5, 2)], mg.data.Dataset)
    True
    """

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Any: ...


class TensorDataset:
    """Arrays of the same length, side by side; row i is a tuple with row i of each.

    Args:
        arrays: tensors, NumPy arrays or lists, each of shape (n, ...). Arrays are not copied; batches are.

    Raises:
        ShapeError: different lengths, or an array without a first axis.
        ArgumentError: no array.

    >>> dataset = mg.data.TensorDataset(np.arange(6.0).reshape(3, 2), [0, 1, 1])
    >>> len(dataset)
    3
    >>> dataset[1]
    (tensor([2., 3.], dtype=float64), tensor(1, dtype=int64))
    """

    def __init__(self, *arrays: Any):
        if not arrays:
            raise ArgumentError(
                "TensorDataset: at least one array", actual="none", remedy="TensorDataset(inputs, labels)"
            )
        # Sharing an array of NumPy's is safe here: rows and batches are copies, so no tensor sees a later change.
        self.arrays = tuple([a if _is_usable(a) else asarray(a).value for a in arrays])
        for i, array in enumerate(self.arrays):
            if array.ndim == 0:
                raise ShapeError(f"TensorDataset: array {i} has no rows", expected="shape (n, ...)", actual="shape ()",
                                 remedy="put numbers into a list: [x]")  # fmt: skip
        if len({array.shape[0] for array in self.arrays}) > 1:
            raise ShapeError("TensorDataset: arrays of the same length", expected="equal first axes",
                             actual=", ".join([f"array {i}: {array.shape}" for i, array in enumerate(self.arrays)]),
                             remedy="give one row per example in each array")  # fmt: skip

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """All rows: one tensor per array."""
        return self.batch(slice(None))

    def batch(self, rows: Any) -> tuple[Tensor, ...]:
        """The rows given by an index array or a slice: one tensor per array, copied."""
        return tuple([Tensor(array[rows].copy() if isinstance(rows, slice) else array[rows]) for array in self.arrays])

    def __len__(self) -> int:
        return int(self.arrays[0].shape[0])

    def __getitem__(self, index: int) -> tuple[Tensor, ...]:
        return tuple([Tensor(array[_row(index, len(self))].copy()) for array in self.arrays])

    def __repr__(self) -> str:
        return f"TensorDataset({len(self)} rows: {', '.join([f'{a.dtype}{list(a.shape[1:])}' for a in self.arrays])})"


class Subset:
    """Some rows of a dataset, by their indices.

    Args:
        dataset: any dataset.
        indices: which rows, in which order; 0 <= index < len(dataset).

    Raises:
        BoundsError: an index that the dataset does not have.

    >>> mg.data.Subset(["a", "b", "c"], [2, 0])[0]
    'c'
    """

    def __init__(self, dataset: Dataset, indices: Any):
        self.dataset, self.indices = dataset, np.asarray(indices)
        if self.indices.ndim != 1 or (self.indices.size and self.indices.dtype.kind not in "iu"):
            raise DTypeError("Subset: indices", expected="a flat list of integers",
                             actual=f"{self.indices.dtype} of shape {self.indices.shape}",
                             remedy="np.flatnonzero(mask) turns a mask into indices")  # fmt: skip
        for index in self.indices[(self.indices < 0) | (self.indices >= len(dataset))][:1]:
            _row(int(index) if index >= 0 else len(dataset), len(dataset))

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> Any:
        return self.dataset[int(self.indices[_row(index, len(self))])]

    def __repr__(self) -> str:
        return f"Subset({len(self)} of {self.dataset!r})"


def _is_usable(array: Any) -> bool:
    """Whether rows of the array can be values of tensors as they are."""
    return type(array) is np.ndarray and array.dtype.kind in "biuf" and array.dtype.isnative and array.itemsize <= 8


def _row(index: int, length: int) -> int:
    """`index` as a non-negative row number; IndexError (which also ends `for row in dataset`) if there is none."""
    index = integer("dataset", "index", index)
    if not -length <= index < length:
        raise BoundsError("dataset: no such row", expected=f"-{length} <= index < {length}", actual=str(index),
                          remedy="len(dataset) is the number of rows")  # fmt: skip
    return index % length


def random_split(dataset: Dataset, lengths: Sequence[float], *, seed: int | None) -> list[Any]:
    """Split a dataset at random into parts that do not overlap.

    Args:
        dataset: any dataset.
        lengths: how many rows each part gets; or fractions that sum to 1 (rows left over by rounding down go to the
            first parts, one each).
        seed: the same seed gives the same parts, with every version of NumPy. None: from the system's entropy.

    Returns:
        one dataset per length: `TensorDataset` if the dataset is one (rows copied), else `Subset`.

    Raises:
        ArgumentError: lengths that do not sum to the dataset's, negative or empty parts.

    >>> data = mg.data.TensorDataset(np.arange(10))
    >>> train, test = mg.data.random_split(data, [0.7, 0.3], seed=0)
    >>> len(train), len(test)
    (7, 3)
    """
    n, given = len(dataset), list(lengths)
    if not all(isinstance(length, int | float | np.integer | np.floating) and length >= 0 for length in given):
        raise ArgumentError("random_split: lengths", expected="counts or fractions, none negative", actual=repr(given))
    if all(isinstance(length, int | np.integer) for length in given):
        counts = [int(length) for length in given]
        if sum(counts) != n:
            raise ArgumentError("random_split: lengths that sum to the dataset's", expected=f"{n} rows",
                                actual=f"{' + '.join([str(count) for count in counts]) or 'nothing'} = {sum(counts)}",
                                remedy=f"e.g. fractions: {[0.8, 0.2]}")  # fmt: skip
    else:
        if not math.isclose(sum(given), 1, abs_tol=1e-6):
            raise ArgumentError(
                "random_split: fractions that sum to 1",
                expected="1",
                actual=f"{given}, sum {sum(given):g}",
                remedy="give all fractions, or give counts as integers",
            )
        counts = [math.floor(fraction * n + 1e-9) for fraction in given]
        for i in range(n - sum(counts)):
            counts[i % len(counts)] += 1
    if 0 in counts:
        raise ArgumentError(
            f"random_split: part {counts.index(0)} would be empty",
            expected="at least one row in each part",
            actual=f"{counts} of {n} rows",
            remedy="leave the part out, or make it larger",
        )
    order = permutation(n, checked_seed(seed, "random_split"), 0)
    parts = np.split(order, np.cumsum(counts)[:-1])
    return [_part(dataset, rows) for rows in parts]


def _part(dataset: Dataset, rows: np.ndarray) -> TensorDataset | Subset:
    return TensorDataset(*dataset.batch(rows)) if isinstance(dataset, TensorDataset) else Subset(dataset, rows)


def permutation(n: int, seed: int, stream: int) -> np.ndarray:
    """The numbers 0 to n - 1 in an order that depends on (seed, stream) only.

    NumPy promises the raw numbers of a bit generator for ever, but not what `Generator.permutation` makes of them
    (NEP 19), so the order is that of sorted raw numbers: a run resumed under another NumPy sees the same batches.
    """
    bits = np.random.PCG64(np.random.SeedSequence((seed, stream))).random_raw(n)
    return np.argsort(bits, kind="stable")


def checked_seed(seed: Any, what: str) -> int:
    """`seed` as a Python integer; fresh entropy for None."""
    if seed is None:
        return int(np.random.SeedSequence().entropy)  # type: ignore[arg-type]
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or seed < 0:
        raise ArgumentError(
            f"{what}: seed", expected="an integer >= 0, or None", actual=repr(seed), remedy="e.g. seed=0"
        )
    return int(seed)
