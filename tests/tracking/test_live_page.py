"""The pages that `raysim serve` shows, while a run goes on and afterwards."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest
from synthetic_runs import METRICS, make_clients, make_row, make_run

from raysim.config import Experiment
from raysim.errors import RunError
from raysim.serving.folder import RunsFolder
from raysim.serving.live import Moment
from raysim.serving.site import Site
from raysim.tracking import EventLog, RunDirectory, RunTables, read_rounds


class Running:
    """A run that is being written, round by round."""

    def __init__(self, folder: Path, name: str = "now", **values: Any) -> None:
        self.run = RunDirectory.create_at(folder / name, Experiment.parse({"rounds": 9, **values}))
        self._open = ExitStack()
        self._open.enter_context(self.run.lock())
        self.log = self._open.enter_context(EventLog(self.run.log))
        self.tables = self._open.enter_context(RunTables(self.run, METRICS))
        self.log.info("started")
        self.done = 0

    def round(self, reason: str | None = None, **changed: Any) -> None:
        self.done += 1
        row = make_row(self.done, dropped=int(reason is not None), **changed)
        self.tables.append(row, make_clients(self.done, reason))

    def end(self) -> None:
        self.log.info("finished", reason="all rounds are done")
        self._open.close()


@contextmanager
def running(folder: Path, rounds: int, **values: Any) -> Iterator[Running]:
    run = Running(folder, **values)
    try:
        for _ in range(rounds):
            run.round()
        yield run
    finally:
        run.end()


def show(site: Site, path: str, **query: str | list[str]) -> str:
    """A page that is there, as text."""
    found = site.answer(path, {key: [one] if isinstance(one, str) else one for key, one in query.items()})
    assert found.status == HTTPStatus.OK, found.body.decode()
    return found.body.decode()


def refused(site: Site, path: str, **query: str) -> str:
    found = site.answer(path, {key: [one] for key, one in query.items()})
    assert found.status == HTTPStatus.NOT_FOUND
    return found.body.decode()


def test_the_list_has_every_run_the_newest_first_with_its_state(tmp_path: Path) -> None:
    make_run(tmp_path, "first")
    make_run(tmp_path, "killed", end=None, algorithm="fedprox")
    make_run(tmp_path / "seeds", "seed-0")
    with running(tmp_path, 2):
        page = show(Site(RunsFolder(tmp_path)), "/")
    assert re.findall(r'href="/runs/([^"]+)"', page) == ["now", "seeds/seed-0", "killed", "first"]
    assert "4 runs, 1 running" in page
    assert '<span class="status live">running</span>' in page
    assert '<span class="status open">unfinished</span>' in page
    assert 'http-equiv="refresh"' in page


def test_the_list_is_filtered_as_by_raysim_runs(tmp_path: Path) -> None:
    make_run(tmp_path, "plain")
    make_run(tmp_path, "prox", algorithm="fedprox")
    site = Site(RunsFolder(tmp_path))
    assert re.findall(r'href="/runs/([^"]+)"', show(site, "/", filter="algorithm=fedprox state=finished")) == ["prox"]
    assert "1 older ones" in show(site, "/", limit="1")
    assert "no run here has the key &#x27;algorithmus&#x27;" in show(site, "/", filter="algorithmus=fedprox")


def test_a_running_run_shows_its_curves_clients_faults_time_and_log(tmp_path: Path) -> None:
    with running(tmp_path, 4) as run:
        run.round("its update is <b>not</b> finite", retries=2)
        run.log.warning("client dropped", client=5)
        page = show(Site(RunsFolder(tmp_path)), "/runs/now")
    for text in (
        "round 5 of 9",
        "<b>Accuracy</b>",
        "test 0.7500",
        "<b>Accuracy on clients’ own data</b>",
        "Clients of round 5",
        "client 5: 100 ms, loss 1.5000, dropped: its update is &lt;b&gt;not&lt;/b&gt; finite",
        "<h2>Faults</h2>",
        "Where the time went",
        "client dropped",
        "client=5",
        "algorithm.",
        'http-equiv="refresh"',
    ):
        assert text in page, text
    assert "<b>not</b>" not in page


def test_the_clients_shown_are_those_of_the_round_that_is_shown(tmp_path: Path) -> None:
    with running(tmp_path, 2) as run:
        assert run.tables._clients is not None
        run.tables._clients.append(make_clients(3))  # which are written before their round
        assert "Clients of round 2" in show(Site(RunsFolder(tmp_path)), "/runs/now")


def test_parts_are_sent_again_only_when_the_run_has_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reads: list[str] = []
    of = Moment.of
    monkeypatch.setattr(Moment, "of", lambda name, *rest: reads.append(name) or of(name, *rest))
    with running(tmp_path, 2) as run:
        site = Site(RunsFolder(tmp_path))
        page = show(site, "/runs/now")
        seen = re.search(r'data-version="(\w+)"', page)[1]
        assert 'data-parts="/parts/now"' in page
        assert site.answer("/parts/now", {"seen": [seen]}).status == HTTPStatus.NO_CONTENT
        assert reads == ["now"]
        run.round()
        found = json.loads(show(site, "/parts/now", seen=seen))
        assert found["version"] != seen
        assert found["again"] >= 1
        assert "round 3 of 9" in found["parts"]["head"]
        assert found["title"] == "3 rounds · now · raysim"
        assert all(f'<div id="{name}">' in page for name in found["parts"])
    found = json.loads(show(site, "/parts/now", seen=found["version"]))
    assert "finished" in found["parts"]["head"]
    assert 'http-equiv="refresh"' not in show(site, "/runs/now")


def test_programs_get_the_rounds_after_one_that_they_know(tmp_path: Path) -> None:
    path = make_run(tmp_path, "a", rounds=4)
    site = Site(RunsFolder(tmp_path))
    found = json.loads(show(site, "/api/runs/a/since/2"))
    rows = read_rounds(RunDirectory(path)).to_pylist()
    assert found["new"] == rows[2:]
    assert (found["name"], found["state"], found["rounds"]) == ("a", "finished", 4)
    assert json.loads(show(site, "/api/runs/a/since/4"))["new"] == []
    listed = json.loads(show(site, "/api/runs"))
    assert [one["name"] for one in listed["runs"]] == ["a"]
    assert "no such run here" in json.loads(refused(site, "/api/runs/b/since/0"))["error"]
    assert "since/ROUND" in json.loads(refused(site, "/api/runs/a/since/x"))["error"]


def test_the_reports_pictures_are_drawn_when_they_are_asked_for(tmp_path: Path) -> None:
    make_run(tmp_path, "a", rounds=4)
    site = Site(RunsFolder(tmp_path))
    page = show(site, "/reports/a")
    light = re.findall(r'src="(/pictures/[^"]+)"', page)
    assert len(light) > 3
    assert all(address.endswith("/light") for address in light)
    drawn = site.answer(light[0], {})
    assert (drawn.kind, drawn.body[:4]) == ("image/png", b"\x89PNG")
    assert site.answer(light[0], {}).body is drawn.body
    assert "load it again" in refused(site, light[0] + "er")
    assert not (tmp_path / "a" / "report.html").exists()


def test_chosen_runs_are_compared_by_their_seeds(tmp_path: Path) -> None:
    for seed in (1, 2):
        make_run(tmp_path, f"avg-{seed}", seed=seed)
        make_run(tmp_path, f"prox-{seed}", seed=seed, algorithm="fedprox")
    site = Site(RunsFolder(tmp_path))
    page = show(site, "/compare", run=["avg-1", "avg-2", "prox-1", "prox-2"])
    assert "4 runs side by side" in page
    assert "algorithm fedprox" in page
    assert "no, 2 pairs" in page
    for metric in ("test-accuracy", "clients-accuracy-mean"):
        assert re.search(rf'src="/pictures/\w+/bands-{metric}/light"', page)
    assert "<summary>Curves of each run</summary>" in page
    assert "Means over seeds" not in show(site, "/compare", run=["avg-1", "prox-1"])
    assert "choose runs in the list" in refused(site, "/compare")


def test_one_run_is_a_folder_of_one(tmp_path: Path) -> None:
    site = Site(RunsFolder(make_run(tmp_path, "only")))
    make_run(tmp_path, "other")
    assert re.findall(r'href="/runs/([^"]+)"', show(site, "/")) == ["only"]
    assert "3 rounds" in show(site, "/reports/only") or "3 of 4 rounds" in show(site, "/reports/only")


@pytest.mark.parametrize(
    "name",
    [
        "../elsewhere",
        "inside/../../elsewhere",
        "/etc",
        "..",
        ".",
        "",
        "link",
        "deep/link",
        "inside/config.yaml",
        "a\0b",
    ],
)
def test_nothing_outside_of_the_folder_is_shown(tmp_path: Path, name: str) -> None:
    elsewhere = make_run(tmp_path, "elsewhere")
    runs = tmp_path / "runs"
    make_run(runs, "inside")
    (runs / "deep").mkdir()
    (runs / "link").symlink_to(elsewhere)
    (runs / "deep" / "link").symlink_to(elsewhere)
    site = Site(RunsFolder(runs))
    assert "elsewhere" not in show(site, "/")
    for path in (
        f"/runs/{name}",
        f"/parts/{name}",
        f"/reports/{name}",
        f"/studies/{name}",
        f"/api/runs/{name}/since/0",
    ):
        found = site.answer(path, {})
        assert found.status == HTTPStatus.NOT_FOUND
        assert b"test/accuracy" not in found.body
    refused(site, "/compare", run=name)


@pytest.mark.parametrize("name", ["log.jsonl", "rounds.parquet", "confusion.json", "holdings.json", "attacks"])
def test_a_file_of_a_run_that_is_a_link_out_of_the_folder_is_not_read(tmp_path: Path, name: str) -> None:
    run = make_run(tmp_path / "runs", "a")
    (tmp_path / "secret").write_text('{"event": "the secret"}\n')
    (run / name).unlink(missing_ok=True)
    (run / name).symlink_to(tmp_path / "secret")
    site = Site(RunsFolder(tmp_path / "runs"))
    assert f"{name} is a link that leads out" in refused(site, "/runs/a")
    assert "the secret" not in show(site, "/")
    (run / "study.yaml").touch()
    (run / "config.yaml").unlink()
    assert f"{name} is a link that leads out" in refused(site, "/studies/a")


def test_a_damaged_run_is_listed_and_says_what_is_damaged(tmp_path: Path) -> None:
    (make_run(tmp_path, "bad") / "rounds.parquet").write_bytes(b"no table")
    RunDirectory.create_at(tmp_path / "new", Experiment())
    site = Site(RunsFolder(tmp_path))
    assert '<span class="status open">damaged</span>' in show(site, "/")
    assert "rounds.parquet: damaged" in refused(site, "/runs/bad")
    assert "It has no rounds." in show(site, "/runs/new")


def test_names_of_runs_are_escaped_wherever_they_stand(tmp_path: Path) -> None:
    name = "a&<script>b'\" #1?"
    make_run(tmp_path, name)
    site = Site(RunsFolder(tmp_path))
    pages = [
        show(site, "/"),
        show(site, f"/runs/{name}"),
        show(site, f"/reports/{name}"),
        show(site, "/compare", run=name),
    ]
    assert all("<script>b" not in page for page in pages)
    assert 'href="/runs/a%26%3Cscript%3Eb%27%22%20%231%3F"' in pages[0]


def test_looking_writes_nothing(tmp_path: Path) -> None:
    make_run(tmp_path, "a")
    before = {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*")}
    site = Site(RunsFolder(tmp_path))
    for path in ("/", "/runs/a", "/parts/a", "/reports/a", "/api/runs", "/api/runs/a/since/0"):
        show(site, path)
    assert {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*")} == before


def test_a_folder_without_a_run_is_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="no such folder; `raysim run` makes runs"):
        RunsFolder(tmp_path / "nowhere")
    with pytest.raises(RunError, match="no run is in it; make one with `raysim run quickstart`"):
        RunsFolder(tmp_path)
