"""The live page in a real Chromium, on a wide screen and on a telephone's."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from synthetic_runs import make_run
from test_live_page import Running

import raysim
from raysim.serving.site import Site

SITE = Path(__file__).parents[2] / "docs" / "site"
LONG = "a-run-with-a-rather-long-name-20250102-030405"
WIDE = """[...document.querySelectorAll("body *")]
  .filter((one) => !one.closest(".scroll, .log, svg") && one.getBoundingClientRect().right > innerWidth + 1)
  .map((one) => `${one.tagName}.${one.className}`)"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", [str(SITE), *sys.path])
        import browser
    if browser.chromium() is None:
        pytest.skip(browser.MISSING)
    with browser.Browser() as one:
        yield one


def test_the_page_of_a_run_fills_itself_as_rounds_come(browser: Any, tmp_path: Path) -> None:
    run = Running(tmp_path)
    run.round()
    run.round()
    with raysim.serve(tmp_path, port=0, token=True) as page:
        browser.open(page.url.replace("/?", "/runs/now?"), 1280, 900)
        assert browser.run("location.search") == "", "the token is in a cookie now"
        assert browser.run("document.title") == "2 rounds · now · raysim"
        browser.run("document.querySelector('#configuration summary').click()")
        run.round("it is not finite")
        browser.wait_for("document.title.startsWith('3 rounds')")
        assert browser.run("document.getElementById('clients').innerText").startswith("Clients of round 3")
        assert browser.run("document.querySelector('#faults h2').innerText") == "Faults"
        run.end()
        browser.wait_for("document.querySelector('#head .status').innerText === 'finished'")
        assert browser.run("document.querySelector('#configuration details').open"), "as it was left"
        assert not browser.run("document.querySelector('.stale')")
    browser.wait_for("document.querySelector('.stale')")
    assert "does not answer" in browser.run("document.querySelector('.stale').innerText")


def test_a_chart_says_what_it_has_where_the_pointer_is(browser: Any, tmp_path: Path) -> None:
    make_run(tmp_path, "a", rounds=4)
    with raysim.serve(tmp_path, port=0) as page:
        browser.open(f"{page.url}runs/a", 1280, 900)
        browser.run("""{
          const svg = document.querySelector("#learning svg");
          const { right, top } = svg.getBoundingClientRect();
          svg.dispatchEvent(new PointerEvent("pointermove", { clientX: right - 5, clientY: top + 50, bubbles: true }));
        }""")
        assert browser.run("document.querySelector('.said-here').innerText") == "round 4, test 0.7500"


def test_runs_that_are_chosen_in_the_list_are_compared(browser: Any, tmp_path: Path) -> None:
    for seed in (1, 2):
        make_run(tmp_path, f"seed-{seed}", seed=seed)
    with raysim.serve(tmp_path, port=0) as page:
        browser.open(page.url, 1280, 900)
        browser.run("document.querySelectorAll('input[type=checkbox]').forEach((one) => one.click())")
        make_run(tmp_path, "later")
        browser.wait_for("document.querySelectorAll('#runs tbody tr').length === 3")
        browser.run("document.querySelector('form[action] button').click()")
        browser.wait_for("document.querySelector('h1 + .lead')?.innerText === '2 runs side by side'")


@pytest.mark.parametrize("width", [1280, 390])
def test_no_page_is_wider_than_the_screen(browser: Any, tmp_path: Path, width: int) -> None:
    for name in ("a", LONG):
        make_run(tmp_path, name, rounds=4)
    with raysim.serve(tmp_path, port=0) as page:
        for path in ("", f"runs/{LONG}", "reports/a", f"compare?run=a&run={LONG}"):
            browser.open(page.url + path, width, 900)
            assert browser.run("[innerWidth, document.documentElement.scrollWidth]") == [width, width], path
            assert browser.run(WIDE) == [], path


def test_a_page_is_whole_without_its_script(tmp_path: Path) -> None:
    run = Running(tmp_path)
    run.round()
    page = Site(raysim.serving.folder.RunsFolder(tmp_path)).answer("/runs/now", {}).body.decode()
    run.end()
    assert '<noscript><meta http-equiv="refresh" content="5"></noscript>' in page
    assert "train 2.0000" in page.partition("<script")[0]
