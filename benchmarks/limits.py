"""How far each compiled step is from what the machine can do at most.

The floating-point operations and bytes of a step can be counted. Divided by the ceilings of the machine, which are
measured in the same run, they give the least time that the step could take there. What the step takes beyond that is
work of ours, and where most of its time goes says which.

``python -m benchmarks.limits mlp64 gpt`` prints the numbers as JSON; they need a process of their own, because the
number of threads is settled when a process starts.
"""

import json
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

from .harness import ROOT, Setting
from .problems import WORKLOADS
from .report import Results, milliseconds, row

LARGEST, SMALL = 3, 0.01  # how many kinds of steps the table names, and the share below which it names none


def profile(workload: str, calls: int) -> dict[str, Any]:
    """The counts and times of one step, in seconds, and the share of each kind of operation in it."""
    from .worker import build

    step, _ = build("minigraph", "c", workload)
    found = step.profile(calls=calls)  # type: ignore[union-attr]
    shares: dict[str, float] = {}
    for one in found.rows:
        name = one.name if len(one.members) == 1 else "fused loops"
        shares[name] = shares.get(name, 0.0) + one.best / found.best
    return {
        "flops": found.flops,
        "bytes": found.nbytes,
        "least": found.least,
        "best": found.best,
        "shares": dict(sorted(shares.items(), key=lambda item: -item[1])),
    }


def appendix(results: Results, quick: bool) -> tuple[str, dict[str, Any]]:
    """The table in Markdown, and its numbers. The first result of a workload is the base of the last column."""
    done = subprocess.run(
        [sys.executable, "-m", f"{__package__}.limits", *(["--quick"] if quick else []), *results],
        cwd=ROOT,
        env=Setting("c", 2).environment(),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    raw = json.loads(done.stdout.splitlines()[-1])
    head = ["workload", "MFLOP", "MB", "least time", "time", "times the least", "where it goes", "speed limit"]
    lines = [
        f"The limits of this machine: {raw['ceilings']}.",
        "The least time is that of all FLOPs and bytes of a step at these limits, the speed limit what that would be",
        "in the first table; the time is that of the program with 2 threads, without the checks before it.",
        "",
        row(head),
        row(["---", *["---:"] * 5, "---", "---:"]),
    ]
    for workload, one in raw["workloads"].items():
        base = results[workload][0]
        parts = [f"{name} {share:.0%}" for name, share in one["shares"].items() if share > SMALL]
        numbers = f"{one['flops'] / 1e6:.3g}", f"{one['bytes'] / 1e6:.3g}"
        times = milliseconds(one["least"]), milliseconds(one["best"]), f"{one['best'] / one['least']:.1f}"
        limit = f"{base.seconds / one['least']:.2f}" if base.status == "ok" else ""
        lines.append(row([WORKLOADS[workload].title, *numbers, *times, ", ".join(parts[:LARGEST]), limit]))
    return "\n".join(lines), raw


def main(arguments: Sequence[str]) -> None:
    from minigraph.compiler import roofline

    quick = "--quick" in arguments
    machine = roofline(again=not quick)
    bandwidths = ", ".join(f"{level.name} {level.bandwidth / 1e9:.0f} GB/s" for level in machine.levels)
    found = {name: profile(name, 5 if quick else 30) for name in arguments if name != "--quick"}
    ceilings = f"{machine.single / 1e9:.0f} GFLOP/s, {bandwidths} ({machine.threads} threads)"
    print(json.dumps({"ceilings": ceilings, "workloads": found}))


if __name__ == "__main__":
    main(sys.argv[1:])
