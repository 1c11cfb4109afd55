"""Cutting an evaluation into ranges, and summarising what comes back."""

from __future__ import annotations

import copy
import math
import random
import weakref
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from listed_federation import ListedFederation
from torch import nn

from raysim.data import DataInfo
from raysim.evaluation.ranges import client_ranges, clients_of, gathered, server_ranges, spread
from raysim.evaluation.summaries import metric_names, summarise, together
from raysim.rounds.ranges import ClientRange, Evaluated, ServerRange
from raysim.training import Evaluator, ParameterLayout, resolve_metrics
from raysim.training.losses import cross_entropy
from raysim.training.metrics import Counted, WholeSet
from raysim.training.metrics.ranking import LISTED

NUMBERS = DataInfo("regression", (4,), "real")
METRICS = resolve_metrics(("accuracy",), ListedFederation.info)
RANKED = resolve_metrics(("accuracy", "pr_auc", "roc_auc", "ece"), ListedFederation.info)


@given(st.integers(0, 50), st.integers(1, 12))
def test_server_ranges_cover_every_sample_once_in_batches(count: int, batch_size: int) -> None:
    ranges = server_ranges(ListedFederation([1], test=count), "test", batch_size)
    assert [i for part in ranges for i in range(part.start, part.stop)] == list(range(count))
    assert all(part.part == "test" for part in ranges)
    assert all(part.stop - part.start == batch_size for part in ranges[:-1])
    assert all(0 < part.stop - part.start <= batch_size for part in ranges)


def test_a_set_that_is_not_there_has_no_ranges() -> None:
    federation = ListedFederation([1], test=None)
    assert server_ranges(federation, "test", 10) == []
    assert server_ranges(federation, "validation", 10) == []


@given(st.lists(st.integers(0, 20), min_size=1, max_size=40), st.integers(1, 30))
def test_ranges_of_clients_cover_every_client_with_a_holdout_once(sizes: list[int], batch_size: int) -> None:
    ranges = client_ranges(ListedFederation([1] * len(sizes), sizes), ("holdout",), batch_size)
    clients = [client for part in ranges for client in part.clients.tolist()]
    assert clients == [client for client, size in enumerate(sizes) if size]
    for part in ranges:
        held = [sizes[client] for client in part.clients.tolist()]
        assert held
        assert sum(held) - held[0] < batch_size


def test_a_holdout_range_is_full_at_a_batch_of_samples() -> None:
    ranges = client_ranges(ListedFederation([1] * 6, [2, 2, 0, 4, 1, 9]), ("holdout",), 4)
    assert [part.clients.tolist() for part in ranges] == [[0, 1], [3], [4], [5]]


@given(st.lists(st.integers(-1, 3), max_size=40), st.integers(1, 9))
def test_holdouts_are_gathered_by_where_their_clients_are(where: list[int], batch_size: int) -> None:
    at = np.array(where, dtype=np.int64)
    ranges = [
        ServerRange("test", 0, 3),
        *client_ranges(ListedFederation([1] * len(at), [1] * len(at)), ("holdout",), batch_size),
    ]
    found = gathered(ranges, [np.flatnonzero(at == node) for node in range(4)])
    assert found[0] == ranges[0]
    groups = [set(at[part.clients].tolist()) for part in found[1:]]
    assert all(len(group) == 1 for group in groups)
    assert sorted(clients_of(found).tolist()) == list(range(len(at)))
    assert len(found) <= len(ranges) + 5
    assert all(len(part.clients) <= batch_size for part in found[1:])


@given(st.integers(0, 40), st.integers(1, 9))
def test_ranges_are_spread_in_consecutive_lists_of_about_equal_length(count: int, workers: int) -> None:
    ranges = [ServerRange("test", i, i + 1) for i in range(count)]
    lists = spread(ranges, workers)
    assert [part for some in lists for part in some] == ranges
    assert len(lists) <= min(workers, count)
    assert all(lists)
    if count:
        assert max(map(len, lists)) - min(map(len, lists)) <= 1


@pytest.mark.parametrize("listed", [LISTED, 8])
def test_an_evaluation_cut_over_workers_has_the_bits_of_one_worker(
    listed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("raysim.training.metrics.ranking.LISTED", listed)  # 8: the test set's scores go into bins
    federation = ListedFederation([1] * 7, [3, 0, 5, 2, 9, 1, 4], validation=11, test=23)
    module = nn.Linear(4, 3)
    layout = ParameterLayout(module)
    ranges = [
        *server_ranges(federation, "validation", 4),
        *server_ranges(federation, "test", 4),
        *client_ranges(federation, ("holdout", "test"), 4),
    ]

    def evaluated(workers: int, seed: int) -> dict[str, float]:
        results: list[Evaluated] = []
        for some in spread(ranges, workers):
            mine = []
            own, cpu = copy.deepcopy(module), torch.device("cpu")
            evaluator = Evaluator(own, layout, cross_entropy, RANKED, federation.info, cpu, 4)
            evaluator.load(layout.pack(module))
            for part in some:
                if isinstance(part, ClientRange):
                    rows = np.stack([evaluator.values(federation.shard(int(i), "holdout")) for i in part.clients])
                    mine.append(Evaluated("holdout", rows, part.clients))
                else:
                    samples = federation.server(part.part)
                    assert samples is not None
                    sums, scores = evaluator.exact_sums(samples.slice(part.start, part.stop), WholeSet.of(samples))
                    mine.append(Evaluated(part.part, sums, scores=scores))
            results += together(mine)
        random.Random(seed).shuffle(results)
        return summarise(results, RANKED)

    alone = evaluated(1, 0)
    assert set(alone) == set(metric_names(RANKED, ["validation", "test"], clients=["holdout"]))
    for workers in (2, 3, 50):
        assert evaluated(workers, workers) == alone

    samples = federation.server("test")
    assert samples is not None
    with torch.no_grad():
        output = module(torch.from_numpy(samples.x.copy()))
    hits = (output.argmax(1).numpy() == samples.y).mean()
    assert alone["test/accuracy"] == pytest.approx(hits)


def test_bins_of_ranges_are_added_up_as_they_come_not_kept_side_by_side() -> None:
    made: list[weakref.ref[np.ndarray]] = []

    def results() -> Iterator[Evaluated]:
        for i in range(20):
            cells = np.full((1, 2, 4), i)
            made.append(weakref.ref(cells))
            yield Evaluated("test", (i, None), scores=Counted(cells, 0.5))
            del cells
            assert sum(one() is not None for one in made) <= 2

    (found,) = together(results())
    assert found.sums == (190, None)
    assert isinstance(found.scores, Counted)
    assert (found.scores.cells == 190).all()
    assert found.scores.unit == 0.5


def holdouts(losses: list[float], hits: list[float]) -> list[Evaluated]:
    """A result for each client with a mean loss and an accuracy, the last client first."""
    rows = [np.array([[loss, hit]]) for loss, hit in zip(losses, hits, strict=True)]
    results = [Evaluated("holdout", row, np.array([client])) for client, row in enumerate(rows)]
    return results[::-1]


@pytest.mark.parametrize("clients", [1, 4, 10, 14, 15, 60])
def test_worst_and_best_are_means_of_a_tenth_of_the_clients_by_the_metrics_own_direction(clients: int) -> None:
    generator = np.random.default_rng(clients)
    losses, hits = generator.uniform(0, 3, clients), generator.uniform(0, 1, clients)
    found = summarise(holdouts(losses.tolist(), hits.tolist()), METRICS)
    tenth = max(1, round(clients / 10))
    assert found == pytest.approx(
        {
            "clients/loss/mean": losses.mean(),
            "clients/loss/worst10": np.sort(losses)[::-1][:tenth].mean(),
            "clients/loss/best10": np.sort(losses)[:tenth].mean(),
            "clients/loss/std": losses.std(),
            "clients/loss/gini": np.abs(losses[:, None] - losses).mean() / (2 * losses.mean()),
            "clients/loss/jain": losses.sum() ** 2 / (clients * (losses**2).sum()),
            "clients/accuracy/mean": hits.mean(),
            "clients/accuracy/worst10": np.sort(hits)[:tenth].mean(),
            "clients/accuracy/best10": np.sort(hits)[::-1][:tenth].mean(),
            "clients/accuracy/std": hits.std(),
            "clients/accuracy/gini": np.abs(hits[:, None] - hits).mean() / (2 * hits.mean()),
            "clients/accuracy/jain": hits.sum() ** 2 / (clients * (hits**2).sum()),
        },
        abs=1e-12,
    )


def test_clients_where_a_metric_is_nan_do_not_count_in_it() -> None:
    found = summarise(holdouts([1.0, math.nan, 3.0], [0.5, 0.0, 1.0]), METRICS)
    assert found["clients/loss/mean"] == pytest.approx(2.0)
    assert found["clients/accuracy/mean"] == pytest.approx(0.5)
    nothing = summarise(holdouts([math.nan], [0.5]), METRICS)
    assert "clients/loss/mean" not in nothing
    assert nothing["clients/accuracy/mean"] == pytest.approx(0.5)


def test_a_loss_that_is_not_finite_is_nan() -> None:
    unit = 2**40
    parts = [Evaluated("test", (unit, unit, unit, unit)), Evaluated("test", (None, 3 * unit, 0, 3 * unit))]
    found = summarise(parts, METRICS)
    assert math.isnan(found["test/loss"])
    assert found["test/accuracy"] == 0.25


def test_nothing_evaluated_has_no_metrics() -> None:
    assert summarise([], METRICS) == {}


def test_the_names_are_those_of_the_summary() -> None:
    metrics = resolve_metrics(("rmse",), NUMBERS)
    assert metric_names(metrics, ["test"], clients=[]) == ["test/loss", "test/rmse"]
    assert metric_names(metrics, [], clients=["holdout"]) == [
        f"clients/{name}/{what}"
        for name in ("loss", "rmse")
        for what in ("mean", "worst10", "best10", "std", "gini", "jain")
    ]
