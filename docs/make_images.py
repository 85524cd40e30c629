"""Draw the pictures of the README. Run it after a change to how graphs are drawn: `python docs/make_images.py`.

The picture is drawn by the README's own first program, so that a reader who types it sees the same graph.
"""

import contextlib
import io
import re
import runpy
import tempfile
from pathlib import Path

DOCS = Path(__file__).resolve().parent


def first_program(readme: str) -> str:
    """The first Python block of a Markdown page."""
    found = re.search(r"^```python\n(.*?)^```", readme, re.DOTALL | re.MULTILINE)
    if found is None:
        raise ValueError("the page has no Python block")
    return found[1]


def draw(folder: Path) -> None:
    """Run the README's first program in `folder`, which saves its picture there."""
    program = first_program((DOCS.parent / "README.md").read_text(encoding="utf-8"))
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as place:
        file = Path(place) / "first_graph.py"  # a file, so that the picture can quote its lines
        file.write_text(program, encoding="utf-8")
        with contextlib.chdir(folder), contextlib.redirect_stdout(io.StringIO()):
            runpy.run_path(str(file))


if __name__ == "__main__":
    draw(DOCS / "images")
