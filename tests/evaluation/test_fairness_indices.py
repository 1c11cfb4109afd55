"""Gini, Jain and who is worse off than alone, against plain loops over pairs of clients."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from federations import digits
from hypothesis import given
from hypothesis import strategies as st

from raysim import Simulation
from raysim.errors import ConfigError, RunError
from raysim.evaluation.fairness import LocalBaseline, gini, jain
from raysim.tracking import ClientMetrics, RunDirectory, read_holdouts

VALUES = st.lists(st.floats(0, 1e6), min_size=1, max_size=12)


@given(VALUES)
def test_gini_is_half_the_mean_absolute_difference_over_the_mean(values: list[float]) -> None:
    n, mean = len(values), sum(values) / len(values)
    pairs = sum(abs(a - b) for a in values for b in values)
    expected = pairs / (2 * n * n * mean) if mean else 0.0
    assert gini(np.array(values)) == pytest.approx(expected, abs=1e-9)


@given(VALUES)
def test_jain_is_the_squared_sum_over_n_sums_of_squares(values: list[float]) -> None:
    top = max(values)
    scaled = [value / top for value in values] if top else [1.0]
    assert jain(np.array(values)) == pytest.approx(sum(scaled) ** 2 / (len(scaled) * sum(x * x for x in scaled)))


def test_the_ends_of_both_indices() -> None:
    alike, one, none = np.full(4, 0.3), np.array([0.0, 0.0, 5.0, 0.0]), np.zeros(4)
    assert [gini(alike), gini(one), gini(none)] == pytest.approx([0.0, 0.75, 0.0])
    assert [jain(alike), jain(one), jain(none)] == pytest.approx([1.0, 0.25, 1.0])
    for odd in (np.array([-0.1, 1.0]), np.array([math.inf, 1.0])):
        assert math.isnan(gini(odd))
        assert math.isnan(jain(odd))


def test_the_share_below_local_counts_the_clients_that_both_runs_measured() -> None:
    measured = ClientMetrics(np.array([1, 3, 4, 9]), ("loss",), np.array([[1.0], [2.0], [math.nan], [1.0]]))
    alone = LocalBaseline({"holdout": measured})
    clients, losses = np.array([0, 1, 3, 4, 9]), np.array([9.0, 1.5, 2.0, 7.0, 0.5])
    assert alone.share_below(clients, "loss", losses, higher=False) == pytest.approx(1 / 3)
    assert alone.share_below(clients, "loss", losses, higher=True) == pytest.approx(1 / 3)
    assert math.isnan(alone.share_below(clients, "accuracy", losses, higher=True))
    assert math.isnan(alone.share_below(np.array([7]), "loss", np.array([1.0]), higher=False))


def test_a_run_is_compared_with_a_local_one_and_its_table_is_that_of_the_last_evaluation(tmp_path: Path) -> None:
    alone, federated = tmp_path / "alone", tmp_path / "federated"
    with Simulation(digits(tmp_path, "algorithm=local", "cohort=1.0"), directory=alone) as simulation:
        simulation.run()
    compared = digits(tmp_path, f"evaluation.local_baseline={alone}", "tracking.report=true")
    with Simulation(compared, directory=federated) as simulation:
        last = [committed.metrics for committed in simulation][-1]
    mine, theirs = read_holdouts(RunDirectory.open(federated)), read_holdouts(RunDirectory.open(alone))
    assert mine is not None
    assert theirs is not None
    assert mine.clients.tolist() == theirs.clients.tolist()
    hits, before = mine.column("accuracy"), theirs.column("accuracy")
    assert last["clients/accuracy/below_local"] == np.mean(hits < before)
    assert last["clients/loss/below_local"] == np.mean(mine.column("loss") > theirs.column("loss"))
    assert last["clients/accuracy/mean"] == pytest.approx(hits.mean())
    assert pq.read_table(federated / "holdouts.parquet")["round"].unique().to_pylist() == [4]
    assert "below_local" in (federated / "report.html").read_text(encoding="utf-8")
    assert (federated / "figures" / "spread-accuracy.png").is_file()
    recorded = pq.read_table(federated / "rounds.parquet")
    assert recorded["clients/accuracy/gini"].to_pylist()[-1] == pytest.approx(gini(hits))

    (alone / "checkpoints" / "round-000004" / "manifest.json").unlink()  # so it goes on after round 2
    with Simulation.resume(alone) as resumed:
        assert resumed.number == 2
        assert not (alone / "holdouts.parquet").exists()
        resumed.run()
    again = read_holdouts(RunDirectory.open(alone))
    assert again is not None
    np.testing.assert_array_equal(again.values, theirs.values)


def test_a_baseline_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    def refused(*overrides: str) -> str:
        with pytest.raises(ConfigError) as caught:
            Simulation(digits(tmp_path, *overrides), directory=tmp_path / "refused")
        assert str(caught.value).startswith("evaluation.local_baseline: ")
        return str(caught.value)

    runs = {name: tmp_path / name for name in ("fedavg", "local", "bare")}
    for name, algorithm in {"fedavg": "fedavg", "local": "local", "bare": "local"}.items():
        bare = ["tracking.clients=false"] if name == "bare" else []
        with Simulation(digits(tmp_path, f"algorithm={algorithm}", "rounds=1", *bare), directory=runs[name]) as one:
            one.run()
    baseline = "evaluation.local_baseline="
    assert "no such run directory" in refused(f"{baseline}{tmp_path / 'nowhere'}")
    assert "is a run of fedavg; pass one of algorithm=local" in refused(f"{baseline}{runs['fedavg']}")
    assert "have other data" in refused(f"{baseline}{runs['local']}", "data.seed=9")
    assert "has no holdouts.parquet" in refused(f"{baseline}{runs['bare']}")
    assert "set data.holdout" in refused(f"{baseline}{runs['local']}", "data.holdout=0")
    assert "clients_every above 0" in refused(f"{baseline}{runs['local']}", "evaluation.clients_every=0")
    (runs["local"] / "holdouts.parquet").write_bytes(b"nothing")
    assert "damaged" in refused(f"{baseline}{runs['local']}")
    with pytest.raises(RunError, match="damaged"):
        Simulation.resume(runs["local"], overrides=["rounds=2"])
