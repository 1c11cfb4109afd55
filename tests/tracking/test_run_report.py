from __future__ import annotations

import re
import shutil
import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from report_pages import Page, record
from synthetic_runs import METRICS, make_clients, make_row

from raysim.config import Experiment
from raysim.errors import RunError
from raysim.tracking import EventLog, RunDirectory, RunTables, read_rounds, write_report
from raysim.tracking.report.recorded import labels, read_run


def test_a_report_is_one_page_with_everything_in_it(run: RunDirectory) -> None:
    record(run, 10, reason="its update is not finite")
    run.write_environment({"torch": "2.6.0", "parameters": 199_210, "population": 10})
    file = write_report([run.path])
    assert file == run.report
    page = Page(file)
    assert page.loads
    assert all(link.startswith("data:image/png;base64,") for link in page.loads)
    assert "script" not in page.tags
    assert "link" not in page.tags
    for word in (
        "10 of 10 rounds: all rounds are done", "test/accuracy", "0.9000", "199,210", "of 10 clients",
        "Where the time went", "train", "66.7 %", "its update is not finite", "Configuration", "raysim run",
    ):  # fmt: skip
        assert word in page.text, word
    assert "raysim resume" not in page.text


@pytest.mark.usefixtures("light_only")
def test_the_pictures_are_files_too(run: RunDirectory) -> None:
    record(run, 4, reason="x")
    write_report([run.path])
    figures = sorted((run.path / "figures").iterdir())
    assert [file.name for file in figures] == [
        "clients-accuracy.png", "curve-accuracy.png", "curve-loss.png", "dropped.png", "extremes.png",
        "participation.png", "sizes.png", "time.png",
    ]  # fmt: skip
    for file in figures:
        data = file.read_bytes()
        width, height = struct.unpack(">II", data[16:24])
        assert data.startswith(b"\x89PNG")
        assert width > 900
        assert height > 500
        assert len(data) < 20_000  # by a palette: a page of twenty pictures in two themes stays below a megabyte


@pytest.mark.usefixtures("light_only")
def test_text_from_outside_is_escaped(run: RunDirectory) -> None:
    evil = "<script>alert('x')</script> & $title"
    record(run, 3, metrics=["train/loss", "test/<b>f1"], reason=evil)
    run.write_environment({"<i>gpu": evil})
    file = write_report([run.path])
    assert "<script>alert" not in file.read_text()
    page = Page(file)
    assert evil in page.text
    assert "script" not in page.tags


@pytest.mark.usefixtures("light_only")
@pytest.mark.parametrize(
    ("rounds", "metrics", "with_clients", "close"),
    [
        (0, METRICS, True, True),
        (0, [], False, False),
        (1, METRICS, True, True),
        (1, ["train/loss"], False, False),
        (1, [], True, False),
        (2, METRICS, False, False),
        (2, [], False, True),
    ],
)
def test_odd_runs_have_a_report_too(
    run: RunDirectory,
    rounds: int,
    metrics: list[str],
    with_clients: bool,
    close: bool,
) -> None:
    record(run, rounds, metrics=metrics, with_clients=with_clients, close=close)
    page = Page(write_report([run.path]))
    assert f"{rounds} of 10 rounds" in page.text
    assert ("unfinished" in page.text) == (not close)
    assert "raysim resume" in page.text


def test_a_run_that_was_only_created_has_a_report(run: RunDirectory) -> None:
    page = Page(write_report([run.path]))
    assert "unfinished: 0 of 10 rounds" in page.text
    assert "Nothing has been measured." in page.text


@pytest.mark.usefixtures("light_only")
def test_a_metric_that_diverged_is_shown_as_far_as_it_goes(run: RunDirectory) -> None:
    with RunTables(run, METRICS) as tables:
        for round, loss in enumerate((1.0, 2.0, np.inf, np.nan), start=1):
            tables.append(make_row(round, metrics={"train/loss": loss}))
    recorded = read_run(run.path)
    assert recorded.curve("train/loss").values.tolist() == [1.0, 2.0]
    assert recorded.best("train/loss") == (1, 1.0)
    assert recorded.metrics == ["train/loss"]
    write_report([run.path])


@pytest.mark.usefixtures("light_only")
def test_several_runs_lie_over_each_other(tmp_path: Path) -> None:
    paths = []
    for lr in (0.1, 0.5):
        experiment = Experiment(name="sweep", rounds=6).updated([f"client.optimizer.lr={lr}"])
        run = RunDirectory.create_at(tmp_path / f"lr-{lr}", experiment)
        paths.append(record(run, 6).path)
    file = write_report(paths)
    assert file == tmp_path / "report.html"
    page = Page(file)
    for word in ("2 runs side by side", "lr-0.1", "lr-0.5", "What differs", "client.optimizer.lr", "Results"):
        assert word in page.text, word
    assert {file.name for file in (tmp_path / "report-figures").iterdir()} == {
        "clients-accuracy.png", "curve-accuracy.png", "curve-loss.png", "time.png",
    }  # fmt: skip


@pytest.mark.usefixtures("light_only")
def test_runs_that_have_nothing_in_common_can_be_compared(tmp_path: Path) -> None:
    one = record(RunDirectory.create_at(tmp_path / "a" / "run", Experiment()), 3, metrics=["train/loss"])
    two = RunDirectory.create_at(tmp_path / "b" / "run", Experiment().updated(["model={name: mlp}"]))
    page = Page(write_report([one.path, two.path, one.path], tmp_path / "both.html"))
    assert "2 runs side by side" in page.text
    assert "a/run" in page.text
    assert "b/run" in page.text
    assert "model.hidden" in page.text


def test_labels_take_as_much_of_the_path_as_they_need(tmp_path: Path) -> None:
    assert labels([tmp_path / "a" / "x", tmp_path / "b" / "x", tmp_path / "b" / "y"]) == ["a/x", "b/x", "b/y"]
    assert labels([tmp_path / "a" / "x", tmp_path / "b" / "y"]) == ["x", "y"]


@pytest.mark.usefixtures("light_only")
def test_the_report_goes_where_it_is_asked_to(run: RunDirectory, tmp_path: Path) -> None:
    record(run, 1, metrics=[], with_clients=False)
    assert write_report([run.path], tmp_path) == tmp_path / "report.html"
    assert write_report([str(run.path)], str(tmp_path / "new" / "mine.html")) == tmp_path / "new" / "mine.html"
    assert (tmp_path / "new" / "mine-figures" / "time.png").is_file()
    assert not run.report.exists()


def test_a_report_of_nothing_or_of_no_run_is_refused(tmp_path: Path, run: RunDirectory) -> None:
    with pytest.raises(RunError, match="no run to report on"):
        write_report([])
    with pytest.raises(RunError, match="not a run directory"):
        write_report([tmp_path])
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="cannot write the report"):
        write_report([run.path], tmp_path / "file" / "report.html")


@pytest.mark.usefixtures("light_only")
def test_a_configuration_of_another_version_is_still_shown(run: RunDirectory) -> None:
    record(run, 2, metrics=[], with_clients=False)
    run.config.write_text("rounds: 2\nwarp_drive: {name: on}\n")
    page = Page(write_report([run.path]))
    assert "warp_drive.name" in page.text
    assert "2 of 2 rounds" in page.text


def test_an_earlier_sitting_s_end_is_not_this_one_s(run: RunDirectory) -> None:
    record(run, 2)
    assert read_run(run.path).reason == "all rounds are done"
    with EventLog(run.log) as log:
        log.info("started")
    assert read_run(run.path).reason is None
    with EventLog(run.log) as log:
        log.error("failed")
    assert read_run(run.path).reason == "failed"


def test_participation_counts_every_sighting_against_a_plain_loop(run: RunDirectory) -> None:
    record(run, 7, reason="late")
    who = read_run(run.path).participation
    times: dict[int, int] = {}
    for round in range(1, 8):
        for client in make_clients(round)["client"].to_pylist():
            times[client] = times.get(client, 0) + 1
    assert who is not None
    assert dict(zip(who.clients.tolist(), who.times.tolist(), strict=True)) == times
    assert who.samples.tolist() == [10 + client for client in who.clients]
    assert who.reasons == {"late": 1}


def test_the_phases_and_what_they_leave_make_up_the_total(run: RunDirectory) -> None:
    record(run, 4)
    recorded = read_run(run.path)
    assert recorded.time == pytest.approx(4 * 0.75)
    assert recorded.seconds["other"].tolist() == pytest.approx([0.25] * 4)
    assert recorded.clients_per_second == pytest.approx(16 / 3)
    assert not recorded.overlaps


def test_the_time_is_that_of_the_clock_also_where_rounds_overlap(run: RunDirectory) -> None:
    with RunTables(run, METRICS) as tables:
        for number in range(1, 5):
            row = make_row(number)
            tables.append(replace(row, seconds={**row.seconds, "total": 0.25}), make_clients(number))
    recorded = read_run(run.path)
    assert recorded.time == pytest.approx(sum(read_rounds(run)["seconds/total"].to_pylist())) == pytest.approx(1.0)
    assert recorded.overlaps
    assert "Rounds overlap" in Page(write_report([run.path])).text


def test_a_report_survives_moving_the_run(run: RunDirectory, tmp_path: Path) -> None:
    record(run, 0)
    shutil.move(run.path, tmp_path / "elsewhere")
    page = Page(write_report([tmp_path / "elsewhere"]))
    assert re.search(r"raysim run \S*elsewhere/config.yaml", page.text)
