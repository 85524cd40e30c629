"""The memory timeline as a page of its own, in a real browser with no network."""

import minigraph as mg
from minigraph_widgets import MemoryTimeline

OVERLAP = """(list) => list.filter((a, i) => list.slice(i + 1).some(b => {
    const p = a.getBoundingClientRect(), q = b.getBoundingClientRect();
    return p.width && q.width && p.left < q.right - 1 && q.left < p.right - 1
        && p.top < q.bottom - 1 && q.top < p.bottom - 1
})).length"""


def timeline():
    def f(x):
        y = x
        for _ in range(12):
            y = mg.tanh(y @ x)
        return y.sum()

    return MemoryTimeline(mg.compile(mg.grad(f), backend="numpy"), mg.ones((40, 40)))


def test_with_the_keyboard(saved):
    page = saved(timeline())
    view = page.locator(".mgw-memory")
    view.focus()
    page.keyboard.press("Home")
    status = page.locator(".mgw-status")
    assert "step 1 of" in status.inner_text()
    page.keyboard.press("ArrowUp")
    assert page.locator(".mgw-life[data-selected]").count() == 1
    assert "alive from step 1" in status.inner_text()
    page.keyboard.press("Escape")
    page.keyboard.press("p")
    assert "the most at any step" in status.inner_text()
    page.keyboard.press("b")
    assert page.locator(".mgw-chart").count() == 3
    peaks = [page.locator(".mgw-variant span").nth(k).inner_text() for k in range(3)]
    assert all(p.startswith("peak ") for p in peaks)


def test_with_the_mouse(saved):
    page = saved(timeline())
    page.locator(".mgw-life").nth(3).click()
    assert page.locator(".mgw-life[data-selected]").count() == 1
    page.locator("button", has_text="every value kept").click()
    assert page.locator('.mgw-life[data-place="own"]').count() > 10
    page.locator('.mgw-life[data-place="own"]').nth(2).hover()
    assert "float32[40, 40], 6.25 KiB" in page.locator(".mgw-status").inner_text()


def test_places_differ_by_colour_and_dash_in_both_themes(saved):
    found = []
    for theme in ("light", "dark"):
        page = saved(timeline(), color_scheme=theme)
        look = "e => { const s = getComputedStyle(e); return [s.fill, s.strokeDasharray] }"
        arena = page.locator(".mgw-life:not([data-over])[data-place=arena] rect").first.evaluate(look)
        over = page.locator(".mgw-life[data-over] rect").first.evaluate(look)
        assert arena[1] != over[1]
        found.append(arena[0])
    assert found[0] != found[1]


def test_nothing_is_cut_off_and_ticks_do_not_overlap(saved):
    page = saved(timeline())
    for width in (1200, 700, 420):
        page.set_viewport_size({"width": width, "height": 900})
        page.wait_for_timeout(150)
        assert page.evaluate("() => document.documentElement.scrollWidth <= document.documentElement.clientWidth")
        assert page.locator(".mgw-axis text").evaluate_all(OVERLAP) == 0


def test_without_a_script_there_is_a_chart(chromium):
    context = chromium.new_context(java_script_enabled=False)
    page = context.new_page()
    page.set_content(timeline().to_html())
    assert page.locator(".mgw-static svg rect").count() > 20
    assert page.locator(".mgw-static svg").is_visible()
    context.close()
