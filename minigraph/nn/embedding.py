"""Embeddings: a learned vector for each number."""

from __future__ import annotations

from typing import Any

from ..errors import ArgumentError, DTypeError
from ..op import spec_of
from ..ops.random import Generator
from ..tensor import Tensor, lift
from . import functional as F  # noqa: N812 - its usual name
from . import init
from .module import Module, Parameter, size


class Embedding(Module):
    """A table of vectors that are looked up by number (of a word, a state, a category).

    The table starts from a standard normal distribution.

    Args:
        num_embeddings: number of rows. embedding_dim: length of each.
        padding_idx: a row that starts at 0 and gets no gradient (negative: counted from the end).
        dtype, device, generator: as for `Linear`.

    Attributes:
        weight: shape (num_embeddings, embedding_dim).

    Shape:
        integers (...) -> (..., embedding_dim).

    Raises:
        BoundsError: a number is not one of 0 ... num_embeddings - 1. DTypeError: the input is not integers.

    >>> mg.nn.Embedding(10, 3)(mg.tensor([[1, 2], [0, 9]])).shape
    (2, 2, 3)
    """

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        padding_idx: int | None = None,
        *,
        dtype: Any = None,
        device: Any = None,
        generator: Generator | None = None,
    ):
        super().__init__()
        self.num_embeddings = size("Embedding", "num_embeddings", num_embeddings)
        self.embedding_dim = size("Embedding", "embedding_dim", embedding_dim, least=0)
        if padding_idx is not None:
            if not -num_embeddings <= padding_idx < num_embeddings:
                raise ArgumentError(
                    "Embedding: padding_idx is a row",
                    expected=f"{-num_embeddings} to {num_embeddings - 1}",
                    actual=f"{padding_idx}",
                )
            padding_idx %= num_embeddings
        self.padding_idx = padding_idx
        self.weight = Parameter(init.blank((num_embeddings, embedding_dim), dtype, device))
        self.reset_parameters(generator)

    def reset_parameters(self, generator: Generator | None = None) -> None:
        """Draw new vectors."""
        init.normal_(self.weight, generator=generator)
        if self.padding_idx is not None:
            self.weight.assign(self.weight.read().detach().at[self.padding_idx].set(0.0))

    def forward(self, x: Any) -> Tensor:
        x = lift(x)
        if x.value.dtype.kind not in "iu":
            raise DTypeError(
                f"{self.where()}: the input is numbers of rows",
                expected="an integer dtype",
                actual=f"x: {spec_of(x.value)!r}",
                remedy="x.astype(mg.int64)",
            )
        return F.embedding(x, self.weight, self.padding_idx)

    def extra_repr(self) -> str:
        padding = "" if self.padding_idx is None else f", padding_idx={self.padding_idx}"
        return f"{self.num_embeddings}, {self.embedding_dim}{padding}"
