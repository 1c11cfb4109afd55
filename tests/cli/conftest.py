"""Every command test works in an empty folder of its own, with a tiny experiment at hand."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from command_line import invoke
from typer.testing import Result

TINY = """\
name: tiny
rounds: 2
cohort: 3
data:
  source: digits
  partition: {name: iid, clients: 6}
client: {steps: 1}
execution: {executor: inprocess}
tracking: {report: false}
"""


@pytest.fixture(scope="session")
def shard_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shards are the same for every test that asks for the same ones."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def folder(tmp_path: Path, shard_cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with `tiny.yaml` in it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("RAYSIM_CACHE", str(shard_cache))
    monkeypatch.setenv("RAYSIM_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "token"))  # not the user's own, for `raysim doctor`
    monkeypatch.delenv("RAYSIM_DATA", raising=False)
    (tmp_path / "tiny.yaml").write_text(TINY)
    return tmp_path


@pytest.fixture
def raysim(folder: Path) -> Callable[..., Result]:
    """Runs a command line in this process."""
    return invoke
