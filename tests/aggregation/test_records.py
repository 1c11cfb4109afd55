"""Partial sums: a monoid whose every bit is independent of order and grouping."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from raysim.aggregation import Buffers, Field, FixedPoint, PartialSum, RunningSum, combine, mean

CPU = torch.device("cpu")
UPDATE = (Field("update", 16),)
SCAFFOLD = (Field("update", 16), Field("control", 8), Field("tau", 1, FixedPoint(40)))


def record(fields: Sequence[Field], seed: int, scale: float = 1.0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {field.name: scale * torch.randn(field.size, generator=generator) for field in fields}


def weights_of(clients: int, seed: int = 0) -> npt.NDArray[np.float64]:
    raw = np.random.default_rng(seed).pareto(1.0, clients) + 0.01
    return raw / raw.sum()


def fold(running: RunningSum, position: int, weight: float, sent: Mapping[str, torch.Tensor]) -> str | None:
    """Fold one client: a block of one."""
    block = {name: values[None] for name, values in sent.items()}
    return running.fold(np.array([position], dtype=np.int32), np.array([weight]), block)[0]


def summed(positions: Sequence[int], weights: Sequence[float], fields: Sequence[Field] = UPDATE) -> PartialSum:
    running = RunningSum(3, fields, CPU)
    for position in positions:
        assert fold(running, position, float(weights[position]), record(fields, position)) is None
    return read_only(running.seal())


def read_only(partial: PartialSum) -> PartialSum:
    """As the object store hands them out."""
    partial.positions.flags.writeable = False
    for total in partial.totals.values():
        total.flags.writeable = False
    return partial


def same(one: PartialSum, two: PartialSum) -> bool:
    return (
        (one.round, one.weight) == (two.round, two.weight)
        and np.array_equal(one.positions, two.positions)
        and one.totals.keys() == two.totals.keys()
        and all(np.array_equal(one.totals[name], two.totals[name]) for name in one.totals)
        and one.large.keys() == two.large.keys()
        and all(np.array_equal(one.large[name].columns, two.large[name].columns) for name in one.large)
        and all(np.array_equal(one.large[name].digits, two.large[name].digits) for name in one.large)
    )


def tree(chance: random.Random, parts: list[PartialSum]) -> PartialSum:
    """Combine in a tree drawn at random."""
    parts = list(parts)
    while len(parts) > 1:
        chance.shuffle(parts)
        fan_in = chance.randint(2, len(parts))
        parts = [combine(parts[:fan_in]), *parts[fan_in:]]
    return parts[0]


@settings(max_examples=50)
@given(st.integers(1, 12), st.integers(1, 6), st.randoms(use_true_random=False))
def test_any_order_grouping_and_tree_give_the_same_integers(clients: int, workers: int, chance: random.Random) -> None:
    weights = weights_of(clients, seed=clients)
    expected = summed(range(clients), weights, SCAFFOLD)
    leases: list[list[int]] = [[] for _ in range(workers)]
    for position in chance.sample(range(clients), clients):
        chance.choice(leases).append(position)
    found = tree(chance, [summed(lease, weights, SCAFFOLD) for lease in leases])
    assert same(found, expected)
    assert found.positions.tolist() == list(range(clients))


@pytest.mark.parametrize("scale", [1e-5, 1e-2, 1.0, 1e2])
def test_ten_thousand_clients_sum_to_the_exact_mean_within_a_tenth_of_a_millionth(scale: float) -> None:
    clients, size = 10_000, 64
    generator = np.random.default_rng(1)
    updates = (scale * generator.standard_normal((clients, size))).astype(np.float32)
    raw = np.arange(1, clients + 1) ** -1.0  # a power law
    weights = generator.permutation(raw / raw.sum())
    running = RunningSum(1, (Field("update", size),), CPU)
    for position, (update, weight) in enumerate(zip(torch.from_numpy(updates), weights.tolist(), strict=True)):
        assert fold(running, position, weight, {"update": update}) is None
    found = mean(running.seal(), (Field("update", size),))["update"]

    addends = weights[:, None] * updates.astype(np.float64)
    exact = np.array([math.fsum(column) for column in addends.T.tolist()]) / math.fsum(weights.tolist())
    assert np.linalg.norm(found - exact) <= 1e-7 * np.linalg.norm(exact)
    if scale >= 1e-3:
        assert np.linalg.norm(found - exact) <= 1e-9 * np.linalg.norm(exact)


@pytest.mark.parametrize("clients", [1, 3, 100])
@pytest.mark.parametrize("exponent", [0.0, 0.5, 2.0])
def test_the_mean_is_near_the_exact_one_for_skewed_weights(clients: int, exponent: float) -> None:
    raw = np.arange(1, clients + 1) ** -exponent
    weights = raw / raw.sum()
    found = mean(summed(range(clients), weights.tolist()), UPDATE)["update"]
    updates = np.stack([record(UPDATE, position)["update"].double().numpy() for position in range(clients)])
    exact = [math.fsum(column) for column in (weights[:, None] * updates).T.tolist()]
    np.testing.assert_allclose(found, exact, rtol=0, atol=1e-14)


def test_two_clients_of_weights_six_and_four_tenths_average_as_they_should() -> None:
    a, b = record(UPDATE, 0)["update"], record(UPDATE, 1)["update"]
    running = RunningSum(1, UPDATE, CPU)
    fold(running, 0, 0.6, {"update": a})
    fold(running, 1, 0.4, {"update": b})
    found = mean(running.seal(), UPDATE)["update"]
    np.testing.assert_allclose(found, 0.6 * a.double().numpy() + 0.4 * b.double().numpy(), rtol=0, atol=1e-15)


def test_the_mean_is_over_the_clients_that_made_it() -> None:
    """Weights that sum to less than 1, as where clients were dropped or weigh by their loss."""
    weights = [0.1, 0.02, 0.05]
    found = mean(summed(range(3), weights, SCAFFOLD), SCAFFOLD)
    for field in SCAFFOLD:
        values = [record(SCAFFOLD, position)[field.name].double().numpy() for position in range(3)]
        expected = sum(w * v for w, v in zip(weights, values, strict=True)) / sum(weights)
        np.testing.assert_allclose(found[field.name], expected, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (math.nan, "update is not finite"),
        (math.inf, "update is not finite"),
        (-math.inf, "update is not finite"),
    ],
)
def test_a_client_that_does_not_fit_is_left_out_with_a_reason(bad: float, reason: str) -> None:
    running = RunningSum(3, UPDATE, CPU)
    assert fold(running, 0, 0.5, record(UPDATE, 0)) is None
    broken = record(UPDATE, 1)
    broken["update"][7] = bad
    assert fold(running, 1, 0.5, broken) == reason
    assert same(running.seal(), summed([0], [0.5]))


@pytest.mark.parametrize("field", ["update", "control", "tau"])
def test_a_record_with_one_bad_field_is_taken_back_whole(field: str) -> None:
    running = RunningSum(3, SCAFFOLD, CPU)
    for position in (0, 1):
        assert fold(running, position, 0.25, record(SCAFFOLD, position)) is None
    broken = record(SCAFFOLD, 2, scale=10.0)
    broken[field][-1] = math.nan
    assert fold(running, 2, 0.3, broken) == f"{field} is not finite"
    assert same(running.seal(), summed([0, 1], [0.25, 0.25], SCAFFOLD))


def test_the_reason_names_the_parameter_where_a_name_is_known() -> None:
    named = RunningSum(3, UPDATE, CPU, named=lambda field, column: f"layer {column}" if field.size == 16 else "")
    broken = record(UPDATE, 1)
    broken["update"][7] = math.nan
    assert fold(named, 1, 0.5, broken) == "update is not finite in layer 7"


def test_an_empty_client_is_named_and_adds_nothing_whatever_it_sends() -> None:
    running = RunningSum(3, UPDATE, CPU)
    broken = {"update": torch.full((16,), math.nan)}
    assert fold(running, 5, 0.0, broken) is None
    fold(running, 2, 0.5, record(UPDATE, 2))
    assert fold(running, 0, 0.0, record(UPDATE, 0)) is None
    partial = running.seal()
    assert partial.positions.tolist() == [0, 2, 5]
    assert partial.positions.dtype == np.int32
    assert partial.weight == 2**51
    np.testing.assert_array_equal(partial.totals["update"], summed([2], [0, 0, 0.5]).totals["update"])


@settings(max_examples=50)
@given(st.lists(st.sampled_from(["fine", "fine", "empty", "nan", "far"]), min_size=1, max_size=9), st.data())
def test_a_block_is_its_clients_one_at_a_time_and_a_plain_loop(kinds: list[str], data: st.DataObject) -> None:
    clients = len(kinds)
    weights = np.where([kind == "empty" for kind in kinds], 0.0, weights_of(clients, seed=clients))
    sent = [record(SCAFFOLD, client) for client in range(clients)]
    for client, kind in enumerate(kinds):
        if kind != "fine":
            field = data.draw(st.sampled_from([field.name for field in SCAFFOLD]))
            sent[client][field][-1] = math.nan if kind != "far" else 1e9
    alone = RunningSum(3, SCAFFOLD, CPU)
    reasons = [fold(alone, client, float(weights[client]), sent[client]) for client in range(clients)]
    expected = alone.seal()

    cut = data.draw(st.integers(0, clients))
    together, found = RunningSum(3, SCAFFOLD, CPU), []
    for block in (list(range(cut)), list(range(cut, clients))):
        if block:
            rows = {field.name: torch.stack([sent[client][field.name] for client in block]) for field in SCAFFOLD}
            found += together.fold(np.array(block, dtype=np.int32), weights[block], rows)
    assert found == reasons
    assert same(together.seal(), expected)

    taken = [client for client, kind in enumerate(kinds) if kind != "nan"]
    assert [reason is None for reason in reasons] == [client in taken for client in range(clients)]
    for field in SCAFFOLD:
        total = np.zeros(field.size, dtype=np.int64)
        for client in taken:
            if weights[client]:
                values = sent[client][field.name].double().numpy()
                addend = np.where(np.abs(values) < 2048, values, 0.0) * (weights[client] * field.format.scale)
                total += np.rint(addend).astype(np.int64)
        np.testing.assert_array_equal(expected.totals[field.name], total)


def test_a_client_folded_twice_is_refused_and_nothing_is_added() -> None:
    running = RunningSum(3, UPDATE, CPU)
    fold(running, 4, 0.5, record(UPDATE, 4))
    with pytest.raises(ValueError, match=r"clients at positions \[4\] of the cohort are folded twice"):
        fold(running, 4, 0.5, record(UPDATE, 4))
    block = {"update": torch.ones(2, 16)}
    with pytest.raises(ValueError, match=r"positions \[1\] of the cohort are folded twice"):
        running.fold(np.array([1, 1], dtype=np.int32), np.array([0.1, 0.1]), block)
    assert same(running.seal(), summed([4], [0, 0, 0, 0, 0.5]))


def test_a_sealed_sum_takes_nobody_else_in() -> None:
    running = RunningSum(3, UPDATE, CPU)
    running.seal()
    with pytest.raises(ValueError, match="sealed"):
        fold(running, 0, 1.0, record(UPDATE, 0))


@pytest.mark.parametrize("sent", [{}, {"update": torch.ones(1, 15)}, {"update": torch.ones(2, 16)}])
def test_a_record_of_another_shape_is_refused(sent: dict[str, torch.Tensor]) -> None:
    with pytest.raises(ValueError, match="for its field 'update' of 16 values"):
        RunningSum(3, UPDATE, CPU).fold(np.array([0], dtype=np.int32), np.array([1.0]), sent)


def test_totals_are_handed_over_and_their_memory_comes_back_when_the_sum_is_gone() -> None:
    buffers = Buffers()

    def one() -> PartialSum:
        running = RunningSum(3, UPDATE, CPU, buffers)
        fold(running, 1, 0.5, record(UPDATE, 1))
        return running.seal()

    first, second = one(), one()
    assert not np.shares_memory(first.totals["update"], second.totals["update"])
    assert same(first, second)
    place, kept = first.totals["update"].ctypes.data, second.totals["update"].copy()
    del first
    third = one()
    assert third.totals["update"].ctypes.data == place
    assert same(third, second)
    np.testing.assert_array_equal(second.totals["update"], kept)


def test_a_lease_without_clients_is_the_neutral_element() -> None:
    nobody, somebody = RunningSum(3, UPDATE, CPU).seal(), summed([0, 1], [0.5, 0.5])
    assert same(combine([nobody, somebody]), somebody)
    assert same(combine([somebody, nobody, nobody]), somebody)
    with pytest.raises(ZeroDivisionError):
        mean(nobody, UPDATE)


def test_a_client_in_two_partial_sums_is_refused() -> None:
    weights = [0.2] * 5
    one, two, three = summed([0, 3, 1], weights), summed([2, 3], weights), summed([4], weights)
    for parts in ([one, two], [one, three, two], [two, one]):
        with pytest.raises(ValueError, match=r"clients at positions \[3\] of the cohort are in two partial sums"):
            combine(parts)
    with pytest.raises(ValueError, match=r"positions \[4\]"):
        combine([three, three])


def test_partial_sums_of_different_rounds_are_refused() -> None:
    one = summed([0], [0.5, 0.5])
    late = replace(summed([1], [0.5, 0.5]), round=2)
    with pytest.raises(ValueError, match=r"partial sums of different rounds: \[2, 3\]"):
        combine([one, late])


def test_nothing_cannot_be_combined() -> None:
    with pytest.raises(ValueError, match="nothing to combine"):
        combine([])
    one = summed([0], [1.0])
    assert combine(iter([one])) is one


def test_combining_never_writes_into_its_arguments() -> None:
    weights = weights_of(8)
    parts = [summed([2 * i, 2 * i + 1], weights) for i in range(4)]  # read-only arrays
    before = [part.totals["update"].copy() for part in parts]
    total = combine(parts)
    for part, kept in zip(parts, before, strict=True):
        np.testing.assert_array_equal(part.totals["update"], kept)
        assert not np.shares_memory(total.totals["update"], part.totals["update"])


def test_folding_only_reads_what_a_client_sends() -> None:
    running, sent = RunningSum(3, UPDATE, CPU), record(UPDATE, 0)
    before, version = sent["update"].clone(), sent["update"]._version
    fold(running, 0, 0.5, sent)
    assert torch.equal(sent["update"], before)
    assert sent["update"]._version == version


def test_a_partial_sum_knows_its_bytes() -> None:
    partial = summed([0, 1, 2], [0.2, 0.2, 0.2], SCAFFOLD)
    assert partial.nbytes == 3 * 4 + 8 + (16 + 8 + 1) * 8
