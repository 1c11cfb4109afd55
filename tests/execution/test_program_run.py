"""Engines are timed with the algorithm's own program, and a program that fails there stops no preparation."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from federations import digits
from torch import Tensor

from raysim.algorithms import Algorithm
from raysim.execution.placement.memory import Skeleton
from raysim.execution.preparation import engine_timing, program_run
from raysim.execution.preparation.engine_choice import time_step
from raysim.execution.preparation.engine_timing import Timing
from raysim.execution.preparation.prepare import prepare_job
from raysim.selection.cohort import draw_round
from raysim.training import Clients

SEEN: list[tuple[int, int, float]] = []


class Watched(Algorithm):
    """FedAvg that notes how many clients it gets, their steps and the learning rate."""

    paper = "none"

    def local(self, c: Clients) -> Mapping[str, Tensor]:
        SEEN.append((c.k, int(c.steps.max()), c.setting.lr))
        return super().local(c)


class Fails(Algorithm):
    """An algorithm whose own code fails."""

    paper = "none"

    def local(self, c: Clients) -> Mapping[str, Tensor]:
        raise ZeroDivisionError("here")


def timing_of(folder: Path, algorithm: str, *overrides: str) -> tuple[Timing, float | None]:
    """What times a run's engines, and the seconds of a local step that it finds."""
    prepared = prepare_job(digits(folder, f"algorithm={algorithm}", *overrides))
    task = draw_round(prepared.experiment, prepared.federation, prepared.work, prepared.work.rounds)
    made = Skeleton.of(prepared.job).algorithm
    found = time_step(prepared.job, prepared.federation, made, task)
    return Timing(prepared.job, prepared.federation, made, task), found


@pytest.fixture(autouse=True)
def _fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_timing, "_seconds", lambda call, device: call() or 1e-3)


def test_the_program_is_run_on_blocks_of_any_size_with_one_batch_and_with_several(tmp_path: Path) -> None:
    SEEN.clear()
    timing_of(
        tmp_path, "test_program_run:Watched", "training={engine: rows, rows: 4, compile: false}", "client.steps=20"
    )
    timed = {(k, steps) for k, steps, lr in SEEN if lr == 0}
    assert timed == {(1, 1), (1, 8), (2, 1), (2, 8), (4, 1), (4, 8)}


@pytest.mark.parametrize("algorithm", ["scaffold", "ifca", "mime", "apfl", "cocoa", "fedsgd"])
def test_programs_that_read_state_losses_or_whole_shards_are_timed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, algorithm: str
) -> None:
    monkeypatch.setattr(program_run, "_plain", None)  # none of them is timed by plain steps instead
    model = "model=softmax" if algorithm == "cocoa" else "model={name: mlp, hidden: [4]}"
    assert timing_of(tmp_path, algorithm, model)[1] is not None


def test_a_program_that_fails_is_timed_by_plain_steps_for_the_run_will_name_the_client(tmp_path: Path) -> None:
    assert timing_of(tmp_path, "test_program_run:Fails")[1] is not None


def test_blocks_are_timed_on_clients_of_all_sizes_and_steps_on_the_longest(tmp_path: Path) -> None:
    timing, _ = timing_of(tmp_path, "fedavg", "cohort=1.0")
    sizes = timing._federation.sizes("train")
    longest, mixed = (sizes[timing._some(2, longest=longest)] for longest in (True, False))
    assert longest.tolist() == np.sort(sizes)[::-1][:2].tolist()
    assert mixed.max() < sizes.max() or len(set(sizes.tolist())) == 1
