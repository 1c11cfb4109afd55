from __future__ import annotations

import json
import socket
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

from raysim.config import Experiment
from raysim.serving import LivePage
from raysim.tracking import RunDirectory

Raysim = Callable[..., Result]


@pytest.fixture
def visited(folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The list of runs as a browser gets it; then Ctrl-C is pressed."""
    RunDirectory.create_at(folder / "runs" / "first", Experiment())
    pages: list[str] = []

    def visit(page: LivePage) -> None:
        browser = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())  # keeps the token
        with browser.open(page.url) as answer:
            pages.append(answer.read().decode())
        raise KeyboardInterrupt

    monkeypatch.setattr(LivePage, "wait", visit)
    return pages


def test_serve_prints_its_address_and_serves_until_ctrl_c(raysim: Raysim, visited: list[str]) -> None:
    result = raysim("serve", "--port", "0")
    assert (result.exit_code, result.stderr) == (0, "stopped\n")
    assert result.stdout.startswith("http://127.0.0.1:")
    assert 'href="/runs/first"' in visited[0]


def test_programs_get_the_address_as_json(raysim: Raysim, visited: list[str]) -> None:
    result = raysim("serve", "runs/first", "--port", "0", "--token", "--json")
    facts = json.loads(result.stdout)
    assert facts["url"] == f"http://127.0.0.1:{facts['port']}/?token={facts['token']}"
    assert facts["folder"] == "runs/first"
    assert 'href="/runs/first"' in visited[0]


def test_what_cannot_be_served_is_one_line(raysim: Raysim, visited: list[str], folder: Path) -> None:
    (folder / "empty").mkdir()
    missing, empty = raysim("serve", "nowhere"), raysim("serve", "empty")
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        taken = raysim("serve", "--port", port)
    assert [one.exit_code for one in (missing, empty, taken)] == [2, 2, 2]
    assert missing.stderr == (
        "error: nowhere: no such folder; `raysim run` makes runs in tracking.directory, by default runs\n"
    )
    assert empty.stderr == "error: empty: no run is in it; make one with `raysim run quickstart`\n"
    assert taken.stderr == (
        f"error: --host 127.0.0.1 --port {port}: cannot be listened at (Address already in use); "
        "give another, or --port 0 for a free one\n"
    )
    assert visited == []
