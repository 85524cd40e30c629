"""The benchmark harness: its statistics, its report, and that every framework computes what a reference computes.

No test looks at the clock. The reference below is written in float64 NumPy with gradients derived by hand, and knows
nothing of any framework.
"""

import json
import math
import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import command, dynamic, machine, problems
from benchmarks.harness import (
    ROOT,
    Contender,
    Plan,
    Result,
    best_setting,
    compare_with_base,
    measure,
    run_rounds,
)
from benchmarks.ratio import losses_difference, speed
from benchmarks.report import Table, replace_between_markers, speed_table, verdicts


def silent(text):
    pass


# --- statistics -------------------------------------------------------------------------------------------------------


def test_the_ratio_is_the_median_of_ratios_and_not_the_ratio_of_medians():
    base, other = [1.0, 10.0, 3.0], [1.0, 5.0, 1.0]  # ratios 1, 2, 3; the medians alone would say 3 / 1
    assert speed(base, other) == speed([2.0, 20.0, 6.0], [2.0, 10.0, 2.0])
    assert (speed(base, other).median, speed(base, other).low, speed(base, other).high) == (2.0, 1.0, 3.0)


def test_rounds_must_pair_up():
    with pytest.raises(ValueError, match=r"argument 2 is shorter|shorter than"):
        speed([1.0, 2.0], [1.0])


@given(st.lists(st.floats(1e-6, 1e3), min_size=1, max_size=9), st.floats(0.1, 10))
def test_a_slower_machine_in_some_rounds_does_not_change_the_ratio(slowness, ratio):
    found = speed([ratio * s for s in slowness], slowness)
    assert found.low == pytest.approx(ratio) and found.median == pytest.approx(ratio) == pytest.approx(found.high)


def test_losses_are_compared_at_the_first_and_the_last_step():
    assert losses_difference([2.0, 1.5, 1.0], [2.0, 9.0, 1.0]) == 0.0
    assert losses_difference([2.0, 1.5, 1.0], [2.0, 1.5, 1.1]) == pytest.approx(0.1)
    assert losses_difference([2.0, 1.5, 1.0], [1.0, 1.5, 1.0]) == pytest.approx(0.5)
    assert losses_difference([2.0, 1.5, 1.0], [2.0, 1.5, math.nan]) == math.inf


class MadeUpWorker:
    """Stands for a worker: each burst takes the next of the given seconds, under the given noise."""

    def __init__(self, seconds, noise=()):
        self.script, self.noise = list(seconds), list(noise)
        self.seconds, self.closed = [], False

    def burst(self, seconds):
        self.seconds.append(self.script.pop(0))
        return self.noise.pop(0) if self.noise else 0.0

    def close(self):
        self.closed = True


def test_the_quietest_rounds_are_kept():
    base = MadeUpWorker([1.0, 1.0, 9.0, 1.0], noise=[0.0, 0.0, 0.9, 0.0])
    ours = MadeUpWorker([0.5, 7.0, 0.5, 0.25], noise=[0.0, 0.8, 0.0, 0.1])
    rounds, disturbed = run_rounds([base, ours], Plan(rounds=2), silent)
    assert rounds == [[1.0, 0.5], [1.0, 0.25]]
    assert disturbed == 0


def test_on_a_machine_that_is_never_quiet_the_rounds_are_reported_as_disturbed():
    worker = MadeUpWorker([1.0, 2.0, 3.0, 4.0, 5.0, 6.0], noise=[0.9, 0.8, 0.7, 0.6, 0.5, 0.2])
    rounds, disturbed = run_rounds([worker], Plan(rounds=2), silent)
    assert rounds == [[6.0], [5.0]] and disturbed == 2 and worker.script == []


def test_the_setting_with_the_shortest_burst_is_kept_and_the_others_end():
    steady, disturbed_once, slow = MadeUpWorker([2.0] * 3), MadeUpWorker([9.0, 1.0, 1.0]), MadeUpWorker([3.0] * 3)
    assert best_setting([steady, disturbed_once, slow], Plan(trial_rounds=3)) is disturbed_once
    assert (steady.closed, disturbed_once.closed, slow.closed) == (True, False, True)


# --- every framework computes the same --------------------------------------------------------------------------------


def forward(layers, x):
    activations = [x]
    for index, (weight, bias) in enumerate(layers):
        x = np.einsum("ni,oi->no", x, weight) + bias
        if index < len(layers) - 1:
            x = x * (x > 0)
        activations.append(x)
    return activations


def backward(layers, activations, g):
    """The gradients of all weights and biases, from the gradient of the last activation."""
    gradients = []
    for index in reversed(range(len(layers))):
        weight, _ = layers[index]
        gradients = [np.einsum("no,ni->oi", g, activations[index]), g.sum(0), *gradients]
        g = np.einsum("no,oi->ni", g, weight) * (activations[index] > 0)
    return gradients


def float64(layers):
    return [(weight.astype(np.float64), bias.astype(np.float64)) for weight, bias in layers]


def reference_mlp(problem):
    layers = float64(problem.layers)
    velocities = [np.zeros_like(array) for layer in layers for array in layer]
    number = len(problem.labels)
    losses = []
    for _ in range(5):
        activations = forward(layers, problem.inputs)
        logits = activations[-1]
        probabilities = np.exp(logits) / np.exp(logits).sum(1)[:, None]
        losses.append(-np.log(probabilities[range(number), problem.labels]).mean())
        g = (probabilities - np.eye(logits.shape[1])[problem.labels]) / number
        for array, velocity, gradient in zip(
            [a for layer in layers for a in layer], velocities, backward(layers, activations, g), strict=True
        ):
            velocity[...] = problem.momentum * velocity + gradient
            array -= problem.learning_rate * velocity
    return losses


def reference_qnet(problem):
    online, target = float64(problem.online), float64(problem.target)
    parameters = [array for layer in online for array in layer]
    first, second = [[np.zeros_like(array) for array in parameters] for _ in range(2)]
    number = len(problem.actions)
    chosen = np.eye(2)[problem.actions]
    losses = []
    for count in range(1, 6):
        goal = problem.rewards + problem.discount * (1 - problem.done) * forward(target, problem.next_states)[-1].max(1)
        activations = forward(online, problem.states)
        error = (activations[-1] * chosen).sum(1) - goal
        losses.append(np.where(np.abs(error) < 1, error**2 / 2, np.abs(error) - 0.5).mean())
        g = np.clip(error, -1, 1)[:, None] * chosen / number
        for array, m, v, gradient in zip(parameters, first, second, backward(online, activations, g), strict=True):
            m += (1 - problem.betas[0]) * (gradient - m)
            v += (1 - problem.betas[1]) * (gradient**2 - v)
            m_hat, v_hat = m / (1 - problem.betas[0] ** count), v / (1 - problem.betas[1] ** count)
            array -= problem.learning_rate * m_hat / (np.sqrt(v_hat) + problem.epsilon)
    return losses


def reference_chain(problem):
    """The gradient of a sum of chained adds is one, so each step lowers each element by the learning rate."""
    start = problem.start.sum() + problem.length * problem.increment.sum(dtype=np.float64)
    return [start - number * problem.learning_rate * problem.start.size for number in range(5)]


def reference_products(problem):
    a, b = problem.pairs[-1]
    return [float(a[0].astype(np.float64) @ b[:, 0])] * 5


REFERENCES = {"mlp": reference_mlp, "qnet": reference_qnet, "chain": reference_chain, "products": reference_products}


@pytest.fixture(scope="module")
def expected():
    return {name: REFERENCES[workload.family](workload.make()) for name, workload in problems.WORKLOADS.items()}


def losses_of(peer, mode):
    """The losses of every workload that a framework offers, from a process of its own: nothing is imported here."""
    code = (
        "import json, sys; from benchmarks.problems import WORKLOADS; from benchmarks.worker import build; "
        "facts = {name: build(sys.argv[1], sys.argv[2], name)[1] for name in WORKLOADS}; "
        "print(json.dumps({name: f['losses'] for name, f in facts.items() if f['offered']}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, peer, mode],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize(
    ("peer", "mode", "offered"),
    [
        ("minigraph", "dynamic", {"mlp64", "mlp1024", "qnet", "chain"}),
        ("numpy", "plain", {"products64", "products1024"}),
        ("torch", "plain", set(problems.WORKLOADS)),
        ("torch", "fused", {"mlp64", "mlp1024", "qnet", "products64", "products1024"}),
        ("jax", "jit", {"mlp64", "mlp1024", "qnet", "chain"}),
        ("autograd", "plain", {"mlp64", "mlp1024", "qnet", "chain"}),
        ("mygrad", "plain", {"mlp64", "mlp1024", "qnet", "chain"}),
    ],
)
def test_a_framework_computes_what_the_reference_computes(peer, mode, offered, expected):
    if peer != "minigraph" and not machine.installed(peer):
        pytest.skip(f"{peer} is not installed")
    losses = losses_of(peer, mode)
    assert set(losses) == offered
    for workload, found in losses.items():
        tolerance = 1e-4 if workload == "chain" else 2e-6  # a thousand float32 additions round a thousand times
        assert found == pytest.approx(expected[workload], rel=tolerance), workload


def test_a_wrong_learning_rate_shows_in_the_losses(expected):
    """The reference can tell: one percent of the learning rate moves the fifth loss by more than the tolerance."""
    problem = problems.mlp(64)
    wrong = problems.Classification(problem.layers, problem.inputs, problem.labels, learning_rate=0.0101)
    assert losses_difference(expected["mlp64"], reference_mlp(wrong)) > 1e-4


# --- contenders that cannot be measured -------------------------------------------------------------------------------

BRIEF = Plan(rounds=2, burst=0.01, threads=(1, 2), trial_rounds=1, answer_limit=60)
NUMPY = Contender("NumPy", "numpy", ("plain",))


def test_a_workload_is_measured_from_end_to_end():
    absent = Contender("Absent", "no_such_package_anywhere", ("plain",))
    broken = Contender("Broken", "json", ("plain",))  # installed, but there is no peers/json_peer.py
    again = Contender("NumPy again", "numpy", ("plain",))
    results, _ = measure("products64", [NUMPY, absent, broken, again], BRIEF, silent)
    assert [result.status for result in results] == ["ok", "not installed", "failed", "ok"]
    assert "json_peer" in results[2].error
    for result in (results[0], results[3]):
        assert len(result.rounds) == 2 and len(result.losses) == 5 and result.losses_agree
        assert set(result.trials) == {"plain, 1 thread", "plain, 2 threads"} and result.setting in result.trials
        assert 10 * 2**20 < result.peak_memory < 2**30
    assert results[0].ratio.median == 1.0


def test_a_framework_without_the_workload_is_not_offered():
    results, _ = measure("qnet", [NUMPY], BRIEF, silent)
    assert [result.status for result in results] == ["not offered"]


def test_an_unknown_workload_is_named():
    with pytest.raises(ValueError, match=r"no workload 'mlp63'.*mlp64"):
        measure("mlp63", [NUMPY], BRIEF, silent)


# --- report -----------------------------------------------------------------------------------------------------------

OURS = Contender("ours", "minigraph", ("dynamic",))
TABLE = Table("made-up", (Contender("base", "torch", ("plain",)), OURS), OURS, {"mlp64": 2.2, "chain": 1.5}, 1 / 3)


def made_up(title, rounds, losses=(2.0, 1.0), peak_memory=300 * 2**20):
    return Result(title, "ok", rounds=list(rounds), losses=list(losses), peak_memory=peak_memory, import_seconds=1.5)


def test_the_table_shows_speed_target_and_memory():
    results = [made_up("base", [4e-3, 4e-3, 4e-3]), made_up("ours", [1e-3, 2e-3, 1e-3], peak_memory=60 * 2**20)]
    compare_with_base(results)
    lines = speed_table(TABLE, {"mlp64": results}).splitlines()
    assert lines[0] == "| whole training step, float32 | base | **ours** | must reach |"
    assert lines[2] == "| MLP 64-128-64-10, batch 64, momentum SGD | 4.00 ms | 4.00 (2.00-4.00) | 2.2 |"
    assert lines[3] == "| peak memory of the process (largest) | 300 MB | 0.20 (60 MB) | below 0.33 |"
    assert lines[4] == "| import and first step (slowest) | 1.50 s | 1.50 s |  |"
    assert verdicts(TABLE, {"mlp64": results}) == [
        "mlp64: 2.2x base is 1.82 ms; ours takes 1.00 ms, 4.00x: reached",
        "mlp64: peak memory 0.20 of base's: reached",
    ]


def test_a_missed_target_is_called_missed():
    results = [made_up("base", [4e-3]), made_up("ours", [2e-3])]
    compare_with_base(results)
    assert [line.rsplit(": ", 1)[1] for line in verdicts(TABLE, {"mlp64": results})] == ["MISSED", "MISSED"]


def test_wrong_losses_and_absent_frameworks_never_become_a_number():
    results = [made_up("base", [4e-3]), made_up("ours", [1e-3], losses=(2.0, 1.001))]
    compare_with_base(results)
    assert not results[1].losses_agree
    assert "| 4.00 ms | wrong losses | 2.2 |" in speed_table(TABLE, {"mlp64": results})
    results = [made_up("base", [4e-3]), Result("ours", "not installed")]
    compare_with_base(results)
    table = speed_table(TABLE, {"mlp64": results})
    assert "| 4.00 ms | not installed | 2.2 |" in table and "| 300 MB |  | below 0.33 |" in table


def test_without_the_base_times_are_shown_instead_of_ratios():
    results = [Result("base", "not installed"), made_up("ours", [1e-3])]
    compare_with_base(results)
    assert "| not installed | 1.00 ms | 2.2 |" in speed_table(TABLE, {"mlp64": results})
    assert verdicts(TABLE, {"mlp64": results}) == []


plain = st.text(st.characters(exclude_characters="<>", exclude_categories=["Cs"]))


@given(before=plain, old=plain, after=plain, new=plain)
def test_the_readme_changes_between_the_markers_only(before, old, after, new):
    text = f"{before}<!-- benchmark:dynamic -->{old}<!-- /benchmark:dynamic -->{after}"
    updated = replace_between_markers(text, "dynamic", new)
    assert updated.startswith(f"{before}<!-- benchmark:dynamic -->")
    assert updated.endswith(f"<!-- /benchmark:dynamic -->{after}")
    middle = updated[len(before) + len("<!-- benchmark:dynamic -->") : len(updated) - len(after)]
    assert middle == f"\n\n{new.strip()}\n\n<!-- /benchmark:dynamic -->"
    assert replace_between_markers(updated, "dynamic", new) == updated


@pytest.mark.parametrize(
    "text",
    [
        "no markers",
        "<!-- benchmark:dynamic --> never closed",
        "<!-- /benchmark:dynamic --> turned round <!-- benchmark:dynamic -->",
        "<!-- benchmark:dynamic --><!-- /benchmark:dynamic --> opened twice <!-- benchmark:dynamic -->",
        "<!-- benchmark:static --> of another table <!-- /benchmark:static -->",
    ],
)
def test_a_readme_without_proper_markers_is_refused(text):
    with pytest.raises(ValueError, match="<!-- benchmark:dynamic -->"):
        replace_between_markers(text, "dynamic", "new")


# --- command line -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("partial", [["--quick"], ["--workloads", "mlp64"], ["--peers", "jax"]])
def test_only_a_full_run_may_change_the_readme(partial, capsys):
    with pytest.raises(SystemExit):
        command.parse(dynamic.TABLE, ["--readme", *partial])
    assert "full run" in capsys.readouterr().err


def test_a_full_run_may_change_the_readme():
    options = command.parse(dynamic.TABLE, ["--readme"])
    assert options.readme and options.workloads == ["mlp64", "mlp1024", "qnet", "chain"]


def test_every_workload_of_the_table_exists():
    assert {*dynamic.TABLE.targets, *dynamic.TABLE.products} <= set(problems.WORKLOADS)
