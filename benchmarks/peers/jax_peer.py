"""JAX: the whole step is one compiled function of (parameters, optimiser state), whose buffers it may reuse."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import numpy
from jax import numpy as jnp

from ..problems import Array, Chain, Classification, Elementwise, Images, QLearning, Recurrent, Transformer
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


def adam(problem: Any, parameters: Any, decay: float = 0.0) -> tuple[Update, Any]:
    """The update of Adam, or AdamW with a weight decay, and its first state."""
    beta1, beta2 = problem.betas

    def update(parameters: Any, state: Any, gradients: Any) -> tuple[Any, Any]:
        first, second, count = state
        count = count + 1
        first = jax.tree.map(lambda m, g: beta1 * m + (1 - beta1) * g, first, gradients)
        second = jax.tree.map(lambda v, g: beta2 * v + (1 - beta2) * g * g, second, gradients)
        rate = problem.learning_rate / (1 - beta1**count)
        correction = 1 - beta2**count
        keep = 1 - problem.learning_rate * decay
        parameters = jax.tree.map(
            lambda p, m, v: keep * p - rate * m / (jnp.sqrt(v / correction) + problem.epsilon),
            parameters,
            first,
            second,
        )
        return parameters, (first, second, count)

    return update, (zeros_like(parameters), zeros_like(parameters), 0.0)


def cross_entropy(logits: Any, labels: Any) -> Any:
    return -jnp.take_along_axis(jax.nn.log_softmax(logits), labels[..., None], axis=-1).mean()


def mlp(problem: Classification, mode: str) -> Step:
    def objective(layers: Any, data: tuple[Array, Array]) -> Any:
        inputs, labels = data
        return cross_entropy(network(layers, inputs), labels)

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

    update, state = adam(problem, problem.online)
    data = (problem.target, problem.states, problem.actions, problem.rewards, problem.next_states, problem.done)
    return training_step(objective, update, problem.online, state, data)


def elementwise(problem: Elementwise, mode: str) -> Step:
    def total(operands: Any) -> Any:
        a, b, c, d = operands
        return (jnp.tanh(a * b + c) * jax.nn.sigmoid(d) - a**2).sum()

    compiled, operands = jax.jit(jax.value_and_grad(total)), jax.tree.map(jnp.array, problem.operands)

    def step() -> float:
        found, gradients = jax.block_until_ready(compiled(operands))
        return problem.evidence(float(found), map(numpy.asarray, gradients))

    return step


def lenet(problem: Images, mode: str) -> Step:
    def objective(parameters: Any, data: Any) -> Any:
        (kernels, layers), (x, labels) = parameters, data
        for weight, bias in kernels:
            x = jax.nn.relu(jax.lax.conv(x, weight, (1, 1), "VALID") + bias[:, None, None])
            x = jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, 1, 2, 2), (1, 1, 2, 2), "VALID")
        return cross_entropy(network(layers, x.reshape(len(x), -1)), labels)

    parameters = (problem.kernels, problem.layers)
    update, state = adam(problem, parameters)
    return training_step(objective, update, parameters, state, (problem.inputs, problem.labels))


def lstm(problem: Recurrent, mode: str) -> Step:
    hidden = problem.from_state[0].shape[1]

    def objective(parameters: Any, data: Any) -> Any:
        (embedding, (w, b), (u, c), (out, bias)), (tokens, targets) = parameters, data

        def cell(state: Any, x: Any) -> Any:
            h, memory = state
            i, f, g, o = jnp.split(x + h @ u.T + c, 4, axis=1)
            memory = jax.nn.sigmoid(f) * memory + jax.nn.sigmoid(i) * jnp.tanh(g)
            h = jax.nn.sigmoid(o) * jnp.tanh(memory)
            return (h, memory), h

        start = jnp.zeros((tokens.shape[1], hidden), jnp.float32)
        _, states = jax.lax.scan(cell, (start, start), embedding[tokens] @ w.T + b)
        return cross_entropy(states @ out.T + bias, targets)

    parameters = (problem.embedding, problem.from_input, problem.from_state, problem.output)
    update, state = adam(problem, parameters)
    return training_step(objective, update, parameters, state, (problem.tokens, problem.targets))


def layer_norm(pair: Any, x: Any) -> Any:
    x = x - x.mean(-1, keepdims=True)
    return x / jnp.sqrt((x * x).mean(-1, keepdims=True) + 1e-5) * pair[0] + pair[1]


def gpt(problem: Transformer, mode: str) -> Step:
    def linear(pair: Any, x: Any) -> Any:
        return x @ pair[0].T + pair[1]

    def block(pairs: Any, x: Any) -> Any:
        before, attention, projection, between, wide, narrow = pairs
        batch, time, width = x.shape
        qkv = linear(attention, layer_norm(before, x)).reshape(batch, time, 3, problem.heads, width // problem.heads)
        q, k, v = qkv.transpose(2, 0, 3, 1, 4)
        scores = q @ k.swapaxes(2, 3) / jnp.sqrt(q.shape[-1]).astype(x.dtype)
        seen = jax.nn.softmax(jnp.where(jnp.tri(time, dtype=bool), scores, -jnp.inf)) @ v
        x = x + linear(projection, seen.swapaxes(1, 2).reshape(x.shape))
        return x + linear(narrow, jax.nn.gelu(linear(wide, layer_norm(between, x)), approximate=False))

    def objective(parameters: Any, data: Any) -> Any:
        (of_tokens, of_positions, blocks, norm, head), (tokens, targets) = parameters, data
        x = of_tokens[tokens] + of_positions
        for pairs in blocks:
            x = block(pairs, x)
        return cross_entropy(linear(head, layer_norm(norm, x)), targets)

    parameters = (problem.tokens_embedding, problem.positions_embedding, problem.blocks, problem.norm, problem.head)
    update, state = adam(problem, parameters, problem.weight_decay)
    return training_step(objective, update, parameters, state, (problem.tokens, problem.targets))


def chain(problem: Chain, mode: str) -> Step:
    def objective(h: Any, increment: Any) -> Any:
        for _ in range(problem.length):
            h = h + increment
        return h.sum()

    def update(start: Any, state: Any, gradient: Any) -> tuple[Any, Any]:
        return start - problem.learning_rate * gradient, state

    return training_step(objective, update, problem.start, (), problem.increment)
