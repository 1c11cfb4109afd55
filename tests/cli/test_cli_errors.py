from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

Raysim = Callable[..., Result]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["modle=mlp"], "tiny.yaml: unknown key 'modle'; did you mean 'model'?"),
        (["dta.seed=1"], "tiny.yaml: unknown key 'dta'; did you mean 'data'?"),
        (["data.partition.client=4"], "tiny.yaml: unknown key 'data.partition.client'; did you mean 'clients'?"),
        (["model=mpl"], "tiny.yaml: model: unknown name 'mpl'; did you mean 'mlp'?"),
        (
            ["rounds=many"],
            "tiny.yaml: rounds: input should be a valid integer, unable to parse string as an integer, got 'many'",
        ),
        (["rounds=0"], "tiny.yaml: rounds: input should be greater than or equal to 1, got 0"),
        (["rounds"], "override 'rounds': write key.sub=value"),
        (
            ["cohort=7"],
            "tiny.yaml: cohort (7) is larger than the population (6 clients); "
            "lower cohort, or raise data.partition.clients",
        ),
        (
            ["client.batch_size=ten"],
            "tiny.yaml: client.batch_size: expected a whole number of at least 1, or 'full', got 'ten'",
        ),
        (
            ["evaluation.metrics=[acuracy]"],
            "tiny.yaml: evaluation.metrics[0]: unknown name 'acuracy'; did you mean 'accuracy'?",
        ),
        (["rounds.more=3"], "override 'rounds.more=3': rounds is not a section"),
    ],
)
@pytest.mark.parametrize("command", ["run", "plan"])
def test_a_wrong_configuration_is_one_line(raysim: Raysim, command: str, arguments: list[str], message: str) -> None:
    result = raysim(command, "tiny.yaml", *arguments)
    assert (result.exit_code, result.stdout, result.stderr) == (2, "", f"error: {message}\n")


@pytest.mark.parametrize("command", ["run", "plan", "data build", "data show"])
def test_a_missing_configuration_is_one_line_with_an_example(raysim: Raysim, command: str) -> None:
    example = f"try `raysim {command} quickstart"
    words = command.split()
    assert raysim(*words).stderr == f"error: no CONFIG given; {example}`; `raysim list configs` names the others\n"
    assert raysim(*words, "missing.yaml").stderr == "error: missing.yaml: no such file\n"
    result = raysim(*words, "rounds=3")
    assert result.exit_code == 2
    assert result.stderr == (
        f"error: 'rounds=3' is an override, but the configuration file comes first; {example} rounds=3`\n"
    )


def test_every_problem_of_a_configuration_has_its_line(raysim: Raysim) -> None:
    result = raysim("run", "tiny.yaml", "rounds=0", "seeds=1")
    assert result.exit_code == 2
    assert [line.split(": ")[:2] for line in result.stderr.splitlines()] == [["error", "tiny.yaml"]] * 2


def test_a_cohort_larger_than_a_natural_population_is_one_line(raysim: Raysim, folder: Path) -> None:
    (folder / "rows.csv").write_text("who,a,b,y\n" + "".join(f"{i % 2},{i},{-i},{i % 3}\n" for i in range(40)))
    Path("rows.yaml").write_text(
        "cohort: 3\n"
        "data: {source: {name: csv, path: rows.csv, label: y, client: who}, partition: natural}\n"
        "execution: {executor: inprocess}\n"
    )
    result = raysim("run", "rows.yaml", "--quiet")
    assert (result.exit_code, result.stderr) == (
        2,
        "error: cohort (3) is larger than the population (2 clients, the owners in data.source csv); "
        "lower cohort, or write it as a fraction, such as 0.5\n",
    )
    assert not (folder / "runs").exists()


def test_a_share_of_a_gpu_that_is_not_there_is_refused(raysim: Raysim, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    result = raysim("plan", "tiny.yaml", "execution.executor=ray", "execution.num_gpus=0.3")
    assert (result.exit_code, result.stdout, result.stderr) == (
        2,
        "",
        "error: execution.num_gpus: an actor wants 0.3 GPUs, but no node has a GPU; set it to 0\n",
    )


def test_a_directory_that_is_not_empty_is_refused(raysim: Raysim, folder: Path) -> None:
    (folder / "mine").mkdir()
    (folder / "mine" / "thesis.tex").write_text("")
    result = raysim("run", "tiny.yaml", "--directory", "mine")
    assert result.exit_code == 2
    assert result.stderr.startswith("error: mine: exists already and is not empty")
    assert [entry.name for entry in (folder / "mine").iterdir()] == ["thesis.tex"]


def test_a_directory_of_another_run_is_refused(raysim: Raysim) -> None:
    assert raysim("run", "tiny.yaml", "--directory", "out").exit_code == 0
    result = raysim("run", "tiny.yaml", "--directory", "out")
    assert result.exit_code == 2
    assert result.stderr.startswith("error: out: exists already; `raysim resume` continues it")


@pytest.mark.parametrize("command", ["resume", "report"])
def test_a_folder_that_is_no_run_is_one_line(raysim: Raysim, folder: Path, command: str) -> None:
    (folder / "empty").mkdir()
    result = raysim(command, "empty")
    assert (result.exit_code, result.stderr) == (
        2,
        "error: empty: not a run directory (no config.yaml in it); pass a folder that `raysim run` made\n",
    )
    result = raysim(command, "nowhere")
    assert (result.exit_code, result.stderr) == (2, "error: nowhere: no such run directory\n")


def test_an_unknown_command_and_an_unknown_option_are_usage_errors(raysim: Raysim) -> None:
    result = raysim("rum")
    assert result.exit_code == 2
    assert "No such command 'rum'" in result.stderr
    assert raysim("run", "tiny.yaml", "--fast").exit_code == 2


def test_a_disk_that_takes_no_model_is_one_line_and_nothing_is_half_written(
    raysim: Raysim, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: object, path: str, *rest: object) -> None:
        Path(path).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("raysim.execution.server.server.Server.export", full)
    result = raysim("run", "tiny.yaml", "--quiet", "--directory", "run")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == (
        "error: run/model.safetensors: cannot be written (No space left on device); make room there, "
        "then: raysim resume run (it goes on after round 2)\n"
    )
    assert not list((folder / "run").glob("*.safetensors*")) + list((folder / "run").glob(".*.tmp"))
