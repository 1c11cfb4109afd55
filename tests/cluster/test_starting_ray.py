"""A Ray that does not start, or that cannot be joined, is one line with what to do."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from raysim.cluster import runtime
from raysim.config.running import ExecutionConfig
from raysim.errors import PlacementError


class Failing:
    """In place of Ray: `init` fails as Ray does, with an error of no type of its own."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def is_initialized(self) -> bool:
        return False

    def init(self, **options: object) -> None:
        raise self.error


@pytest.fixture
def port() -> Iterator[int]:
    """One that is open."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def refused(monkeypatch: pytest.MonkeyPatch, error: Exception, **execution: object) -> str:
    monkeypatch.setattr(runtime, "import_ray", lambda: Failing(error))
    monkeypatch.setattr(runtime, "guard_token", lambda: None)
    with pytest.raises(PlacementError) as caught:
        runtime.Runtime.start(ExecutionConfig.model_validate(execution))
    return str(caught.value)


def test_a_ray_that_does_not_start_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    assert refused(monkeypatch, Exception("The current node timed out\nduring startup.")) == (
        "Ray did not start on this machine; try again when it is less busy, or set execution.executor=inprocess "
        "(Exception: The current node timed out during startup.)"
    )


def test_a_cluster_of_another_version(monkeypatch: pytest.MonkeyPatch, port: int) -> None:
    address = f"127.0.0.1:{port}"
    assert refused(monkeypatch, RuntimeError("Version mismatch:\n  Ray: 2.0\n"), address=address) == (
        f"execution.address: cannot join the Ray cluster at '{address}' (RuntimeError: Version mismatch: Ray: 2.0)"
    )
