"""How a run ends: workers are released while the report is written."""

from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import Any

import pytest

from raysim.closing import Closing
from raysim.errors import RunError


def ending(close: Any, finish: Any) -> Closing:
    loop: Any = SimpleNamespace(
        number=1, server=None, close=lambda: None, write=lambda: None, checkpoint=lambda *, last: None
    )
    recorder: Any = SimpleNamespace(finish=finish, export=lambda write: None)
    executor: Any = SimpleNamespace(close=close)
    return Closing(executor, recorder, loop)


def test_workers_end_while_the_report_is_written() -> None:
    writing, ended = threading.Event(), threading.Event()

    def close() -> None:
        assert writing.wait(10), "the report waits for the workers"
        ended.set()

    def finish(reason: str) -> str:
        writing.set()
        assert ended.wait(10), "the workers wait for the report"
        return reason

    run = ending(close, finish)
    run.finish("finished")
    assert run.summary == "finished"  # type: ignore[comparison-overlap]


def test_an_error_of_the_workers_is_raised_once_the_run_is_recorded() -> None:
    def close() -> None:
        raise RunError("Ray is gone")

    run = ending(close, lambda reason: reason)
    with pytest.raises(RunError, match="Ray is gone"):
        run.finish("finished")
    assert run.closed
    assert run.summary == "finished"  # type: ignore[comparison-overlap]


def test_an_error_of_the_report_comes_first_and_workers_are_released_all_the_same() -> None:
    released: list[int] = []

    def finish(reason: str) -> None:
        raise OSError("the disk is full")

    with pytest.raises(OSError, match="full"):
        ending(lambda: released.append(1), finish).finish("finished")
    assert released == [1]
