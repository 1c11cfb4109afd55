from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file
from typer.testing import Result

from raysim import Experiment
from raysim.cli.signals import exit_code, terminable, uninterrupted
from raysim.tracking import RunDirectory, read_rounds
from raysim.tracking.configuration import differences
from raysim.tracking.resuming import may_change

Raysim = Callable[..., Result]

ALGORITHM = """\
from raysim.algorithms import Algorithm

class Custom(Algorithm):
    def correct(self, grad, weights, b):
        if b.setting.round == 2:
            raise {error}
"""


def rounds_of(run: Path) -> list[int]:
    return read_rounds(RunDirectory.open(run))["round"].to_pylist()


def test_run_trains_and_says_where_the_run_is(raysim: Raysim, folder: Path) -> None:
    result = raysim("run", "tiny.yaml", "--directory", "out")
    assert result.exit_code == 0, result.output
    assert result.stderr.splitlines()[-1].split() == ["run", "out"]
    assert result.stdout == "out\n"
    assert rounds_of(folder / "out") == [1, 2]
    assert (folder / "out" / "model.safetensors").is_file()


def test_run_makes_its_directory_below_the_configured_one(raysim: Raysim, folder: Path) -> None:
    assert raysim("run", "tiny.yaml", "tracking.directory=elsewhere", "name=other").exit_code == 0
    (run,) = (folder / "elsewhere").iterdir()
    assert run.name.startswith("other-")


def test_run_names_the_report_unless_there_is_none(raysim: Raysim, folder: Path) -> None:
    result = raysim("run", "tiny.yaml", "tracking.report=true", "--directory", "out")
    assert result.stderr.splitlines()[-1].split() == ["report", "out/report.html"]
    assert (folder / "out" / "report.html").is_file()
    assert raysim("run", "tiny.yaml", "tracking.report=true", "--directory", "bare", "--no-report").exit_code == 0
    assert not (folder / "bare" / "report.html").exists()


def test_overrides_may_stand_on_both_sides_of_an_option(raysim: Raysim, folder: Path) -> None:
    assert raysim("run", "tiny.yaml", "rounds=1", "--directory", "out", "client.optimizer.lr=0.5").exit_code == 0
    experiment = RunDirectory.open("out").experiment()
    assert (experiment.rounds, experiment.client.optimizer.lr) == (1, 0.5)


def test_json_output_is_one_object_a_line(raysim: Raysim) -> None:
    result = raysim("run", "tiny.yaml", "--json", "--directory", "out")
    events = [json.loads(line) for line in result.stdout.splitlines()]
    assert [event["event"] for event in events] == ["start", "round", "round", "finish"]
    assert events[-1]["run"] == "out"
    assert result.stderr == ""


def test_quiet_prints_the_run_directory_alone(raysim: Raysim) -> None:
    result = raysim("run", "tiny.yaml", "--quiet", "--directory", "out")
    assert (result.stdout, result.stderr) == ("out\n", "")


def test_output_options_exclude_each_other(raysim: Raysim) -> None:
    result = raysim("run", "tiny.yaml", "--quiet", "--json")
    assert result.exit_code == 2
    assert result.stderr == "error: --quiet, --json and --plain exclude each other; give one of them\n"


def test_resume_trains_on_to_the_bits_of_an_unbroken_run(raysim: Raysim) -> None:
    assert raysim("run", "tiny.yaml", "--directory", "whole", "rounds=4").exit_code == 0
    assert raysim("run", "tiny.yaml", "--directory", "parts").exit_code == 0
    result = raysim("resume", "parts", "rounds=4", "--plain")
    assert result.exit_code == 0, result.output
    assert rounds_of(Path("parts")) == [1, 2, 3, 4]
    whole, parts = load_file("whole/model.safetensors"), load_file("parts/model.safetensors")
    assert {name: tensor.tobytes() for name, tensor in whole.items()} == {
        name: tensor.tobytes() for name, tensor in parts.items()
    }


def test_resume_refuses_what_past_rounds_depend_on(raysim: Raysim) -> None:
    assert raysim("run", "tiny.yaml", "--directory", "out").exit_code == 0
    result = raysim("resume", "out", "client.optimizer.lr=0.7")
    assert result.exit_code == 2
    assert result.stderr == (
        "error: out: belongs to another configuration: client.optimizer.lr is 0.1 there and 0.7 here; "
        "start a new run instead\n"
    )


def test_ctrl_c_saves_the_run_and_says_how_to_go_on(raysim: Raysim, folder: Path) -> None:
    (folder / "interrupting.py").write_text(ALGORITHM.format(error="KeyboardInterrupt"))
    result = raysim("run", "tiny.yaml", "algorithm=interrupting:Custom", "--directory", "out")
    assert result.exit_code == 130
    assert result.stderr.splitlines()[-1] == "interrupted; continue with: raysim resume out"
    assert rounds_of(folder / "out") == [1]


def test_ctrl_c_before_the_first_round_says_that_there_is_nothing_to_resume(raysim: Raysim, folder: Path) -> None:
    (folder / "hasty.py").write_text(ALGORITHM.format(error="KeyboardInterrupt").replace("== 2", "== 1"))
    result = raysim("run", "tiny.yaml", "algorithm=hasty:Custom", "--directory", "out")
    assert result.exit_code == 130
    assert result.stderr.splitlines()[-1] == ("interrupted before the first round was done: there is nothing to resume")
    assert not (folder / "out").exists()
    assert raysim("run", "tiny.yaml", "--directory", "out").exit_code == 0


def test_a_link_to_an_empty_folder_is_a_run_directory_like_any_other(raysim: Raysim, folder: Path) -> None:
    (folder / "volume").mkdir()
    (folder / "out").symlink_to("volume")
    assert raysim("run", "tiny.yaml", "--directory", "out").exit_code == 0
    assert raysim("resume", "out", "rounds=3").exit_code == 0
    assert rounds_of(folder / "volume") == [1, 2, 3]


def test_ctrl_c_before_the_first_round_leaves_an_empty_folder_that_was_there(raysim: Raysim, folder: Path) -> None:
    (folder / "hasty.py").write_text(ALGORITHM.format(error="KeyboardInterrupt").replace("== 2", "== 1"))
    (folder / "out").mkdir()
    assert raysim("run", "tiny.yaml", "algorithm=hasty:Custom", "--directory", "out").exit_code == 130
    assert list((folder / "out").iterdir()) == []


def test_ctrl_c_before_there_is_a_simulation_is_one_word(raysim: Raysim, monkeypatch: pytest.MonkeyPatch) -> None:
    def pressed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("raysim.cli.runs._load", pressed)
    result = raysim("run", "tiny.yaml")
    assert (result.exit_code, result.stdout, result.stderr) == (130, "", "interrupted\n")


@pytest.mark.parametrize(
    ("every", "last"),
    [
        (0, "interrupted before a round was saved: there is nothing to resume"),
        (1, "interrupted; continue with: raysim resume out"),
    ],
)
def test_a_second_ctrl_c_stops_the_saving_and_says_what_is_saved(
    raysim: Raysim, folder: Path, monkeypatch: pytest.MonkeyPatch, every: int, last: str
) -> None:
    (folder / "interrupting.py").write_text(ALGORITHM.format(error="KeyboardInterrupt"))

    def pressed_again(*_: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("raysim.tracking.Recorder.export", pressed_again)
    if not every:
        monkeypatch.setattr("raysim.tracking.CheckpointFolder.write", pressed_again)
    arguments = ["tiny.yaml", "algorithm=interrupting:Custom", f"tracking.checkpoint_every={every}", "--plain"]
    result = raysim("run", *arguments, "--directory", "out")
    assert result.exit_code == 130
    assert "interrupted; saving round 1 (a second one stops at once)" in result.stderr
    assert result.stderr.splitlines()[-1] == last


def test_ctrl_c_waits_until_what_must_not_be_cut_in_two_is_done() -> None:
    handler, done = signal.getsignal(signal.SIGINT), []

    def load() -> None:
        with uninterrupted():
            os.kill(os.getpid(), signal.SIGINT)
            done.append("all of it")

    with pytest.raises(KeyboardInterrupt):
        load()
    assert done == ["all of it"]
    assert signal.getsignal(signal.SIGINT) is handler


def test_sigterm_is_an_interrupt_and_waits_like_one() -> None:
    handler, done = signal.getsignal(signal.SIGTERM), []

    def terminated() -> None:
        with terminable(), uninterrupted():
            os.kill(os.getpid(), signal.SIGTERM)
            done.append("all of it")

    with pytest.raises(KeyboardInterrupt) as caught:
        terminated()
    assert (done, exit_code(caught.value)) == (["all of it"], 143)
    assert signal.getsignal(signal.SIGTERM) is handler


def test_what_takes_long_before_the_run_begins_is_said(
    raysim: Raysim, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("raysim.cli.runs.sys", SimpleNamespace(modules={}, stderr=sys.stderr))  # torch is not there
    result = raysim("run", "tiny.yaml", "--plain", "--directory", "out", "data.cache=cache")
    assert result.stderr.splitlines()[:2] == ["loading torch …", "building the shards: digits, iid partition …"]


def test_a_disk_without_room_for_what_clients_keep_is_one_line_and_exit_code_2(
    raysim: Raysim, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(tensors: dict[str, object], file: Path) -> None:
        if "clients" in tensors and file.parent.name.startswith(".round-000003"):
            raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")
        save_file(tensors, file)

    monkeypatch.setattr("raysim.rounds.vectors.save_arrays", full)
    arguments = ["tiny.yaml", "rounds=3", "algorithm=scaffold", "tracking.checkpoint_every=2", "--directory", "out"]
    result = raysim("run", *arguments)
    assert result.exit_code == 2
    assert result.stderr.splitlines()[-1] == (
        "error: out/checkpoints/round-000003: cannot write the checkpoint (No space left on device); make room there, "
        "then: raysim resume out (it goes on after round 2)"
    )
    assert "Traceback" not in result.stderr
    monkeypatch.undo()
    os.chdir(folder)
    assert raysim("resume", "out").exit_code == 0


@pytest.mark.parametrize("debug", [False, True])
def test_an_error_of_a_clients_own_code_is_one_line_and_a_traceback_on_demand(
    raysim: Raysim, folder: Path, debug: bool
) -> None:
    (folder / "failing.py").write_text(ALGORITHM.format(error="ValueError('boom')"))
    result = raysim("run", "tiny.yaml", "algorithm=failing:Custom", "--quiet", *(["--debug"] if debug else []))
    assert result.exit_code == 2
    last = result.stderr.splitlines()[-1]
    if debug:
        assert last.endswith("round 2: ValueError: boom")
        assert "failing.py" in result.stderr
    else:
        assert last.endswith("round 2: ValueError: boom (--debug shows the traceback)")
        assert last.startswith("error: client ")
        assert "Traceback" not in result.stderr


def test_report_prints_the_path_of_what_it_wrote(raysim: Raysim, folder: Path) -> None:
    assert raysim("run", "tiny.yaml", "--directory", "first").exit_code == 0
    assert raysim("run", "tiny.yaml", "seed=1", "--directory", "second").exit_code == 0
    assert raysim("report", "first").stdout == "first/report.html\n"
    assert raysim("report", "first", "second", "--out", "both.html").stdout == "both.html\n"
    assert "second" in (folder / "both.html").read_text()


@pytest.mark.parametrize(
    ("name", "schedule"),
    [
        ("cosine", ["client.schedule=cosine"]),
        ("linear", ["client.schedule={name: steps, then: linear}", "client.steps=2"]),
    ],
)
def test_more_rounds_of_a_curve_are_refused_with_the_schedule_as_the_reason(
    name: str, schedule: list[str], raysim: Raysim
) -> None:
    assert raysim("run", "tiny.yaml", *schedule, "--directory", "out").exit_code == 0
    result = raysim("resume", "out", "rounds=4")
    assert result.exit_code == 2
    (line,) = result.stderr.splitlines()
    assert line.startswith(f"error: out: rounds must stay 2: client.schedule is {name}, a curve over all rounds")
    assert line.endswith("start a new run instead")
    assert raysim("resume", "out", "execution.max_retries=5").exit_code == 0


def test_every_example_of_resume_changes_only_whatmay_change(raysim: Raysim) -> None:
    examples = [
        line.split() for line in raysim("resume", "--help").stdout.splitlines() if "raysim resume runs/" in line
    ]
    assert len(examples) >= 3
    configs = Path(__file__).parents[2] / "configs"
    named = {Experiment.from_yaml(file).name: Experiment.from_yaml(file) for file in configs.glob("*.yaml")}
    for _, _, run, *overrides in examples:
        started = named[run.removeprefix("runs/").rsplit("-", 2)[0]]
        continued = started.updated(overrides)
        assert not differences(started.to_dict(), continued.to_dict(), ignore=may_change(continued)), run


def test_the_help_of_resume_names_all_thatmay_change(raysim: Raysim) -> None:
    text = " ".join(raysim("resume", "--help").stdout.split())
    assert not [key for key in may_change(Experiment()) if key not in text]
