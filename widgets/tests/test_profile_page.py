"""The profile as a page of its own, in a real browser with no network."""

import pytest

import minigraph as mg
from minigraph_widgets import Profile

ORDER = "() => [...document.querySelectorAll('.mgw-table tbody tr')].map(e => e.dataset.row)"


@pytest.fixture(scope="module")
def view():
    net = mg.nn.Sequential(mg.nn.Linear(32, 64), mg.nn.ReLU(), mg.nn.Linear(64, 10))
    return Profile(mg.compile(lambda x: mg.softmax(net(x))), mg.ones((16, 32)), calls=3)


def test_table_and_roofline_are_linked(saved, view):
    page = saved(view)
    page.locator(".mgw-profile").focus()
    page.keyboard.press("ArrowDown")
    row = page.locator("tr[data-selected]").get_attribute("data-row")
    assert page.locator(".mgw-point[data-selected]").get_attribute("data-row") == row
    assert "limit" in page.locator(".mgw-status").inner_text()
    point = page.locator(f'.mgw-point:not([data-row="{row}"])').last
    point.click()
    assert page.locator("tr[data-selected]").get_attribute("data-row") == point.get_attribute("data-row")


def test_columns_sort(saved, view):
    page = saved(view)
    first = page.evaluate(ORDER)
    times = {str(r.number): r.best for r in view.profile.rows}
    assert first == sorted(first, key=lambda k: -times[k])
    page.locator(".mgw-table th button", has_text="#").click()
    assert page.evaluate(ORDER) == [str(r.number) for r in view.profile.rows]
    assert page.locator(".mgw-table th").first.get_attribute("aria-sort") == "ascending"


def test_kinds_differ_in_shape_and_nothing_is_cut_off(saved, view):
    page = saved(view)
    shapes = {e.get_attribute("data-kind"): e.get_attribute("d") for e in page.locator(".mgw-point").all()}
    assert len(set(shapes.values())) == len(shapes)
    for width in (1200, 700, 420):
        page.set_viewport_size({"width": width, "height": 900})
        page.wait_for_timeout(100)
        assert page.evaluate("() => document.documentElement.scrollWidth <= document.documentElement.clientWidth")


def test_without_a_script_there_are_the_roofline_and_the_table(chromium, view):
    context = chromium.new_context(java_script_enabled=False)
    page = context.new_page()
    page.set_content(view.to_html())
    assert page.locator(".mgw-static svg circle").count() >= 2
    assert page.locator(".mgw-static tbody tr").count() == len(view.profile.rows)
    context.close()
