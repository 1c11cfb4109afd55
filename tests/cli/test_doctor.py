from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from typer.testing import Result

from raysim.cli import doctor
from raysim.cli.findings import GIB, Finding

Raysim = Callable[..., Result]


def levels(found: Iterator[Finding]) -> dict[str, str]:
    findings = list(found)
    assert all(bool(finding.remedy) == (finding.level != "ok") for finding in findings)
    return {finding.what: finding.level for finding in findings}


def test_doctor_has_a_line_for_every_check_and_succeeds_where_nothing_is_bad(
    raysim: Raysim, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "CHECKS", tuple(check for check in doctor.CHECKS if check is not doctor.ray))
    result = raysim("doctor")
    assert result.exit_code == 0, result.output
    said = [line.split()[1] for line in result.stdout.splitlines()[1:]]
    assert {"python", "torch", "cuda", "cores", "memory", "cache", "runs", "RAYSIM_DATA"} <= set(said)


def test_doctor_fails_and_says_what_to_do_where_something_is_bad(
    raysim: Raysim, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = Finding("bad", "disk", "full", "empty it")
    monkeypatch.setattr(doctor, "CHECKS", (lambda: iter([bad]),))
    result = raysim("doctor")
    assert result.exit_code == 1
    assert result.stdout.splitlines()[1].split() == ["bad", "disk", "full;", "empty", "it"]


def test_a_package_that_cannot_be_imported_is_bad(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "torch", None)
    assert levels(doctor.torch()) == {"torch": "bad"}


def test_settings_that_change_what_ray_does_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    class FakeRay:
        __version__ = "2.60.0"

    monkeypatch.setattr("raysim.cluster.runtime.import_ray", lambda: FakeRay)
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    monkeypatch.setenv("RAY_ENABLE_ZERO_COPY_TORCH_TENSORS", "1")
    assert levels(doctor.ray()) == {"ray": "ok", "RAY_ADDRESS": "warn", "zero copy": "bad"}


def test_fewer_cores_than_the_machine_has_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 8)
    monkeypatch.setattr(doctor, "cores", lambda: 2.5)
    (found,) = doctor.processor()
    assert (found.level, found.remedy) == ("warn", "set execution.actors=2, or actors compete for them")


@pytest.mark.parametrize(("free", "level"), [(16 * GIB, "ok"), (GIB, "warn"), (GIB // 4, "bad")])
def test_memory_is_judged_by_what_is_available(monkeypatch: pytest.MonkeyPatch, free: int, level: str) -> None:
    monkeypatch.setattr(doctor, "available_memory", lambda: free)
    assert levels(doctor.memory())["memory"] == level


@pytest.mark.parametrize(("limit", "level"), [(-1, "ok"), (65536, "ok"), (256, "warn"), (64, "bad")])
def test_the_limit_of_open_files_is_judged(monkeypatch: pytest.MonkeyPatch, limit: int, level: str) -> None:
    monkeypatch.setattr("resource.getrlimit", lambda what: (limit, limit))
    assert levels(doctor.open_files()) == {"open files": level}


@pytest.mark.usefixtures("folder")
def test_a_full_disk_is_bad(monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage("/")
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage._replace(free=1000))
    assert set(levels(doctor.folders()).values()) == {"bad"}


def test_a_cache_that_cannot_be_written_is_bad(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "file").write_text("")
    monkeypatch.setenv("RAYSIM_CACHE", str(folder / "file" / "cache"))
    found = next(finding for finding in doctor.folders() if finding.what == "cache")
    assert (found.level, found.remedy) == ("bad", "set data.cache or RAYSIM_CACHE to another folder")


def test_a_data_folder_that_is_not_there_is_a_warning(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAYSIM_DATA", str(folder / "missing"))
    assert levels(doctor.data_sets())["RAYSIM_DATA"] == "warn"
    monkeypatch.setenv("RAYSIM_DATA", str(folder))
    assert levels(doctor.data_sets())["RAYSIM_DATA"] == "ok"
