"""Starts the workers, finds each contender's best setting, and measures all of them in interleaved bursts.

How a workload is measured:

1. Every contender is started in each of its settings (number of threads, mode), each in a process of its own.
2. A few short bursts choose the best setting of each contender; the other processes end.
3. Rounds: in each, every contender runs one burst, in alternating order. A round in which the machine was busy with
   something else is repeated, up to three times as many rounds as wanted; the quietest are kept.
4. The losses of steps 1 and 5 are compared with the base's, so that nobody is fast by computing something else.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from . import machine
from .problems import WORKLOADS
from .ratio import Ratio, losses_difference, speed

ROOT = Path(__file__).resolve().parent.parent
LOSS_TOLERANCE = 1e-4
QUIET = 0.15
"""A burst is quiet while everything else on the machine takes less than this share of one processor."""


@dataclass(frozen=True)
class Contender:
    """A framework in the table. ``modes`` are tried and the fastest is kept.

    ``peer`` is the name of the package that must be installed, and of the module ``peers/<peer>_peer.py``.
    """

    title: str
    peer: str
    modes: tuple[str, ...]


@dataclass(frozen=True)
class Plan:
    """How long to measure: rounds, seconds of a burst, and the numbers of threads to try."""

    rounds: int = 15
    burst: float = 0.2
    threads: tuple[int, ...] = (1, 2)
    trial_rounds: int = 3
    answer_limit: float = 300.0


@dataclass(frozen=True)
class Setting:
    mode: str
    threads: int

    def __str__(self) -> str:
        return f"{self.mode}, {self.threads} thread{'s' if self.threads > 1 else ''}"

    def environment(self) -> dict[str, str]:
        """The variables that the libraries' thread pools read, each by another name, before they are loaded."""
        count = str(self.threads)
        names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "MINIGRAPH_THREADS")
        flags = {"XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false"} if self.threads == 1 else {}
        return {**os.environ, **dict.fromkeys(names, count), "NPROC": count, **flags}  # NPROC: XLA's pool


@dataclass
class Result:
    """What is known of one contender on one workload. ``status``: ok, not installed, not offered, or failed."""

    contender: str
    status: str
    error: str = ""
    setting: str = ""
    trials: dict[str, float] = field(default_factory=dict)
    import_seconds: float = 0.0
    first_step_seconds: float = 0.0
    losses: list[float] = field(default_factory=list)
    rounds: list[float] = field(default_factory=list)
    peak_memory: int = 0
    ratio: Ratio | None = None
    loss_difference: float | None = None

    @property
    def seconds(self) -> float:
        return statistics.median(self.rounds)

    @property
    def losses_agree(self) -> bool:
        return self.loss_difference is None or self.loss_difference <= LOSS_TOLERANCE


class WorkerError(Exception):
    """A worker ended or did not answer; the message is the last line of what it wrote to standard error."""


class Worker:
    """One process with one step. ``facts`` is its first answer: losses, seconds to import and to the first step.

    ``variables`` are further variables of its environment.
    """

    def __init__(
        self,
        contender: Contender,
        setting: Setting,
        workload: str,
        limit: float,
        variables: Mapping[str, str] | None = None,
    ) -> None:
        self.contender, self.setting, self.limit = contender, setting, limit
        self.seconds: list[float] = []
        self.peak_memory = 0
        self.errors = tempfile.TemporaryFile("w+")  # noqa: SIM115  closed by close(), with the process
        self.process = subprocess.Popen(
            [sys.executable, "-m", f"{__package__}.worker", contender.peer, setting.mode, workload],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            text=True,
            cwd=ROOT,
            env={**setting.environment(), **(variables or {})},
        )
        try:
            self.facts = self.answer()
        except BaseException:
            self.close()
            raise

    def answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        watchdog = threading.Timer(self.limit, self.process.kill)
        watchdog.start()
        try:
            line = self.process.stdout.readline()
        finally:
            watchdog.cancel()
        if line:
            reply: dict[str, Any] = json.loads(line)
            return reply
        code = self.process.wait()
        self.errors.seek(0)
        written = self.errors.read().replace(f"{ROOT}{os.sep}", "").strip().splitlines()
        raise WorkerError(written[-1] if written else f"ended with exit status {code} and no answer")

    def burst(self, seconds: float) -> float:
        """Run one burst and note its time; returns the share of a processor that others used meanwhile."""
        assert self.process.stdin is not None
        machine.wait_until_idle()
        everything, own = machine.busy_seconds(), 0.0
        if everything is not None:
            own = machine.process_seconds(self.process.pid)
        self.process.stdin.write(f"{seconds}\n")
        self.process.stdin.flush()
        reply = self.answer()
        self.seconds.append(reply["seconds"])
        self.peak_memory = reply["peak_memory"]
        if everything is None:
            return 0.0
        others = (machine.busy_seconds() or 0.0) - everything - (machine.process_seconds(self.process.pid) - own)
        return max(0.0, others - 2 / machine.TICKS) / seconds  # the counters step by a tick at either end

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()
        self.errors.close()


def start_all(
    workload: str, contender: Contender, plan: Plan, say: Callable[[str], None]
) -> tuple[list[Worker], Result | None]:
    """A worker for each setting, or a result that says why there is none."""
    if not machine.installed(contender.peer):
        return [], Result(contender.title, "not installed")
    workers: list[Worker] = []
    for setting in (Setting(mode, threads) for mode in contender.modes for threads in plan.threads):
        say(f"{workload}: starting {contender.title} ({setting})")
        try:
            worker = Worker(contender, setting, workload, plan.answer_limit)
        except WorkerError as error:
            for started in workers:
                started.close()
            return [], Result(contender.title, "failed", str(error))
        if worker.facts["offered"]:
            workers.append(worker)
        else:
            worker.close()
    return workers, None if workers else Result(contender.title, "not offered")


def best_setting(workers: list[Worker], plan: Plan) -> Worker:
    """The worker with the shortest burst: interference only ever adds time. The others end."""
    if len(workers) > 1:
        for _ in range(plan.trial_rounds):
            for worker in workers:
                worker.burst(plan.burst / 2)
    best = min(workers, key=lambda worker: min(worker.seconds, default=0.0))
    for worker in workers:
        if worker is not best:
            worker.close()
    return best


def run_rounds(workers: Sequence[Worker], plan: Plan, say: Callable[[str], None]) -> tuple[list[list[float]], int]:
    """The seconds of each worker in each kept round, and how many of the kept rounds were disturbed after all."""
    rounds: list[tuple[float, list[float]]] = []  # (disturbance, seconds of each worker)
    while sum(noise < QUIET for noise, _ in rounds) < plan.rounds and len(rounds) < 3 * plan.rounds:
        order = list(range(len(workers)))
        if len(rounds) % 2:
            order.reverse()
        noise = max([workers[index].burst(plan.burst) for index in order], default=0.0)
        rounds.append((noise, [worker.seconds[-1] for worker in workers]))
        say(f"round {len(rounds)}, {sum(noise < QUIET for noise, _ in rounds)} of {plan.rounds} quiet")
    kept = sorted(rounds, key=lambda one: one[0])[: plan.rounds]
    return [times for _, times in kept], sum(noise >= QUIET for noise, _ in kept)


def measure(
    workload: str, contenders: Sequence[Contender], plan: Plan, say: Callable[[str], None]
) -> tuple[list[Result], int]:
    """Measure one workload. The first contender is the base of the ratios and of the comparison of losses.

    Returns the results in the order of the contenders, and the number of rounds that others on the machine disturbed.
    """
    if workload not in WORKLOADS:
        raise ValueError(f"no workload {workload!r}; there are {', '.join(WORKLOADS)}")
    results: list[Result] = []
    running: list[tuple[Result, Worker]] = []
    try:
        for contender in contenders:
            workers, problem = start_all(workload, contender, plan, say)
            if problem is not None:
                results.append(problem)
                continue
            say(f"{workload}: trying the settings of {contender.title}")
            worker = best_setting(workers, plan)
            result = Result(contender.title, "ok", setting=str(worker.setting))
            result.trials = {str(w.setting): min(w.seconds) for w in workers if w.seconds}
            result.import_seconds = worker.facts["import_seconds"]
            result.first_step_seconds = worker.facts["first_step_seconds"]
            result.losses = worker.facts["losses"]
            results.append(result)
            running.append((result, worker))
        rounds, disturbed = run_rounds([w for _, w in running], plan, lambda text: say(f"{workload}: {text}"))
        for index, (result, worker) in enumerate(running):
            result.rounds = [times[index] for times in rounds]
            result.peak_memory = worker.peak_memory
    finally:
        for _, worker in running:
            worker.close()
    compare_with_base(results)
    return results, disturbed


def compare_with_base(results: Sequence[Result]) -> None:
    """Fill in the ratios and loss differences against the first result, if that one ran."""
    base = results[0]
    if base.status != "ok":
        return
    for result in results:
        if result.status == "ok":
            result.ratio = speed(base.rounds, result.rounds)
            result.loss_difference = losses_difference(base.losses, result.losses)
