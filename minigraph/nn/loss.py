"""Losses as modules. Each calls the function of the same meaning; `reduction` is "mean", "sum" or "none" everywhere."""

from __future__ import annotations

from typing import Any

from ..errors import ArgumentError
from ..ops.special import need_reduction
from ..tensor import Tensor
from . import functional as F  # noqa: N812 - its usual name
from .module import Module


class _Loss(Module):
    def __init__(self, reduction: str = "mean"):
        super().__init__()
        need_reduction(type(self).__name__, reduction)
        self.reduction = reduction

    def extra_repr(self) -> str:
        return "" if self.reduction == "mean" else f"reduction={self.reduction!r}"


class MSELoss(_Loss):
    """The squared error (prediction - target)², of equal shapes.

    >>> mg.nn.MSELoss()(mg.tensor([1.0, 2.0]), mg.tensor([1.0, 4.0]))
    tensor(2., dtype=float32)
    """

    def forward(self, prediction: Any, target: Any) -> Tensor:
        return F.mse_loss(prediction, target, reduction=self.reduction)


class L1Loss(_Loss):
    """The absolute error |prediction - target|, of equal shapes.

    >>> mg.nn.L1Loss()(mg.tensor([1.0, 2.0]), mg.tensor([1.0, 4.0]))
    tensor(1., dtype=float32)
    """

    def forward(self, prediction: Any, target: Any) -> Tensor:
        return F.l1_loss(prediction, target, reduction=self.reduction)


class HuberLoss(_Loss):
    """Half the squared error where it is at most `delta`, growing only linearly beyond (P. J. Huber, 1964).

    >>> mg.nn.HuberLoss()(mg.tensor([0.5]), mg.tensor([0.0]))
    tensor(0.125, dtype=float32)
    """

    def __init__(self, reduction: str = "mean", delta: float = 1.0):
        super().__init__(reduction)
        if not delta > 0:
            raise ArgumentError("HuberLoss: delta", expected="a number > 0", actual=f"{delta}")
        self.delta = delta

    def forward(self, prediction: Any, target: Any) -> Tensor:
        return F.huber_loss(prediction, target, self.delta, reduction=self.reduction)


class SmoothL1Loss(_Loss):
    """The Huber loss divided by its width `beta` (R. Girshick, "Fast R-CNN", 2015).

    >>> mg.nn.SmoothL1Loss(beta=2.0)(mg.tensor([1.0]), mg.tensor([0.0]))
    tensor(0.25, dtype=float32)
    """

    def __init__(self, reduction: str = "mean", beta: float = 1.0):
        super().__init__(reduction)
        if not beta >= 0:
            raise ArgumentError("SmoothL1Loss: beta", expected="a number >= 0", actual=f"{beta}")
        self.beta = beta

    def forward(self, prediction: Any, target: Any) -> Tensor:
        return F.smooth_l1_loss(prediction, target, self.beta, reduction=self.reduction)


class CrossEntropyLoss(_Loss):
    """-log(softmax(logits)[label]), in nats: logits (n, classes), integer labels (n,).

    Args:
        weight: how much each class counts, shape (classes,); kept as a buffer.
        ignore_index: a label that does not count.
        label_smoothing: share of the target that is spread evenly over all classes.

    Raises:
        BoundsError: a label is not a class.

    >>> mg.nn.CrossEntropyLoss()(mg.tensor([[0.0, 0.0]]), mg.tensor([1]))
    tensor(0.69314..., dtype=float32)
    """

    def __init__(
        self,
        weight: Any = None,
        *,
        ignore_index: int | None = None,
        reduction: str = "mean",
        label_smoothing: float = 0.0,
    ):
        super().__init__(reduction)
        self.weight: Any = None
        if weight is not None:
            self.register_buffer("weight", weight)
        self.ignore_index = ignore_index
        if not 0 <= label_smoothing <= 1:
            raise ArgumentError("CrossEntropyLoss: label_smoothing", expected="0 to 1", actual=f"{label_smoothing}")
        self.label_smoothing = label_smoothing

    def forward(self, logits: Any, labels: Any) -> Tensor:
        return F.cross_entropy(
            logits,
            labels,
            self.weight,
            ignore_index=self.ignore_index,
            reduction=self.reduction,
            label_smoothing=self.label_smoothing,
        )


class NLLLoss(_Loss):
    """-log_probabilities[label], for what `LogSoftmax` gives: (n, classes), integer labels (n,).

    >>> mg.nn.NLLLoss()(mg.tensor([[-0.5, -1.0]]), mg.tensor([1]))
    tensor(1., dtype=float32)
    """

    def forward(self, log_probabilities: Any, labels: Any) -> Tensor:
        return F.nll_loss(log_probabilities, labels, reduction=self.reduction)


class BCEWithLogitsLoss(_Loss):
    """Binary cross-entropy of logits: -target log(p) - (1 - target) log(1 - p), p = sigmoid(logits). Never overflows.

    >>> mg.nn.BCEWithLogitsLoss()(mg.tensor([0.0]), mg.tensor([1.0]))
    tensor(0.69314..., dtype=float32)
    """

    def forward(self, logits: Any, target: Any) -> Tensor:
        return F.binary_cross_entropy_with_logits(logits, target, reduction=self.reduction)


class BCELoss(_Loss):
    """Binary cross-entropy of probabilities: -target log(p) - (1 - target) log(1 - p).

    >>> mg.nn.BCELoss()(mg.tensor([0.5]), mg.tensor([1.0]))
    tensor(0.69314..., dtype=float32)
    """

    def forward(self, p: Any, target: Any) -> Tensor:
        return F.binary_cross_entropy(p, target, reduction=self.reduction)
