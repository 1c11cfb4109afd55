"""Rows by a GPU's memory: the arithmetic, and the choice with a GPU that is only said to be there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from federations import digits
from hypothesis import given
from hypothesis import strategies as st

from raysim import Experiment
from raysim.config.running import ExecutionConfig
from raysim.execution.placement.memory import CUDA_CONTEXT
from raysim.execution.preparation import engine_timing, gpu_rows
from raysim.execution.preparation.gpu_rows import GpuReading, RowMemory, actor_bytes
from raysim.execution.preparation.prepare import Prepared, prepare_job
from raysim.training import EngineChoice

MIB = 1024 * 1024
GIB = 1024 * MIB


def test_what_a_row_takes_is_what_more_rows_take() -> None:
    found = RowMemory.of(130, (11, 430), {2: 57, 8: 117})
    assert found == RowMemory(fixed=100 + 37, counted=30, passing=10)
    assert RowMemory.of(130, (11, 430), {2: 57}) == RowMemory(100, 30, 29)  # all of it, where eight did not fit
    assert RowMemory.of(130, (11, 430), {}) == RowMemory(100, 30, 0)
    assert RowMemory.of(130, (11, 430), {2: 50, 8: 40}) == RowMemory(150, 30, 0)  # memory that was there already


def test_a_tenth_of_the_memory_is_left_alone() -> None:
    found = RowMemory(fixed=100, counted=30, passing=20)
    assert [found.rows(memory, 128) for memory in (0, 111, 166, 167, 1000, 10**6)] == [0, 0, 0, 1, 16, 128]
    assert found.rows(1000, 4) == 4
    assert RowMemory(0, 0, 0).rows(1, 128) == 0


@given(*(st.integers(0, 10**12) for _ in range(4)), st.integers(2, 128))
def test_so_many_rows_fit_and_one_more_does_not(memory: int, fixed: int, counted: int, passing: int, most: int) -> None:
    rows = RowMemory(fixed, counted, passing).rows(memory, most)
    room, each = int(0.9 * memory) - fixed, max(1, counted + passing)
    assert 0 <= rows <= most
    assert rows == 0 or rows * each <= room
    assert rows == most or (rows + 1) * each > room


def test_an_actor_has_its_share_of_what_is_free_less_the_context() -> None:
    reading = GpuReading(free=38 * GIB, total=40 * GIB, passing=0)
    assert actor_bytes(ExecutionConfig(executor="inprocess", device="cuda"), reading) == 38 * GIB
    quarter = {"executor": "ray", "num_gpus": 0.25}
    assert actor_bytes(ExecutionConfig(**quarter), reading) == 38 * GIB // 4 - CUDA_CONTEXT
    assert actor_bytes(ExecutionConfig(**quarter, gpu_memory=16 * GIB), reading) == 4 * GIB - CUDA_CONTEXT
    assert actor_bytes(ExecutionConfig(executor="ray", num_gpus=2), reading) == 38 * GIB - CUDA_CONTEXT
    classes = {"small": {"clients": [0], "num_gpus": 0.1}, "large": {"clients": [1], "num_gpus": 1}}
    mixed = ExecutionConfig(**quarter, classes=classes)
    assert actor_bytes(mixed, reading) == int(0.1 * 38 * GIB) - CUDA_CONTEXT


class FakeGpu:
    """Answers for CUDA, whose tensors are on the CPU: so much is free, and so much passes by itself, and when an engine
    of 2 rows is made and takes a step, and one of 8."""

    def __init__(self, patch: pytest.MonkeyPatch, free: int, passing: list[int | None]) -> None:
        self._free, self._passing = free, passing
        patch.setattr(EngineChoice, "torch_device", property(lambda self: torch.device("cpu")))
        patch.setattr(torch.cuda, "is_available", lambda: True)
        patch.setattr(gpu_rows, "read_gpu", self.read)
        patch.setattr(engine_timing, "_seconds", lambda call, device: call() or 1e-3)  # more clients take no longer

    def read(self, device: torch.device, work: Callable[[], None]) -> GpuReading:
        work()
        passing = self._passing.pop(0)
        if passing is None:
            raise torch.OutOfMemoryError
        return GpuReading(self._free, 2 * self._free, passing)


def prepared(folder: Path, *overrides: str) -> Prepared:
    experiment: Experiment = digits(
        folder, "cohort=1.0", "execution.device=cuda", "execution.shard_memory=0", "training.compile=false", *overrides
    )
    return prepare_job(experiment)


@pytest.mark.parametrize("asked", ["rows", "auto"])
def test_a_gpu_bounds_the_rows_by_its_memory_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: str
) -> None:
    FakeGpu(monkeypatch, 400 * MIB, [0, 90 * MIB, 230 * MIB, 90 * MIB, 830 * MIB])  # 30 MiB anyway and 100 for each row
    monkeypatch.setattr("raysim.execution.preparation.engine_choice.CLEARLY", float("inf"))  # so that `auto` takes rows
    found = prepared(tmp_path, f"training.engine={asked}", "rounds=1000").engine
    assert (found.engine.name, found.engine.rows, found.replaced) == ("rows", 3, False)
    assert "3 clients at once fit into 400 MiB of the GPU" in found.reason
    assert "100 MiB measured for each" in found.reason


def test_without_room_for_two_clients_they_train_one_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    FakeGpu(monkeypatch, 200 * MIB, [0, 90 * MIB, 230 * MIB, 90 * MIB, 830 * MIB])
    found = prepared(tmp_path, "training.engine=rows").engine
    assert (found.engine.name, found.replaced) == ("sequential", True)
    assert "two clients at once do not fit into 200 MiB of the GPU" in found.reason
    FakeGpu(monkeypatch, 200 * MIB, [0, 300 * MIB, 10 * MIB, 300 * MIB, 10 * MIB])
    found = prepared(tmp_path, "training.engine=rows").engine
    assert (found.engine.name, found.replaced) == ("sequential", True)
    assert "200 MiB of the GPU do not hold the trial that an engine with rows begins with" in found.reason
    FakeGpu(monkeypatch, 200 * MIB, [0, 90 * MIB, None])
    found = prepared(tmp_path, "training.engine=rows").engine
    assert (found.engine.name, found.replaced) == ("sequential", True)
    assert found.reason == "the GPU's memory does not hold 2 clients at once"


def test_a_given_number_of_rows_is_not_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    FakeGpu(monkeypatch, 0, [])
    assert prepared(tmp_path, "training={engine: rows, rows: 5, compile: false}").engine.engine.rows == 5
