"""The rules of the project itself: what an import costs, which way arrows run, what is documented and committed."""

import ast
import inspect
import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from nbval.plugin import get_sanitize_patterns

import minigraph as mg

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "minigraph"


def python(code, *options, env=None):
    """Standard output and error of a program, run by a fresh interpreter."""
    done = subprocess.run([sys.executable, *options, "-c", code], cwd=ROOT, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout, done.stderr


def tracked(*patterns):
    """Files under version control, and those that are about to be."""
    command = [
        "git",
        "-c",
        "safe.directory=*",
        "ls-files",
        "--cached",
        "--others",
        "--exclude-standard",
        "-z",
        *patterns,
    ]
    names = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [path for name in sorted(filter(None, names.split("\0"))) if (path := ROOT / name).is_file()]


# --------------------------------------------------------------------------------------------------------- the import


def test_the_import_takes_less_than_a_fifth_of_a_second(tmp_path):
    """Processor time, which neighbours on the machine hardly disturb, and the best of several, which they disturb less.

    NumPy is part of it. Where NumPy alone needs half of that time, our own part may take as long as NumPy.
    """
    env = {**os.environ, "PYTHONPYCACHEPREFIX": str(tmp_path)}
    env.pop("PYTHONDONTWRITEBYTECODE", None)
    python("import minigraph", env=env)  # once to compile it, as an installation does
    measure = (
        "import time; a = time.process_time(); import numpy; b = time.process_time(); import minigraph; "
        "print(b - a, time.process_time() - a)"
    )
    runs = [tuple(map(float, python(measure, env=env)[0].split())) for _ in range(7)]
    total, numpy = min((total, numpy) for numpy, total in runs)
    assert total < max(0.2, 2 * numpy), f"import minigraph: {total:.3f} s, of which NumPy {numpy:.3f} s"


def test_the_import_needs_numpy_and_the_standard_library_only():
    names, _ = python(
        "import sys, numpy; before = set(sys.modules); import minigraph; print(*sorted(set(sys.modules) - before))"
    )
    found = {name.partition(".")[0] for name in names.split()}
    assert found - set(sys.stdlib_module_names) == {"minigraph"}


def test_the_import_prints_nothing_and_warns_of_nothing():
    assert python("import minigraph", "-W", "error") == ("", "")


# --------------------------------------------------------------------------------------------------------- the layers

# Lower layers first. A module imports from its own layer and those below it when it is loaded; what a function imports
# when it is called may come from its own layer and below, and from `draw`, since objects draw themselves.
LAYERS = (
    {"errors", "interrupt", "tree"},
    {"backend"},
    {"op", "tensor", "variable", "namespace", "autodiff", "graph", "guards", "trace", "printing", "compiler", "ops"},
    {"nn", "optim", "data", "debug", "interop", "draw"},
    {"__init__"},
)
# Where a module of the core needs another one that needs it, one of the two imports inside a function. Beyond that:
NEVER = {"ops": {"nn", "optim"}, "nn": {"optim", "data"}, "data": {"nn", "optim"}, "compiler": {"ops"}}
OPTIONAL = {"cupy", "cupyx", "pygraphviz", "sklearn", "safetensors", "tqdm", "IPython", "ml_dtypes"}


def imports(source, module):
    """(the imported module's full name, is it imported when the module is loaded?) of each import of a source text."""

    def walk(node, at_load):
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING":
                for other in child.orelse:
                    yield from walk(other, at_load)
            elif isinstance(child, ast.Import):
                yield from ((alias.name, at_load) for alias in child.names)
            elif isinstance(child, ast.ImportFrom):
                package = module.split(".")[: -child.level] if child.level else []
                base = [*package, *(child.module.split(".") if child.module else [])]
                if base == ["minigraph"]:
                    yield from ((f"minigraph.{alias.name}", at_load) for alias in child.names)
                else:
                    yield ".".join(base), at_load
            else:
                yield from walk(
                    child, at_load and not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
                )

    return list(walk(ast.parse(source), True))


def dotted(path):
    """`minigraph.nn.__init__` for minigraph/nn/__init__.py: a name whose last part the relative imports count from."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


def part(name):
    """Which part of the package a dotted name belongs to: `nn` of `minigraph.nn.module`."""
    pieces = name.split(".")
    return pieces[1] if len(pieces) > 1 else "__init__"


def layer(name):
    return next(level for level, members in enumerate(LAYERS) if name in members)


def violations(source, module):
    """What a module imports against the rules, in words."""
    own = part(module)
    wrong = []
    for name, at_load in imports(source, module):
        top = name.partition(".")[0]
        when = "when loaded" if at_load else "when called"
        if top == "minigraph":
            other = part(name)
            if (PACKAGE / other).exists() or (PACKAGE / f"{other}.py").exists():
                upwards = layer(other) > layer(own) and (at_load or other != "draw")
                if upwards or other in NEVER.get(own, ()):
                    wrong.append(f"{module} imports {name} {when}")
        elif top not in sys.stdlib_module_names and top != "numpy" and (at_load or top not in OPTIONAL):
            wrong.append(f"{module} imports {name} {when}")
    return wrong


def test_every_part_of_the_package_has_a_layer():
    parts = {path.stem for path in PACKAGE.glob("*.py")} | {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert parts == set().union(*LAYERS)


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_arrows_run_one_way(path):
    assert violations(path.read_text(encoding="utf-8"), dotted(path)) == []


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("minigraph.tensor", "import minigraph_widgets"),
        ("minigraph.tensor", "def show():\n    from minigraph_widgets import View"),
        ("minigraph.tensor", "class Tensor:\n    def _repr_svg_(self):\n        import ipywidgets"),
        ("minigraph.draw", "from IPython.display import SVG"),
        ("minigraph.tensor", "from .nn import Module"),
        ("minigraph.tensor", "from . import nn"),
        ("minigraph.tensor", "def f():\n    from . import optim"),
        ("minigraph.tensor", "if fast:\n    import minigraph.nn.module"),
        ("minigraph.backend.numpy", "from ..tensor import Tensor"),
        ("minigraph.nn.__init__", "from ..optim import Adam"),
        ("minigraph.compiler.passes.fold", "from ... import ops"),
        ("minigraph.errors", "from .backend import device"),
        ("minigraph.interop.safetensors", "import safetensors"),
    ],
)
def test_a_planted_arrow_the_wrong_way_is_found(module, source):
    assert len(violations(source, module)) == 1


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("minigraph.tensor", "if TYPE_CHECKING:\n    from .nn import Module"),
        ("minigraph.tensor", "class Tensor:\n    def _repr_svg_(self):\n        from .draw import svg"),
        ("minigraph.nn.module", "from .. import ops\nfrom ..tensor import Tensor\nimport numpy as np"),
        ("minigraph.interop.safetensors", "def save():\n    import safetensors.numpy"),
        ("minigraph.compiler.passes.__init__", "from ...graph import Graph\nfrom .fold import fold"),
    ],
)
def test_an_arrow_the_right_way_is_allowed(module, source):
    assert violations(source, module) == []


# --------------------------------------------------------------------------------------------------- the documentation


# Where users find things. Parts that they meet only as attributes of these (a graph's nodes, a pass's changes) are
# documented, too, but need no example of their own.
DOORS = ("", "nn", "nn.functional", "optim", "data", "data.datasets", "debug", "interop", "compiler", "tree", "random")


def door(path):
    found = mg
    for name in filter(None, path.split(".")):
        found = getattr(found, name)
    return found


def public_objects():
    """{door.name: function or class} of everything that a user is offered, each at the first door that has it."""
    found = {}
    for path in DOORS:
        module = door(path)
        for name in getattr(module, "__all__", None) or [name for name in vars(module) if not name.startswith("_")]:
            thing = getattr(module, name)
            home = getattr(thing, "__module__", None) or ""
            offered = home.startswith("minigraph") and (
                path == "" or hasattr(module, "__all__") or home == module.__name__
            )
            if offered and callable(thing) and thing not in found.values():
                found[f"{path}.{name}".lstrip(".")] = thing
    return found


PUBLIC = public_objects()


@pytest.mark.parametrize("name", sorted(PUBLIC))
def test_public_names_are_documented_with_an_example(name):
    thing = PUBLIC[name]
    text = inspect.getdoc(thing) or ""
    if inspect.isclass(thing):
        assert thing.__doc__ and thing.__doc__.strip(), f"mg.{name} has no docstring of its own"
        made_by_users = name.partition(".")[0] in ("nn", "optim", "data") and not issubclass(thing, BaseException)
        assert ">>>" in thing.__doc__ or not made_by_users, f"mg.{name}: the docstring has no example"
    else:
        assert text, f"mg.{name} has no docstring"
        assert ">>>" in text, f"mg.{name}: the docstring has no example"


def test_the_public_names_are_found():
    assert {"tensor", "Graph", "grad", "compile", "sin", "nn.Linear", "optim.AdamW", "debug.opcheck"} <= set(PUBLIC)


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_every_module_opens_with_its_idea(path):
    assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))), "the module has no docstring"


def shell_blocks(text):
    return re.findall(r"^```sh\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def test_the_readme_opens_with_a_picture_ten_lines_and_two_commands():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    opening, blocks = readme.partition("```sh")[0], shell_blocks(readme)
    assert re.search(r"^!\[.+\]\(docs/images/.+\.svg\)$", opening, re.MULTILINE)
    program = re.search(r"^```python\n(.*?)^```", opening, re.DOTALL | re.MULTILINE)[1]
    assert len([line for line in program.splitlines() if line.strip()]) <= 10
    assert len(blocks) == 2
    assert "jupyter lab notebooks/00_start_here.ipynb" in blocks[0]
    assert "python -m pytest" in blocks[1]
    assert (ROOT / "notebooks/00_start_here.ipynb").is_file()


def test_ci_runs_the_readmes_second_command():
    readme, script = (ROOT / "README.md").read_text(encoding="utf-8"), (ROOT / ".ci/run").read_text(encoding="utf-8")
    extract = re.search(r"\$\((awk .*)\)", script)[1]
    found = subprocess.run(["bash", "-c", extract], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert found == shell_blocks(readme)[1]


def labels(picture):
    """What is written in a picture: the same whichever release of Graphviz laid it out."""
    return sorted(re.findall(r">([^<>]+)</t(?:ext|span|itle)>", picture.read_text(encoding="utf-8")))


def test_the_picture_in_the_readme_is_the_one_its_program_draws(tmp_path):
    draw = f"import runpy, pathlib; runpy.run_path('docs/make_images.py')['draw'](pathlib.Path({str(tmp_path)!r}))"
    python(draw)
    drawn, committed = labels(tmp_path / "first_graph.svg"), labels(ROOT / "docs/images/first_graph.svg")
    assert {"tanh", "multiply", "pow", "add", "x", "w"} <= set(drawn)
    assert drawn == committed, "run `python docs/make_images.py`"


def local_links(text):
    """Targets of Markdown links and images that are files of the project."""
    text = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    targets = re.findall(r"\]\(([^)\s#]+)[^)]*\)", text)
    return [target for target in targets if not re.match(r"[a-z]+:", target)]


@pytest.mark.parametrize("path", tracked("*.md"), ids=lambda path: str(path.relative_to(ROOT)))
def test_links_between_pages_lead_somewhere(path):
    missing = [
        target for target in local_links(path.read_text(encoding="utf-8")) if not (path.parent / target).exists()
    ]
    assert missing == []


def test_every_dependency_has_its_reason():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"].values()
    required = [*project["dependencies"], *(line for lines in extras for line in lines)]
    names = {re.match(r"[A-Za-z0-9_.-]+(\[ctk\])?", line)[0] for line in required} - {"minigraph"}
    frontend = json.loads((ROOT / "widgets/frontend/package.json").read_text(encoding="utf-8"))
    names |= {name for name in {**frontend["dependencies"], **frontend["devDependencies"]} if "@types/" not in name}
    page = (ROOT / "docs/dependencies.md").read_text(encoding="utf-8")
    reasons = dict(re.findall(r"^\| (\S+) \| (.+) \|$", page, re.MULTILINE))
    reasons.pop("package")
    assert set(reasons) - {"hatchling"} == names


# ------------------------------------------------------------------------------------------------ what is committed

PLACES = re.compile(r"(?<![\w.~/:-])/(?:home|Users|root|work|mnt|tmp|var|private|opt)/[\w.-]+|[A-Z]:\\{1,2}Users\\")
LOCKS = {
    "conda-lock.yml", "package-lock.json", "pdm.lock", "Pipfile.lock", "pnpm-lock.yaml", "poetry.lock", "pylock.toml",
    "uv.lock", "yarn.lock",
}  # fmt: skip


def test_paths_of_a_machine_are_recognised():
    for path in ("/home/ada/x.py", "see /Users/ada", '"/tmp/ipykernel_17/3.py"', r"C:\Users\ada"):
        assert PLACES.search(path.replace("~", "")), path
    for text in ("docs/home/page", "https://example.org/home/page", "~/work/file", "a/root/b"):
        assert not PLACES.search(text), text


def test_no_path_of_a_machine_is_committed():
    found = []
    for path in tracked():
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue  # a picture
        if path != Path(__file__).resolve():
            found += [f"{path.relative_to(ROOT)}: {match[0]}" for match in PLACES.finditer(text)]
    assert found == []


def test_no_lock_file_is_committed():
    assert [path for path in tracked() if path.name in LOCKS] == []


NOTEBOOKS = tracked("*.ipynb")


def faults(notebook):
    """What is wrong with the saved outputs of a notebook, in words."""
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code" and "".join(cell["source"]).strip()]
    wrong = [] if cells else ["there is no code in it"]
    counts = [cell["execution_count"] for cell in cells]
    if counts != list(range(1, len(cells) + 1)):
        wrong.append(f"not executed once from top to bottom: {counts}")
    for number, cell in enumerate(cells, 1):
        for output in cell["outputs"]:
            if output["output_type"] == "error" and "raises-exception" not in cell["metadata"].get("tags", []):
                wrong.append(f"cell {number} ends in {output['ename']}")
            if output["output_type"] == "stream" and output["name"] == "stderr":
                wrong.append(f"cell {number} writes to stderr: {''.join(output['text'])[:100]}")
    if notebook["metadata"].get("kernelspec", {}).get("name") != "python3":
        wrong.append("the kernel is not python3")
    return wrong


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: str(path.relative_to(ROOT)))
def test_notebooks_are_saved_executed(path):
    assert faults(json.loads(path.read_text(encoding="utf-8"))) == []


def code_cell(count, *outputs, tags=()):
    facts = {"cell_type": "code", "source": ["1 / 0"], "metadata": {"tags": list(tags)}}
    return {**facts, "execution_count": count, "outputs": list(outputs)}


ERROR = {"output_type": "error", "ename": "ZeroDivisionError"}
NOISE = {"output_type": "stream", "name": "stderr", "text": ["Fontconfig warning"]}


@pytest.mark.parametrize(
    ("cells", "number"),
    [
        ([code_cell(1), code_cell(2)], 0),
        ([code_cell(1, ERROR, tags=["raises-exception"])], 0),
        ([code_cell(None)], 1),
        ([code_cell(2), code_cell(1)], 1),
        ([code_cell(7)], 1),
        ([code_cell(1, ERROR)], 1),
        ([code_cell(1, NOISE)], 1),
        ([], 1),
    ],
)
def test_planted_faults_of_a_notebook_are_found(cells, number):
    notebook = {"cells": cells, "metadata": {"kernelspec": {"name": "python3"}}}
    assert len(faults(notebook)) == number
    assert len(faults({**notebook, "metadata": {}})) == number + 1


@pytest.mark.parametrize(
    ("saved", "now", "equal"),
    [
        ('<path d="M3.1,4 C-1e-3,2"/>', '<path d="M5,6"/>', True),
        ('<text x="1" text-anchor="end">w</text>', '<text x="2" text-anchor="start">w</text>', True),
        ("at 0x7f3a5c0d1e20>", "at 0x7f00aa0d1e20>", True),
        ("<text x='1'>w</text>", "<text x='1'>v</text>", False),
        ('<g class="mg-arrow" data-tail="n1">', '<g class="mg-arrow" data-tail="n2">', False),
        ("tensor([1., 2.])", "tensor([1., 3.])", False),
        ("mask 0x1f", "mask 0x2f", False),
    ],
)
def test_what_notebooks_may_differ_in(saved, now, equal):
    patterns = get_sanitize_patterns((ROOT / "tests/nbval.cfg").read_text(encoding="utf-8"))
    for pattern, replacement in patterns:
        saved, now = re.sub(pattern, replacement, saved), re.sub(pattern, replacement, now)
    assert (saved == now) is equal


# ------------------------------------------------------------------------------------------------------------ the tools


@pytest.mark.parametrize(
    "command",
    [["ruff", "check"], ["ruff", "format", "--check"], ["mypy"]],
    ids=["ruff check", "ruff format", "mypy"],
)
def test_tool(command):
    done = subprocess.run([sys.executable, "-m", *command], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, f"{' '.join(command)}:\n{done.stdout[-6000:]}{done.stderr[-2000:]}"
