"""PyTorch on the CPU, eager. Mode "plain" takes the optimiser as it comes, "fused" asks for the fused kernel."""

import os

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from ..problems import Array, Chain, Classification, Layers, Products, QLearning
from . import Step

torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))


def tensor(array: Array) -> torch.Tensor:
    return torch.from_numpy(np.array(array))


def network(layers: Layers) -> nn.Sequential:
    modules: list[nn.Module] = []
    for weight, bias in layers:
        outputs, inputs = weight.shape
        layer = nn.Linear(inputs, outputs)
        with torch.no_grad():
            layer.weight.copy_(tensor(weight))
            layer.bias.copy_(tensor(bias))
        modules += [layer, nn.ReLU()]
    return nn.Sequential(*modules[:-1])


def mlp(problem: Classification, mode: str) -> Step:
    net = network(problem.layers)
    x, y = tensor(problem.inputs), tensor(problem.labels)
    optimizer = torch.optim.SGD(
        net.parameters(), lr=problem.learning_rate, momentum=problem.momentum, fused=mode == "fused"
    )

    def step() -> float:
        loss = functional.cross_entropy(net(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def qnet(problem: QLearning, mode: str) -> Step:
    online, target = network(problem.online), network(problem.target)
    states, next_states = tensor(problem.states), tensor(problem.next_states)
    actions, rewards, done = tensor(problem.actions), tensor(problem.rewards), tensor(problem.done)
    optimizer = torch.optim.Adam(
        online.parameters(), lr=problem.learning_rate, betas=problem.betas, eps=problem.epsilon, fused=mode == "fused"
    )

    def step() -> float:
        with torch.no_grad():
            goal = rewards + problem.discount * (1 - done) * target(next_states).amax(1)
        value = online(states).gather(1, actions[:, None]).squeeze(1)
        loss = functional.smooth_l1_loss(value, goal)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def chain(problem: Chain, mode: str) -> Step | None:
    if mode == "fused":
        return None  # there is no optimiser to fuse
    start = tensor(problem.start).requires_grad_()
    increment = tensor(problem.increment)

    def step() -> float:
        start.grad = None
        h = start
        for _ in range(problem.length):
            h = h + increment
        loss = h.sum()
        loss.backward()
        with torch.no_grad():
            start.sub_(start.grad, alpha=problem.learning_rate)
        return loss.item()

    return step


def products(problem: Products, mode: str) -> Step:
    pairs = [(tensor_view(a), tensor_view(b)) for a, b in problem.pairs]

    def step() -> float:
        for a, b in pairs:
            c = torch.mm(a, b)
        return float(c[0, 0])

    return step


def tensor_view(array: Array) -> torch.Tensor:
    """The tensor with the array's own strides: a transposed operand stays transposed."""
    return torch.from_numpy(array)
