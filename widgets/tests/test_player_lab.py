"""The player where people use it: in JupyterLab with a kernel, in a notebook without one, on a page of its own."""

import json
import subprocess
import sys
import urllib.request

import pytest

SETUP = "import minigraph as mg\nfrom minigraph_widgets import PropagationPlayer"
PLAYER = "player = PropagationPlayer(lambda w, x, b: mg.tanh(w * x + b) ** 2 + x, 0.5, 2.0, -1.5)\nplayer"
READ = "print(player.step, repr(player.selected))"


def end_kernels(lab):
    url, token, _ = lab
    for session in json.load(urllib.request.urlopen(f"{url}/api/sessions?token={token}")):
        request = urllib.request.Request(f"{url}/api/sessions/{session['id']}?token={token}", method="DELETE")
        urllib.request.urlopen(request)


def test_step_by_mouse_and_by_keys_and_read_it_back(notebook):
    n = notebook(SETUP, PLAYER, READ)
    view = n.page.locator(".mgw-player[data-ready]")
    view.wait_for()
    assert view.get_attribute("data-step") == "0"
    view.get_by_label("step forward").click()
    view.locator('.mg-box[data-state="forward"]').wait_for()
    assert "multiply is 1" in view.locator(".mgw-status").inner_text()
    view.locator(".mgw-canvas").click(position={"x": 5, "y": 5})
    for _ in range(6):
        n.page.keyboard.press("ArrowRight")
    assert "the gradient at pow is 1" in view.locator(".mgw-status").inner_text()
    assert view.locator('.mg-box[data-state="backward"] text').first.text_content() == "pow"
    n.page.keyboard.press("ArrowLeft")
    n.page.keyboard.press("/")
    n.page.keyboard.type("tanh")
    assert n.run(2, READ) == "6 'tanh'"
    assert n.run(2, "player.step = 2\nprint(player.step)") == "2"
    n.page.wait_for_function("() => document.querySelector('.mgw-player').dataset.step === '2'")
    assert n.watched.errors == []


def test_keys_of_the_player_are_not_commands_of_jupyterlab(notebook):
    n = notebook(SETUP, PLAYER, READ)
    view = n.page.locator(".mgw-player[data-ready]")
    view.locator(".mgw-canvas").click(position={"x": 5, "y": 5})
    for key in ("ArrowDown", "Home", "End", " ", " ", "Escape"):
        n.page.keyboard.press(key)
    assert n.page.locator(".jp-Notebook .jp-Cell").count() == 3
    assert n.page.locator(".mgw-player[data-ready]").count() == 1


def test_two_views_of_one_player_go_together(notebook):
    n = notebook(SETUP, PLAYER, "player")
    n.page.locator(".mgw-player[data-ready]").nth(1).wait_for()
    n.page.locator(".mgw-player").nth(0).get_by_label("last step").click()
    n.page.wait_for_function("() => document.querySelectorAll('.mgw-player')[1].dataset.step === '13'")


def test_it_goes_on_when_its_kernel_ends(notebook, lab):
    n = notebook(SETUP, PLAYER)
    view = n.page.locator(".mgw-player[data-ready]")
    view.wait_for()
    view.get_by_label("speed").select_option("4")
    view.get_by_label("play", exact=True).click()
    end_kernels(lab)
    n.page.wait_for_function("() => document.querySelector('.mgw-player').dataset.step === '13'")
    n.page.locator(".jp-Dialog").wait_for(state="detached")
    view.get_by_label("first step").click()
    assert view.get_attribute("data-step") == "0"


def test_notebook_7(notebook):
    pytest.importorskip("notebook", reason="needs notebook, of the extra `test`")
    n = notebook(SETUP, PLAYER, READ, app="notebooks")
    view = n.page.locator(".mgw-player[data-ready]")
    view.wait_for()
    view.locator(".mgw-canvas").click(position={"x": 5, "y": 5})
    n.page.keyboard.press("End")
    assert "the gradient of b is -0.7269" in view.locator(".mgw-status").inner_text()
    assert n.run(2, READ) == "13 ''"


def test_dark_theme(notebook):
    n = notebook(SETUP, PLAYER)
    view = n.page.locator(".mgw-player[data-ready]")
    view.wait_for()
    colour = "e => getComputedStyle(e).backgroundColor"
    assert view.evaluate(colour) == "rgb(255, 255, 255)"
    n.page.get_by_role("menuitem", name="Settings").click()
    n.page.get_by_text("Theme", exact=True).hover()
    n.page.get_by_text("JupyterLab Dark", exact=True).click()
    n.page.wait_for_function("() => document.body.dataset.jpThemeLight === 'false'")
    assert view.evaluate(colour) == "rgb(22, 22, 22)"
    box = view.locator(".mg-op rect").first
    assert box.evaluate("e => getComputedStyle(e).fill") not in ("rgb(0, 0, 0)", "rgb(255, 255, 255)")
    n.page.get_by_role("menuitem", name="Settings").click()
    n.page.get_by_text("Theme", exact=True).hover()
    n.page.get_by_text("JupyterLab Light", exact=True).click()
    n.page.wait_for_function("() => document.body.dataset.jpThemeLight === 'true'")


def test_the_saved_notebook_is_small_and_carries_the_script_once(notebook):
    n = notebook(SETUP, PLAYER, PLAYER.replace("0.5", "0.25"), PLAYER)
    n.page.locator(".mgw-player[data-ready]").nth(2).wait_for()
    cells = n.saved_json()["cells"]
    pages = ["".join(o["data"]["text/html"]) for c in cells[1:] for o in c["outputs"]]
    assert [p.count("data-minigraph-runtime") for p in pages] == [1, 0, 0]
    assert all(len(p) < 60_000 for p in pages[1:]), [len(p) for p in pages]
    assert not any(o.get("name") == "stderr" for c in cells for o in c["outputs"])


def test_a_notebook_without_a_kernel_plays(notebook, lab):
    n = notebook(SETUP, PLAYER, PLAYER.replace("0.5", "0.25"))
    n.page.locator(".mgw-player[data-ready]").nth(1).wait_for()
    n.saved_json()
    end_kernels(lab)
    again = notebook(run=False, path=n.path)
    again.page.locator(".mgw-player[data-ready]").nth(1).wait_for()
    again.page.locator(".mgw-player").nth(1).get_by_label("step forward").click()
    assert "multiply is 0.5" in again.page.locator(".mgw-player .mgw-status").nth(1).inner_text()


def test_nbconvert(notebook, chromium):
    n = notebook(SETUP, PLAYER)
    n.page.locator(".mgw-player[data-ready]").wait_for()
    n.saved_json()
    subprocess.run([sys.executable, "-m", "nbconvert", "--to", "html", str(n.path)], check=True, capture_output=True)
    context = chromium.new_context(offline=True)
    page = context.new_page()
    page.goto(n.path.with_suffix(".html").as_uri())
    page.locator(".mgw-player[data-ready]").wait_for()
    page.get_by_label("step forward").click()
    assert "multiply is 1" in page.locator(".mgw-status").inner_text()
    context.close()


def test_the_saved_page_plays_with_the_network_off(notebook, chromium):
    n = notebook(SETUP, PLAYER, "player.save('player.html')")
    context = chromium.new_context(offline=True, reduced_motion="reduce")
    page = context.new_page()
    page.goto((n.path.parent / "player.html").as_uri())
    page.locator(".mgw-player[data-ready]").focus()
    page.keyboard.press("End")
    assert "the gradient of b is -0.7269" in page.locator(".mgw-status").inner_text()
    context.close()


def test_sphinx_shows_a_notebook_that_plays(notebook, chromium, tmp_path):
    n = notebook(SETUP, PLAYER)
    n.page.locator(".mgw-player[data-ready]").wait_for()
    n.saved_json()
    pytest.importorskip("myst_nb", reason="needs myst-nb, of the extra `test`")
    (tmp_path / "conf.py").write_text(
        'project = "p"; extensions = ["myst_nb"]; nb_execution_mode = "off"\n'
        'nb_mime_priority_overrides = [("html", "text/html", 0)]; nb_ipywidgets_js = {}\n'
    )
    (tmp_path / "index.ipynb").write_text(n.path.read_text())
    command = [sys.executable, "-m", "sphinx", "-q", "-b", "html", str(tmp_path), str(tmp_path / "out")]
    subprocess.run(command, check=True, capture_output=True)
    context = chromium.new_context(offline=True)
    page = context.new_page()
    page.goto((tmp_path / "out" / "index.html").as_uri())
    page.locator(".mgw-player[data-ready]").wait_for()
    page.get_by_label("step forward").click()
    assert "multiply is 1" in page.locator(".mgw-status").inner_text()
    context.close()


def test_without_scripts_the_static_picture_stays(notebook, chromium):
    n = notebook(SETUP, PLAYER, "player.save('still.html')")
    context = chromium.new_context(offline=True, java_script_enabled=False)
    page = context.new_page()
    page.goto((n.path.parent / "still.html").as_uri())
    assert page.locator(".mgw-static svg.minigraph").is_visible()
    assert "grad -1.454" in page.locator(".mgw-static").inner_text()
    context.close()
