"""Resampled epochs: how often each class comes, whose turn it is, and nothing else changed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from raysim.config.balance import BalancedResamplingConfig, CappedResamplingConfig, NoResamplingConfig, ResamplingConfig
from raysim.config.client import ClientConfig
from raysim.data import DataInfo
from raysim.errors import ConfigError
from raysim.training import BatchPlan, LocalWork, Resampling, Shard, Shards

INFO = DataInfo("classification", (2,), "real", classes=4)
LABELS = np.repeat([0, 1, 3], [40, 7, 3])


def resampling(config: ResamplingConfig) -> Resampling:
    found = Resampling.of(config, INFO)
    assert found is not None
    return found


def shards_of(*labels: np.ndarray) -> Shards:
    loaded = [Shard(torch.zeros(len(y), 2), torch.from_numpy(y), None) for y in labels]
    return Shards.join(loaded)


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (BalancedResamplingConfig(), [50 / 3, 50 / 3, 0, 50 / 3]),
        (CappedResamplingConfig(ratio=2), [50 * 6 / 15, 50 * 6 / 15, 0, 50 * 3 / 15]),
        (CappedResamplingConfig(cap=10), [50 * 10 / 20, 50 * 7 / 20, 0, 50 * 3 / 20]),
        (CappedResamplingConfig(cap=10, ratio=3), [50 * 9 / 19, 50 * 7 / 19, 0, 50 * 3 / 19]),
        (CappedResamplingConfig(ratio=1000), [40, 7, 0, 3]),
    ],
)
def test_classes_get_their_share_of_an_epoch(config: ResamplingConfig, expected: list[float]) -> None:
    epochs = resampling(config).samples(LABELS, 30, seed=1, turn=2, client=3)
    assert epochs.shape == (30, 50)
    seen = np.stack([np.bincount(LABELS[epoch], minlength=4) for epoch in epochs])
    assert (seen.sum(1) == 50).all()
    assert (np.abs(seen - expected) < 1).all()
    if config == BalancedResamplingConfig():  # what is left over goes to each in turn
        np.testing.assert_allclose(seen.mean(0), expected, atol=0.35)
    if config == CappedResamplingConfig(ratio=1000):
        assert (np.sort(epochs) == np.arange(50)).all()


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 3), min_size=1, max_size=40), st.integers(0, 5))
def test_samples_of_a_class_take_turns(labels: list[int], client: int) -> None:
    y = np.array(labels)
    for epoch in resampling(BalancedResamplingConfig()).samples(y, 2, seed=0, turn=1, client=client):
        times = np.bincount(epoch, minlength=len(y))
        for label in np.unique(y):
            assert np.ptp(times[y == label]) <= 1


@pytest.mark.parametrize("work", [LocalWork(8, epochs=2), LocalWork(8, steps=9), LocalWork(None, epochs=2)])
def test_a_clients_plan_is_its_own_and_as_long_as_ever(work: LocalWork) -> None:
    shards = shards_of(LABELS, LABELS[25:], LABELS[:3])
    clients = np.array([4, 0, 9])
    plain = BatchPlan.draw(5, 6, clients, shards.count, work)
    rule = resampling(BalancedResamplingConfig())
    plan = rule(plain, 5, 6, clients, shards, work)
    np.testing.assert_array_equal(plan.count, plain.count)
    np.testing.assert_array_equal(plan.steps, plain.steps)
    assert (plan.index != plain.index).any()
    assert (plan.index < shards.count[None, :, None]).all()
    for i, own in enumerate((LABELS, LABELS[25:], LABELS[:3])):
        alone = rule(
            BatchPlan.draw(5, 6, clients[i : i + 1], shards.count[i : i + 1], work), 5, 6, clients[i : i + 1],
            shards_of(own), work,
        )  # fmt: skip
        steps = int(plan.steps[i])
        for step in range(steps):
            size = int(plan.count[step, i])
            np.testing.assert_array_equal(plan.index[step, i, :size], alone.index[step, 0, :size])
        epochs = rule.samples(own, 2, 5, 6, int(clients[i]))
        first = plan.index[: int(work.per_epoch(shards.count)[i]), i]
        used = first[np.arange(first.shape[1]) < plan.count[: len(first), i, None]]
        np.testing.assert_array_equal(np.sort(used), np.sort(epochs[0]))


@pytest.mark.parametrize("work", [LocalWork(8, epochs=2), LocalWork(8, steps=9), LocalWork(None, epochs=2)])
@pytest.mark.parametrize("repeats", [2, 3])
def test_visits_of_a_batch_see_the_same_samples_and_epochs_are_as_long_as_ever(work: LocalWork, repeats: int) -> None:
    shards, clients = shards_of(LABELS, LABELS[25:], LABELS[:3]), np.array([4, 0, 9])
    rule = resampling(BalancedResamplingConfig())

    def plan_of(work: LocalWork) -> BatchPlan:
        return rule(BatchPlan.draw(5, 6, clients, shards.count, work), 5, 6, clients, shards, work)

    once, several = plan_of(work), plan_of(replace(work, repeats=repeats))
    np.testing.assert_array_equal(several.steps, once.steps * repeats)
    np.testing.assert_array_equal(several.count, np.repeat(once.count, repeats, axis=0))
    np.testing.assert_array_equal(several.index, np.repeat(once.index, repeats, axis=0))


def test_rounds_epochs_clients_and_seeds_differ() -> None:
    draw = resampling(BalancedResamplingConfig()).samples
    first = draw(LABELS, 2, 0, 1, 0)
    np.testing.assert_array_equal(first, draw(LABELS, 2, 0, 1, 0))
    others = [first[1:], draw(LABELS, 1, 1, 1, 0), draw(LABELS, 1, 0, 2, 0), draw(LABELS, 1, 0, 1, 1)]
    assert all((first[0] != other[0]).any() for other in others)


def test_what_cannot_be_resampled_is_one_line() -> None:
    assert Resampling.of(NoResamplingConfig(), INFO) is None
    with pytest.raises(ConfigError, match=r"client\.resampling: balanced is for samples with one class each"):
        Resampling.of(BalancedResamplingConfig(), DataInfo("regression", (2,), "real"))
    with pytest.raises(ValueError, match="without a limit caps nothing; set ratio or cap"):
        ClientConfig.model_validate({"resampling": {"name": "capped", "ratio": None}})
