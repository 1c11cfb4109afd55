"""`aggregation.exact: false` from the configuration to the run directory."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from federations import digits

from raysim import Simulation
from raysim.errors import RunError

FEW = ("rounds=2", "evaluation.every=0")


def run(tmp_path: Path, *overrides: str) -> Path:
    with Simulation(digits(tmp_path, *FEW, *overrides)) as simulation:
        simulation.run()
    return simulation.directory


def test_a_run_with_float32_sums_is_near_the_exact_one_at_half_the_bytes_and_says_so(tmp_path: Path) -> None:
    exact, found = run(tmp_path / "exact"), run(tmp_path / "float", "aggregation.exact=false")
    losses = [pq.read_table(folder / "rounds.parquet")["train/loss"].to_pylist() for folder in (exact, found)]
    assert losses[1] == pytest.approx(losses[0], rel=1e-6)
    up = [pq.read_table(folder / "rounds.parquet")["transport_up"].to_pylist() for folder in (exact, found)]
    assert all(2 * few - many < 100 for few, many in zip(up[1], up[0], strict=True))
    assert all(few < 0.51 * many for few, many in zip(up[1], up[0], strict=True))
    bits = [json.loads((folder / "environment.json").read_text())["bits"] for folder in (exact, found)]
    assert "sums" not in bits[0]
    assert bits[1]["sums"] == "float32, the result depends on who trained whom"
    assert "sums are float32" in (found / "log.jsonl").read_text()


def test_a_resume_may_not_change_how_sums_are_made(tmp_path: Path) -> None:
    folder = run(tmp_path)
    with pytest.raises(RunError, match=r"aggregation\.exact"):
        Simulation.resume(folder, overrides=["aggregation.exact=false", "rounds=3"])
