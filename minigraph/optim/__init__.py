"""Optimisers, gradient clipping and learning-rate schedules, with PyTorch's names.

An optimiser's update is written once, as a formula over tensors. In dynamic mode the formula runs over all parameters
at a time, in one flat array; under tracing it becomes part of the graph of the training step.
"""

from .clip import clip_grad_norm_, clip_grad_value_
from .optimizer import SGD, Adam, AdamW, Optimizer, RMSprop
from .schedule import CosineAnnealingLR, ExponentialLR, LambdaLR, LinearLR, Schedule, SequentialLR, StepLR

__all__ = [
    "SGD", "Adam", "AdamW", "CosineAnnealingLR", "ExponentialLR", "LambdaLR", "LinearLR", "Optimizer", "RMSprop",
    "Schedule", "SequentialLR", "StepLR", "clip_grad_norm_", "clip_grad_value_",
]  # fmt: skip
