"""Ray's token is its owner's alone, whether raysim makes it or finds it."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from raysim.cli import doctor
from raysim.cluster.token import guard_token, token_file
from raysim.errors import PlacementError


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty home with token authentication as Ray has it by itself, and files that everybody may read."""
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    before = os.umask(0o022)
    yield tmp_path
    os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def found() -> tuple[str, str]:
    (finding,) = doctor.token()
    return finding.level, finding.found


def test_a_token_is_made_for_its_owner_alone(home: Path) -> None:
    assert found() == ("ok", "none yet")
    guard_token()
    file = home / ".ray" / "auth_token"
    assert (mode(file), mode(file.parent)) == (0o600, 0o700)
    token = file.read_text()
    assert len(bytes.fromhex(token)) == 32
    assert list(file.parent.iterdir()) == [file]
    guard_token()
    assert file.read_text() == token
    assert found()[0] == "ok"


def test_a_token_that_everybody_can_read_is_tightened_and_named_by_the_doctor(home: Path) -> None:
    file = token_file()
    file.parent.mkdir()
    file.write_text("secret")
    assert mode(file) == 0o644
    assert found() == ("bad", f"others can read {file}")
    guard_token()
    assert (mode(file), file.read_text()) == (0o600, "secret")
    assert found()[0] == "ok"


def test_ray_takes_the_token_that_was_made(home: Path) -> None:
    loader = pytest.importorskip("ray._raylet").AuthenticationTokenLoader.instance()
    loader.reset_cache()
    assert not loader.has_token(ignore_auth_mode=True)
    guard_token()
    loader.reset_cache()
    assert loader.has_token(ignore_auth_mode=True)
    loader.reset_cache()


@pytest.mark.parametrize(("name", "value"), [("RAY_AUTH_MODE", "disabled"), ("RAY_AUTH_TOKEN", "given")])
def test_no_token_is_made_where_ray_looks_for_none(
    home: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    guard_token()
    assert not list(home.iterdir())


def test_a_token_of_ones_own_choice_is_tightened_where_it_is(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / "mine").write_text("secret")
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(home / "mine"))
    guard_token()
    assert mode(home / "mine") == 0o600
    assert not (home / ".ray").exists()


def test_a_home_that_takes_no_token_is_one_line(home: Path) -> None:
    (home / ".ray").write_text("a file")
    with pytest.raises(PlacementError, match=r"\.ray/auth_token: Ray's token cannot be written \(.*\); set HOME"):
        guard_token()


def test_the_token_is_guarded_before_ray_starts(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from raysim.cluster import runtime
    from raysim.config.running import ExecutionConfig

    class Ray:
        @staticmethod
        def is_initialized() -> bool:
            return False

        @staticmethod
        def init(**options: object) -> None:
            raise RuntimeError(f"{mode(token_file()):o}")

    monkeypatch.setattr(runtime, "import_ray", lambda: Ray)
    with pytest.raises(PlacementError, match=r"did not start on this machine; .* \(RuntimeError: 600\)"):
        runtime.Runtime.start(ExecutionConfig())
