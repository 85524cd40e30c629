"""The graph explorer in a real browser: as a page of its own with no network, and in JupyterLab with its kernel."""

import numpy as np
import pytest

import minigraph as mg
from minigraph_widgets import GraphExplorer
from minigraph_widgets.explorer import compare

from .test_explorer import Net, X

OVERLAP = """(list) => list.filter((a, i) => list.slice(i + 1).some(b => {
    const p = a.getBoundingClientRect(), q = b.getBoundingClientRect();
    return p.left < q.right - 1 && q.left < p.right - 1 && p.top < q.bottom - 1 && q.top < p.bottom - 1
})).length"""
SPILLED = """(list) => list.filter(g => {
    const box = g.querySelector('.mgw-fill').getBoundingClientRect();
    return [...g.querySelectorAll('text')].some(t => {
        const r = t.getBoundingClientRect();
        return r.left < box.left - 1 || r.right > box.right + 1 || r.top < box.top - 1 || r.bottom > box.bottom + 1
    })
}).map(g => g.textContent)"""


def boxes(page):
    return page.locator(".mgw-node .mgw-name").all_text_contents()


def test_fold_unfold_and_select_by_mouse(saved):
    page = saved(GraphExplorer(Net(depth=1), X))
    page.get_by_label("fold everything").click()
    assert "gelu" not in boxes(page)
    net = page.locator(".mgw-node", has=page.locator("text.mgw-name", has_text="Net"))
    net.dblclick()
    page.locator(".mgw-node", has=page.locator("text.mgw-name", has_text="blocks")).dblclick()
    assert page.locator(".mgw-frame").count() == 2
    page.get_by_label("fit into the frame").click()
    page.locator(".mgw-node", has=page.locator("text.mgw-name", has_text="cross_entropy")).click()
    assert "cross_entropy" in page.locator(".mgw-panel h4").inner_text()
    assert page.locator(".mgw-panel math").count() >= 1
    assert "test_explorer.py" in page.locator(".mgw-panel").inner_text()
    assert "cross_entropy" in page.locator(".mgw-source .mgw-here-now").inner_text()
    states = {g.get_attribute("data-state") for g in page.locator(".mgw-node").all()}
    assert {"up", "down"} <= states


def test_everything_by_keyboard(saved):
    page = saved(GraphExplorer(Net(), X))
    page.locator(".mgw").focus()
    page.keyboard.press("f")
    page.keyboard.press("/")
    page.keyboard.type("gelu")
    page.keyboard.press("Enter")
    assert page.locator(".mgw-node[data-selected] .mgw-name").text_content() == "gelu"
    assert page.locator(".mgw-results button").count() == 3
    page.keyboard.press("Escape")
    page.keyboard.press("ArrowUp")
    assert page.locator(".mgw-panel h4").inner_text().startswith("up")  # the layer before, folded
    assert page.evaluate("document.activeElement.dataset.key") == page.locator("[data-selected]").get_attribute(
        "data-key"
    )
    before = page.locator(".mgw-explorer-svg > g").get_attribute("transform")
    page.keyboard.press("+")
    assert page.locator(".mgw-explorer-svg > g").get_attribute("transform") != before
    page.keyboard.press("Escape")
    assert page.locator("[data-selected]").count() == 0
    assert "boxes" in page.locator(".mgw-status").inner_text()


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_nothing_overlaps_or_spills_and_colours_have_a_second_cue(saved, theme):
    page = saved(GraphExplorer(Net(), X, times=True), color_scheme=theme)
    page.locator(".mgw").focus()
    page.keyboard.press("o")
    for colour in ("kind", "scope", "dtype", "bytes", "flops", "norm", "seconds"):
        page.get_by_label("colour by").select_option(colour)
        assert page.locator(".mgw-node").evaluate_all(OVERLAP) == 0
        assert page.locator(".mgw-node").evaluate_all(SPILLED) == []
        assert page.locator(".mgw-legend").inner_text()
    about = page.locator(".mgw-node[data-kind=op] .mgw-about-line").all_text_contents()
    assert all(t.endswith("s") for t in about)  # times stand in the boxes, too
    radius = "g => getComputedStyle(g.querySelector('.mgw-fill')).rx"
    kinds = [page.locator(f'.mgw-node[data-kind="{k}"]').first.evaluate(radius) for k in ("op", "variable")]
    assert kinds[0] != kinds[1]


def test_graphs_inside_of_nodes(saved):
    def f(x):
        return mg.cond(x > 0, lambda v: mg.sinh(v), lambda v: mg.exp(v), x)

    page = saved(GraphExplorer(mg.compile(f), mg.tensor(1.0)))
    page.locator(".mgw-node[data-kind=nested]").dblclick()
    assert {"sinh", "exp"} & set(boxes(page))
    assert page.locator(".mgw-crumbs").inner_text()
    page.keyboard.press("Escape")
    assert "cond" in boxes(page)


def test_a_failed_run_says_so(saved):
    page = saved(GraphExplorer(lambda x: mg.tanh(x) @ mg.ones((5, 2)), np.ones((4, 3), "float32")))
    assert "inner sizes differ" in page.locator(".mgw-error").first.inner_text()
    assert page.locator(".mgw-node[data-kind=error]").count() == 1


def test_dynamic_and_static_beside_each_other(saved):
    f = Net()
    page = saved(compare(f, mg.compile(f), X))
    left, right = (page.locator(".mgw-column").nth(k).bounding_box() for k in range(2))
    assert abs(left["y"] - right["y"]) < 2
    assert left["x"] + left["width"] <= right["x"]
    assert page.locator(".mgw-explorer").count() == 2


def test_ten_thousand_operations_open_folded_and_unfold_piecewise(saved):
    page = saved(GraphExplorer(Net(depth=2000), X))
    assert page.locator(".mgw-node").count() < 200
    page.locator(".mgw").focus()
    page.keyboard.press("f")
    few = page.locator(".mgw-node").count()
    page.keyboard.press("o")
    assert page.locator(".mgw-node").count() > few
    page.keyboard.press("/")
    page.keyboard.type("blocks.1234.gelu")
    page.keyboard.press("Enter")
    assert page.locator(".mgw-node[data-selected] .mgw-name").text_content() == "gelu"


def test_in_jupyterlab(notebook):
    n = notebook(
        "import minigraph as mg\nfrom minigraph_widgets import GraphExplorer",
        "f = lambda x: mg.tanh(x) * 2 + x\nexplorer = GraphExplorer(f, 0.5)\nexplorer",
        "0",
    )
    view = n.page.locator(".mgw-explorer[data-ready]")
    view.wait_for()
    view.locator(".mgw-node", has=n.page.locator("text.mgw-name", has_text="tanh")).click()
    n.page.keyboard.press("ArrowDown")
    assert n.run(2, "print(explorer.selected, explorer.node.op.name, repr(explorer.node))").startswith(
        "multiply multiply"
    )
    n.run(2, "explorer.selected = 'add'; explorer.colour = 'flops'; 0")
    n.page.wait_for_function("() => document.querySelector('.mgw-panel h4').textContent.startsWith('add')")
    n.page.wait_for_function("() => document.querySelector('.mgw-legend').textContent.includes('FLOPs')")
    assert "mgw-here-now" in view.inner_html()  # the line of the cell
    assert n.watched.errors == []
