"""The benchmark harness: its statistics, its report, and that every framework computes what a reference computes.

No test looks at the clock. The reference below is written in float64 NumPy with gradients derived by hand, and knows
nothing of any framework.
"""

import dataclasses
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import command, compiling, dynamic, machine, problems, static
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
from minigraph.compiler.toolchain import find_compiler


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


# Large workloads are tested in small: maker and arguments. Where nobody has derived gradients by hand here, PyTorch in
# float64 is the reference.
SMALL = {
    "elementwise4m": ("elementwise", [4000]),
    "lenet": ("lenet", [4]),
    "lstm": ("lstm", [11, 5, 6, 7, 3]),
    "lstm_by_hand": ("lstm", [11, 5, 6, 7, 3]),
    "gpt": ("gpt", [2, 2, 8, 5, 3, 11]),
}
PREPARE = """
import dataclasses, functools, json, sys
from benchmarks import problems
from benchmarks.problems import WORKLOADS
from benchmarks.worker import build
for name, (maker, arguments) in json.loads(sys.argv[1]).items():
    make = functools.partial(getattr(problems, maker), *arguments)
    WORKLOADS[name] = dataclasses.replace(WORKLOADS[name], make=make)
"""
STEPS = """
facts = {name: build(sys.argv[2], sys.argv[3], name)[1] for name in WORKLOADS}
print(json.dumps({name: f["losses"] for name, f in facts.items() if f["offered"]}))
"""
IN_FLOAT64 = """
import numpy as np
from benchmarks.peers import torch_peer

def wide(x):
    if dataclasses.is_dataclass(x):
        return dataclasses.replace(x, **{f.name: wide(getattr(x, f.name)) for f in dataclasses.fields(x)})
    if isinstance(x, (list, tuple)):
        return type(x)(map(wide, x))
    return x.astype("f8") if isinstance(x, np.ndarray) and x.dtype == "f4" else x

found = {}
for name in ("lenet", "lstm", "gpt"):
    step = getattr(torch_peer, name)(wide(WORKLOADS[name].make()), "plain")
    found[name] = [step() for _ in range(5)]
print(json.dumps({**found, "lstm_by_hand": found["lstm"]}))
"""


def reference_elementwise(problem):
    a, b, c, d = (x.astype(np.float64) for x in problem.operands)
    t, s = np.tanh(a * b + c), 1 / (1 + np.exp(-d))
    gradients = [s * (1 - t * t) * b - 2 * a, s * (1 - t * t) * a, s * (1 - t * t), t * s * (1 - s)]
    return [(t * s - a * a).mean() + sum(g[i] for i, g in enumerate(gradients))] * 5


REFERENCES["elementwise"] = reference_elementwise


def losses_of(code, *arguments):
    """What code prints about the workloads, from a process of its own: no framework is imported here."""
    done = subprocess.run(
        [sys.executable, "-c", PREPARE + code, json.dumps(SMALL), *arguments],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def expected():
    found = losses_of(IN_FLOAT64) if machine.installed("torch") else {}
    for name, workload in problems.WORKLOADS.items():
        maker, arguments = SMALL.get(name, (None, ()))
        problem = getattr(problems, maker)(*arguments) if maker else workload.make()
        if workload.family in REFERENCES:
            found[name] = REFERENCES[workload.family](problem)
    return found


PRODUCTS = {"products64", "products1024"}
FIRST = {"mlp64", "mlp1024", "qnet", "chain"}
ELEMENTWISE = {"elementwise1k", "elementwise4m"}
TRAINING = set(problems.WORKLOADS) - PRODUCTS
TOLERANCES = {
    "chain": 1e-4,
    "lenet": 1e-4,
}  # a thousand additions round a thousand times; Adam divides by small numbers


@pytest.mark.parametrize(
    ("peer", "mode", "offered"),
    [
        ("minigraph", "dynamic", TRAINING),
        ("minigraph", "c", TRAINING),
        ("minigraph", "numpy", TRAINING),
        ("numpy", "plain", PRODUCTS),
        ("torch", "plain", set(problems.WORKLOADS)),
        ("torch", "fused", set(problems.WORKLOADS) - ELEMENTWISE - {"chain"}),
        ("jax", "jit", TRAINING - {"lstm_by_hand"}),
        ("autograd", "plain", FIRST | ELEMENTWISE),
        ("mygrad", "plain", FIRST),
    ],
)
def test_a_framework_computes_what_the_reference_computes(peer, mode, offered, expected):
    if peer != "minigraph" and not machine.installed(peer):
        pytest.skip(f"{peer} is not installed")
    losses = losses_of(STEPS, peer, mode)
    assert set(losses) == offered
    for workload in losses.keys() & expected.keys():
        assert losses[workload] == pytest.approx(expected[workload], rel=TOLERANCES.get(workload, 5e-6)), workload


def test_a_wrong_gradient_shows_in_the_evidence():
    problem = problems.elementwise(100)
    gradients = [np.ones(100) for _ in range(4)]
    right = problem.evidence(-100.0, gradients)
    for i in range(4):
        wrong = [1.01 * g if k == i else g for k, g in enumerate(gradients)]
        assert abs(problem.evidence(-100.0, wrong) - right) / abs(right) > 1e-3


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


def test_a_missed_target_is_marked_in_the_table_and_other_contenders_have_their_own():
    table = dataclasses.replace(TABLE, other_targets={"base": {"mlp64": 0.5, "chain": 2.0}})
    results = [made_up("base", [4e-3]), made_up("ours", [2e-3])]
    compare_with_base(results)
    assert "| 2.00 (2.00-2.00) | 2.2 (missed); base 0.5 |" in speed_table(table, {"mlp64": results})
    assert "| 2.00 (2.00-2.00) | 1.5; base 2 (missed) |" in speed_table(table, {"chain": results})
    assert "mlp64: 0.5x base is 8.00 ms; base takes 4.00 ms, 1.00x: reached" in verdicts(table, {"mlp64": results})
    results[1].losses, results[1].loss_difference = [2.0, 3.0], 2.0
    assert "| wrong losses | 2.2; base 0.5 |" in speed_table(table, {"mlp64": results})


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


@pytest.mark.parametrize("table", [dynamic.TABLE, static.TABLE], ids=lambda table: table.name)
@pytest.mark.parametrize("partial", [["--quick"], ["--workloads", "mlp64"], ["--peers", "jax"]])
def test_only_a_full_run_may_change_the_readme(table, partial, capsys):
    with pytest.raises(SystemExit):
        command.parse(table, ["--readme", *partial])
    assert "full run" in capsys.readouterr().err


def test_a_full_run_may_change_the_readme():
    options = command.parse(dynamic.TABLE, ["--readme"])
    assert options.readme and options.workloads == ["mlp64", "mlp1024", "qnet", "chain"]


@pytest.mark.parametrize("table", [dynamic.TABLE, static.TABLE], ids=lambda table: table.name)
def test_every_workload_of_the_table_exists(table):
    assert {*table.targets, *table.products} <= set(problems.WORKLOADS)
    for title, targets in table.other_targets.items():
        assert title in [contender.title for contender in table.contenders]
        assert set(targets) <= set(table.targets)


# --- the whole command, and how long compiling takes ------------------------------------------------------------------


@pytest.fixture
def results(tmp_path, monkeypatch):
    monkeypatch.setattr(command, "RESULTS", tmp_path)
    monkeypatch.setattr(command, "QUICK", dataclasses.replace(BRIEF, threads=(1,)))
    return tmp_path


def test_a_quick_look_at_static_mode(results, capsys):
    table = dataclasses.replace(static.TABLE, products=())
    arguments = ["--quick", "--threads", "1", "--workloads", "elementwise1k", "--peers", "autograd"]
    assert command.run(table, arguments) == 0, capsys.readouterr().err
    raw = json.loads((results / "static-quick.json").read_text())
    assert [path.name for path in results.iterdir()] == ["static-quick.json"]
    measured = {result["contender"]: result for result in raw["results"]["elementwise1k"]}
    assert measured["minigraph C"]["status"] == "ok"
    assert set(raw["appendix"]["first_calls"]) == {"elementwise1k"}
    limits = raw["appendix"]["limits"]["workloads"]["elementwise1k"]
    assert limits["flops"] > 10_000 and limits["bytes"] >= 8 * 4000 and limits["least"] > 0 and limits["best"] > 0
    printed = capsys.readouterr().out
    assert "| workload | cold | from the cache |" in printed and "| nodes | trace |" in printed


def test_a_full_run_writes_a_page(results, capsys):
    table = Table("made-up", (NUMPY,), NUMPY, {"products64": None}, 1 / 3, appendix=lambda *_: ("more", [1]))
    assert command.run(table, ["--rounds", "2", "--threads", "1"]) == 0
    page = (results / "made-up.md").read_text()
    assert page.startswith("# `python -m benchmarks.made-up --rounds 2 --threads 1`, 20")
    assert "| the matrix products of the MLP alone, batch 64 |" in page and "more" in page
    assert json.loads((results / "made-up.json").read_text())["appendix"] == [1]


@pytest.mark.skipif(find_compiler() is None, reason="needs a C compiler")
def test_the_first_call_of_two_finds_an_empty_cache_and_the_second_a_library(monkeypatch):
    before, first_call = [], compiling.first_call

    def watched(workload, cache):
        before.append(len(list(Path(cache).glob("*.so"))))
        return first_call(workload, cache)

    monkeypatch.setattr(compiling, "first_call", watched)
    found = compiling.first_calls(["elementwise1k"], 2)
    assert before == [0, 1, 0, 1]
    assert set(found) == {"elementwise1k"} and all(seconds > 0 for seconds in found["elementwise1k"])


def test_growth_counts_the_nodes_and_stops_in_time(monkeypatch):
    small, large = compiling.growth([200, 400])
    assert 150 < small["nodes"] < 250 and 300 < large["nodes"] < 500
    assert large["characters"] > small["characters"] > 0
    monkeypatch.setattr(compiling, "PATIENCE", 0.0)
    assert len(compiling.growth([200, 400])) == 1


def test_slow_compiling_is_called_missed(monkeypatch):
    monkeypatch.setattr(compiling, "first_calls", lambda *_: {"qnet": (0.5, 0.2), "mlp64": (1.5, 0.05)})
    grown = [{"nodes": 1000, "trace": 0.01, "passes": 0.02, "plan": 0.03}]
    monkeypatch.setattr(compiling, "growth", lambda _: grown)
    text, raw = compiling.appendix(["qnet", "mlp64"], False)
    assert "| 0.50 s | 0.200 s (missed) |" in text and "| 1.50 s (missed) | 0.050 s |" in text
    assert "| 1,000 | 10.0 | 20.0 | 30.0 | 60.0 |" in text
    assert "| 10,000 |  |  |  | not tried (missed) |" in text and "| 100,000 |" in text
    assert raw["growth"] == grown
