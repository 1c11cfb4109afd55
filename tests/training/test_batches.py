"""The order of a client's samples, and how they reach the model."""

from __future__ import annotations

import math
from itertools import chain
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from plain_orders import orders

from raysim import keyed
from raysim.data import DataInfo, Samples
from raysim.training.batches import BatchPlan, LocalWork, Shard, gather, model_input, target

PIXELS = DataInfo("classification", (3,), "pixels", classes=4)
REAL = DataInfo("classification", (3,), "real", classes=4)
TOKENS = DataInfo("classification", (3,), "tokens", target_shape=(3,), classes=4, vocabulary=300)
NUMBERS = DataInfo("regression", (3,), "real")
CPU = torch.device("cpu")

WORKS = st.builds(
    LocalWork, st.none() | st.integers(1, 12), st.integers(1, 3), st.none() | st.integers(1, 15)
)  # batch size, epochs, steps


def listed(samples: int, work: LocalWork, *, seed: int = 0, round_number: int = 1, client: int = 0) -> list[list[int]]:
    """A client's batches, planned alone."""
    plan = BatchPlan.draw(seed, round_number, np.array([client]), np.array([samples]), work)
    return batches_of(plan, 0)


def batches_of(plan: BatchPlan, client: int) -> list[list[int]]:
    """What the plan says of one of its clients."""
    index, count = plan.index[:, client], plan.count[:, client]
    return [index[step, : count[step]].tolist() for step in range(int(plan.steps[client]))]


@given(st.lists(st.integers(0, 30), min_size=1, max_size=6), WORKS, st.integers(0, 9), st.integers(1, 9))
def test_the_plan_of_many_clients_is_every_clients_plain_loop(
    sizes: list[int], work: LocalWork, seed: int, round_number: int
) -> None:
    samples = np.array(sizes)
    samples = samples[np.argsort(-work.count(samples), kind="stable")]
    clients = np.arange(len(sizes)) * 7 + 3
    plan = BatchPlan.draw(seed, round_number, clients, samples, work)
    longest = int(plan.steps.max())
    size = int(samples.max()) if work.batch_size is None else work.batch_size
    assert plan.index.shape == (longest, len(sizes), size)
    assert plan.count.shape == (longest, len(sizes))
    assert plan.index.dtype == plan.count.dtype == plan.steps.dtype == np.int64
    np.testing.assert_array_equal(plan.steps, work.count(samples))
    for i, (client, count) in enumerate(zip(clients.tolist(), samples.tolist(), strict=True)):
        expected = [batch.tolist() for batch in orders(seed, round_number, client, count, work)]
        assert batches_of(plan, i) == expected
        assert not plan.count[len(expected) :, i].any()
    beyond = np.arange(size) >= plan.count[:, :, None]
    assert not plan.index[beyond].any()


def test_clients_with_very_unequal_shards_take_the_steps_that_they_would_take_alone() -> None:
    clients, samples = np.array([5, 0, 9, 2]), np.array([1000, 21, 1, 0])
    for work in (LocalWork(20, 3), LocalWork(20, steps=4), LocalWork(None, 2)):
        together = BatchPlan.draw(1, 2, clients, samples, work)
        for i in range(4):
            alone = BatchPlan.draw(1, 2, clients[i : i + 1], samples[i : i + 1], work)
            assert batches_of(together, i) == batches_of(alone, 0)


def test_clients_of_different_turns_draw_the_batches_of_those_rounds() -> None:
    clients, samples, turn = np.array([5, 5, 9]), np.array([30, 30, 21]), np.array([4, 7, 1])
    for work in (LocalWork(8, 2), LocalWork(8, steps=5)):
        together = BatchPlan.draw(1, turn, clients, samples, work)
        for i in range(3):
            alone = BatchPlan.draw(1, int(turn[i]), clients[i : i + 1], samples[i : i + 1], work)
            assert batches_of(together, i) == batches_of(alone, 0)
        assert batches_of(together, 0) != batches_of(together, 1), "a client that comes twice does not repeat itself"


@given(st.integers(0, 30), WORKS)
def test_the_count_of_steps_is_the_number_of_batches(samples: int, work: LocalWork) -> None:
    batches = listed(samples, work)
    assert len(batches) == int(work.count(np.array([samples]))[0])
    assert all(0 < len(batch) <= (work.batch_size or samples) for batch in batches)
    if work.steps is not None and samples:
        assert len(batches) == work.steps


@given(st.integers(1, 30), st.integers(1, 12), st.integers(1, 3))
def test_every_epoch_is_a_permutation_and_only_its_last_batch_is_short(
    samples: int, batch_size: int, epochs: int
) -> None:
    batches = listed(samples, LocalWork(batch_size, epochs))
    each = math.ceil(samples / batch_size)
    assert len(batches) == each * epochs
    for epoch in range(epochs):
        mine = batches[epoch * each : (epoch + 1) * each]
        assert sorted(chain(*mine)) == list(range(samples))
        assert [len(batch) for batch in mine[:-1]] == [batch_size] * (each - 1)


@given(st.integers(1, 20), st.integers(1, 6), st.integers(1, 20))
def test_local_steps_go_on_over_epochs_and_stop_in_the_middle_of_one(samples: int, batch_size: int, steps: int) -> None:
    by_steps = listed(samples, LocalWork(batch_size, epochs=1, steps=steps))
    by_epochs = listed(samples, LocalWork(batch_size, epochs=steps))
    assert by_steps == by_epochs[:steps]


def test_the_order_is_the_keyed_one() -> None:
    expected = []
    for epoch in range(2):
        key = [int(keyed.bits(3, keyed.Purpose.BATCHES, 5, 17, epoch, i)) for i in range(7)]
        permutation = sorted(range(7), key=key.__getitem__)
        expected += [permutation[:3], permutation[3:6], permutation[6:]]
    assert listed(7, LocalWork(3, epochs=2), seed=3, round_number=5, client=17) == expected


def test_the_order_is_a_function_of_seed_round_client_and_epoch_alone() -> None:
    work = LocalWork(4, epochs=2)
    one = listed(40, work)
    torch.rand(1)
    assert listed(40, work) == one
    assert one[:10] != one[10:]
    others = [listed(40, work, seed=1), listed(40, work, round_number=2), listed(40, work, client=1)]
    assert all(other != one for other in others)
    flat = [list(chain(*batches[:10])) for batches in (one, *others)]
    agreements = [np.mean(np.array(flat[0]) == np.array(other)) for other in flat[1:]]
    assert max(agreements) < 0.2  # independent permutations agree at 1 in 40 places


def test_a_full_batch_is_the_whole_shard_in_its_order() -> None:
    assert listed(5, LocalWork(None, epochs=3)) == [[0, 1, 2, 3, 4]] * 3
    assert listed(5, LocalWork(None, epochs=1, steps=2)) == [[0, 1, 2, 3, 4]] * 2


def test_repeats_are_steps_in_a_row_on_the_same_batch() -> None:
    work, repeated = LocalWork(3, epochs=2), LocalWork(3, epochs=2, repeats=2)
    assert listed(7, repeated) == [batch for batch in listed(7, work) for _ in range(2)]
    assert repeated.count(np.array([0, 1, 7])).tolist() == [0, 4, 12]
    assert listed(7, LocalWork(3, steps=4, repeats=2)) == [batch for batch in listed(7, work)[:4] for _ in range(2)]


def test_an_empty_client_takes_no_steps_whatever_the_work() -> None:
    sizes = np.array([0, 1, 10, 11])
    assert LocalWork(10, epochs=2).count(sizes).tolist() == [0, 2, 2, 4]
    assert LocalWork(10, epochs=2, steps=5).count(sizes).tolist() == [0, 5, 5, 5]
    assert LocalWork(None, epochs=2).count(sizes).tolist() == [0, 2, 2, 2]
    assert LocalWork(10).count(sizes).dtype == np.int64
    assert LocalWork(10).count(np.empty(0, dtype=np.int64)).shape == (0,)


def test_uint8_is_scaled_by_a_division_in_float32_at_every_value() -> None:
    pixels = np.arange(256, dtype=np.uint8)
    found = model_input(torch.from_numpy(pixels), PIXELS).numpy()
    expected = pixels.astype(np.float32) / np.float32(255)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, expected)
    assert np.any(expected != pixels.astype(np.float32) * (np.float32(1) / np.float32(255)))  # another function


@given(st.integers(1, 20), st.data())
def test_gathered_batches_are_aligned_copies_of_the_chosen_samples(count: int, data: st.DataObject) -> None:
    generator = np.random.default_rng(count)
    x, y = generator.integers(0, 256, (count, 3), dtype=np.uint8), generator.integers(0, 4, count)
    shard = Shard.load(Samples(x, y, generator.random(count, dtype=np.float32)), CPU)
    chosen = data.draw(st.permutations(range(count)))[: data.draw(st.integers(1, count))]
    batch = gather(shard, torch.tensor(chosen), PIXELS)
    assert batch.weight is not None
    np.testing.assert_array_equal(batch.x.numpy(), x[chosen].astype(np.float32) / np.float32(255))
    np.testing.assert_array_equal(batch.y.numpy(), y[chosen])
    for tensor, stored in ((batch.x, shard.x), (batch.y, shard.y), (batch.weight, shard.weight)):
        assert tensor.data_ptr() % 64 == 0
        assert stored is not None
        tensor.fill_(-1)
    np.testing.assert_array_equal(shard.x.numpy(), x)
    np.testing.assert_array_equal(shard.y.numpy(), y)


def test_a_shard_is_an_aligned_copy_wherever_it_lay_in_the_file() -> None:
    block = np.arange(400, dtype=np.uint8)
    block.flags.writeable = False
    for start in range(0, 64, 7):
        view = block[start : start + 12].reshape(4, 3)
        shard = Shard.load(Samples(view, np.arange(4)), CPU)
        assert shard.x.data_ptr() % 64 == 0
        assert shard.x.dtype == torch.uint8  # scaled a batch at a time
        np.testing.assert_array_equal(shard.x.numpy(), view)
        shard.x.zero_()
    np.testing.assert_array_equal(block, np.arange(400, dtype=np.uint8))


@pytest.mark.parametrize(
    "kind", ["bool", "uint8", "int8", "int16", "uint16", "int32", "int64", "float32", "float64", ">f4", ">i8"]
)
def test_whatever_is_stored_reaches_the_model_with_its_values(kind: str) -> None:
    x, y = np.array([[0, 1, 1], [1, 0, 1], [1, 1, 0]]).astype(kind), np.array([0, 1, 1]).astype(kind)
    for info, inputs, targets in (
        (REAL, torch.float32, torch.int64),
        (TOKENS, torch.int64, torch.int64),
        (NUMBERS, torch.float32, torch.float32),
    ):
        batch = gather(Shard.load(Samples(x, y), CPU), torch.tensor([2, 0]), info)
        assert (batch.x.dtype, batch.y.dtype, batch.weight) == (inputs, targets, None)
        assert batch.x.tolist() == [[1, 1, 0], [0, 1, 1]]
        assert batch.y.tolist() == [1, 0]


def test_large_token_ids_survive_a_small_integer_type() -> None:
    ids: Any = np.array([[0, 255, 299], [40_000, 65_535, 1]], dtype=np.uint16)
    batch = gather(Shard.load(Samples(ids, ids), CPU), torch.tensor([1, 0]), TOKENS)
    assert batch.x.tolist() == [[40_000, 65_535, 1], [0, 255, 299]]
    assert batch.y.tolist() == batch.x.tolist()


def test_targets_are_classes_or_numbers_by_the_task() -> None:
    assert target(torch.tensor([1, 2], dtype=torch.uint8), REAL).dtype == torch.int64
    assert target(torch.tensor([1.5, 2.0], dtype=torch.float64), NUMBERS).dtype == torch.float32


@given(st.integers(1, 30), st.integers(1, 12), st.integers(1, 3))
def test_without_the_last_batch_every_batch_is_whole_and_each_epoch_leaves_out_others(
    samples: int, batch_size: int, epochs: int
) -> None:
    whole = listed(samples, LocalWork(batch_size, epochs))
    found = listed(samples, LocalWork(batch_size, epochs, drop_last=True))
    assert found == ([batch for batch in whole if len(batch) == batch_size] if samples >= batch_size else whole)


def test_clients_of_other_sizes_change_nothing_where_last_batches_are_left_out() -> None:
    clients, samples, work = np.array([5, 9, 3, 2, 0]), np.array([21, 20, 19, 3, 0]), LocalWork(10, 2, drop_last=True)
    together = BatchPlan.draw(1, 2, clients, samples, work)
    for i in range(5):
        alone = BatchPlan.draw(1, 2, clients[i : i + 1], samples[i : i + 1], work)
        assert batches_of(together, i) == batches_of(alone, 0)
    assert work.count(samples).tolist() == [4, 4, 2, 2, 0]


@given(
    st.integers(0, 30),
    st.one_of(st.none(), st.integers(1, 12)),
    st.integers(1, 3),
    st.one_of(st.none(), st.integers(1, 9)),
    st.integers(1, 2),
    st.booleans(),
)
def test_who_meets_a_batch_of_one_is_known_from_the_size_alone(
    samples: int, batch_size: int | None, epochs: int, steps: int | None, repeats: int, drop_last: bool
) -> None:
    work = LocalWork(batch_size, epochs, steps, repeats=repeats, drop_last=drop_last)
    expected = any(len(batch) == 1 for batch in listed(samples, work))
    assert work.meets_one(np.array([samples])).tolist() == [expected]
