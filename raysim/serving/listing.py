"""The list of runs: what `raysim runs` prints, with links and boxes to choose what is compared."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import quote

from raysim.errors import ConfigError
from raysim.serving.folder import RunsFolder
from raysim.serving.live import badge
from raysim.tracking import PastRun
from raysim.tracking.report.markup import Content, Html, element, escape, join, section, table

SHOWN = 50
"""Runs in the list unless more are asked for."""


@dataclass(frozen=True, slots=True)
class Listing:
    """The page.

    Attributes:
        title: of the tab.
        head, foot: what stays.
        parts: what changes as runs go on.
        running: whether one does.
    """

    title: str
    head: Html
    parts: dict[str, Html]
    foot: Html
    running: bool


def list_parts(folder: RunsFolder, filters: Sequence[str], limit: int) -> Listing:
    """The page of a folder: at most `limit` of its runs that pass the filters."""
    try:
        found, wrong = folder.past(folder.names(), filters), None
    except ConfigError as error:
        found, wrong = [], str(error).removeprefix("--filter ")
    running = sum(run.state == "running" for _, run in found)
    said = wrong or f"{len(found)} run{'' if len(found) == 1 else 's'}, {running} running"
    shown: list[Content] = [element("p", said, kind="lead"), runs_table(found[:limit], choose=True)]
    if len(found) > limit:
        shown.append(element("p", f"and {len(found) - limit} older ones: narrow the filter.", kind="faint"))
    studies = [[link(f"/studies/{quote(name)}", name)] for name in folder.studies()]
    own = section("Studies", table([], studies)) if studies else Html("")
    text = html.escape(" ".join(filters))
    search = Html(
        f'<form class="bar"><input type="search" name="filter" value="{text}" aria-label="filter" '
        'placeholder="filter: algorithm=fedprox state=running part-of-a-name"><button>Filter</button></form>'
    )
    head = join([element("h1", f"Runs in {folder.path}"), search, Html('<form action="/compare">')])
    foot = join([Html('<div class="bar"><button>Compare the chosen runs</button></div></form>'), own])
    title = f"{running} running" if running else "runs"
    return Listing(title, head, {"runs": join(shown)}, foot, running > 0)


def runs_table(found: Sequence[tuple[str, PastRun]], *, choose: bool = False) -> Html:
    """Runs as a table; with a box before each where they can be chosen."""
    if not found:
        return Html("")
    rows = [_row(name, run, choose) for name, run in found]
    return element("section", table(list(rows[0]), [list(row.values()) for row in rows], text_columns=6))


def link(address: str, text: str) -> Html:
    """A link to another page."""
    return Html(f'<a href="{html.escape(address)}">{html.escape(text)}</a>')


def _row(name: str, run: PastRun, choose: bool) -> dict[str, Content]:
    box = f'<input type="checkbox" name="run" value="{html.escape(name)}" aria-label="compare {html.escape(name)}">'
    state = Html(f'<span title="{html.escape(run.reason or "")}">{escape(badge(run))}</span>')
    shown = join([Html(box if choose else ""), link(f"/runs/{quote(name)}", name)])
    return {**run.cells(), "run": shown, "state": state}
