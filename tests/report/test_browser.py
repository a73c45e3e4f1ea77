"""The page in a real browser: its script runs under its own content policy, nothing is fetched, and hostile texts do nothing."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from chromium import CHROMIUM, Page
from report_help import hostile, render

from profile_and_optimize.campaign.evidence_of import Evidence

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine: apt-get install chromium"),
]


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    page = Page(tmp_path_factory.mktemp("profile"))
    yield page
    page.close()


@pytest.fixture
def page(browser: Page, evidence: Evidence, tmp_path: Path) -> Page:
    """The report, opened afresh at a desk's width."""
    file = tmp_path / "report.html"
    file.write_text(render(evidence)["report.html"])
    browser.size(1280)
    browser.colours("light")
    browser.call("Emulation.setScriptExecutionDisabled", value=False)
    browser.open(file.as_uri())
    assert browser.requests() == [file.as_uri()] and browser.complaints() == []
    return browser


def shown(page: Page, selector: str) -> list[str]:
    """The texts of the elements that can be seen."""
    return page.ask(
        f"[...document.querySelectorAll({selector!r})].filter(e => e.checkVisibility()).map(e => e.innerText)"
    )


def test_hovering_an_arm_shows_estimate_interval_and_n(page: Page) -> None:
    page.point_at('svg.forest g.row[data-arm="fast"] text')
    (tip,) = shown(page, "#tip")
    assert re.search(
        r"^fast: BETTER\n\+\d+\.\d% \(\+\d+\.\d% to \+\d+\.\d%\) \(99% interval, n = 3\)", tip.replace("\u2212", "-")
    )
    assert re.search(r"per block: 1: \+\d", tip)
    page.point_at("h1")
    assert shown(page, "#tip") == []


def test_hovering_a_single_block_s_ring_shows_that_block(page: Page) -> None:
    page.point_at('svg.forest g.row[data-arm="fast"] circle.near')
    (tip,) = shown(page, "#tip")
    assert re.match(r"fast, block \d: [+\u2212]\d+\.\d%", tip)


def test_the_keyboard_shows_the_same_as_the_mouse(page: Page) -> None:
    page.ask("document.querySelector('svg.forest g.row[data-arm=\"slow\"]').focus()")
    (tip,) = shown(page, "#tip")
    assert tip.startswith("slow: WORSE")
    page.call("Input.dispatchKeyEvent", type="keyDown", key="Escape", code="Escape", windowsVirtualKeyCode=27)
    assert shown(page, "#tip") == []


def test_the_filter_takes_arms_and_workloads(page: Page) -> None:
    assert [t.split("\t")[0].split("\n")[0] for t in shown(page, "#arms tbody th")] == [
        "baseline",
        "aa",
        "fast",
        "slow",
        "broken",
    ]
    page.type("#filter", "fast")
    assert [t.split("\n")[0] for t in shown(page, "#arms tbody th")] == ["fast"]
    assert shown(page, "#shown") == ["1 arm, 2 workloads"] and shown(page, "h3")[:2] == ["short-chat.c4", "long-in.c4"]
    assert page.ask("document.querySelectorAll('svg.forest g.row.dim').length") == 4
    page.type("#filter", "slow long")
    assert shown(page, "#shown") == ["1 arm, 1 workload"] and shown(page, "div[data-workload] h3") == ["long-in.c4"]
    page.type("#filter", "nosuch")
    assert shown(page, "#shown") == ["0 arms, 0 workloads"]
    page.type("#filter", "")
    assert len(shown(page, "#arms tbody th")) == 5 and shown(page, "div[data-workload] h3") == [
        "short-chat.c4",
        "long-in.c4",
    ]


def test_a_number_leads_to_the_trials_behind_it(page: Page) -> None:
    assert shown(page, 'details a[href*="b001-"]') == []
    page.ask("document.querySelector('div[data-workload] td.num a').click()")
    page.until(lambda: any("cells/baseline/raw/b001-" in t for t in shown(page, "details a")))
    assert page.requests()[1:] == [] and page.complaints() == []


def test_it_prints_on_landscape_pages_with_every_list_open(page: Page) -> None:
    data = page.pdf()
    assert data.startswith(b"%PDF-") and data.rstrip().endswith(b"%%EOF")
    assert 3 <= len(re.findall(rb"/Type\s*/Page\b", data)) <= 30
    width, height = map(float, re.findall(rb"/MediaBox\s*\[0 0 ([\d.]+) ([\d.]+)\]", data)[0])
    assert width > height and page.ask("[...document.querySelectorAll('details')].every(d => d.open)")


@pytest.mark.parametrize("width", [360, 768, 1280, 1920])
def test_no_width_makes_the_page_itself_scroll_sideways(page: Page, width: int) -> None:
    page.size(width)
    assert page.ask("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_keeps_a_contrast_of_four_and_a_half_in_both_schemes(page: Page, scheme: str) -> None:
    """WCAG's ratio for small text, between the ink of every kind of text and its background."""
    page.colours(scheme)
    assert page.ask(CONTRASTS) == []


def test_without_a_script_everything_is_there_but_the_filter(page: Page) -> None:
    page.call("Emulation.setScriptExecutionDisabled", value=True)
    page.call("Page.reload")
    page.events.clear()
    page.wait("Page.loadEventFired")
    assert shown(page, "#tools") == [] and "fast" in shown(page, "h1")[0]
    assert len(shown(page, "svg.forest g.row")) == 5 and len(shown(page, "div[data-workload]")) == 2


def test_hostile_texts_stay_texts(browser: Page, evidence: Evidence, tmp_path: Path) -> None:
    file = tmp_path / "hostile.html"
    file.write_text(render(hostile(evidence))["report.html"].replace("alert(1)", "document.title='pwned'"))
    browser.call("Emulation.setScriptExecutionDisabled", value=False)
    browser.open(file.as_uri())
    assert shown(browser, "#tools") and "pwned" not in browser.ask("document.title")
    assert browser.ask("document.images.length") == 0
    assert browser.requests() == [file.as_uri()] and browser.complaints() == []


def test_a_page_that_somebody_changed_fetches_nothing_and_runs_nothing(
    browser: Page, evidence: Evidence, tmp_path: Path
) -> None:
    """The content policy, and not only our own care, keeps the page to itself."""
    evil = (
        "<script>document.title='pwned'</script><img src='http://127.0.0.1:9/x.png'>"
        "<link rel=stylesheet href='http://127.0.0.1:9/x.css'><iframe src='http://127.0.0.1:9/'></iframe></main>"
    )
    file = tmp_path / "changed.html"
    file.write_text(render(evidence)["report.html"].replace("</main>", evil, 1))
    browser.open(file.as_uri())
    assert "pwned" not in browser.ask("document.title") and len(browser.complaints()) >= 3
    answered = [e for e in browser.events if e.get("method") == "Network.responseReceived" and "127.0.0.1" in str(e)]
    assert answered == []


CONTRASTS = """
(() => {
  const lum = (c) => { const [r, g, b] = c.map((v) => { v /= 255; return v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
  const parse = (s) => { const m = s.match(/[\\d.]+/g).map(Number); return m.length === 4 && m[3] === 0 ? null : m.slice(0, 3); };
  const under = (e) => { for (; e; e = e.parentElement) { const c = parse(getComputedStyle(e).backgroundColor); if (c) return c; }
    return [255, 255, 255]; };
  const bad = [];
  for (const e of document.querySelectorAll("main *:not(svg *)")) {
    if (!e.checkVisibility() || ![...e.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim())) continue;
    const [a, b] = [lum(parse(getComputedStyle(e).color)), lum(under(e))].sort((x, y) => y - x);
    if ((a + 0.05) / (b + 0.05) < 4.5) bad.push(e.tagName + "." + e.className + ": " + ((a + 0.05) / (b + 0.05)).toFixed(2));
  }
  return [...new Set(bad)];
})()
"""
