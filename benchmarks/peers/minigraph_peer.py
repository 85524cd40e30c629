"""minigraph, in its public API and nothing else. Mode "dynamic": the step runs operation by operation."""

import minigraph as mg
from minigraph import nn, optim

from ..problems import Chain, Classification, Layers, QLearning
from . import Step


def network(layers: Layers) -> nn.Sequential:
    modules: list[nn.Module] = []
    for weight, bias in layers:
        outputs, inputs = weight.shape
        layer = nn.Linear(inputs, outputs)
        layer.weight.assign(weight)
        layer.bias.assign(bias)
        modules += [layer, nn.ReLU()]
    return nn.Sequential(*modules[:-1])


def mlp(problem: Classification, mode: str) -> Step:
    net = network(problem.layers)
    x, y = mg.tensor(problem.inputs), mg.tensor(problem.labels)
    optimizer = optim.SGD(net.parameters(), lr=problem.learning_rate, momentum=problem.momentum)

    def step() -> float:
        loss = nn.functional.cross_entropy(net(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def qnet(problem: QLearning, mode: str) -> Step:
    online, target = network(problem.online), network(problem.target)
    states, next_states = mg.tensor(problem.states), mg.tensor(problem.next_states)
    actions, rewards, done = mg.tensor(problem.actions), mg.tensor(problem.rewards), mg.tensor(problem.done)
    optimizer = optim.Adam(online.parameters(), lr=problem.learning_rate, betas=problem.betas, eps=problem.epsilon)

    def step() -> float:
        with mg.no_grad():
            goal = rewards + problem.discount * (1 - done) * mg.max(target(next_states), axis=1)
        value = mg.take_along_axis(online(states), actions[:, None], axis=1)[:, 0]
        loss = nn.functional.huber_loss(value, goal)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def chain(problem: Chain, mode: str) -> Step:
    start = mg.Variable(problem.start, requires_grad=True)
    increment = mg.tensor(problem.increment)

    def step() -> float:
        start.grad = None
        h = start
        for _ in range(problem.length):
            h = h + increment
        loss = mg.sum(h)
        loss.backward()
        with mg.no_grad():
            start.assign(start - problem.learning_rate * start.grad)
        return loss.item()

    return step
