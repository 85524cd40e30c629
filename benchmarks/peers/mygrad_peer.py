"""MyGrad: NumPy with tensors that remember their history; it has no optimisers, so those are plain NumPy."""

import sys
from typing import Any

import mygrad
import numpy as np
from mygrad.nnet.activations import relu
from mygrad.nnet.losses import softmax_crossentropy

from ..problems import Array, Chain, Classification, Layers, QLearning
from . import Step


def tensors(layers: Layers) -> list[tuple[Any, Any]]:
    return [(mygrad.tensor(weight), mygrad.tensor(bias)) for weight, bias in layers]


def network(layers: Any, x: Any) -> Any:
    for weight, bias in layers[:-1]:
        x = relu(mygrad.matmul(x, weight.T) + bias)
    weight, bias = layers[-1]
    return mygrad.matmul(x, weight.T) + bias


def mlp(problem: Classification, mode: str) -> Step:
    layers = tensors(problem.layers)
    parameters = [parameter for layer in layers for parameter in layer]
    velocities = [np.zeros_like(parameter.data) for parameter in parameters]

    def step() -> float:
        loss = softmax_crossentropy(network(layers, problem.inputs), problem.labels)
        loss.backward()
        for parameter, velocity in zip(parameters, velocities, strict=True):
            velocity *= problem.momentum
            velocity += parameter.grad
            parameter.data -= problem.learning_rate * velocity
        return float(loss.data)

    return step


def qnet(problem: QLearning, mode: str) -> Step:
    online, target = tensors(problem.online), tensors(problem.target)
    parameters = [parameter for layer in online for parameter in layer]
    first = [np.zeros_like(parameter.data) for parameter in parameters]
    second = [np.zeros_like(parameter.data) for parameter in parameters]
    rows = np.arange(len(problem.actions))
    count = 0

    def update() -> None:
        nonlocal count
        count += 1
        beta1, beta2 = problem.betas
        rate = problem.learning_rate / (1 - beta1**count)
        correction = 1 - beta2**count
        for parameter, m, v in zip(parameters, first, second, strict=True):
            gradient: Array = parameter.grad
            m *= beta1
            m += (1 - beta1) * gradient
            v *= beta2
            v += (1 - beta2) * gradient * gradient
            parameter.data -= rate * m / (np.sqrt(v / correction) + problem.epsilon)

    def step() -> float:
        with mygrad.no_autodiff:
            best = network(target, problem.next_states).data.max(axis=1)
        goal = problem.rewards + problem.discount * (1 - problem.done) * best
        error = network(online, problem.states)[rows, problem.actions] - goal
        size = mygrad.abs(error)
        loss = mygrad.mean(mygrad.where(size.data < 1, 0.5 * error * error, size - 0.5))
        loss.backward()
        update()
        return float(loss.data)

    return step


def chain(problem: Chain, mode: str) -> Step:
    sys.setrecursionlimit(20 * problem.length)  # its backward pass recurses
    start = mygrad.tensor(problem.start)

    def step() -> float:
        h = start
        for _ in range(problem.length):
            h = h + problem.increment
        loss = h.sum()
        loss.backward()
        start.data -= problem.learning_rate * start.grad
        return float(loss.data)

    return step
