"""The GPU in one command: ``python -m benchmarks.gpu`` runs its tests, measures training steps, and writes both down.

Continuous integration has no GPU, so whoever has one runs this. It needs NumPy, CuPy, pytest and Hypothesis; PyTorch
with CUDA is measured beside minigraph where it is installed. The tests are those marked ``cuda``, among them those of
the generated CUDA C, and the family of tests of every operation, which takes the GPU where there is one. The result
goes to ``benchmarks/results/gpu.md``.

Three ways of minigraph are measured: dynamic; compiled, with CuPy called operation by operation (``backend="numpy"``);
and compiled to CUDA C, of which the page also says how many functions that are, and what is replayed as CUDA graphs.

Steps are told to the GPU without waiting for their results, as in training, and the time is taken when it has finished
all of a burst. The contenders run in turn, several bursts each, and the median of each is reported.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import minigraph as mg
from minigraph.backend import synchronize
from minigraph.errors import DeviceError

from . import machine
from .harness import ROOT
from .problems import Classification, mlp

RESULT = ROOT / "benchmarks" / "results" / "gpu.md"
CHECKED_STEPS = 5
LOSS_TOLERANCE = 1e-3
OPTIONS = ["-q", "-o", "addopts=", "-o", "timeout=", "--confcutdir", str(ROOT / "tests")]  # of pytest, without plugins
Step = Callable[[], Any]  # makes a step and returns its loss, which need not be there yet


@dataclass(frozen=True)
class Contender:
    """A way to make the step. ``make(problem, device)`` is None where the framework or its GPU is missing."""

    title: str
    make: Callable[[Classification, Any], Step | None]
    wait: Callable[[Any], None]


def minigraph_step(problem: Classification, device: Any, *, backend: str | None = None) -> Step:
    """The training step of an MLP on a device; with a backend, compiled."""
    modules: list[mg.nn.Module] = []
    for weight, bias in problem.layers:
        layer = mg.nn.Linear(weight.shape[1], weight.shape[0])
        layer.weight.assign(weight)
        layer.bias.assign(bias)
        modules += [layer, mg.nn.ReLU()]
    net = mg.nn.Sequential(*modules[:-1]).to(device)
    x, y = mg.tensor(problem.inputs, device=device), mg.tensor(problem.labels, device=device)
    optimizer = mg.optim.SGD(net.parameters(), lr=problem.learning_rate, momentum=problem.momentum)

    def step(x: Any, y: Any) -> Any:
        loss = mg.nn.functional.cross_entropy(net(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss

    return partial(step if backend is None else mg.compile(step, backend=backend), x, y)


def torch_step(problem: Classification, device: Any) -> Step | None:
    """The same in PyTorch, eager."""
    if not machine.installed("torch"):
        return None
    import torch

    if not torch.cuda.is_available():
        return None
    place = torch.device("cuda", device.index)
    modules: list[Any] = []
    for weight, bias in problem.layers:
        layer = torch.nn.Linear(weight.shape[1], weight.shape[0])
        layer.load_state_dict({"weight": torch.from_numpy(weight), "bias": torch.from_numpy(bias)})
        modules += [layer, torch.nn.ReLU()]
    net = torch.nn.Sequential(*modules[:-1]).to(place)
    x, y = torch.from_numpy(problem.inputs).to(place), torch.from_numpy(problem.labels).to(place)
    optimizer = torch.optim.SGD(net.parameters(), lr=problem.learning_rate, momentum=problem.momentum)

    def step() -> Any:
        loss = torch.nn.functional.cross_entropy(net(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step


def wait_for_torch(device: Any) -> None:
    import torch

    torch.cuda.synchronize(device.index)


CONTENDERS = (
    Contender("minigraph dynamic", minigraph_step, synchronize),
    Contender("minigraph compiled, CuPy", partial(minigraph_step, backend="numpy"), synchronize),
    Contender("minigraph compiled, CUDA C", partial(minigraph_step, backend="cuda"), synchronize),
    Contender("PyTorch eager", torch_step, wait_for_torch),
)
WORKLOADS = {
    "MLP 64-128-64-10, batch 64": partial(mlp, 64),
    "MLP 64-128-64-10, batch 65,536": partial(mlp, 65536),
    "MLP 1,024-4,096-4,096-10, batch 4,096": partial(mlp, 4096, (1024, 4096, 4096, 10)),
}


def burst(step: Step, wait: Callable[[], None], number: int) -> float:
    """The seconds of one step, in a row of so many."""
    wait()
    begin = time.perf_counter()
    for _ in range(number):
        step()
    wait()
    return (time.perf_counter() - begin) / number


def measure(problem: Classification, device: Any, rounds: int, seconds: float) -> dict[str, float | str]:
    """For each contender the median seconds of a step, or why there are none."""
    reference = minigraph_step(problem, "cpu")
    losses = [float(reference().item()) for _ in range(CHECKED_STEPS)]
    found: dict[str, float | str] = {}
    running: list[tuple[str, Step, Callable[[], None], int]] = []
    for contender in CONTENDERS:
        step = contender.make(problem, device)
        if step is None:
            found[contender.title] = "not installed"
            continue
        difference = max(abs(step().item() - loss) / max(1.0, abs(loss)) for loss in losses)
        if not difference <= LOSS_TOLERANCE:
            found[contender.title] = f"wrong: losses differ from the CPU's by {difference:.0e}"
            continue
        wait = partial(contender.wait, device)
        number = max(1, round(seconds / burst(step, wait, 3)))
        running.append((contender.title, step, wait, number))
    times: dict[str, list[float]] = {title: [] for title, *_ in running}
    for _ in range(rounds):
        for title, step, wait, number in running:
            times[title].append(burst(step, wait, number))
    return found | {title: statistics.median(of_one) for title, of_one in times.items()}


def run_tests() -> dict[str, tuple[bool, str]]:
    """For each set of tests, whether it passed, and pytest's last line. No plugin is needed for them."""
    marked = [f for f in sorted((ROOT / "tests").glob("test_*.py")) if "pytest.mark.cuda" in f.read_text("utf-8")]
    sets = {
        "tests marked `cuda`": ["-m", "cuda", *map(str, marked)],
        "every operation of the catalogue": [str(ROOT / "tests" / "test_all_ops.py")],
    }
    outcomes = {}
    for title, files in sets.items():
        ended = subprocess.run(
            [sys.executable, "-m", "pytest", *OPTIONS, *files], cwd=ROOT, capture_output=True, text=True
        )
        print(ended.stdout[-4000:], ended.stderr[-2000:], sep="\n")
        lines = ended.stdout.strip().splitlines() or ended.stderr.strip().splitlines() or ["no output"]
        outcomes[title] = ended.returncode == 0, lines[-1].strip("= ")
    return outcomes


def compiled_to(problem: Classification, device: Any) -> str:
    """One sentence about what the step becomes in CUDA C."""
    step: Any = minigraph_step(problem, device, backend="cuda")
    step()
    page = step.func.explain()
    return f"{page.head}: {page['CUDA graphs'].note}" if step.func.backend == "cuda" else page.head


def report(
    name: str,
    about: dict[str, Any],
    tests: dict[str, tuple[bool, str]],
    speeds: dict[str, dict[str, float | str]],
    programs: dict[str, str],
) -> str:
    """The page of results."""
    versions = ", ".join(f"{package} {version}" for package, version in about["versions"].items())
    titles = [contender.title for contender in CONTENDERS]
    lines = [
        "# On a GPU", "",
        f"{name}, {about['time']} UTC.", "",
        f"{about['processor']}, {about['system']}, Python {about['python']}; {versions}.", "",
        "Written by `python -m benchmarks.gpu`.", "",
        "| tests | outcome | |", "|---|---|---|",
        *[f"| {title} | {'passed' if ok else 'FAILED'} | {words} |" for title, (ok, words) in tests.items()], "",
        f"| whole training step, float32, momentum SGD | {' | '.join(titles)} |",
        f"|---|{'---:|' * len(titles)}",
    ]  # fmt: skip
    for workload, times in speeds.items():
        cells = [f"{t * 1e3:.3f} ms" if isinstance(t, float) else t for t in map(times.__getitem__, titles)]
        lines.append(f"| {workload} | {' | '.join(cells)} |")
    lines += ["", "In CUDA C:", "", *[f"- {workload}: {words}." for workload, words in programs.items()]]
    return "\n".join(lines) + "\n"


def describe(device: Any) -> tuple[str, dict[str, Any]]:
    """The name of the GPU; the machine and the versions."""
    import cupy

    about = machine.describe(["numpy", "torch"])
    about["versions"]["cupy"] = cupy.__version__
    return cupy.cuda.runtime.getDeviceProperties(device.index)["name"].decode(), about


def main(arguments: Sequence[str] | None = None) -> int:
    """Test, measure, write. The exit status is 0; 1 if a test failed or a loss is wrong; 2 without a GPU."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description="Test and measure on an NVIDIA GPU.")
    parser.add_argument("--device", default="cuda", help='"cuda" or "cuda:<number>"')
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=0.3, help="of a burst")
    options = parser.parse_args(arguments)
    try:
        device = mg.device(options.device)
    except DeviceError as error:
        print(f"Nothing was tested or measured: {error.what} ({error.actual or options.device}).", file=sys.stderr)
        return 2
    tests = run_tests()
    speeds = {title: measure(make(), device, options.rounds, options.seconds) for title, make in WORKLOADS.items()}
    programs = {title: compiled_to(make(), device) for title, make in WORKLOADS.items()}
    text = report(*describe(device), tests, speeds, programs)
    print(text)
    RESULT.write_text(text, "utf-8")
    wrong = [t for times in speeds.values() for t in times.values() if isinstance(t, str) and t.startswith("wrong")]
    return 0 if all(ok for ok, _ in tests.values()) and not wrong else 1


if __name__ == "__main__":
    sys.exit(main())
