"""From results to Markdown: the table, the notes under it, and the part of the README between two comments."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .harness import LOSS_TOLERANCE, Contender, Result
from .problems import WORKLOADS

Results = Mapping[str, Sequence[Result]]


@dataclass(frozen=True)
class Table:
    """What one command measures. ``targets``: for each workload the speed that ``ours`` must reach, None for no target.

    The first contender is the base. ``memory_target`` is the share of the base's peak memory that ours must stay below.
    ``products`` are workloads of matrix products alone, which tell the frameworks from their BLAS libraries.
    ``other_targets``: for titles of other contenders, the same as ``targets``. ``appendix`` measures what is not a
    matter of contenders, for a quick look or a full run, and returns Markdown and the raw numbers.
    """

    name: str
    contenders: tuple[Contender, ...]
    ours: Contender
    targets: Mapping[str, float | None]
    memory_target: float
    products: tuple[str, ...] = ()
    other_targets: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    appendix: Callable[[Results, bool], tuple[str, Any]] | None = None

    @property
    def base(self) -> Contender:
        return self.contenders[0]


def milliseconds(seconds: float) -> str:
    digits = max(0, 2 - math.floor(math.log10(seconds * 1e3)))
    return f"{seconds * 1e3:.{min(digits, 4)}f} ms"


def speed_cell(result: Result, is_base: bool) -> str:
    if result.status != "ok":
        return result.status
    if not result.losses_agree:
        return "wrong losses"
    if is_base or result.ratio is None:
        return milliseconds(result.seconds)
    return f"{result.ratio.median:.2f} ({result.ratio.low:.2f}-{result.ratio.high:.2f})"


def target_cell(table: Table, workload: str, measured: Sequence[Result]) -> str:
    """What must be reached, and the word "missed" behind what was measured and not reached."""
    cells = []
    for title, targets in [(table.ours.title, table.targets), *table.other_targets.items()]:
        target = targets.get(workload)
        if target is None:
            continue
        found = [r for r in measured if r.contender == title and r.ratio is not None and r.losses_agree]
        missed = any(r.ratio.median < target for r in found if r.ratio is not None)
        name = "" if title == table.ours.title else f"{title} "
        cells.append(f"{name}{target:g}{' (missed)' if missed else ''}")
    return "; ".join(cells)


def largest(results: Results, title: str, quantity: Any) -> float | None:
    """The largest value over the workloads that the contender ran."""
    values = [quantity(r, rs[0]) for rs in results.values() for r in rs if r.contender == title and r.status == "ok"]
    return max((v for v in values if v is not None), default=None)


def memory_share(result: Result, base: Result) -> float | None:
    return result.peak_memory / base.peak_memory if base.status == "ok" else None


def row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def speed_table(table: Table, results: Results) -> str:
    """The table of the README: one row for each workload, then peak memory and the seconds until the first step."""
    titles = [contender.title for contender in table.contenders]
    names = [f"**{title}**" if title == table.ours.title else title for title in titles]
    place = titles.index(table.ours.title) + 1  # the target stands right of our own column

    def with_target(cells: list[str], target: str) -> list[str]:
        return [*cells[:place], target, *cells[place:]]

    lines = [
        row(["whole training step, float32", *with_target(names, "must reach")]),
        row(["---", *["---:"] * (len(titles) + 1)]),
    ]
    for workload, measured in results.items():
        cells = [speed_cell(result, result is measured[0]) for result in measured]
        lines.append(row([WORKLOADS[workload].title, *with_target(cells, target_cell(table, workload, measured))]))
    memory, start = [], []
    for title in titles:
        share = largest(results, title, memory_share)
        size = largest(results, title, lambda result, base: result.peak_memory / 2**20)
        seconds = largest(results, title, lambda result, base: result.import_seconds + result.first_step_seconds)
        absolute = "" if size is None else f"{size:.0f} MB"
        memory.append(absolute if share is None or title == table.base.title else f"{share:.2f} ({absolute})")
        start.append("" if seconds is None else f"{seconds:.2f} s")
    limit = f"below {table.memory_target:.2f}"
    lines.append(row(["peak memory of the process (largest)", *with_target(memory, limit)]))
    lines.append(row(["import and first step (slowest)", *with_target(start, "")]))
    return "\n".join(lines)


def notes(table: Table, results: Results, products: Results, machine: Mapping[str, Any], disturbed: int) -> str:
    """What a reader needs to judge the table."""
    base = table.base.title
    differences = [r.loss_difference for rs in results.values() for r in rs if r.loss_difference is not None]
    versions = ", ".join(f"{package} {version}" for package, version in machine["versions"].items())
    how = "median of the ratios of interleaved rounds (lowest-highest)"
    lines = [f"Speed relative to {base} (above 1 is faster): {how}, each process at its best setting."]
    if differences:
        lines.append(
            f"The losses after steps 1 and 5 differ from {base}'s by at most {max(differences):.0e} "
            f"(allowed: {LOSS_TOLERANCE:.0e})."
        )
    lines.append("")
    lines.append(f"Machine: {machine['processor']}, {machine['processors']} processors, {machine['vectors']};")
    lines.append(f"{machine['system']}, Python {machine['python']}; {versions}.")
    lines.append(f"NumPy's BLAS: {machine['numpy_blas']} (OPENBLAS_CORETYPE {machine['openblas_coretype']}).")
    if machine["vectors"] == "avx512f" and "SkylakeX" not in machine["numpy_blas"]:
        lines.append(
            "This BLAS does not use the processor's AVX-512; OPENBLAS_CORETYPE=SkylakeX in the environment makes it."
        )
    for workload, measured in products.items():
        numpy = measured[1]
        if numpy.ratio is not None:
            lines.append(
                f"In {WORKLOADS[workload].title}, NumPy has {numpy.ratio.median:.2f} times the speed of PyTorch."
            )
    if disturbed:
        lines.append(f"{disturbed} of the rounds were disturbed by other work on the machine.")
    lines += ["", "Best settings:", ""]
    for workload, measured in results.items():
        settings = "; ".join(f"{r.contender} ({r.setting})" for r in measured if r.status == "ok")
        lines.append(f"- {WORKLOADS[workload].title}: {settings}.")
    return "\n".join(lines)


def verdicts(table: Table, results: Results) -> list[str]:
    """One line for each target: the time that it means on this machine, and whether it was reached."""
    lines = []
    for workload, measured in results.items():
        base = measured[0]
        for title, targets in [(table.ours.title, table.targets), *table.other_targets.items()]:
            target, found = targets.get(workload), next((r for r in measured if r.contender == title), None)
            if target is None or found is None or base.status != "ok":
                continue
            wanted = f"{workload}: {target:g}x {table.base.title} is {milliseconds(base.seconds / target)}"
            if found.status != "ok" or found.ratio is None:
                lines.append(f"{wanted}; {title}: {found.status} {found.error}".rstrip())
                continue
            word = "reached" if found.ratio.median >= target else "MISSED"
            lines.append(f"{wanted}; {title} takes {milliseconds(found.seconds)}, {found.ratio.median:.2f}x: {word}")
            share = memory_share(found, base)
            if share is not None and title == table.ours.title:
                word = "reached" if share < table.memory_target else "MISSED"
                lines.append(f"{workload}: peak memory {share:.2f} of {table.base.title}'s: {word}")
    return lines


def replace_between_markers(text: str, name: str, content: str) -> str:
    """Replace what stands between ``<!-- benchmark:name -->`` and ``<!-- /benchmark:name -->``; nothing else changes.

    Raises:
        ValueError: unless each marker stands in the text exactly once, in this order.

    >>> print(replace_between_markers("a <!-- benchmark:x --> old <!-- /benchmark:x --> b", "x", "new"))
    a <!-- benchmark:x -->
    <BLANKLINE>
    new
    <BLANKLINE>
    <!-- /benchmark:x --> b
    """
    opening, closing = f"<!-- benchmark:{name} -->", f"<!-- /benchmark:{name} -->"
    if text.count(opening) != 1 or text.count(closing) != 1 or text.index(opening) > text.index(closing):
        raise ValueError(f"expected {opening} and, after it, {closing}, once each")
    before, rest = text.split(opening)
    after = rest.split(closing)[1]
    return f"{before}{opening}\n\n{content.strip()}\n\n{closing}{after}"
