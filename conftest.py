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
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(Path(__file__).parent), os.environ.get("PYTHONPATH")]))
if "PYTEST_XDIST_WORKER" in os.environ:  # one process per core already: threads of theirs would only fight
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

collect_ignore = ["benchmarks/peers"]  # each needs a framework of its own


@pytest.fixture(autouse=True)
def docstring_example(request, doctest_namespace, tmp_path_factory, monkeypatch):
    if isinstance(request.node, pytest.DoctestItem):
        import numpy

        import minigraph

        doctest_namespace.update(mg=minigraph, np=numpy)
        monkeypatch.chdir(tmp_path_factory.mktemp("docstring"))


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
