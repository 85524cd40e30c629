"""The command line that the tables share: measure, print, write the results down, bring the README up to date.

A full run writes ``results/<table>.md`` (the page) and ``.json`` (the raw results); any other only a ``-quick.json``.
"""

import argparse
import dataclasses
import json
import sys
import time
from collections.abc import Sequence

from . import machine
from .harness import ROOT, Contender, Plan, Result, measure
from .problems import WORKLOADS
from .report import Table, notes, replace_between_markers, speed_table, verdicts

RESULTS = ROOT / "benchmarks" / "results"
README = ROOT / "README.md"
QUICK = Plan(rounds=5, burst=0.1, trial_rounds=2)
PRODUCT_CONTENDERS = (Contender("PyTorch", "torch", ("plain",)), Contender("NumPy", "numpy", ("plain",)))


class Progress:
    """One line that is written over in a terminal; in a log file a line each time, but not for each round."""

    def __init__(self) -> None:
        self.begin = time.monotonic()
        self.terminal = sys.stderr.isatty()

    def __call__(self, text: str) -> None:
        stamped = f"{time.monotonic() - self.begin:5.0f} s  {text}"
        if self.terminal:
            print(f"\r\x1b[K{stamped}", end="", file=sys.stderr, flush=True)
        elif ": round" not in text:
            print(stamped, file=sys.stderr, flush=True)

    def end(self) -> None:
        if self.terminal:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)


def parse(table: Table, arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog=f"python -m benchmarks.{table.name}", description=f"Measure the table '{table.name}' on this machine."
    )
    others = list(dict.fromkeys(c.peer for c in table.contenders if c not in (table.base, table.ours)))
    parser.add_argument("--quick", action="store_true", help="a fast look: few, short rounds")
    parser.add_argument("--rounds", type=int, help="rounds to keep (default 15, quick 5)")
    parser.add_argument("--workloads", nargs="+", choices=list(table.targets), default=list(table.targets))
    parser.add_argument("--peers", nargs="*", choices=others, default=others, help="the other frameworks to measure")
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2], help="numbers to try (default 1 2)")
    parser.add_argument("--readme", action="store_true", help="replace the table in README.md (only after a full run)")
    options = parser.parse_args(arguments)
    options.full = not options.quick and options.workloads == list(table.targets) and options.peers == others
    if options.readme and not options.full:
        parser.error("--readme takes a full run: no --quick, --workloads or --peers")
    return options


def record(results: dict[str, Sequence[Result]]) -> dict[str, list[dict[str, object]]]:
    return {workload: [dataclasses.asdict(result) for result in measured] for workload, measured in results.items()}


def run(table: Table, arguments: Sequence[str] | None = None) -> int:
    """Measure the table and report. The exit status is 1 if a framework failed or computed other losses, else 0."""
    options = parse(table, arguments)
    plan = dataclasses.replace(QUICK if options.quick else Plan(), threads=tuple(options.threads))
    if options.rounds:
        plan = dataclasses.replace(plan, rounds=options.rounds)
    contenders = tuple(c for c in table.contenders if c in (table.base, table.ours) or c.peer in options.peers)
    table = dataclasses.replace(table, contenders=contenders)
    progress = Progress()
    results: dict[str, Sequence[Result]] = {}
    products: dict[str, Sequence[Result]] = {}
    disturbed = 0
    for workload in options.workloads:
        results[workload], noisy = measure(workload, contenders, plan, progress)
        disturbed += noisy
    for workload in table.products:
        products[workload], noisy = measure(workload, PRODUCT_CONTENDERS, plan, progress)
        disturbed += noisy
    progress.end()

    about = machine.describe(["numpy", *dict.fromkeys(c.peer for c in contenders)])
    text = f"{speed_table(table, results)}\n\n{notes(table, results, products, about, disturbed)}"
    lines = verdicts(table, results)
    raw = {"machine": about, "plan": dataclasses.asdict(plan), "results": record(results), "products": record(products)}
    page = text
    if table.appendix is not None:
        more, raw["appendix"] = table.appendix(results, options.quick)
        page = f"{text}\n\n{more}"
    print(page, *lines, sep="\n")
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{table.name}{'' if options.full else '-quick'}.json").write_text(json.dumps(raw, indent=1) + "\n")
    if options.full:
        reached = "\n".join(f"- {line}" for line in lines)
        given = " ".join(sys.argv[1:] if arguments is None else arguments)
        title = f"# `python -m benchmarks.{table.name}{f' {given}' if given else ''}`, {about['time'].split()[0]}"
        (RESULTS / f"{table.name}.md").write_text(f"{title}\n\n{page}\n\nWhat must be reached:\n\n{reached}\n")
    if options.readme:
        README.write_text(replace_between_markers(README.read_text(), table.name, text))

    wrong = [
        f"{WORKLOADS[workload].title}: {result.contender}: {result.error or 'losses differ from the base'}"
        for workload, measured in {**results, **products}.items()
        for result in measured
        if result.status == "failed" or not result.losses_agree
    ]
    for line in wrong:
        print(line, file=sys.stderr)
    return 1 if wrong else 0
