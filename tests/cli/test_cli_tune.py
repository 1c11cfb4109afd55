"""`raysim tune` on the command line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from typer.testing import Result

Raysim = Callable[..., Result]

STUDY = """\
name: tiny
rounds: 1
cohort: 3
data: {partition: {name: iid, clients: 6}, validation: 0.2}
client: {steps: 1}
execution: {executor: inprocess}
training: {engine: sequential}
tuning:
  space: {client.optimizer.lr: {low: 0.01, high: 1.0, log: true}}
  trials: 2
  confirm: {seeds: 0}
"""


def test_a_study_runs_goes_on_and_has_a_report(raysim: Raysim, folder: Path) -> None:
    (folder / "study.yaml").write_text(STUDY)
    first = raysim("tune", "study.yaml", "tracking.report=false", "--directory", "out")
    assert first.exit_code == 0, first.output
    assert "trial 1 (2/2)  complete  validation/accuracy" in first.output
    assert "run it  raysim run out/best.yaml" in first.output
    more = raysim("tune", "out", "tuning.trials=3", "--json")
    assert more.exit_code == 0, more.output
    events = [json.loads(line) for line in more.stdout.splitlines()]
    assert [event["event"] for event in events] == ["start", "trial", "finish"]
    assert events[-1]["study"] == "out"
    report = raysim("report", "out")
    assert report.exit_code == 0, report.output
    assert (folder / "out" / "report.html").read_text().startswith("<!doctype html>")
    assert raysim("run", "out/best.yaml", "tracking.report=false", "--quiet").exit_code == 0


def test_a_link_to_an_empty_volume_is_a_study_folder_like_any_other(raysim: Raysim, folder: Path) -> None:
    (folder / "study.yaml").write_text(STUDY)
    (folder / "volume" / "lost+found").mkdir(parents=True)
    (folder / "out").symlink_to("volume")
    assert raysim("tune", "study.yaml", "tracking.report=false", "--directory", "out").exit_code == 0
    assert raysim("tune", "out", "tuning.trials=3", "--quiet").stdout == "out\n"
    assert (folder / "volume" / "best.yaml").is_file()


def test_a_study_file_is_an_experiment(raysim: Raysim, folder: Path) -> None:
    (folder / "study.yaml").write_text(STUDY)
    assert raysim("run", "study.yaml", "tracking.report=false", "--quiet").exit_code == 0


def test_mistakes_are_one_line_and_exit_code_2(raysim: Raysim, folder: Path) -> None:
    (folder / "study.yaml").write_text(STUDY)
    for arguments, message in [
        (["tiny.yaml"], "error: tuning.objective: there is no validation set"),
        (["study.yaml", "tuning.space={}"], "error: tuning.space: nothing is varied"),
        (
            ["study.yaml", "tuning.sampler=tpee"],
            "error: study.yaml: tuning.sampler: unknown name 'tpee'; did you mean",
        ),
        (["study.yaml", "tuning.parallel=2"], "error: tuning.parallel: 2 trials at once need execution.executor: ray"),
        (["study.yaml", "--quiet", "--json"], "error: --quiet and --json exclude each other"),
        ([], "error: no CONFIG given; try `raysim tune"),
    ]:
        result = raysim("tune", *arguments)
        assert result.exit_code == 2, result.output
        assert result.stderr.startswith(message)
        assert len(result.stderr.splitlines()) == 1
