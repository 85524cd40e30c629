"""JAX: the whole step is one compiled function of (parameters, optimiser state), whose buffers it may reuse."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
from jax import numpy as jnp

from ..problems import Array, Chain, Classification, QLearning
from . import Step

jax.config.update("jax_platforms", "cpu")
Update = Callable[[Any, Any, Any], tuple[Any, Any]]


def network(layers: Any, x: Any) -> Any:
    for weight, bias in layers[:-1]:
        x = jax.nn.relu(x @ weight.T + bias)
    weight, bias = layers[-1]
    return x @ weight.T + bias


def training_step(objective: Callable[..., Any], update: Update, parameters: Any, state: Any, data: Any) -> Step:
    """Compile ``loss and gradients, then update`` and keep the parameters and the optimiser's state between calls."""

    @partial(jax.jit, donate_argnums=(0, 1))
    def compiled(parameters: Any, state: Any, data: Any) -> Any:
        loss, gradients = jax.value_and_grad(objective)(parameters, data)
        return *update(parameters, state, gradients), loss

    parameters, state, data = jax.tree.map(jnp.array, (parameters, state, data))

    def step() -> float:
        nonlocal parameters, state
        parameters, state, loss = compiled(parameters, state, data)
        return float(jax.block_until_ready((loss, parameters))[0])

    return step


def zeros_like(tree: Any) -> Any:
    return jax.tree.map(jnp.zeros_like, tree)


def mlp(problem: Classification, mode: str) -> Step:
    def objective(layers: Any, data: tuple[Array, Array]) -> Any:
        inputs, labels = data
        scores = jax.nn.log_softmax(network(layers, inputs))
        return -jnp.take_along_axis(scores, labels[:, None], axis=1).mean()

    def update(layers: Any, velocity: Any, gradients: Any) -> tuple[Any, Any]:
        velocity = jax.tree.map(lambda v, g: problem.momentum * v + g, velocity, gradients)
        return jax.tree.map(lambda p, v: p - problem.learning_rate * v, layers, velocity), velocity

    data = (problem.inputs, problem.labels)
    return training_step(objective, update, problem.layers, zeros_like(problem.layers), data)


def qnet(problem: QLearning, mode: str) -> Step:
    def objective(online: Any, data: Any) -> Any:
        target, states, actions, rewards, next_states, done = data
        goal = rewards + problem.discount * (1 - done) * network(target, next_states).max(axis=1)
        value = jnp.take_along_axis(network(online, states), actions[:, None], axis=1)[:, 0]
        error = value - jax.lax.stop_gradient(goal)
        size = jnp.abs(error)
        return jnp.where(size < 1, 0.5 * error * error, size - 0.5).mean()

    def update(layers: Any, state: Any, gradients: Any) -> tuple[Any, Any]:
        first, second, count = state
        beta1, beta2 = problem.betas
        count = count + 1
        first = jax.tree.map(lambda m, g: beta1 * m + (1 - beta1) * g, first, gradients)
        second = jax.tree.map(lambda v, g: beta2 * v + (1 - beta2) * g * g, second, gradients)
        rate = problem.learning_rate / (1 - beta1**count)
        correction = 1 - beta2**count
        layers = jax.tree.map(
            lambda p, m, v: p - rate * m / (jnp.sqrt(v / correction) + problem.epsilon), layers, first, second
        )
        return layers, (first, second, count)

    state = (zeros_like(problem.online), zeros_like(problem.online), 0.0)
    data = (problem.target, problem.states, problem.actions, problem.rewards, problem.next_states, problem.done)
    return training_step(objective, update, problem.online, state, data)


def chain(problem: Chain, mode: str) -> Step:
    def objective(h: Any, increment: Any) -> Any:
        for _ in range(problem.length):
            h = h + increment
        return h.sum()

    def update(start: Any, state: Any, gradient: Any) -> tuple[Any, Any]:
        return start - problem.learning_rate * gradient, state

    return training_step(objective, update, problem.start, (), problem.increment)
