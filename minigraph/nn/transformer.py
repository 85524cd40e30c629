"""Transformer blocks: attention, then a small network for each position, each beside a short cut."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

from ..errors import ArgumentError
from ..ops.random import Generator
from ..tensor import Tensor
from . import functional as F  # noqa: N812 - its usual name
from .attention import MultiheadAttention
from .container import ModuleList
from .dropout import Dropout
from .linear import Linear
from .module import Module, size
from .norm import LayerNorm

ACTIVATIONS: dict[str, Callable[[Any], Tensor]] = {"relu": F.relu, "gelu": F.gelu}


class TransformerEncoderLayer(Module):
    """Self-attention and a feed-forward network, each added to what comes in.

        norm_first:      x = x + attention(norm1(x));      x = x + linear2(activation(linear1(norm2(x))))
        otherwise:       x = norm1(x + attention(x));      x = norm2(x + linear2(activation(linear1(x))))

    With a causal mask, this is the block of a GPT. A. Vaswani et al., "Attention is all you need", 2017; norms first:
    R. Xiong et al., "On layer normalization in the transformer architecture", 2020.

    Args:
        d_model: E, the features. nhead: heads of the attention. dim_feedforward: features inside the small network.
        dropout: probability of a zero, after each part and in the attention, in training.
        activation: "relu", "gelu" or a function of a tensor.
        layer_norm_eps, batch_first, norm_first, bias: as the formulas say.
        dtype, device, generator: as for `Linear`.

    Shape:
        src (T, N, E) -> the same; (N, T, E) if `batch_first`. Masks as for `MultiheadAttention`.

    Raises:
        ArgumentError: an activation of another name; see `MultiheadAttention` for the others.

    >>> block = mg.nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True, norm_first=True)
    >>> block(mg.ones((3, 5, 8)), is_causal=True).shape
    (3, 5, 8)
    """

    def __init__(
        self, d_model: int, nhead: int, dim_feedforward: int = 2048, dropout: float = 0.1,
        activation: str | Callable[[Tensor], Tensor] = "relu", layer_norm_eps: float = 1e-5, batch_first: bool = False,
        norm_first: bool = False, bias: bool = True, *, dtype: Any = None, device: Any = None,
        generator: Generator | None = None,
    ):  # fmt: skip
        super().__init__()
        if not callable(activation) and activation not in ACTIVATIONS:
            raise ArgumentError("TransformerEncoderLayer: activation", expected='"relu", "gelu" or a function',
                                actual=repr(activation))  # fmt: skip
        kind: dict[str, Any] = {"dtype": dtype, "device": device}
        drawn = kind | {"generator": generator}
        self.self_attn = MultiheadAttention(d_model, nhead, dropout, bias, batch_first=batch_first, **drawn)
        self.linear1 = Linear(d_model, dim_feedforward, bias, **drawn)
        self.dropout = Dropout(dropout)
        self.linear2 = Linear(dim_feedforward, d_model, bias, **drawn)
        self.norm1 = LayerNorm(d_model, layer_norm_eps, bias=bias, **kind)
        self.norm2 = LayerNorm(d_model, layer_norm_eps, bias=bias, **kind)
        self.dropout1, self.dropout2 = Dropout(dropout), Dropout(dropout)
        self.activate = ACTIVATIONS[activation] if isinstance(activation, str) else activation
        self.norm_first = bool(norm_first)

    def forward(
        self, src: Any, src_mask: Any = None, src_key_padding_mask: Any = None, is_causal: bool = False
    ) -> Tensor:
        def attend(x: Any) -> Tensor:
            y, _ = self.self_attn(x, x, x, src_key_padding_mask, False, src_mask, is_causal=is_causal)
            return self.dropout1(y)

        def feed(x: Any) -> Tensor:
            return self.dropout2(self.linear2(self.dropout(self.activate(self.linear1(x)))))

        if self.norm_first:
            x = src + attend(self.norm1(src))
            return x + feed(self.norm2(x))
        x = self.norm1(src + attend(src))
        return self.norm2(x + feed(x))


class TransformerEncoder(Module):
    """Copies of a layer, one after the other, and a last norm.

    Args:
        encoder_layer: a `TransformerEncoderLayer`, or any module with its arguments; it is copied, weights included.
        num_layers: how many copies. norm: a module for the end, or None.

    Shape:
        src -> the same. Masks as for `TransformerEncoderLayer`.

    >>> net = mg.nn.TransformerEncoder(mg.nn.TransformerEncoderLayer(8, 2, 16), 2)
    >>> net(mg.ones((5, 3, 8))).shape
    (5, 3, 8)
    """

    def __init__(self, encoder_layer: Module, num_layers: int, norm: Module | None = None):
        super().__init__()
        self.num_layers = size("TransformerEncoder", "num_layers", num_layers)
        self.layers = ModuleList([copy.deepcopy(encoder_layer) for _ in range(self.num_layers)])
        self.norm = norm

    def forward(self, src: Any, mask: Any = None, src_key_padding_mask: Any = None, is_causal: bool = False) -> Tensor:
        x = src
        for layer in self.layers:
            x = layer(x, mask, src_key_padding_mask, is_causal)
        return x if self.norm is None else self.norm(x)
