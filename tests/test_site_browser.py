"""The built site in a real browser: whole, quiet, without the network, and the dial turned by hand.

Runs where `make site` has built it, and playwright and Debian's chromium are installed.
"""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

import pytest

from splitkit.storage.paths import ROOT

SITE = ROOT / "build" / "site"
CHROMIUM = shutil.which("chromium")
playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed"),
    pytest.mark.skipif(not (SITE / "index.html").is_file(), reason="`make site` has not built the site"),
]
PAGES = sorted(str(path.relative_to(SITE)) for path in SITE.rglob("*.html") if path.parent.name != "_static")
BROKEN = "[...document.images].filter(i => i.complete && !i.naturalWidth).map(i => i.src)"
LINKS = "[...document.links].map(a => a.href.split('#')[0]).filter(h => h.startsWith('file:'))"
WIDER = "document.documentElement.scrollWidth - document.documentElement.clientWidth"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as started:
        found = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield found
        found.close()


@pytest.fixture
def page(browser: Any) -> Iterator[Any]:
    """A page of phone width; what went wrong on it is in `faults`."""
    found = browser.new_page(viewport={"width": 390, "height": 844})
    found.set_default_timeout(120_000)
    found.faults = []
    found.on("console", lambda m: found.faults.append(m.text) if m.type in ("error", "warning") else None)
    found.on("pageerror", lambda error: found.faults.append(str(error)))
    found.on("requestfailed", lambda request: found.faults.append(request.url))
    found.on(
        "request", lambda r: None if r.url.startswith(("file:", "data:")) else found.faults.append(r.url)
    )
    yield found
    found.close()


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_whole(page: Any, name: str) -> None:
    page.goto((SITE / name).as_uri())
    page.evaluate("document.querySelectorAll('img[loading=lazy]').forEach(i => i.loading = 'eager')")
    page.wait_for_function("[...document.images].every(i => i.complete)")
    assert page.evaluate(BROKEN) == []
    assert page.locator("img:not([alt]), img[alt='']").count() == 0
    dead = [url for url in set(page.evaluate(LINKS)) if not Path(unquote(urlparse(url).path)).exists()]
    assert dead == []
    assert page.evaluate(WIDER) <= 1, "the page is wider than a phone"
    assert page.faults == []


def test_search_finds_a_word_without_a_server(page: Any) -> None:
    page.goto((SITE / "search.html").as_uri() + "?q=validity")
    page.locator("#search-results li a").first.wait_for()
    assert page.faults == []


def test_a_term_shows_its_meaning_under_focus(browser: Any) -> None:
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.goto((SITE / "index.html").as_uri())
    term = page.locator("a.term", has_text="validity").first
    shown = "e => getComputedStyle(e, '::after').content"
    assert term.evaluate(shown) == "none"
    term.hover()
    assert term.evaluate(shown).startswith('"D(m) (Eq. 12)')
    page.mouse.move(0, 0)
    term.evaluate("e => { const links = [...document.links]; links[links.indexOf(e) - 1].focus(); }")
    page.keyboard.press("Tab")
    assert term.evaluate(shown).startswith('"D(m) (Eq. 12)')
    page.close()


def test_the_dial_by_keyboard_and_touch(page: Any) -> None:
    page.goto((SITE / "dial.html").as_uri())
    slider, output = page.get_by_role("slider"), page.locator("#dial output")
    assert page.locator("#dial-model option").first.inner_text().startswith("real: ")
    assert output.inner_text() == "0.00"
    slider.focus()
    for _ in range(20):
        page.keyboard.press("ArrowRight")
    moved = output.inner_text()
    assert moved.startswith("+") and slider.get_attribute("aria-valuetext") == f"m = {moved}"
    page.get_by_role("button", name="next measured strength").click()
    assert output.inner_text() != moved
    page.get_by_label("Model").select_option("tiny-qwen2")
    page.get_by_label("Task").select_option("psychopathy")
    assert page.locator("#dial svg path").count() == 4
    page.evaluate("document.querySelector('#dial-m').value = 0")
    slider.dispatch_event("input")
    page.locator("#dial svg").first.scroll_into_view_if_needed()
    box = page.locator("#dial svg").first.bounding_box()
    page.mouse.move(box["x"] + 0.75 * box["width"], box["y"] + box["height"] / 2)
    page.mouse.down()
    page.mouse.up()
    assert "Steered: recorded at m = +" in page.locator("#dial .answers").inner_text()
    near = page.locator("#dial circle.near").count()
    assert near == 2
    assert page.faults == []
