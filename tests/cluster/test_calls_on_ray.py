"""Calls of a program on actors: each is answered, also where its actor dies."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from raysim.config.running import ExecutionConfig
from raysim.errors import ConfigError, PlacementError, RunError

pytestmark = pytest.mark.ray


@dataclass(frozen=True)
class Tenfold:
    """Adds ten times a number to what it is given; dies where it is told to, as often as there are files."""

    broken: bool = False

    def open(self) -> Callable[..., Any]:
        if self.broken:
            raise ConfigError("this program cannot be opened")
        return self.answer

    def answer(self, work: Any, *parts: Any) -> Any:
        if isinstance(work, Path):
            for file in sorted(work.iterdir()):
                file.unlink()
                os._exit(1)
            return "alive"
        return 10 * work + sum(parts)


def pool(program: Any = None, **changes: Any) -> Any:
    """Two actors of a core each."""
    import ray

    from raysim.cluster.calls import CallPool

    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # no actor can import this file
    given = {"actors": 2, "most": 8, "num_cpus": 1.0, "num_gpus": 0.0, "max_retries": 2, **changes}
    return CallPool(program or Tenfold(), ExecutionConfig(), **given)


def test_calls_are_answered_with_their_parts_and_an_actor_that_died_is_replaced(
    ray_session: Any, tmp_path: Path
) -> None:
    calls = pool()
    try:
        assert calls.workers == 2
        shared = calls.keep(5)
        answers = [calls.submit(f"call {i}", i, [shared, 1]) for i in range(6)]
        assert [answer.result(60) for answer in answers] == [10 * i + 6 for i in range(6)]
        for i in range(2):
            (tmp_path / str(i)).touch()
        assert calls.submit("a killer", tmp_path).result(60) == "alive"
        assert calls.faults.qsize() == 2
        assert "the actor died with a killer; another one runs it again" in calls.faults.get()
        for i in range(3):
            (tmp_path / str(i)).touch()
        with pytest.raises(RunError, match=r"^a killer: lost 3 times, the last time because the actor died"):
            calls.submit("a killer", tmp_path).result(60)
        assert calls.submit("after it", 1).result(60) == 10
        with pytest.raises(RunError, match="an actor failed: TypeError"):
            calls.submit("wrong", "x", [1]).result(60)
    finally:
        calls.close()
    assert ray_session.is_initialized()  # it was there before


def test_what_does_not_fit_or_cannot_be_opened_is_refused(ray_session: Any) -> None:
    with pytest.raises(PlacementError, match=r"execution.actors: 5 actors of 1 CPUs and 0 GPUs do not fit on 4 CPUs"):
        pool(actors=5)
    with pytest.raises(PlacementError, match=r"1 actors of 1 CPUs and 0.5 GPUs do not fit on 4 CPUs and 0 GPUs"):
        pool(actors=None, num_gpus=0.5)
    with pytest.raises(ConfigError, match="this program cannot be opened"):
        pool(Tenfold(broken=True), actors=1)
