from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raysim.data.split import holdout_last, holdout_sizes, split
from raysim.errors import DataError

SHARES = st.floats(0.05, 0.95)


@settings(max_examples=50, deadline=None)
@given(size=st.integers(30, 400), test=SHARES, validation=SHARES, owners=st.integers(0, 9), seed=st.integers(0, 2**40))
def test_three_sets_are_disjoint_and_together_everything(
    size: int, test: float, validation: float, owners: int, seed: int
) -> None:
    who = np.random.default_rng(size).integers(0, owners, size) if owners else None
    try:
        cut = split(size, seed, test=test, validation=validation, owners=who)
    except DataError as error:
        assert "is not one sample" in str(error)  # noqa: PT017 - only tiny shares of tiny pools
        return
    assert sorted([*cut.train, *cut.validation, *cut.test]) == list(range(size))
    for part in (cut.train, cut.validation, cut.test):
        assert part.tolist() == sorted(part.tolist())


def test_shares_of_a_pool_are_rounded_to_the_nearest_count() -> None:
    cut = split(1797, 0, test=0.2, validation=0.1)
    assert len(cut.test) == round(1797 * 0.2)
    assert len(cut.validation) == round((1797 - len(cut.test)) * 0.1)


def test_a_split_is_keyed_by_the_seed() -> None:
    first, again, other = (split(500, seed, test=0.2, validation=0.2) for seed in (1, 1, 2))
    assert first.test.tolist() == again.test.tolist()
    assert first.validation.tolist() == again.validation.tolist()
    assert first.test.tolist() != other.test.tolist()


def test_the_test_set_does_not_change_when_a_validation_set_is_asked_for() -> None:
    without, with_it = (split(500, 0, test=0.2, validation=share) for share in (0.0, 0.3))
    assert without.test.tolist() == with_it.test.tolist()


def test_a_share_is_taken_from_every_owner_and_each_keeps_a_training_sample() -> None:
    owners = np.repeat(["a", "b", "c", "d"], [10, 200, 1, 30])
    cut = split(len(owners), 0, test=0.1, validation=0.0, owners=owners)
    names, counts = np.unique(owners[cut.test], return_counts=True)
    assert dict(zip(names.tolist(), counts.tolist(), strict=True)) == {"a": 1, "b": 20, "d": 3}
    assert set(owners[cut.train].tolist()) == {"a", "b", "c", "d"}


def test_owners_too_small_for_a_share_give_it_on_average() -> None:
    owners = np.repeat(np.arange(5000), 3)
    cut = split(len(owners), 0, test=0.2, validation=0.0, owners=owners)
    assert len(cut.test) / len(owners) == pytest.approx(0.2, abs=0.01)
    assert len(set(owners[cut.train].tolist())) == 5000


def test_no_share_takes_nothing() -> None:
    cut = split(10, 0, test=0.0, validation=0.0)
    assert (len(cut.train), len(cut.validation), len(cut.test)) == (10, 0, 0)


def test_a_share_that_comes_to_nothing_is_an_error() -> None:
    with pytest.raises(DataError, match=r"data\.test: a share of 0\.1 of 3 samples is not one sample; raise it"):
        split(3, 0, test=0.1, validation=0.0)
    with pytest.raises(DataError, match=r"data\.validation: a share of 0\.01 of 20 samples"):
        split(20, 0, test=0.1, validation=0.01)
    with pytest.raises(DataError, match="there are no samples"):
        split(0, 0, test=0.1, validation=0.0)


@settings(max_examples=50, deadline=None)
@given(
    sizes=st.lists(st.integers(0, 30), min_size=1, max_size=20),
    fraction=st.floats(0, 0.99),
    seed=st.integers(0, 2**40),
)
def test_a_holdout_is_a_choice_inside_each_client_after_its_training_samples(
    sizes: list[int], fraction: float, seed: int
) -> None:
    lengths = np.array(sizes)
    order = np.random.default_rng(0).permutation(lengths.sum())
    held = holdout_sizes(lengths, fraction, seed)
    moved = holdout_last(order, lengths, held, seed)
    for start, size, out in zip(np.cumsum(lengths) - lengths, sizes, held.tolist(), strict=True):
        before, after = order[start : start + size].tolist(), moved[start : start + size].tolist()
        assert sorted(before) == sorted(after)
        kept, held_out = after[: size - out], after[size - out :]
        assert kept == [sample for sample in before if sample in kept]  # the order of the others is kept
        assert held_out == [sample for sample in before if sample in held_out]
        assert out == 0 if size < 2 or fraction == 0 else len(kept) >= 1
        assert abs(out - size * fraction) <= 1


def test_a_holdout_is_keyed_and_does_not_depend_on_other_clients() -> None:
    lengths = np.full(50, 7)
    ids = np.array([3, 40])
    assert holdout_sizes(lengths, 0.3, 5)[ids].tolist() == holdout_sizes(lengths[ids], 0.3, 5, ids).tolist()
    assert holdout_sizes(lengths, 0.3, 5).tolist() != holdout_sizes(lengths, 0.3, 6).tolist()
    order = np.arange(350)
    held = np.full(50, 3)
    assert holdout_last(order, lengths, held, 1).tolist() == holdout_last(order, lengths, held, 1).tolist()
    assert holdout_last(order, lengths, held, 1).tolist() != holdout_last(order, lengths, held, 2).tolist()


def test_a_share_that_is_a_whole_number_needs_no_coin() -> None:
    assert set(holdout_sizes(np.full(1000, 600), 0.1, 0).tolist()) == {60}
