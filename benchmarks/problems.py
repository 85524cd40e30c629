"""The workloads: data, initial weights and hyper-parameters in NumPy, the same numbers for every framework.

A framework's part (``peers/``) receives one of these problems and writes the training step as its users would. Weights
have PyTorch's layout, (out_features, in_features). Everything is float32, labels and actions are int64; nothing is read
from disk. Every problem is drawn from a generator with a fixed seed, so that losses can be compared between processes.

To add a workload: a dataclass here (unless one fits), an entry in ``WORKLOADS``, and in each peer that takes part one
function that is named after the entry's ``family``.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
Layers = list[tuple[Array, Array]]
"""One (weight, bias) pair for each linear layer; a ReLU stands between two layers, none after the last."""


@dataclass(frozen=True)
class Classification:
    """Linear layers with ReLU between them, mean cross-entropy, SGD with momentum (``v = momentum v + g``)."""

    layers: Layers
    inputs: Array
    labels: Array
    learning_rate: float = 0.01
    momentum: float = 0.9


@dataclass(frozen=True)
class QLearning:
    """One step of deep Q-learning with Adam (Kingma and Ba, 2015).

    The loss is the mean Huber loss (delta 1) between ``Q(s, a)`` and ``r + discount (1 - done) max Q'(s')``, where
    ``Q'`` is the target network, which takes part without gradients.
    """

    online: Layers
    target: Layers
    states: Array
    actions: Array
    rewards: Array
    next_states: Array
    done: Array
    discount: float = 0.99
    learning_rate: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.999)
    epsilon: float = 1e-8


@dataclass(frozen=True)
class Chain:
    """``length`` additions in a row, then a sum: all overhead, no arithmetic to speak of.

    The step ends with ``start -= learning_rate * gradient``: a wrong gradient would show in the next loss.
    """

    start: Array
    increment: Array
    length: int = 1000
    learning_rate: float = 0.1


@dataclass(frozen=True)
class Products:
    """The matrix products of one step of an MLP, forward and backward, and nothing else: compares BLAS with BLAS."""

    pairs: list[tuple[Array, Array]]


@dataclass(frozen=True)
class Workload:
    """A named problem. ``family`` is the name of the function that builds its step in each peer's module."""

    title: str
    family: str
    make: Callable[[], Any]


def linear_layers(generator: np.random.Generator, sizes: tuple[int, ...]) -> Layers:
    """Weights of variance 1 / in_features; biases small but not zero, so that a forgotten bias shows in the loss."""
    return [
        (
            (generator.standard_normal((outputs, inputs)) / np.sqrt(inputs)).astype(np.float32),
            (generator.standard_normal(outputs) * 0.1).astype(np.float32),
        )
        for inputs, outputs in pairwise(sizes)
    ]


def mlp(batch: int, sizes: tuple[int, ...] = (64, 128, 64, 10)) -> Classification:
    generator = np.random.default_rng(1)
    return Classification(
        layers=linear_layers(generator, sizes),
        inputs=generator.standard_normal((batch, sizes[0])).astype(np.float32),
        labels=generator.integers(0, sizes[-1], batch),
    )


def qnet(batch: int = 64, sizes: tuple[int, ...] = (4, 64, 64, 2)) -> QLearning:
    generator = np.random.default_rng(2)
    return QLearning(
        online=linear_layers(generator, sizes),
        target=linear_layers(generator, sizes),
        states=generator.standard_normal((batch, sizes[0])).astype(np.float32),
        actions=generator.integers(0, sizes[-1], batch),
        rewards=generator.standard_normal(batch).astype(np.float32),
        next_states=generator.standard_normal((batch, sizes[0])).astype(np.float32),
        done=(generator.random(batch) < 0.1).astype(np.float32),
    )


def chain(width: int = 16) -> Chain:
    return Chain(start=np.ones(width, np.float32), increment=np.full(width, 1e-3, np.float32))


def products(batch: int, sizes: tuple[int, ...] = (64, 128, 64, 10)) -> Products:
    """For each layer ``x w.T``, ``g.T x`` and, but for the first, ``g w``, with transposed views as in training."""
    generator = np.random.default_rng(3)
    pairs = []
    for index, (weight, _) in enumerate(linear_layers(generator, sizes)):
        outputs, inputs = weight.shape
        x = generator.standard_normal((batch, inputs)).astype(np.float32)
        g = generator.standard_normal((batch, outputs)).astype(np.float32)
        pairs += [(x, weight.T), (g.T, x)]
        if index > 0:
            pairs.append((g, weight))
    return Products(pairs)


WORKLOADS = {
    "mlp64": Workload("MLP 64-128-64-10, batch 64, momentum SGD", "mlp", partial(mlp, 64)),
    "mlp1024": Workload("MLP 64-128-64-10, batch 1,024, momentum SGD", "mlp", partial(mlp, 1024)),
    "qnet": Workload("Q-network 4-64-64-2, batch 64, Huber loss, target network, Adam", "qnet", qnet),
    "chain": Workload("1,000 chained adds of shape (16,), forward and backward", "chain", chain),
    "products64": Workload("the matrix products of the MLP alone, batch 64", "products", partial(products, 64)),
    "products1024": Workload("the matrix products of the MLP alone, batch 1,024", "products", partial(products, 1024)),
}
