"""The workloads: data, initial weights and hyper-parameters in NumPy, the same numbers for every framework.

A framework's part (``peers/``) receives one of these problems and writes the training step as its users would. Weights
have PyTorch's layout, (out_features, in_features). Everything is float32, labels and actions are int64; nothing is read
from disk. Every problem is drawn from a generator with a fixed seed, so that losses can be compared between processes.

To add a workload: a dataclass here (unless one fits), an entry in ``WORKLOADS``, and in each peer that takes part one
function that is named after the entry's ``family``.
"""

from collections.abc import Callable, Iterable
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
class Images:
    """LeNet (LeCun et al., 1998) with Adam: twice a convolution, ReLU and 2x2 max pooling; then linear layers.

    ``kernels``: (weight, bias) pairs, a weight being (out_channels, in_channels, height, width). Mean cross-entropy.
    """

    kernels: Layers
    layers: Layers
    inputs: Array
    labels: Array
    learning_rate: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.999)
    epsilon: float = 1e-8


@dataclass(frozen=True)
class Recurrent:
    """A language model with one LSTM layer (Hochreiter and Schmidhuber, 1997), mean cross-entropy and Adam.

    ``z = w x + b + u h + c`` with (w, b) = ``from_input`` and (u, c) = ``from_state`` holds the input, forget, cell and
    output gates, in PyTorch's order. ``tokens`` and ``targets`` have the shape (steps, batch); the state starts at 0.
    """

    embedding: Array
    from_input: tuple[Array, Array]
    from_state: tuple[Array, Array]
    output: tuple[Array, Array]
    tokens: Array
    targets: Array
    learning_rate: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.999)
    epsilon: float = 1e-8


@dataclass(frozen=True)
class Transformer:
    """A GPT (Radford et al., 2019) with mean cross-entropy and AdamW, every parameter decaying.

    A block is six (weight, bias) pairs: layer norm, queries-keys-values, projection, layer norm, and the two linear
    layers of the MLP with GELU (exact) between them. ``norm`` and ``head`` follow the last block; no dropout.
    """

    heads: int
    tokens_embedding: Array
    positions_embedding: Array
    blocks: list[Layers]
    norm: tuple[Array, Array]
    head: tuple[Array, Array]
    tokens: Array
    targets: Array
    learning_rate: float = 3e-4
    betas: tuple[float, float] = (0.9, 0.999)
    epsilon: float = 1e-8
    weight_decay: float = 0.01


@dataclass(frozen=True)
class Elementwise:
    """``sum(tanh(a * b + c) * sigmoid(d) - a ** 2)`` and its gradients with respect to a, b, c and d: no update.

    In place of the loss, a step returns ``evidence(total, gradients)``: a wrong gradient must show there. The gradients
    are given as NumPy arrays that look at the framework's memory, so that nobody's way of indexing is measured.
    """

    operands: tuple[Array, Array, Array, Array]

    def evidence(self, total: float, gradients: Iterable[Array]) -> float:
        """The sum, divided by the number of elements, plus the first element of one gradient, the second of the next,
        and so on: costs nothing to look at, and all terms are about 1."""
        return total / self.operands[0].size + sum(g.item(i) for i, g in enumerate(gradients))


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


def lenet(batch: int = 64) -> Images:
    generator = np.random.default_rng(4)

    def convolution(outputs: int, inputs: int) -> tuple[Array, Array]:
        weight = generator.standard_normal((outputs, inputs, 5, 5)) / np.sqrt(inputs * 25)
        return weight.astype(np.float32), (generator.standard_normal(outputs) * 0.1).astype(np.float32)

    return Images(
        kernels=[convolution(16, 1), convolution(32, 16)],
        layers=linear_layers(generator, (512, 128, 10)),
        inputs=generator.standard_normal((batch, 1, 28, 28)).astype(np.float32),
        labels=generator.integers(0, 10, batch),
    )


def lstm(vocabulary: int = 96, width: int = 64, hidden: int = 256, steps: int = 64, batch: int = 32) -> Recurrent:
    generator = np.random.default_rng(5)
    return Recurrent(
        embedding=generator.standard_normal((vocabulary, width)).astype(np.float32),
        from_input=linear_layers(generator, (width, 4 * hidden))[0],
        from_state=linear_layers(generator, (hidden, 4 * hidden))[0],
        output=linear_layers(generator, (hidden, vocabulary))[0],
        tokens=generator.integers(0, vocabulary, (steps, batch)),
        targets=generator.integers(0, vocabulary, (steps, batch)),
    )


def gpt(
    layers: int = 4, heads: int = 4, width: int = 128, context: int = 64, batch: int = 16, vocabulary: int = 96
) -> Transformer:
    generator = np.random.default_rng(6)

    def norm() -> tuple[Array, Array]:
        scale, shift = generator.standard_normal((2, width)) * 0.1
        return (1 + scale).astype(np.float32), shift.astype(np.float32)

    def block() -> Layers:
        attention = [linear_layers(generator, (width, n))[0] for n in (3 * width, width)]
        return [norm(), *attention, norm(), *linear_layers(generator, (width, 4 * width, width))]

    return Transformer(
        heads=heads,
        tokens_embedding=(generator.standard_normal((vocabulary, width)) * 0.1).astype(np.float32),
        positions_embedding=(generator.standard_normal((context, width)) * 0.1).astype(np.float32),
        blocks=[block() for _ in range(layers)],
        norm=norm(),
        head=linear_layers(generator, (width, vocabulary))[0],
        tokens=generator.integers(0, vocabulary, (batch, context)),
        targets=generator.integers(0, vocabulary, (batch, context)),
    )


def elementwise(size: int) -> Elementwise:
    a, b, c, d = np.random.default_rng(7).standard_normal((4, size), np.float32)
    return Elementwise((a, b, c, d))


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
    "elementwise1k": Workload(
        "tanh(a*b+c)*sigmoid(d)-a**2, summed, with gradients, 1,000 elements", "elementwise", partial(elementwise, 1000)
    ),
    "elementwise4m": Workload("the same, 4 million elements", "elementwise", partial(elementwise, 4_000_000)),
    "lenet": Workload("LeNet 1x28x28, 5x5x16, 5x5x32, 128, 10, batch 64, Adam", "lenet", lenet),
    "lstm": Workload("LSTM, vocabulary 96, 64, hidden 256, 64 steps, batch 32, Adam", "lstm", lstm),
    "lstm_by_hand": Workload("the same, the cell written by hand in PyTorch", "lstm_by_hand", lstm),
    "gpt": Workload("GPT, 4 layers, 4 heads, 128 wide, context 64, batch 16, AdamW", "gpt", gpt),
    "chain": Workload("1,000 chained adds of shape (16,), forward and backward", "chain", chain),
    "products64": Workload("the matrix products of the MLP alone, batch 64", "products", partial(products, 64)),
    "products1024": Workload("the matrix products of the MLP alone, batch 1,024", "products", partial(products, 1024)),
}
