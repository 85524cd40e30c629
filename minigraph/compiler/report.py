"""What reports share: numbers with units, columns of text, and pages for notebooks.

The pages have no script and no ids. Their colours are CSS variables with a light and a dark set; the dark one is used
when the system asks for it, unless the page says what it is, as JupyterLab, Sphinx themes and VS Code do.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

LIGHT = {
    "paper": "#ffffff",
    "ink": "#1f1f1f",
    "faint": "#5c5c5c",
    "line": "#d0d0d0",
    "bar": "#9ecae9",
    "shade": "#f4f4f4",
}
DARK = {
    "paper": "#111111",
    "ink": "#e4e4e4",
    "faint": "#b5b5b5",
    "line": "#444444",
    "bar": "#2b5f86",
    "shade": "#1c1c1c",
}


def quantity(value: float, unit: str, step: int = 1000) -> str:
    """A number with a unit and a prefix, in three digits.

    >>> mg.compiler.report.quantity(2_097_152, "FLOP"), mg.compiler.report.quantity(3.21e-5, "s")
    ('2.10 MFLOP', '32.1 µs')
    >>> mg.compiler.report.quantity(32768, "B", 1024)
    '32 KiB'
    """
    prefixes = ["", "Ki", "Mi", "Gi", "Ti"] if step == 1024 else ["", "k", "M", "G", "T"]
    whole = unit != "s" and abs(value) < step and float(value).is_integer()
    if unit == "s":
        value, prefixes = value * 1e9, ["n", "µ", "m", ""]
    while abs(value) >= step - 0.5 and len(prefixes) > 1:
        value, prefixes = value / step, prefixes[1:]
    if step == 1024:
        return f"{value:.4g} {prefixes[0]}{unit}"
    return f"{value:.{0 if whole else max(0, 3 - len(str(int(abs(value)))))}f} {prefixes[0]}{unit}".rstrip()


def columns(rows: Sequence[Sequence[str]], align: str, indent: str = "  ") -> list[str]:
    """Lines in which the columns are in line; `align`: `<` or `>` for each.

    >>> mg.compiler.report.columns([("a", "1"), ("bc", "20")], "<>")
    ['  a    1', '  bc  20']
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    cells = [[f"{x:{a}{w}}" for x, a, w in zip(row, align, widths, strict=True)] for row in rows]
    return [(indent + "  ".join(row)).rstrip() for row in cells]


def style() -> str:
    """The style sheet of a page; it touches nothing but `.minigraph-report`."""

    def variables(colours: dict[str, str]) -> str:
        return ";".join(f"--mg-{name}:{colour}" for name, colour in colours.items())

    def under(*roots: str) -> str:
        return ",".join(f"{root} .minigraph-report" for root in roots)

    cell = "text-align:left;border:0;background:none;color:inherit;white-space:nowrap;vertical-align:top"
    rules = {
        "": "background:var(--mg-paper);color:var(--mg-ink);padding:.5em .75em;overflow:auto;max-width:100%;"
        "box-sizing:border-box;border-radius:6px;font:13px/1.45 system-ui,sans-serif;font-variant-numeric:tabular-nums",
        "table": "table-layout:auto;border-collapse:collapse;margin:.3em 0;color:inherit;background:none;"
        "font-size:inherit",
        "h4": "margin:.5em 0 0;font-size:1.05em;color:inherit",
        "tbody tr:nth-child(n)": "background:none",
        "caption": "text-align:left;font-weight:600;font-size:1.05em;padding:.2em 0;color:inherit",
        "p": "margin:.2em 0;color:var(--mg-faint)",
        "td": f"{cell};padding:.15em .7em;border-bottom:1px solid var(--mg-line)",
        "th": f"{cell};padding:.15em .7em;border-bottom:1px solid var(--mg-line);font-weight:600;color:var(--mg-faint)",
        ".mg-number": "text-align:right",
        ".mg-words": "white-space:normal;min-width:14em;max-width:48em",
        ".mg-scope": "color:var(--mg-faint)",
        "tfoot td": "font-weight:600;border-bottom:0",
        ".mg-share": "min-width:9em;position:relative",
        ".mg-share i": "position:absolute;left:0;top:2px;bottom:2px;background:var(--mg-bar);border-radius:2px",
        ".mg-share b": "position:relative;font-weight:inherit;padding-left:.3em",
    }
    own = ".minigraph-report"
    themes = [
        f"{own}{{{variables(LIGHT)}}}",
        f"@media (prefers-color-scheme:dark){{{own}{{{variables(DARK)}}}}}",
        under('[data-jp-theme-light="true"]', '[data-theme="light"]', ".vscode-light") + f"{{{variables(LIGHT)}}}",
        under('[data-jp-theme-light="false"]', '[data-theme="dark"]', ".vscode-dark") + f"{{{variables(DARK)}}}",
    ]
    # twice the class: JupyterLab has rules for all tables, which a single one would not overrule
    return "".join([*themes, *[f"{own}{own} {part}".rstrip() + f"{{{text}}}" for part, text in rules.items()]])


def page(*parts: str) -> str:
    """The parts as one block of HTML with its style."""
    return f'<div class="minigraph-report"><style>{style()}</style>\n' + "\n".join(parts) + "\n</div>"


def table(
    head: Sequence[str], rows: Sequence[Sequence[str]], align: str, *, caption: str = "", foot: Sequence[str] = ()
) -> str:
    """A table; `align`: `<` text, `>` number, `w` words that may wrap, `h` HTML,
    `b` HTML, a share with its bar."""

    def cell(text: str, how: str, tag: str = "td") -> str:
        kind = {
            ">": ' class="mg-number"',
            "w": ' class="mg-words"',
            "h": ' class="mg-words"',
            "b": ' class="mg-share"',
        }.get(how, "")
        scope = ' scope="col"' if tag == "th" else ""
        return f"<{tag}{scope}{kind}>{text if how in 'hb' and tag == 'td' else escape(text)}</{tag}>"

    def line(texts: Sequence[str], tag: str = "td") -> str:
        return "<tr>" + "".join(cell(t, a, tag) for t, a in zip(texts, align, strict=True)) + "</tr>"

    parts = ["<table>"]
    if caption:
        parts.append(f"<caption>{escape(caption)}</caption>")
    if any(head):
        parts.append(f"<thead>{line(head, 'th')}</thead>")
    parts.append("<tbody>" + "\n".join(map(line, rows)) + "</tbody>")
    if foot:
        parts.append(f"<tfoot>{line(foot)}</tfoot>")
    return "".join([*parts, "</table>"])


def bar(share: float, longest: float) -> str:
    """A cell's content: a part of the whole as a number and as a bar, which is full for the longest."""
    return f'<i style="width:{100 * share / longest:.1f}%"></i><b>{100 * share:.1f} %</b>'
