"""The loader: a dataset in batches, epoch after epoch, in an order that can be told in advance.

The order of an epoch is a function of (seed, epoch). So the loader's whole state is three numbers: seed, epoch, and how
many batches of it have been handed out. Save them with the model (`state_dict`), put them back (`load_state_dict`), and
the next batch is the very one that would have come next.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from .. import tree
from ..errors import ArgumentError, DTypeError, ShapeError
from ..op import Operand
from ..tensor import Tensor, asarray
from .dataset import Dataset, TensorDataset, checked_seed, permutation


class DataLoader:
    """Hand out a dataset in batches; each `for` loop over the loader is one epoch.

    Args:
        dataset: anything with `len(dataset)` and `dataset[i]`.
        batch_size: rows per batch.
        shuffle: a new random order in each epoch; else the order of the dataset.
        seed: of the orders; the same seed gives the same batches. None: from the system's entropy.
        drop_last: leave out the last batch if it is smaller.
        collate_fn: `collate_fn(list of rows) -> batch`; by default `collate`, which stacks rows of any nesting of
            numbers, arrays and tensors.

    Yields:
        batches. From a `TensorDataset`, a tuple of tensors of shape (batch_size, ...), one per array.

    Raises:
        ArgumentError: an empty dataset, a batch size below 1, or `drop_last` that would drop everything.

    >>> data = mg.data.TensorDataset(np.arange(5))
    >>> loader = mg.data.DataLoader(data, batch_size=2, shuffle=True, seed=0)
    >>> len(loader)
    3
    >>> sorted(i for (batch,) in loader for i in batch.numpy().tolist())
    [0, 1, 2, 3, 4]
    """

    def __init__(
        self,
        dataset: Dataset,
        batch_size: int = 1,
        shuffle: bool = False,
        *,
        seed: int | None = None,
        drop_last: bool = False,
        collate_fn: Callable[[list[Any]], Any] | None = None,
    ):
        if isinstance(dataset, np.ndarray | Operand):
            dataset = TensorDataset(dataset)
        if not isinstance(dataset, Dataset):
            raise DTypeError(
                "DataLoader: a dataset",
                expected="len(dataset) and dataset[i]",
                actual=f"a {type(dataset).__name__}",
                remedy="list(...) makes a dataset of anything that can be iterated over",
            )
        if isinstance(batch_size, bool) or not isinstance(batch_size, int | np.integer) or batch_size < 1:
            raise ArgumentError("DataLoader: batch_size", expected="an integer >= 1", actual=repr(batch_size),
                                remedy="batch_size=len(dataset) gives everything at once")  # fmt: skip
        if len(dataset) == 0:
            raise ArgumentError("DataLoader: the dataset is empty", expected="at least one row", actual="0 rows",
                                remedy="check the path or the filter that the dataset was made with")  # fmt: skip
        if drop_last and batch_size > len(dataset):
            raise ArgumentError(
                "DataLoader: drop_last would drop every batch",
                expected=f"batch_size <= {len(dataset)}, the number of rows",
                actual=f"batch_size={batch_size}",
                remedy="use a smaller batch_size or drop_last=False",
            )
        self.dataset, self.batch_size, self.shuffle, self.drop_last = (
            dataset,
            int(batch_size),
            bool(shuffle),
            bool(drop_last),
        )
        self.seed, self.collate_fn = checked_seed(seed, "DataLoader"), collate_fn
        self.epoch, self.position = 0, 0
        self._begun = False  # whether a loop over the present epoch has been started since the state was set

    def __len__(self) -> int:
        """The number of batches in an epoch."""
        n = len(self.dataset)
        return n // self.batch_size if self.drop_last else -(-n // self.batch_size)

    def __iter__(self) -> Iterator[Any]:
        """The batches of the next epoch; after `load_state_dict`, the rest of the epoch that was interrupted."""
        if self._begun:  # the last loop was left early
            self.epoch, self.position = self.epoch + 1, 0
        self._begun = True
        return self._batches(self.epoch, self.position)

    def _batches(self, epoch: int, start: int) -> Iterator[Any]:
        n, size = len(self.dataset), self.batch_size
        order = permutation(n, self.seed, epoch) if self.shuffle else None
        for i in range(start, len(self)):
            rows = slice(i * size, min((i + 1) * size, n))
            batch = self._batch(rows if order is None else order[rows])
            if epoch == self.epoch:  # only the loop that was started last moves the state
                self.position = i + 1
            yield batch
        if epoch == self.epoch:
            self.epoch, self.position, self._begun = epoch + 1, 0, False

    def _batch(self, rows: Any) -> Any:
        if self.collate_fn is None and isinstance(self.dataset, TensorDataset):
            return self.dataset.batch(rows)
        indices = range(rows.start, rows.stop) if isinstance(rows, slice) else rows.tolist()
        return (self.collate_fn or collate)([self.dataset[i] for i in indices])

    def state_dict(self) -> dict[str, int | bool]:
        """Where the loader is, as plain numbers. Inside a loop, the batch in hand counts as done."""
        return {
            "seed": self.seed, "epoch": self.epoch, "position": self.position, "length": len(self.dataset),
            "batch_size": self.batch_size, "shuffle": self.shuffle, "drop_last": self.drop_last,
        }  # fmt: skip

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where the loader that gave `state` was: the next loop yields the rest of its epoch.

        The seed is taken over as well.

        Raises:
            ArgumentError: the state is of a loader with another dataset length, batch size, shuffle or drop_last, with
                which other batches would come; the loader is unchanged then.
        """
        mine = self.state_dict()
        if not isinstance(state, dict) or state.keys() != mine.keys():
            raise ArgumentError(
                "DataLoader.load_state_dict: a state of a loader",
                expected=f"a dict with {', '.join(mine)}",
                actual=f"{', '.join([str(k) for k in state])}"
                if isinstance(state, dict)
                else f"a {type(state).__name__}",
                remedy="pass what loader.state_dict() returned",
            )
        for key in ("length", "batch_size", "shuffle", "drop_last"):
            if state[key] != mine[key]:
                raise ArgumentError(
                    f"DataLoader.load_state_dict: another {key}",
                    expected=f"{key} {state[key]}, as in the state",
                    actual=f"{key} {mine[key]}",
                    remedy="make the loader as it was when the state was saved",
                )
        for key in ("epoch", "position"):
            if type(state[key]) is not int or state[key] < 0 or (key == "position" and state[key] > len(self)):
                raise ArgumentError(
                    f"DataLoader.load_state_dict: {key}",
                    expected="a count of epochs, and of batches within one",
                    actual=repr(state[key]),
                    remedy="pass what loader.state_dict() returned",
                )
        self.seed = checked_seed(state["seed"], "DataLoader.load_state_dict")
        self.epoch, self.position, self._begun = state["epoch"], state["position"], False

    def __repr__(self) -> str:
        return (
            f"DataLoader({len(self.dataset)} rows, batch_size={self.batch_size}, shuffle={self.shuffle}, "
            f"epoch={self.epoch}, position={self.position}/{len(self)})"
        )


def collate(rows: list[Any]) -> Any:
    """Stack rows into one batch: rows nested alike, numbers and arrays stacked leaf by leaf along a new first axis.

    Args:
        rows: at least one row; each a number, array or tensor, or any nesting of them (see `mg.tree`).

    Returns:
        the nesting of a row, with tensors of shape (len(rows), ...) as leaves.

    Raises:
        ShapeError: rows of different shapes.
        ArgumentError: rows nested differently.

    >>> mg.data.loader.collate([(1.0, {"y": 2}), (3.0, {"y": 4})])
    (tensor([1., 3.], dtype=float32), {'y': tensor([2, 4], dtype=int64)})
    """
    first, structure = tree.flatten(rows[0])
    columns: list[list[Any]] = [[leaf] for leaf in first]
    for i, row in enumerate(rows[1:], 1):
        leaves, its = tree.flatten(row)
        if its != structure:
            raise ArgumentError(
                f"collate: row {i} of the batch is nested differently from row 0",
                expected=repr(structure),
                actual=tree.explain_difference(structure, its, "row"),
                remedy="give DataLoader a collate_fn",
            )
        for column, leaf in zip(columns, leaves, strict=True):
            column.append(leaf)
    return tree.unflatten(structure, [_stack(column) for column in columns])


def _stack(column: list[Any]) -> Tensor:
    if type(column[0]) in (int, float, bool):
        return asarray(column)
    arrays = [asarray(x).value for x in column]
    for i, array in enumerate(arrays):
        if array.shape != arrays[0].shape:
            raise ShapeError(
                "collate: rows of the same shape",
                expected=f"{arrays[0].shape}, as in row 0 of the batch",
                actual=f"{array.shape} in row {i}",
                remedy="pad the rows, or give DataLoader a collate_fn",
            )
    return Tensor(np.stack(arrays))
