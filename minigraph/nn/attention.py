"""Attention with several heads: each looks at its own part of the features."""

from __future__ import annotations

import math
from typing import Any

from ..errors import ArgumentError, DTypeError, ShapeError
from ..op import spec_of
from ..ops import mean, permute_dims, reshape, swapaxes, where
from ..ops.random import Generator
from ..tensor import Tensor, lift
from . import functional as F  # noqa: N812 - its usual name
from . import init
from .linear import Linear
from .module import Module, Parameter, size


class MultiheadAttention(Module):
    """Attention in several heads at once: out_proj(concat(softmax(q kᵀ / sqrt(E / heads)) v)).

    q, k and v are products of query, key and value with the three parts of `in_proj_weight`, cut into heads.

    A. Vaswani et al., "Attention is all you need", 2017, section 3.2.

    Args:
        embed_dim: E, the features of query, key and value. num_heads: a divisor of E.
        dropout: probability with which a weight is dropped, in training.
        bias: whether the projections add one. batch_first: (N, T, E) instead of (T, N, E).
        dtype, device, generator: as for `Linear`.

    Attributes:
        in_proj_weight: shape (3 E, E), rows for q, k, v; starts by Xavier's rule. in_proj_bias: (3 E,), 0, or None.
        out_proj: a `Linear`, whose bias starts at 0.

    Shape:
        query (L, N, E), key and value (S, N, E) -> (L, N, E) and the weights (N, L, S), the mean over heads. The axis N
        may be missing in all of them.

    `key_padding_mask` (N, S) and `attn_mask` (L, S) or (N * heads, L, S): truth values say what is left *out* (as in
    PyTorch, and unlike `functional.scaled_dot_product_attention`), numbers are added. `is_causal` leaves out what comes
    later. `need_weights=False` returns None in place of the weights and saves time.

    Raises:
        ShapeError, DTypeError: something does not fit. ArgumentError: `num_heads` does not divide `embed_dim`.

    >>> layer = mg.nn.MultiheadAttention(8, 2, batch_first=True)
    >>> y, weights = layer(*[mg.ones((3, 5, 8))] * 3, is_causal=True)
    >>> y.shape, weights.shape
    ((3, 5, 8), (3, 5, 5))
    """

    def __init__(
        self, embed_dim: int, num_heads: int, dropout: float = 0.0, bias: bool = True, *, batch_first: bool = False,
        dtype: Any = None, device: Any = None, generator: Generator | None = None,
    ):  # fmt: skip
        super().__init__()
        self.embed_dim = size("MultiheadAttention", "embed_dim", embed_dim)
        self.num_heads = size("MultiheadAttention", "num_heads", num_heads)
        if self.embed_dim % self.num_heads:
            raise ArgumentError(
                "MultiheadAttention: num_heads", expected=f"a divisor of embed_dim, {embed_dim}", actual=f"{num_heads}"
            )
        if not 0 <= dropout <= 1:
            raise ArgumentError("MultiheadAttention: dropout is a probability", expected="0 <= dropout <= 1",
                                actual=f"{dropout}")  # fmt: skip
        self.dropout, self.batch_first = float(dropout), bool(batch_first)
        self.in_proj_weight = Parameter(init.blank((3 * self.embed_dim, self.embed_dim), dtype, device))
        init.xavier_uniform_(self.in_proj_weight, generator=generator)
        self.in_proj_bias = Parameter(init.blank(3 * self.embed_dim, dtype, device)) if bias else None
        self.out_proj = Linear(self.embed_dim, self.embed_dim, bias, dtype=dtype, device=device, generator=generator)
        if self.out_proj.bias is not None:
            init.zeros_(self.out_proj.bias)

    def forward(
        self, query: Any, key: Any, value: Any, key_padding_mask: Any = None, need_weights: bool = True,
        attn_mask: Any = None, average_attn_weights: bool = True, is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:  # fmt: skip
        itself = query is key and key is value
        q, k, v = self.batch("query", query), self.batch("key", key), self.batch("value", value)
        if k.shape != v.shape or q.shape[0] != k.shape[0] or lift(query).ndim != lift(key).ndim:
            raise ShapeError(
                f"{self.where()}: query, key and value do not fit together",
                expected="one value for each key, in batches of the same size",
                actual=", ".join(f"{n}: {spec_of(lift(t).value)!r}" for n, t in
                                 (("query", query), ("key", key), ("value", value))),
            )  # fmt: skip
        n, rows, columns, heads, e = q.shape[0], q.shape[1], k.shape[1], self.num_heads, self.embed_dim
        w, b = self.in_proj_weight, self.in_proj_bias
        if itself:
            found = reshape(F.linear(q, w, b), (n, rows, 3, heads, e // heads))
            q, k, v = [swapaxes(found[:, :, i], 1, 2) for i in range(3)]
        else:
            each = [F.linear(x, w[i * e : (i + 1) * e], None if b is None else b[i * e : (i + 1) * e])
                    for i, x in enumerate((q, k, v))]  # fmt: skip
            q, k, v = [swapaxes(reshape(x, (n, -1, heads, e // heads)), 1, 2) for x in each]
        mask = self.mask(attn_mask, key_padding_mask, (n, rows, columns), is_causal, q)
        weights = F.attention_weights(q, k, mask, is_causal and mask is None, None)
        kept = F.dropout(weights, self.dropout, self.training)
        y = reshape(permute_dims(kept @ v, (0, 2, 1, 3)), (n, rows, e))
        y = self.out_proj(y)
        if lift(query).ndim == 2:
            y, weights = y[0], weights[0]
        elif not self.batch_first:
            y = swapaxes(y, 0, 1)
        if not need_weights:
            return y, None
        return y, mean(weights, axis=-3) if average_attn_weights else weights

    def batch(self, name: str, x: Any) -> Tensor:
        """An operand as (N, T, E)."""
        x = lift(x)
        if x.value.dtype.kind != "f":
            raise DTypeError(f"{self.where()}: {name} must be floating point", actual=f"{name}: {spec_of(x.value)!r}",
                             remedy="x.astype(mg.float32)")  # fmt: skip
        if x.ndim not in (2, 3) or x.shape[-1] != self.embed_dim:
            order = "N, T" if self.batch_first else "T, N"
            raise ShapeError(
                f"{self.where()}: {name} does not fit",
                expected=f"{name}: ({order}, {self.embed_dim}) or (T, {self.embed_dim})",
                actual=f"{name}: {spec_of(x.value)!r}",
            )
        return x[None] if x.ndim == 2 else x if self.batch_first else swapaxes(x, 0, 1)

    def mask(
        self, attn: Any, padding: Any, sizes: tuple[int, int, int], is_causal: bool, like: Tensor
    ) -> Tensor | None:
        """All masks together, as numbers to add: shape that broadcasts to (N, heads, L, S); None if there are none."""
        n, rows, columns = sizes
        total: Tensor | None = None
        shapes = {
            "attn_mask": ((rows, columns), (n * self.num_heads, rows, columns)),
            "key_padding_mask": ((n, columns),),
        }
        if padding is not None and n == 1 and lift(padding).ndim == 1:
            padding = lift(padding)[None]
        for name, given in (("attn_mask", attn), ("key_padding_mask", padding)):
            if given is None:
                continue
            m = lift(given)
            if m.dtype.kind not in "bf":
                words = "truth values (True is left out) or numbers to add"
                raise DTypeError(f"{self.where()}: {name}", expected=words, actual=f"{name}: {spec_of(m.value)!r}")
            if m.shape not in shapes[name]:
                raise ShapeError(
                    f"{self.where()}: {name} does not fit", expected=f"shape {' or '.join(map(str, shapes[name]))}",
                    actual=f"{name}: {spec_of(m.value)!r}",
                )  # fmt: skip
            m = where(m, -math.inf, 0.0).astype(like.dtype) if m.dtype.kind == "b" else m.astype(like.dtype)
            if name == "key_padding_mask":
                m = reshape(m, (n, 1, 1, columns))
            elif m.ndim == 3:
                m = reshape(m, (n, self.num_heads, rows, columns))
            total = m if total is None else total + m
        if total is not None and is_causal and attn is None:
            seen = F.causal_mask(rows, columns, like.device)
            total = total + where(seen, 0.0, -math.inf).astype(like.dtype)
        return total

    def extra_repr(self) -> str:
        more = {"dropout": (self.dropout, 0.0), "batch_first": (self.batch_first, False),
                "bias": (self.in_proj_bias is not None, True)}  # fmt: skip
        changed = [f", {name}={value!r}" for name, (value, usual) in more.items() if value != usual]
        return f"{self.embed_dim}, {self.num_heads}{''.join(changed)}"
