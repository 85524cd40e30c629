"""Real browsers: one Chromium for the whole run, one JupyterLab with settings of its own, and pages with no network."""

import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip
WIDGETS = Path(__file__).resolve().parent.parent
SETTINGS = {
    "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
    "notebook-extension/tracker": {"windowingMode": "none"},
}


@pytest.fixture(scope="session")
def chromium():
    """A headless Chromium: the one that CHROMIUM names, the system's, or the one that playwright has installed."""
    from playwright.sync_api import Error, sync_playwright

    path = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    with sync_playwright() as playwright:
        try:
            browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        except Error as reason:
            pytest.skip(f"needs Chromium (Debian: apt install chromium): {str(reason).splitlines()[0]}")
        yield browser
        browser.close()


class Watched:
    """A page that writes down what a person would not see: errors in its scripts, requests that leave the machine."""

    def __init__(self, context, home):
        self.page, self.errors, self.outside, self.home = context.new_page(), [], [], home
        self.page.set_default_timeout(30_000)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("console", lambda m: self.errors.append(m.text) if m.type == "error" else None)
        self.page.on("request", self._request)

    def _request(self, request):
        if not request.url.startswith(("data:", "blob:", "about:", *self.home)):
            self.outside.append(request.url)


@pytest.fixture
def saved(chromium, tmp_path):
    """`saved(view)`: the saved page of a view, opened with the network off. It must be quiet to the end."""
    opened = []

    def show(view, **options):
        path = tmp_path / f"view{len(opened)}.html"
        view.save(path)
        context = chromium.new_context(viewport={"width": 1200, "height": 900}, offline=True, **options)
        watched = Watched(context, ("file://",))
        opened.append((context, watched))
        watched.page.goto(path.as_uri())
        watched.page.locator(".mgw[data-ready]").first.wait_for()
        return watched.page

    yield show
    for context, watched in opened:
        context.close()
        assert watched.errors == []
        assert watched.outside == []


@pytest.fixture(scope="session")
def lab(tmp_path_factory):
    """(address, token, folder) of a JupyterLab that sees this checkout."""
    folder, home = tmp_path_factory.mktemp("lab"), tmp_path_factory.mktemp("home")
    for name, value in SETTINGS.items():
        path = home / "settings" / "@jupyterlab" / f"{name}.jupyterlab-settings"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(value))
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    token = secrets.token_hex(16)
    own = ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "JUPYTERLAB_WORKSPACES_DIR", "IPYTHONDIR")
    env = os.environ | {name: str(home / name) for name in own} | {"JUPYTERLAB_SETTINGS_DIR": str(home / "settings")}
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--ip=127.0.0.1", f"--port={port}",
               "--ServerApp.port_retries=0", f"--IdentityProvider.token={token}", f"--ServerApp.root_dir={folder}",
               "--LabApp.extension_manager=readonly", "--LabApp.news_url=None"]  # fmt: skip
    with open(home / "log", "w") as log:
        server = subprocess.Popen(command, env=env, stdout=log, stderr=subprocess.STDOUT)
    url = f"http://127.0.0.1:{port}"
    for _ in range(600):
        try:
            urllib.request.urlopen(f"{url}/api/status?token={token}")
            break
        except OSError:
            assert server.poll() is None, (home / "log").read_text()
            time.sleep(0.1)
    yield url, token, folder
    server.terminate()
    server.wait(15)


class Notebook:
    """A notebook that is open in JupyterLab, as somebody sees it who sits before it."""

    def __init__(self, watched, path):
        self.watched, self.page, self.path = watched, watched.page, path

    def cell(self, number):
        return self.page.locator(".jp-Notebook .jp-Cell").nth(number)

    def run_all(self):
        self.page.locator('.jp-Notebook-ExecutionIndicator[data-status="idle"]').wait_for()  # the kernel is there
        for _ in range(4):  # on a busy machine, a menu can open before it can act
            self.page.get_by_role("menuitem", name="Run", exact=True).click()
            self.page.get_by_text("Run All Cells", exact=True).click()
            self.page.wait_for_timeout(2000)
            if any(c in "".join(self.page.locator(".jp-InputPrompt").all_inner_texts()) for c in "*123456789"):
                break
        self.idle()

    def idle(self):
        self.page.wait_for_function(
            "() => { const p = [...document.querySelectorAll('.jp-CodeCell .jp-InputPrompt')].map(e => e.textContent);"
            " return p.length && p.every(t => /\\[\\d+\\]/.test(t)) }",
            timeout=60_000,
        )

    def run(self, number, code):
        """Run other code in a cell; what it prints."""
        self.cell(number).locator(".cm-content").click()
        self.page.keyboard.press("Control+a")
        self.page.keyboard.insert_text(code)
        before = self.cell(number).locator(".jp-InputPrompt").text_content()
        self.page.keyboard.press("Control+Enter")
        self.page.wait_for_function(
            "([n, before]) => { const t = document.querySelectorAll('.jp-Notebook .jp-Cell')[n]"
            ".querySelector('.jp-InputPrompt').textContent; return t !== before && /\\[\\d+\\]/.test(t) }",
            arg=[number, before],
        )
        return "".join(self.cell(number).locator(".jp-OutputArea-output").all_inner_texts()).strip()

    def saved_json(self):
        self.page.keyboard.press("Control+s")
        self.page.wait_for_timeout(1000)
        return json.loads(self.path.read_text())


@pytest.fixture
def notebook(lab, chromium):
    """`notebook(*cells, run=True)`: a notebook with these cells, open in JupyterLab (or, with `app="notebooks"`, in
    Notebook 7), run to the end."""
    url, token, folder = lab
    opened = []

    def show(*cells, run=True, path=None, app="lab/tree"):
        path = path or folder / f"n{secrets.token_hex(4)}.ipynb"
        if cells:
            kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3"}}
            nbformat.write(new_notebook(cells=[new_code_cell(c) for c in cells], metadata=kernel), path)
        context = chromium.new_context(viewport={"width": 1200, "height": 900})
        watched = Watched(context, (url, url.replace("http", "ws")))
        opened.append((context, watched))
        dialog = watched.page.locator(".jp-Dialog .jp-mod-accept")  # which kernel? a person says: that one
        watched.page.add_locator_handler(dialog, lambda accept: accept.first.click())
        watched.page.goto(f"{url}/{app}/{path.name}?reset&token={token}")
        watched.page.locator(".jp-Notebook .jp-Cell").first.wait_for()
        watched.page.locator(".jp-Notebook .jp-Cell").first.click()
        found = Notebook(watched, path)
        if run:
            found.run_all()
        return found

    yield show
    for context, watched in opened:
        context.close()
        assert watched.outside == []
