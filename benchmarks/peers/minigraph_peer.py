"""minigraph, in its public API and nothing else.

Mode "dynamic" runs the step operation by operation; "c" and "numpy" compile it, to one C function or to Python that
calls NumPy.
"""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import minigraph as mg
from minigraph import nn, optim

from ..problems import Array, Chain, Classification, Elementwise, Images, Layers, QLearning, Recurrent, Transformer
from . import Step

Pair = tuple[Array, Array]


def in_mode(function: Callable[..., Any], data: Iterable[Array], mode: str, answer: Callable[[Any], float]) -> Step:
    """The step that makes a number of what the function returns for the data. A compiled one has a ``profile``."""
    run = function if mode == "dynamic" else mg.compile(function, backend=mode)
    tensors = [mg.tensor(array) for array in data]

    def step() -> float:
        return answer(run(*tensors))

    if mode != "dynamic":
        step.profile = partial(run.profile, *tensors)  # type: ignore[attr-defined]
    return step


def training(objective: Callable[..., Any], optimizer: Any, data: tuple[Array, ...], mode: str) -> Step:
    """The whole step: the loss of the data, its gradients and the update."""

    def step(*data: Any) -> Any:
        loss = objective(*data)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss

    return in_mode(step, data, mode, mg.Tensor.item)


def filled(layer: Any, pair: Pair) -> Any:
    """A layer with these weights and biases."""
    layer.weight.assign(pair[0])
    layer.bias.assign(pair[1])
    return layer


def linear(pair: Pair) -> nn.Linear:
    outputs, inputs = pair[0].shape
    return filled(nn.Linear(inputs, outputs), pair)


def network(layers: Layers) -> nn.Sequential:
    modules: list[nn.Module] = []
    for pair in layers:
        modules += [linear(pair), nn.ReLU()]
    return nn.Sequential(*modules[:-1])


def adam(net: nn.Module, problem: Any) -> optim.Adam:
    return optim.Adam(net.parameters(), lr=problem.learning_rate, betas=problem.betas, eps=problem.epsilon)


def mlp(problem: Classification, mode: str) -> Step:
    net = network(problem.layers)
    optimizer = optim.SGD(net.parameters(), lr=problem.learning_rate, momentum=problem.momentum)

    def objective(x: Any, y: Any) -> Any:
        return nn.functional.cross_entropy(net(x), y)

    return training(objective, optimizer, (problem.inputs, problem.labels), mode)


def qnet(problem: QLearning, mode: str) -> Step:
    online, target = network(problem.online), network(problem.target)

    def objective(states: Any, actions: Any, rewards: Any, next_states: Any, done: Any) -> Any:
        with mg.no_grad():
            goal = rewards + problem.discount * (1 - done) * mg.max(target(next_states), axis=1)
        value = mg.take_along_axis(online(states), actions[:, None], axis=1)[:, 0]
        return nn.functional.huber_loss(value, goal)

    data = (problem.states, problem.actions, problem.rewards, problem.next_states, problem.done)
    return training(objective, adam(online, problem), data, mode)


def elementwise(problem: Elementwise, mode: str) -> Step:
    def total(a: Any, b: Any, c: Any, d: Any) -> Any:
        return mg.sum(mg.tanh(a * b + c) * mg.sigmoid(d) - a**2)

    def answer(result: Any) -> float:
        found, gradients = result
        return problem.evidence(found.item(), [g.numpy() for g in gradients])

    return in_mode(mg.value_and_grad(total, (0, 1, 2, 3)), problem.operands, mode, answer)


def lenet(problem: Images, mode: str) -> Step:
    modules: list[nn.Module] = []
    for weight, bias in problem.kernels:
        outputs, inputs, *kernel = weight.shape
        modules += [filled(nn.Conv2d(inputs, outputs, kernel), (weight, bias)), nn.ReLU(), nn.MaxPool2d(2)]
    net = nn.Sequential(*modules, nn.Flatten(), network(problem.layers))

    def objective(x: Any, y: Any) -> Any:
        return nn.functional.cross_entropy(net(x), y)

    return training(objective, adam(net, problem), (problem.inputs, problem.labels), mode)


class LSTMModel(nn.Module):
    def __init__(self, problem: Recurrent):
        super().__init__()
        self.embedding = nn.Parameter(problem.embedding)
        self.lstm = nn.LSTM(problem.embedding.shape[1], problem.from_state[0].shape[1])
        names = ("weight_ih_l0", "bias_ih_l0", "weight_hh_l0", "bias_hh_l0")
        self.lstm.load_state_dict(dict(zip(names, (*problem.from_input, *problem.from_state), strict=True)))
        self.output = linear(problem.output)

    def forward(self, tokens: Any) -> Any:
        """(steps, batch) -> (steps, batch, vocabulary)"""
        states, _ = self.lstm(nn.functional.embedding(tokens, self.embedding))
        return self.output(states)


def lstm(problem: Recurrent, mode: str) -> Step:
    net = LSTMModel(problem)

    def objective(tokens: Any, targets: Any) -> Any:
        logits = net(tokens)
        return nn.functional.cross_entropy(logits.reshape(-1, logits.shape[-1]), targets.reshape(-1))

    return training(objective, adam(net, problem), (problem.tokens, problem.targets), mode)


lstm_by_hand = lstm  # what is by hand there, PyTorch's cell, is compared with the same step here


class Block(nn.Module):
    def __init__(self, pairs: Layers, heads: int):
        super().__init__()
        before, attention, projection, between, wide, narrow = pairs
        self.width, self.heads = len(before[0]), heads
        self.before = filled(nn.LayerNorm(self.width), before)
        self.attention, self.projection = linear(attention), linear(projection)
        self.between = filled(nn.LayerNorm(self.width), between)
        self.mlp = nn.Sequential(linear(wide), nn.GELU(), linear(narrow))

    def attend(self, x: Any) -> Any:
        batch, time, width = x.shape
        shape = (batch, time, 3, self.heads, width // self.heads)
        q, k, v = mg.permute_dims(self.attention(x).reshape(shape), (2, 0, 3, 1, 4))
        seen = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.projection(mg.permute_dims(seen, (0, 2, 1, 3)).reshape(batch, time, width))

    def forward(self, x: Any) -> Any:
        x = x + self.attend(self.before(x))
        return x + self.mlp(self.between(x))


class GPT(nn.Module):
    def __init__(self, problem: Transformer):
        super().__init__()
        self.tokens, self.positions = nn.Parameter(problem.tokens_embedding), nn.Parameter(problem.positions_embedding)
        width = problem.positions_embedding.shape[1]
        self.blocks = nn.Sequential(*[Block(pairs, problem.heads) for pairs in problem.blocks])
        self.norm, self.head = filled(nn.LayerNorm(width), problem.norm), linear(problem.head)

    def forward(self, tokens: Any) -> Any:
        x = nn.functional.embedding(tokens, self.tokens) + self.positions
        return self.head(self.norm(self.blocks(x)))


def gpt(problem: Transformer, mode: str) -> Step:
    net = GPT(problem)
    optimizer = optim.AdamW(
        net.parameters(),
        lr=problem.learning_rate,
        betas=problem.betas,
        eps=problem.epsilon,
        weight_decay=problem.weight_decay,
    )

    def objective(tokens: Any, targets: Any) -> Any:
        logits = net(tokens)
        return nn.functional.cross_entropy(logits.reshape(-1, logits.shape[-1]), targets.reshape(-1))

    return training(objective, optimizer, (problem.tokens, problem.targets), mode)


def chain(problem: Chain, mode: str) -> Step:
    start = mg.Variable(problem.start, requires_grad=True)

    def step(increment: Any) -> Any:
        start.grad = None
        h = start
        for _ in range(problem.length):
            h = h + increment
        loss = mg.sum(h)
        loss.backward()
        with mg.no_grad():
            start.assign(start - problem.learning_rate * start.grad)
        return loss

    return in_mode(step, [problem.increment], mode, mg.Tensor.item)
