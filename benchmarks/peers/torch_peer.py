"""PyTorch on the CPU. Mode "plain" takes the optimiser as it comes, "fused" asks for the fused kernel, "compile" gives
the loss to ``torch.compile`` as well."""

import os
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from ..problems import (
    Array,
    Chain,
    Classification,
    Elementwise,
    Images,
    Layers,
    Products,
    QLearning,
    Recurrent,
    Transformer,
)
from . import Step

torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))


def tensor(array: Array) -> torch.Tensor:
    return torch.from_numpy(np.array(array))


def in_mode(function: Callable[..., Any], mode: str) -> Callable[..., Any]:
    return torch.compile(function) if mode == "compile" else function


def training(
    objective: Callable[..., Any], optimizer: torch.optim.Optimizer, data: tuple[Array, ...], mode: str
) -> Step:
    """The whole step: the loss of the data, its gradients and the update."""
    loss_of, tensors = in_mode(objective, mode), [tensor(array) for array in data]

    def step() -> float:
        loss = loss_of(*tensors)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def filled(layer: Any, pair: tuple[Array, Array]) -> Any:
    """A layer with these weights and biases."""
    layer.weight, layer.bias = nn.Parameter(tensor(pair[0])), nn.Parameter(tensor(pair[1]))
    return layer


def linear(pair: tuple[Array, Array]) -> nn.Linear:
    outputs, inputs = pair[0].shape
    return filled(nn.Linear(inputs, outputs), pair)


def network(layers: Layers) -> nn.Sequential:
    modules: list[nn.Module] = []
    for pair in layers:
        modules += [linear(pair), nn.ReLU()]
    return nn.Sequential(*modules[:-1])


def adam(net: nn.Module, problem: Any, mode: str) -> torch.optim.Optimizer:
    return torch.optim.Adam(
        net.parameters(), lr=problem.learning_rate, betas=problem.betas, eps=problem.epsilon, fused=mode != "plain"
    )


def mlp(problem: Classification, mode: str) -> Step:
    net = network(problem.layers)
    optimizer = torch.optim.SGD(
        net.parameters(), lr=problem.learning_rate, momentum=problem.momentum, fused=mode != "plain"
    )

    def objective(x: Any, y: Any) -> Any:
        return functional.cross_entropy(net(x), y)

    return training(objective, optimizer, (problem.inputs, problem.labels), mode)


def qnet(problem: QLearning, mode: str) -> Step:
    online, target = network(problem.online), network(problem.target)

    def objective(states: Any, actions: Any, rewards: Any, next_states: Any, done: Any) -> Any:
        with torch.no_grad():
            goal = rewards + problem.discount * (1 - done) * target(next_states).amax(1)
        value = online(states).gather(1, actions[:, None]).squeeze(1)
        return functional.smooth_l1_loss(value, goal)

    data = (problem.states, problem.actions, problem.rewards, problem.next_states, problem.done)
    return training(objective, adam(online, problem, mode), data, mode)


def elementwise(problem: Elementwise, mode: str) -> Step | None:
    if mode == "fused":
        return None  # there is no optimiser to fuse
    operands = [tensor(array).requires_grad_() for array in problem.operands]

    def total(a: Any, b: Any, c: Any, d: Any) -> Any:
        return (torch.tanh(a * b + c) * torch.sigmoid(d) - a**2).sum()

    run = in_mode(total, mode)

    def step() -> float:
        for operand in operands:
            operand.grad = None
        found = run(*operands)
        found.backward()
        return problem.evidence(found.item(), [operand.grad.numpy() for operand in operands])

    return step


def lenet(problem: Images, mode: str) -> Step:
    modules: list[nn.Module] = []
    for weight, bias in problem.kernels:
        outputs, inputs, *kernel = weight.shape
        modules += [filled(nn.Conv2d(inputs, outputs, tuple(kernel)), (weight, bias)), nn.ReLU(), nn.MaxPool2d(2)]
    net = nn.Sequential(*modules, nn.Flatten(), network(problem.layers))

    def objective(x: Any, y: Any) -> Any:
        return functional.cross_entropy(net(x), y)

    return training(objective, adam(net, problem, mode), (problem.inputs, problem.labels), mode)


class LSTMModel(nn.Module):
    """``by_hand``: the cell in single operations, as a user writes one that PyTorch does not have."""

    def __init__(self, problem: Recurrent, by_hand: bool):
        super().__init__()
        self.by_hand, self.hidden = by_hand, problem.from_state[0].shape[1]
        self.embedding = nn.Parameter(tensor(problem.embedding))
        self.lstm = nn.LSTM(problem.embedding.shape[1], self.hidden)
        names = ("weight_ih_l0", "bias_ih_l0", "weight_hh_l0", "bias_hh_l0")
        self.lstm.load_state_dict(
            dict(zip(names, map(tensor, (*problem.from_input, *problem.from_state)), strict=True)), assign=True
        )
        self.output = linear(problem.output)

    def states(self, x: torch.Tensor) -> torch.Tensor:
        if not self.by_hand:
            return self.lstm(x)[0]
        layer, found = self.lstm, []
        h = c = x.new_zeros(x.shape[1], self.hidden)
        for now in functional.linear(x, layer.weight_ih_l0, layer.bias_ih_l0):
            i, f, g, o = (now + functional.linear(h, layer.weight_hh_l0, layer.bias_hh_l0)).chunk(4, 1)
            c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
            h = torch.sigmoid(o) * torch.tanh(c)
            found.append(h)
        return torch.stack(found)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.output(self.states(functional.embedding(tokens, self.embedding)))


def lstm(problem: Recurrent, mode: str, by_hand: bool = False) -> Step:
    net = LSTMModel(problem, by_hand)

    def objective(tokens: Any, targets: Any) -> Any:
        return functional.cross_entropy(net(tokens).flatten(0, 1), targets.flatten())

    return training(objective, adam(net, problem, mode), (problem.tokens, problem.targets), mode)


def lstm_by_hand(problem: Recurrent, mode: str) -> Step | None:
    if mode == "compile":
        return None  # it unrolls the loop, for minutes
    return lstm(problem, mode, by_hand=True)


class Block(nn.Module):
    def __init__(self, pairs: Layers, heads: int):
        super().__init__()
        before, attention, projection, between, wide, narrow = pairs
        self.width, self.heads = len(before[0]), heads
        self.before = filled(nn.LayerNorm(self.width), before)
        self.attention, self.projection = linear(attention), linear(projection)
        self.between = filled(nn.LayerNorm(self.width), between)
        self.mlp = nn.Sequential(linear(wide), nn.GELU(), linear(narrow))

    def attend(self, x: torch.Tensor) -> torch.Tensor:
        batch, time, width = x.shape
        q, k, v = self.attention(x).view(batch, time, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        seen = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.projection(seen.transpose(1, 2).reshape(batch, time, width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.attend(self.before(x))
        return x + self.mlp(self.between(x))


class GPT(nn.Module):
    def __init__(self, problem: Transformer):
        super().__init__()
        self.tokens = nn.Parameter(tensor(problem.tokens_embedding))
        self.positions = nn.Parameter(tensor(problem.positions_embedding))
        self.blocks = nn.Sequential(*[Block(pairs, problem.heads) for pairs in problem.blocks])
        self.norm, self.head = filled(nn.LayerNorm(len(problem.norm[0])), problem.norm), linear(problem.head)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        x = functional.embedding(tokens, self.tokens) + self.positions
        return self.head(self.norm(self.blocks(x)))


def gpt(problem: Transformer, mode: str) -> Step:
    net = GPT(problem)
    optimizer = torch.optim.AdamW(
        net.parameters(),
        lr=problem.learning_rate,
        betas=problem.betas,
        eps=problem.epsilon,
        weight_decay=problem.weight_decay,
        fused=mode != "plain",
    )

    def objective(tokens: Any, targets: Any) -> Any:
        return functional.cross_entropy(net(tokens).flatten(0, 1), targets.flatten())

    return training(objective, optimizer, (problem.tokens, problem.targets), mode)


def chain(problem: Chain, mode: str) -> Step | None:
    if mode == "fused":
        return None  # there is no optimiser to fuse
    start = tensor(problem.start).requires_grad_()
    increment = tensor(problem.increment)

    def total(h: Any) -> Any:
        for _ in range(problem.length):
            h = h + increment
        return h.sum()

    run = in_mode(total, mode)

    def step() -> float:
        start.grad = None
        loss = run(start)
        loss.backward()
        with torch.no_grad():
            start.sub_(start.grad, alpha=problem.learning_rate)
        return loss.item()

    return step


def products(problem: Products, mode: str) -> Step | None:
    if mode == "compile":
        return None
    pairs = [(tensor_view(a), tensor_view(b)) for a, b in problem.pairs]

    def step() -> float:
        for a, b in pairs:
            c = torch.mm(a, b)
        return float(c[0, 0])

    return step


def tensor_view(array: Array) -> torch.Tensor:
    """The tensor with the array's own strides: a transposed operand stays transposed."""
    return torch.from_numpy(array)
