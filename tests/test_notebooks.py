"""The notebooks as a reader meets them: exercises that can be solved, checks that can say no, cells that fit a screen.

That every cell runs and prints what is saved is nbval's business, and `test_project.py` looks at the saved outputs.
Here the exercises are worked through: a cell with a line `name = ...` is an exercise, and the text above it holds a
solution in a folded block. The notebook is run as a plain program, the exercises left out; then each is tried as it
stands, with the solution, and with a wrong answer; all that once with compiled functions in NumPy and once in C, so
what the cells assert holds for both. Case studies train for a minute or two, so they are run in C alone: what NumPy
computes for them is compared in `test_study_*.py`.
"""

import ast
import contextlib
import io
import json
import re
from pathlib import Path

import pytest
from nbval.plugin import get_sanitize_patterns

import minigraph as mg

ROOT = Path(__file__).resolve().parent.parent / "notebooks"
NOTEBOOKS = sorted(path for path in ROOT.rglob("*.ipynb") if ".ipynb_checkpoints" not in path.parts)
BLANK = re.compile(r"^(\w+) = \.\.\.$", re.MULTILINE)
SOLUTION = re.compile(r"<details><summary>One solution</summary>.*?^```python\n(.*?)^```", re.DOTALL | re.MULTILINE)
WRONG = {"answer": "answer = -1.0", "around": "around = lambda x: mg.tanh(1.5 * x)",
         "rule": "rule = lambda F, g, y, x: g * y",
         "leaky_relu": "leaky_relu = lambda x: x", "year": "year = lambda capital, _: (capital, capital)",
         "rewrite": "rewrite = lambda n: n.inputs[0] if n.op.name == 'relu' else n",
         "unstretch": 'unstretch = lambda g, shape: g.sum(axis=tuple(range(g.ndim - len(shape))))',
         "subscripts": 'subscripts = "bqd,bkd->bkq"',
         "lambert_rule": "lambert_rule = lambda F, g, y, x: g / F.exp(y)",
         "needed": 'needed = ("x",)',
         "through": "through = lambda F, g, y, x: 0 * g",
         "safe_lengths": "safe_lengths = lengths",
         "culprit": 'culprit = "divide"',
         "honest_error": "honest_error = squared_error",
         "cheapest": "cheapest = 10 * 100 * 50 + 100 * 5 * 50",
         "turned_round": "turned_round = lambda node: node",
         "unlucky": "unlucky = 2.0"}  # fmt: skip


def cells(path):
    notebook = json.loads(path.read_text(encoding="utf-8"))
    return [(cell["cell_type"], "".join(cell["source"]), cell) for cell in notebook["cells"]]


def exercises(path):
    """(blank, the exercise's code, its solution) of every exercise of a notebook."""
    found, text = [], ""
    for kind, source, _ in cells(path):
        if kind == "code" and (blank := BLANK.search(source)):
            solution = SOLUTION.search(text)
            found.append((blank[1], source, solution[1] if solution else None))
        text = source if kind == "markdown" else ""
    return found


def shown(source, namespace):
    """Run a cell: what it prints, and the value of its last line if that is an expression."""
    tree = ast.parse(source)
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(tree, "<cell>", "exec"), namespace)
        value = eval(compile(ast.Expression(last.value), "<cell>", "eval"), namespace) if last else None
    return printed.getvalue() + ("" if value is None else str(value))


@pytest.fixture
def figures(monkeypatch):
    """What the notebooks need besides NumPy; figures are drawn without a screen."""
    plt = pytest.importorskip("matplotlib.pyplot")
    pytest.importorskip("sklearn")
    pytest.importorskip("IPython")
    plt.switch_backend("agg")
    monkeypatch.setattr(plt, "show", lambda: plt.close("all"))


@pytest.mark.parametrize(
    ("path", "each_backend"),
    [(path, backend) for path in NOTEBOOKS for backend in ("numpy", "c")
     if (backend == "c" or path.parent.name != "case_studies")],
    indirect=["each_backend"],
    ids=lambda value: getattr(value, "stem", value),
)  # fmt: skip
def test_exercises_can_be_solved_and_their_checks_can_say_no(path, figures, each_backend):
    own = set(mg.OPS)
    namespace = {"__name__": "__main__"}
    for kind, source, _ in cells(path):
        if kind == "code" and not BLANK.search(source):
            shown(source, namespace)
    assert len(exercises(path)) >= 2
    for name, source, solution in exercises(path):
        assert solution is not None, f"no solution above the cell\n{source}"
        assert "waiting for your answer" in shown(source, namespace)
        blank = f"{name} = ..."
        assert "right!" in shown(source.replace(blank, solution.strip(), 1), namespace), source
        with pytest.raises(AssertionError):
            shown(source.replace(blank, WRONG[name], 1), namespace)
    for name in set(mg.OPS) - own:
        del mg.OPS[name]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_cells_are_short_and_their_outputs_fit_a_screen(path):
    for kind, source, cell in cells(path):
        assert source.count("\n") < 28, f"a cell of more than 28 lines:\n{source}"
        for output in cell.get("outputs", []) if kind == "code" else []:
            text = "".join(output.get("text", output.get("data", {}).get("text/plain", "")))
            if "text/html" not in output.get("data", {}):
                assert text.count("\n") < 28, f"an output of more than 28 lines:\n{text}"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_cells_that_show_times_are_not_compared(path):
    """What depends on the clock differs in each run; only cells that say so may show it."""
    for kind, source, cell in cells(path):
        if kind == "code" and ("perf_counter()" in source or "compare(" in source) and "def " not in source:
            assert "nbval-ignore-output" in cell["metadata"].get("tags", []), source


def test_notebooks_are_compared_by_what_pictures_show():
    """Not by colours, nor by the flat copy that pages without SVG show; but by names, labels and arrows."""

    def compared(source):
        for pattern, replacement in get_sanitize_patterns((ROOT.parent / "tests/nbval.cfg").read_text("utf-8")):
            source = re.sub(pattern, replacement, source)
        return source

    html = mg.tanh(mg.tensor(0.0, requires_grad=True, name="x"))._repr_mimebundle_()["text/html"]
    sheet, copy = re.search(r"<style>.*</style>", html)[0], re.search(r'(?<=src=)"data:.*?"', html)[0]
    assert compared(html.replace(sheet, "<style>.minigraph{}</style>").replace(copy, '"data:image/svg+xml,"')) == (
        compared(html)
    )
    assert len(compared(html)) < len(html) - len(sheet) - len(copy) + 50
    for shown in (">tanh<", ">x<", 'data-tail="n0"', "mg-output", "float32[]", "alt="):
        assert compared(html.replace(shown, "another")) != compared(html)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_links_of_notebooks_lead_somewhere(path):
    for kind, source, _ in cells(path):
        if kind == "markdown":
            for target in re.findall(r"\]\(([^)\s#]+)[^)]*\)", source):
                assert re.match(r"[a-z]+:", target) or (path.parent / target).exists(), target
