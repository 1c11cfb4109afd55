from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from raysim.config import Experiment, read_yaml
from raysim.config.parsing import as_yaml
from raysim.errors import RunError, StorageError
from raysim.tracking import RunDirectory

HOLD = "import sys; from raysim.locks import FolderLock; from pathlib import Path\n"
HOLD += "lock = FolderLock(Path(sys.argv[1])); print('held', flush=True); sys.stdin.read()"


def test_two_runs_in_the_same_second_get_different_directories(tmp_path: Path) -> None:
    runs = [RunDirectory.create(tmp_path, "digits", Experiment()) for _ in range(3)]
    assert len({run.path for run in runs}) == 3
    assert all(run.path.name.startswith("digits-") and run.config.is_file() for run in runs)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == sorted(run.path.name for run in runs)


def test_a_run_directory_gives_its_experiment_back(tmp_path: Path) -> None:
    experiment = Experiment().updated(["model={name: mlp}", "rounds=3"])
    created = RunDirectory.create(tmp_path, "x", experiment)
    assert RunDirectory.open(created.path).experiment() == experiment


def test_an_explicit_directory_may_exist_if_it_is_empty(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    assert RunDirectory.create_at(tmp_path / "mine", Experiment()).config.is_file()


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    RunDirectory.create_at(tmp_path / "a", Experiment())
    with pytest.raises(RunError, match=r"a: exists already; `raysim resume` continues it, or choose another"):
        RunDirectory.create_at(tmp_path / "a", Experiment(rounds=7))
    assert RunDirectory.open(tmp_path / "a").experiment().rounds == 100
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "thesis.txt").write_text("mine")
    with pytest.raises(RunError, match=r"b: exists already and is not empty"):
        RunDirectory.create_at(tmp_path / "b", Experiment())
    (tmp_path / "c").write_text("a file")
    with pytest.raises(RunError, match="c: exists already"):
        RunDirectory.create_at(tmp_path / "c", Experiment())
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["a", "b", "c"]


@pytest.mark.parametrize("code", [errno.EBUSY, errno.EACCES, errno.ENOTEMPTY, errno.EROFS])
def test_an_empty_folder_is_taken_although_it_cannot_be_replaced_nor_anything_made_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    mount = tmp_path / "mount"
    mount.mkdir()
    refuse_beside(mount, code, monkeypatch)
    run = RunDirectory.create_at(mount, Experiment(rounds=7))
    assert RunDirectory.open(mount).experiment().rounds == 7
    run.discard()
    assert list(tmp_path.rglob("*")) == [mount]


def refuse_beside(folder: Path, code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the system refuse to make or to rename anything in the folder's parent."""

    def refusing(call: Callable[..., None]) -> Callable[..., None]:
        def refused(*paths: str | Path, **options: object) -> None:
            if any(Path(path).parent == folder.parent for path in paths if isinstance(path, str | Path)):
                raise OSError(code, os.strerror(code))
            call(*paths, **options)

        return refused

    for name in ("rename", "replace", "mkdir", "rmdir"):
        monkeypatch.setattr(os, name, refusing(getattr(os, name)))


def test_a_link_to_an_empty_folder_is_taken_and_stays_when_the_run_is_discarded(tmp_path: Path) -> None:
    (tmp_path / "volume").mkdir()
    (tmp_path / "link").symlink_to("volume")
    run = RunDirectory.create_at(tmp_path / "link", Experiment(rounds=7))
    assert RunDirectory.open(tmp_path / "volume").experiment().rounds == 7
    run.discard()
    assert (tmp_path / "link").is_symlink()
    assert list((tmp_path / "volume").iterdir()) == []


def test_what_file_systems_and_killed_processes_leave_in_an_empty_folder_is_nothing(tmp_path: Path) -> None:
    (tmp_path / "lost+found").mkdir()
    (tmp_path / ".lock").touch()
    (tmp_path / ".config.yaml.17.tmp").write_text("rou")
    run = RunDirectory.create_at(tmp_path, Experiment())
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["config.yaml", "lost+found"]
    run.discard()
    assert [entry.name for entry in tmp_path.iterdir()] == ["lost+found"]


@pytest.mark.parametrize("found", [False, True])
def test_of_two_that_want_the_same_folder_one_gets_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, found: bool
) -> None:
    if found:
        (tmp_path / "run").mkdir()
    write, seen = Experiment.to_yaml, []

    def write_late(self: Experiment, path: Path | None = None) -> str:
        if path is not None and not seen:
            seen.append("another one comes while this one writes")
            with pytest.raises(RunError, match=rf"run: is being written by process {os.getpid()} on"):
                RunDirectory.create_at(tmp_path / "run", Experiment(rounds=9))
        return write(self, path)

    monkeypatch.setattr(Experiment, "to_yaml", write_late)
    assert RunDirectory.create_at(tmp_path / "run", Experiment(rounds=7)).experiment().rounds == 7
    assert seen
    with pytest.raises(RunError, match="exists already"):
        RunDirectory.create_at(tmp_path / "run", Experiment(rounds=9))


@pytest.mark.parametrize("found", [False, True])
def test_a_folder_whose_configuration_cannot_be_written_is_left_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, found: bool
) -> None:
    if found:
        (tmp_path / "run").mkdir()

    def full(self: Experiment, path: Path) -> str:
        path.write_text("half")
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(Experiment, "to_yaml", full)
    with pytest.raises(StorageError, match=r"cannot make the run directory \(No space left on device\); make"):
        RunDirectory.create_at(tmp_path / "run", Experiment())
    assert list(tmp_path.rglob("*")) == ([tmp_path / "run"] if found else [])


def test_a_configuration_that_does_not_read_as_it_was_written_ends_the_run_before_it_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Experiment, "to_yaml", lambda self, path: path.write_text("") or "rounds: 7\n")
    with pytest.raises(StorageError, match=r"config.yaml: reads back differently than written"):
        RunDirectory.create_at(tmp_path / "run", Experiment())
    assert list(tmp_path.iterdir()) == []


def test_a_parent_that_is_a_file_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="cannot make the run directory"):
        RunDirectory.create(tmp_path / "file", "x", Experiment())


def test_opening_something_else_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="nowhere: no such run directory"):
        RunDirectory.open(tmp_path / "nowhere")
    with pytest.raises(RunError, match=r"not a run directory \(no config.yaml in it\)"):
        RunDirectory.open(tmp_path)


def test_a_damaged_configuration_is_refused(run: RunDirectory) -> None:
    run.config.write_text("rounds: many\n")
    with pytest.raises(RunError, match=r"config.yaml: rounds: .*cannot be continued"):
        run.experiment()


def test_another_configuration_is_refused_and_the_first_keys_named(run: RunDirectory) -> None:
    run.check_same_config(Experiment(rounds=10))
    other = Experiment(rounds=20).updated(["client.optimizer.lr=0.5", "execution.actors=3"])
    with pytest.raises(RunError) as caught:
        run.check_same_config(other)
    line = str(caught.value)
    assert "belongs to another configuration: rounds is 10 there and 20 here" in line
    assert "client.optimizer.lr is 0.1 there and 0.5 here" in line
    assert "execution.actors is auto there and 3 here" in line
    assert "\n" not in line
    with pytest.raises(RunError, match=r"client.optimizer.lr is 0.1 there and 0.5 here; start"):
        run.check_same_config(other, ignore=["rounds", "execution"])


def test_a_run_whose_version_did_not_know_a_key_has_its_default(run: RunDirectory) -> None:
    values = read_yaml(run.config)
    del values["client"]["drop_last"], values["data"]["classes"]
    run.config.write_text(as_yaml(values))
    run.check_same_config(Experiment(rounds=10))
    with pytest.raises(RunError, match=r"client.drop_last is false there and true here; start"):
        run.check_same_config(Experiment(rounds=10).updated(["client.drop_last=true"]))


def test_only_the_first_three_differences_are_listed(run: RunDirectory) -> None:
    other = Experiment(rounds=20, seed=1, name="y").updated(["client.epochs=5", "data.test=0.3"])
    with pytest.raises(RunError, match=r" and 2 more; start a new run"):
        run.check_same_config(other)


def test_another_component_is_named_by_its_keys(run: RunDirectory) -> None:
    with pytest.raises(RunError, match=r"model.name is softmax there and mlp here"):
        run.check_same_config(Experiment(rounds=10).updated(["model={name: mlp}"]))


def test_the_environment_is_kept(run: RunDirectory) -> None:
    assert run.read_environment() == {}
    run.write_environment({"torch": "2.6", "K": 1, "path": Path("/x")})
    assert run.read_environment() == {"torch": "2.6", "K": 1, "path": "/x"}
    run.environment.write_text("[1]")
    with pytest.raises(RunError, match=r"environment.json: expected a JSON object"):
        run.read_environment()
    run.environment.write_text("{")
    with pytest.raises(RunError, match=r"environment.json: cannot be read"):
        run.read_environment()


def test_a_run_has_one_writer(run: RunDirectory) -> None:
    with (
        run.lock(),
        pytest.raises(RunError, match=rf"is being written by process {os.getpid()} on .*; stop that one first"),
    ):
        run.lock()
    run.lock().release()


def test_a_lock_is_released_once_and_for_all(run: RunDirectory) -> None:
    lock = run.lock()
    lock.release()
    with run.lock():
        lock.release()
        with pytest.raises(RunError, match="is being written"):
            run.lock()


def test_another_process_keeps_this_one_out_until_it_is_killed(run: RunDirectory) -> None:
    arguments = [sys.executable, "-c", HOLD, str(run.path)]
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        with pytest.raises(RunError, match=f"process {other.pid} on"):
            run.lock()
        other.send_signal(signal.SIGKILL)
        other.wait()
    assert json.loads((run.path / ".lock").read_text())["pid"] == other.pid
    with run.lock():
        assert json.loads((run.path / ".lock").read_text())["pid"] == os.getpid()
