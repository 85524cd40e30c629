"""What the whole test run shares: the examples in docstrings and in Markdown pages are tests like all others.

A docstring's example finds `mg` and `np` ready. The Python blocks of a page (README.md, docs) are one program that runs
from top to bottom; blocks that begin with `>>>` must also print what the page says. Both run in an empty folder, so an
example may write files.
"""

import doctest
import os
import tempfile
from pathlib import Path

import pytest
from sybil import Sybil
from sybil.parsers.markdown import PythonCodeBlockParser, SkipParser

# Notebook kernels and other processes that tests start see this checkout, wherever they run.
HERE = Path(__file__).parent
os.environ["PYTHONPATH"] = os.pathsep.join(
    filter(None, [str(HERE), str(HERE / "widgets"), os.environ.get("PYTHONPATH")])
)
# The notice that there is no C compiler is for people; outputs of notebooks are compared without it.
os.environ["PYTHONWARNINGS"] = ",".join(
    filter(None, [os.environ.get("PYTHONWARNINGS"), "ignore:no C compiler was found"])
)
if "PYTEST_XDIST_WORKER" in os.environ:  # one process per core already: threads of theirs would only fight
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

collect_ignore = ["benchmarks/peers", "widgets/build_frontend.py"]  # each needs packages of its own
collect_ignore_glob = ["*/node_modules/*"]


@pytest.fixture(autouse=True)
def docstring_example(request, doctest_namespace, tmp_path_factory, monkeypatch):
    if isinstance(request.node, pytest.DoctestItem):
        import numpy

        import minigraph

        doctest_namespace.update(mg=minigraph, np=numpy)
        monkeypatch.chdir(tmp_path_factory.mktemp("docstring"))


@pytest.fixture(autouse=True)
def backend(request, monkeypatch):
    """Compiled functions run on NumPy, which needs no C compiler and gives the bits of dynamic mode. What is about both
    backends asks for `each_backend`, what is about C says `backend="c"`. Notebooks run as they do for everybody."""
    if "each_backend" not in request.fixturenames:
        monkeypatch.setenv("MINIGRAPH_BACKEND", os.environ.get("MINIGRAPH_BACKEND", "numpy"))


@pytest.fixture(params=["numpy", "c"])
def each_backend(request, monkeypatch):
    """The test runs with compiled functions in NumPy and in C."""
    if request.param == "c":
        from minigraph.compiler.toolchain import find_compiler

        if find_compiler() is None:
            pytest.skip("there is no C compiler")
    monkeypatch.setenv("MINIGRAPH_BACKEND", request.param)
    return request.param


class EmptyFolder:
    """The working folder of a page's examples."""

    def enter(self, namespace):
        namespace["__name__"] = "__main__"  # a page is a program, as a notebook is
        self.before, self.folder = os.getcwd(), tempfile.TemporaryDirectory()
        os.chdir(self.folder.name)

    def leave(self, namespace):
        os.chdir(self.before)
        self.folder.cleanup()


folder = EmptyFolder()
pytest_collect_file = Sybil(
    parsers=[PythonCodeBlockParser(doctest_optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE), SkipParser()],
    pattern="*.md",
    setup=folder.enter,
    teardown=folder.leave,
).pytest()
