"""HIPS autograd: pure functions of NumPy arrays, with the optimiser written by hand, as its examples do."""

from collections.abc import Callable
from typing import Any

import autograd.numpy as np
import numpy
from autograd import value_and_grad

from ..problems import Array, Chain, Classification, Elementwise, Layers, QLearning
from . import Step


def network(layers: Layers, x: Any) -> Any:
    for weight, bias in layers[:-1]:
        x = np.maximum(np.dot(x, weight.T) + bias, 0)
    weight, bias = layers[-1]
    return np.dot(x, weight.T) + bias


def cross_entropy(logits: Any, labels: Array) -> Any:
    shifted = logits - np.max(logits, axis=1, keepdims=True)
    log_total = np.log(np.sum(np.exp(shifted), axis=1))
    return np.mean(log_total - shifted[numpy.arange(len(labels)), labels])


def copy_of(layers: Layers) -> Layers:
    return [(weight.copy(), bias.copy()) for weight, bias in layers]


def flat(layers: Layers) -> list[Array]:
    return [array for layer in layers for array in layer]


def sgd(parameters: list[Array], learning_rate: float, momentum: float) -> Callable[[list[Array]], None]:
    """The update of SGD with momentum, in place; called with the gradients."""
    velocities = [numpy.zeros_like(parameter) for parameter in parameters]

    def update(gradients: list[Array]) -> None:
        for parameter, velocity, gradient in zip(parameters, velocities, gradients, strict=True):
            velocity *= momentum
            velocity += gradient
            parameter -= learning_rate * velocity

    return update


def adam(
    parameters: list[Array], learning_rate: float, betas: tuple[float, float], epsilon: float
) -> Callable[[list[Array]], None]:
    """The update of Adam, in place; called with the gradients."""
    first = [numpy.zeros_like(parameter) for parameter in parameters]
    second = [numpy.zeros_like(parameter) for parameter in parameters]
    count = 0

    def update(gradients: list[Array]) -> None:
        nonlocal count
        count += 1
        rate = learning_rate / (1 - betas[0] ** count)
        correction = 1 - betas[1] ** count
        for parameter, m, v, gradient in zip(parameters, first, second, gradients, strict=True):
            m *= betas[0]
            m += (1 - betas[0]) * gradient
            v *= betas[1]
            v += (1 - betas[1]) * gradient * gradient
            parameter -= rate * m / (numpy.sqrt(v / correction) + epsilon)

    return update


def mlp(problem: Classification, mode: str) -> Step:
    layers = copy_of(problem.layers)
    loss_and_gradients = value_and_grad(lambda p: cross_entropy(network(p, problem.inputs), problem.labels))
    update = sgd(flat(layers), problem.learning_rate, problem.momentum)

    def step() -> float:
        loss, gradients = loss_and_gradients(layers)
        update(flat(gradients))
        return float(loss)

    return step


def qnet(problem: QLearning, mode: str) -> Step:
    layers = copy_of(problem.online)
    rows = numpy.arange(len(problem.actions))

    def objective(online: Layers) -> Any:
        best = network(problem.target, problem.next_states).max(axis=1)
        goal = problem.rewards + problem.discount * (1 - problem.done) * best
        error = network(online, problem.states)[rows, problem.actions] - goal
        size = np.abs(error)
        return np.mean(np.where(size < 1, 0.5 * error * error, size - 0.5))

    loss_and_gradients = value_and_grad(objective)
    update = adam(flat(layers), problem.learning_rate, problem.betas, problem.epsilon)

    def step() -> float:
        loss, gradients = loss_and_gradients(layers)
        update(flat(gradients))
        return float(loss)

    return step


def elementwise(problem: Elementwise, mode: str) -> Step:
    def total(operands: Any) -> Any:
        a, b, c, d = operands
        return np.sum(np.tanh(a * b + c) / (1 + np.exp(-d)) - a**2)

    run = value_and_grad(total)

    def step() -> float:
        found, gradients = run(problem.operands)
        return problem.evidence(float(found), gradients)

    return step


def chain(problem: Chain, mode: str) -> Step:
    start = problem.start.copy()

    def objective(h: Any) -> Any:
        for _ in range(problem.length):
            h = h + problem.increment
        return np.sum(h)

    loss_and_gradient = value_and_grad(objective)

    def step() -> float:
        nonlocal start
        loss, gradient = loss_and_gradient(start)
        start = start - problem.learning_rate * gradient
        return float(loss)

    return step
