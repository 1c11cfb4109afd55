"""The engine that a run gets: as configured, as timed, or the one that can do the work, with the reason."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from federations import digits, final_sha256
from older_torch import lacking
from torch import nn

from raysim import Simulation
from raysim.execution.preparation import engine_choice
from raysim.execution.preparation.engine_timing import Measured, Shortfalls
from raysim.execution.preparation.prepare import Prepared, prepare_job
from raysim.execution.scheduling.round_costs import SHARING
from raysim.selection.cohort import draw_round
from raysim.training import CannotCapture
from raysim.training.rows import RowsEngine

NONE = Shortfalls()
MUCH_WORK = ["rounds=1000", "training.engine=auto"]


def prepared(tmp_path: Path, *overrides: str) -> Prepared:
    return prepare_job(digits(tmp_path, *overrides))


def test_a_run_that_is_soon_done_trains_one_client_at_a_time(tmp_path: Path) -> None:
    found = prepared(tmp_path, "training.engine=auto")
    assert (found.engine.engine.name, found.engine.engine.rows, found.engine.replaced) == ("sequential", 1, False)
    assert "local steps in all are done before an engine is timed" in found.engine.reason
    assert (found.experiment.training.engine, found.experiment.training.rows) == ("sequential", None)


def test_a_cohort_of_one_has_nothing_to_do_at_once(tmp_path: Path) -> None:
    found = prepared(tmp_path, *MUCH_WORK, "cohort=1")
    assert (found.engine.engine.name, found.engine.replaced) == ("sequential", False)
    assert "to do anything at once" in found.engine.reason


def test_a_large_model_is_not_timed_in_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_choice, "MOST_VALUES", 1)
    found = prepared(tmp_path, *MUCH_WORK)
    assert (found.engine.engine.name, found.engine.replaced) == ("sequential", False)
    assert "to do anything at once" in found.engine.reason


@pytest.mark.parametrize(("together", "name"), [(0.5, "rows"), (0.95, "sequential"), (2.0, "sequential")])
def test_rows_are_chosen_where_they_are_clearly_faster(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, together: float, name: str
) -> None:
    def timed(self: object, choice: Any) -> Measured:
        if choice.name == "sequential":
            return Measured(np.array([1]), np.array([1e-3]), 0.0)
        ks = np.arange(1, choice.rows + 1)
        return Measured(ks, together * 1e-3 * (ks + 1e-6 * ks**2), 0.0)  # no faster for being many

    monkeypatch.setattr(engine_choice.Timing, "of", timed)
    found = prepared(tmp_path, *MUCH_WORK)
    assert (found.engine.engine.name, found.engine.replaced) == (name, False)
    assert "ms in rows, " in found.engine.reason
    assert "ms one client at a time" in found.engine.reason
    assert found.experiment.training.engine == name
    # Four clients in blocks of two or of three are the same two blocks, and more rows are as good.
    assert found.experiment.training.rows == (3 if name == "rows" else None)
    assert found.engine.a_step == pytest.approx(1e-3 * (together if name == "rows" else 1), rel=1e-3)
    asked = prepared(tmp_path, "training.engine=rows")
    assert (asked.engine.engine.name, asked.engine.engine.rows, asked.engine.replaced) == ("rows", 3, False)


def test_rounds_that_are_shared_and_rounds_that_are_not_are_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One worker trains the rows of a whole cohort in the time of a few clients; two workers share the clients."""

    def timed(self: object, choice: Any) -> Measured:
        ks, step = np.arange(1, choice.rows + 1), SHARING
        return Measured(ks, np.full(len(ks), step * (1.8 if choice.name == "rows" else 1.0)), 0.0)

    monkeypatch.setattr(engine_choice.Timing, "of", timed)
    found = prepared(
        tmp_path, *MUCH_WORK, "client.steps=5", "training.compile=false", "execution={executor: ray, actors: 2}"
    )
    assert found.engine.engine.name == "rows"
    assert "72 ms in rows, 88 ms one client at a time" in found.engine.reason  # 5 · 1.8 · 8; two clients' 5 · 8, and 8
    assert found.engine.a_step == pytest.approx(5 * 1.8 * SHARING / 20)


def test_a_real_timing_ends_in_an_engine_that_trains(tmp_path: Path) -> None:
    """Which one is the machine's business; the work is enough to time."""
    found = prepared(tmp_path, *MUCH_WORK, "cohort=1.0")
    assert "ms in rows, " in found.engine.reason
    assert found.job.engine == found.engine.engine
    resolved = found.experiment.updated(["rounds=1"])
    assert len(final_sha256(resolved)) == 64


@pytest.mark.parametrize("engine", ["rows", "auto"])
@pytest.mark.parametrize(
    ("override", "reason"),
    [
        ("model.dropout=0.5", "its modules draw random numbers in training (such as dropout)"),
        ("client.batch_size=full", "full batches are as long as the client's shard"),
        ("execution.threads_per_client=2", "several threads a client"),
        ("algorithm=fedsgd", "full batches are as long as the client's shard"),
    ],
)
def test_work_that_rows_cannot_do_is_done_one_client_at_a_time(
    tmp_path: Path, engine: str, override: str, reason: str
) -> None:
    found = prepared(tmp_path, "rounds=100000", f"training.engine={engine}", override)
    assert found.engine.engine.name == found.job.engine.name == "sequential"
    assert found.engine.replaced == (engine == "rows")
    assert reason in found.engine.reason
    assert (found.experiment.training.engine, found.experiment.training.rows) == ("sequential", None)


def faked(
    monkeypatch: pytest.MonkeyPatch, short: Shortfalls = NONE, compiled_takes: float = 0.25, **failing: str
) -> None:
    """Rows take half of the time, compiled ones a quarter, unless they fail."""

    def timed(self: object, choice: Any) -> Measured:
        kind = "alone" if choice.name == "sequential" else "compiled" if choice.compiled else "rows"
        if kind in failing:
            raise CannotCapture(failing[kind])
        ks, share = np.arange(1, choice.rows + 1), {"alone": 1.0, "rows": 0.5, "compiled": compiled_takes}[kind]
        found = short if kind == "compiled" else NONE
        return Measured(ks, np.full(len(ks), 1e-3 * share), 0.0, found)

    monkeypatch.setattr(engine_choice.Timing, "of", timed)
    monkeypatch.setattr(engine_choice, "WORTH_COMPILING", 0.0)
    monkeypatch.setattr(engine_choice, "has_compiler", lambda: True)


def test_rows_that_cannot_be_compiled_stay_rows_and_the_reason_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    faked(monkeypatch)
    found = prepared(tmp_path, *MUCH_WORK).engine
    assert (found.engine.name, found.engine.compiled, found.uncompiled) == ("rows", True, False)
    faked(monkeypatch, compiled="torch cannot compile it (no such thing)")
    for asked, uncompiled in (("auto", False), ("true", True)):
        found = prepared(tmp_path, *MUCH_WORK, f"training.compile={asked}").engine
        assert (found.engine.name, found.engine.compiled, found.uncompiled) == ("rows", False, uncompiled)
        assert "ms in rows, " in found.reason
        assert "in compiled rows" not in found.reason
        assert "; rows are not compiled: torch cannot compile it (no such thing)" in found.reason
    faked(monkeypatch, rows="torch cannot vectorise it (no such thing)")
    found = prepared(tmp_path, *MUCH_WORK).engine
    assert (found.engine.name, found.reason) == (
        "sequential", "one client at a time: torch cannot vectorise it (no such thing)",
    )  # fmt: skip


def test_compiled_steps_that_torch_checks_anew_are_named_chosen_or_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    short = Shortfalls(checked="a stand-in")
    said = "; torch checks every compiled step anew, which takes time: a stand-in"
    faked(monkeypatch, short)
    found = prepared(tmp_path, *MUCH_WORK).engine
    assert (found.engine.compiled, found.checked) == (True, "a stand-in")
    assert found.reason.endswith(said)
    faked(monkeypatch, short, compiled_takes=0.49)  # not clearly faster than rows
    found = prepared(tmp_path, *MUCH_WORK).engine
    assert (found.engine.compiled, found.checked) == (False, "")
    assert found.reason.endswith(said)
    faked(monkeypatch)
    assert "torch checks" not in prepared(tmp_path, *MUCH_WORK).engine.reason


@pytest.mark.parametrize("engine", ["auto", "rows"])
def test_a_torch_that_lacks_a_private_name_trains_one_client_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, engine: str
) -> None:
    lacking(monkeypatch, "torch._decomp", "get_decompositions")
    found = prepared(tmp_path, "rounds=100000", f"training.engine={engine}").engine
    assert (found.engine.name, found.replaced) == ("sequential", engine == "rows")
    assert found.reason.startswith("one client at a time: ")
    assert "get_decompositions" in found.reason


def test_steps_that_fail_on_rows_alone_are_taken_one_client_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("no kernel for this\nand a page of details")

    monkeypatch.setattr(RowsEngine, "descend_all", fail)
    found = prepared(tmp_path, *MUCH_WORK).engine
    assert (found.engine.name, found.reason) == (
        "sequential", "one client at a time: torch cannot vectorise it (RuntimeError: no kernel for this)",
    )  # fmt: skip


class Scaled(nn.Module):
    """A temperature, and a view of a constant of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.linear, self.temperature = nn.Linear(64, 10), nn.Parameter(torch.tensor(1.0))
        self.register_buffer("order", torch.arange(64))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.linear(x.flatten(1)[:, self.order.view(64)]) * self.temperature
        return out


def test_numbers_and_views_of_constants_train_in_either_engine_to_the_same_model(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net, models = Scaled(), {}
    for engine in ("sequential", "rows"):
        found = digits(tmp_path / engine, "rounds=3", f"training.engine={engine}")
        with Simulation(found, model=net) as simulation:
            simulation.run()
            assert simulation.experiment.training.engine == engine
            models[engine] = nn.utils.parameters_to_vector(simulation.model().parameters()).detach()
    torch.testing.assert_close(models["rows"], models["sequential"], rtol=1e-5, atol=1e-5)


def test_a_given_number_of_rows_is_taken_and_refused_alike(tmp_path: Path) -> None:
    found = prepared(tmp_path, "training={engine: rows, rows: 7}")
    assert (found.engine.engine.name, found.engine.engine.rows, found.engine.replaced) == ("rows", 7, False)
    assert (found.experiment.training.engine, found.experiment.training.rows) == ("rows", 7)
    found = prepared(tmp_path, "training={engine: rows, rows: 7}", "model.dropout=0.5")
    assert (found.engine.engine.name, found.engine.engine.rows, found.engine.replaced) == ("sequential", 1, True)


def test_engines_are_timed_on_a_later_round_where_the_first_cohort_is_empty(tmp_path: Path) -> None:
    rare = ["selection=poisson", "cohort=1", "training.engine=rows"]
    empty = 0
    for seed in range(6):
        found = prepared(tmp_path, *rare, f"seed={seed}")
        assert found.engine.engine.name == "rows"
        if not len(draw_round(found.experiment, found.federation, found.work, 1).clients):
            empty += 1
            assert found.engine.a_step is not None
    assert empty, "with an expected cohort of one, some of six first rounds are empty"


def test_timing_leaves_the_callers_generators_and_threads_as_they_were(tmp_path: Path) -> None:
    torch.manual_seed(1)
    before, threads = torch.get_rng_state(), torch.get_num_threads()
    prepared(tmp_path, *MUCH_WORK, "cohort=1.0")
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.get_num_threads() == threads
