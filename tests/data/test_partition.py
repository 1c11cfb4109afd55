from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from raysim.config.base import CustomConfig
from raysim.config.partition import (
    ClassesPartitionConfig,
    DirichletPartitionConfig,
    IidPartitionConfig,
    LabelSharesPartitionConfig,
    NaturalPartitionConfig,
    QuantityPartitionConfig,
    ShardsPartitionConfig,
)
from raysim.data.dataset import Pool
from raysim.data.federation import DataInfo
from raysim.data.partition import PARTITIONERS, Partition, Traits, partition
from raysim.errors import ConfigError, DataError

CLASSES = 4


def traits(size: int, classes: int = CLASSES, owners: int = 5, seed: int = 0) -> Traits:
    random = np.random.default_rng(seed)
    labels = np.concatenate([np.arange(min(classes, size)), random.integers(0, classes, max(0, size - classes))])
    names = np.array([f"owner {i:03d}" for i in range(owners)])
    return Traits(size, random.permutation(labels), names[random.integers(0, owners, size)])


def config(name: str, clients: int) -> Any:
    return {
        "iid": IidPartitionConfig(clients=clients),
        "shards": ShardsPartitionConfig(clients=clients, allow_empty=True),
        "dirichlet": DirichletPartitionConfig(clients=clients, alpha=1.0, min_size=0, allow_empty=True),
        "classes": ClassesPartitionConfig(clients=clients, classes_per_client=CLASSES, allow_empty=True),
        "quantity": QuantityPartitionConfig(clients=clients),
        "natural": NaturalPartitionConfig(),
        "label_shares": LabelSharesPartitionConfig(shares=((1 / CLASSES,) * CLASSES,) * clients),
    }[name]


def owner_of(dealt: Partition, size: int) -> np.ndarray:
    owner = np.full(size, -1)
    owner[dealt.order] = np.repeat(np.arange(len(dealt.lengths)), dealt.lengths)
    return owner


# What every partitioner promises; a new one is tested by its line in the registry and in `config`.


@pytest.mark.parametrize("name", [name for name in PARTITIONERS if name != "label_shares"])  # which leaves some out
@settings(max_examples=40, deadline=None)
@given(size=st.integers(CLASSES, 300), clients=st.integers(1, 40), seed=st.integers(0, 2**40))
def test_every_sample_is_dealt_exactly_once(name: str, size: int, clients: int, seed: int) -> None:
    dealt = partition(traits(size), config(name, min(clients, size)), seed)
    assert sorted(dealt.order.tolist()) == list(range(size))
    assert dealt.lengths.sum() == size
    assert dealt.order.dtype == dealt.lengths.dtype == np.int64
    if name != "natural":
        assert len(dealt.lengths) == min(clients, size)


@pytest.mark.parametrize("name", PARTITIONERS)
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**62))
def test_the_same_seed_deals_the_same_and_another_seed_differently(name: str, seed: int) -> None:
    some = traits(400)
    settings_of = NaturalPartitionConfig(clients=3) if name == "natural" else config(name, 8)
    first, again, other = (partition(some, settings_of, s) for s in (seed, seed, seed + 1))
    np.testing.assert_array_equal(first.order, again.order)
    np.testing.assert_array_equal(first.lengths, again.lengths)
    # Three owners of five may be the same three under another seed; a shuffle of 400 samples cannot be the same.
    if name != "natural":
        assert first.order.tolist() != other.order.tolist()


@pytest.mark.parametrize("name", PARTITIONERS)
def test_a_hundred_thousand_clients_are_dealt_without_a_loop_over_them(name: str) -> None:
    size, clients = 1_000_000, 100_000
    random = np.random.default_rng(0)
    some = Traits(size, random.integers(0, 10, size), random.permutation(np.arange(size) % clients))
    configs = {
        "dirichlet": DirichletPartitionConfig(clients=clients, alpha=5, min_size=0, allow_empty=True),
        "label_shares": LabelSharesPartitionConfig(shares=((0.0, 0.2) * 5,) * clients),
    }
    start = time.process_time()
    dealt = partition(some, configs.get(name, config(name, clients)), 0)
    assert len(dealt.lengths) == clients
    assert time.process_time() - start < 10  # about 0.5 s of a processor: a loop of Python calls would take minutes


# What each of them promises.


def test_iid_shares_differ_by_at_most_one_and_are_shuffled() -> None:
    dealt = partition(traits(103), IidPartitionConfig(clients=10), 0)
    assert dealt.lengths.tolist() == [11] * 3 + [10] * 7
    assert dealt.order.tolist() != sorted(dealt.order.tolist())


def test_shards_follow_mcmahans_recipe() -> None:
    labels = np.random.default_rng(0).integers(0, 10, 600)
    dealt = partition(Traits(600, labels), ShardsPartitionConfig(clients=10, shards_per_client=2), 3)
    pieces = {tuple(piece) for piece in np.split(np.argsort(labels, kind="stable"), 20)}
    for client in range(10):
        mine = dealt.order[client * 60 : client * 60 + 60]
        assert {tuple(mine[:30]), tuple(mine[30:])} <= pieces
    assert dealt.lengths.tolist() == [60] * 10


def test_shards_of_uneven_sizes_differ_by_at_most_one_sample() -> None:
    dealt = partition(traits(107), ShardsPartitionConfig(clients=5, shards_per_client=4), 0)
    assert dealt.lengths.sum() == 107
    assert dealt.lengths.min() >= 20
    assert dealt.lengths.max() <= 24


def test_dirichlet_is_nearly_even_for_large_alpha_and_concentrated_for_small() -> None:
    some = traits(20_000, classes=10)

    def largest_share(alpha: float) -> float:
        dealt = partition(some, DirichletPartitionConfig(clients=10, alpha=alpha, min_size=1), 0)
        assert some.labels is not None
        counts = np.zeros((10, 10))
        np.add.at(counts, (owner_of(dealt, some.size), some.labels), 1)
        return float((counts.max(axis=1) / counts.sum(axis=1)).mean())

    assert largest_share(1000.0) < 0.13
    assert largest_share(0.1) > 0.5


def test_dirichlet_shares_have_the_mean_and_variance_of_the_distribution() -> None:
    labels = np.zeros(100_000, dtype=np.int64)
    clients, alpha = 1000, 2.0
    dealt = partition(
        Traits(len(labels), labels), DirichletPartitionConfig(clients=clients, alpha=alpha, min_size=0), 1
    )
    shares = dealt.lengths / len(labels)
    mean = 1 / clients
    assert shares.mean() == pytest.approx(mean)
    assert shares.var() == pytest.approx(mean * (1 - mean) / (clients * alpha + 1), rel=0.15)


def test_dirichlet_draws_until_every_client_has_its_minimum() -> None:
    some = traits(600)
    for seed in range(5):
        dealt = partition(some, DirichletPartitionConfig(clients=10, alpha=0.5, min_size=25), seed)
        assert dealt.lengths.min() >= 25


def test_dirichlet_gives_up_with_a_line_that_names_alpha_and_the_remedy() -> None:
    with pytest.raises(DataError, match=r"alpha 0\.01 .* min_size 55 .*at best \d+.*raise alpha, or lower min_size"):
        partition(traits(600), DirichletPartitionConfig(clients=10, alpha=0.01, min_size=55), 0)


def test_dirichlet_refuses_at_once_what_no_draw_can_give() -> None:
    with pytest.raises(DataError, match=r"10 clients of at least 50 samples need 500, there are 400; lower clients"):
        partition(traits(400), DirichletPartitionConfig(clients=10, min_size=50), 0)


@settings(max_examples=40, deadline=None)
@given(clients=st.integers(1, 30), held=st.integers(1, 7), seed=st.integers(0, 1000))
def test_classes_gives_each_client_its_number_of_labels_and_each_label_a_holder(
    clients: int, held: int, seed: int
) -> None:
    some = traits(7 * 60, classes=7)
    section = ClassesPartitionConfig(clients=clients, classes_per_client=held)
    if clients * held < 7:
        with pytest.raises(DataError, match=r"cannot hold all 7 labels; set classes_per_client to at least"):
            partition(some, section, seed)
        return
    owner = owner_of(partition(some, section, seed), some.size)
    assert some.labels is not None
    for client in range(clients):
        assert len(set(some.labels[owner == client].tolist())) == held
    for label in range(7):
        shares = np.bincount(owner[some.labels == label], minlength=clients)
        held_by = shares[shares > 0]
        assert held_by.max() - held_by.min() <= 1


def test_classes_refuses_more_labels_than_there_are() -> None:
    with pytest.raises(DataError, match=r"classes_per_client is 9, but the training samples have 4 labels"):
        partition(traits(100), ClassesPartitionConfig(clients=5, classes_per_client=9), 0)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.lists(st.integers(0, 9), min_size=3, max_size=3).filter(any), min_size=1, max_size=6),
    st.integers(0, 2**40),
)
def test_label_shares_are_those_that_were_asked_for(parts: list[list[int]], seed: int) -> None:
    shares = [[part / sum(own) for part in own] for own in parts]
    some = traits(600, classes=3)
    dealt = partition(some, LabelSharesPartitionConfig(shares=shares), seed)
    assert len(set(dealt.order.tolist())) == len(dealt.order)
    assert len(set(dealt.lengths.tolist())) == 1
    size = int(dealt.lengths[0])
    counts = np.zeros((len(parts), 3), dtype=int)
    np.add.at(counts, (np.repeat(np.arange(len(parts)), dealt.lengths), some.labels[dealt.order]), 1)
    for own, wanted in zip(counts.tolist(), shares, strict=True):
        assert np.abs(np.array(own) - size * np.array(wanted)).max() < 1
    available = np.bincount(some.labels, minlength=3)
    asked = np.sum(shares, axis=0)
    largest = int(min(available[label] / asked[label] for label in range(3) if asked[label]))
    assert largest - 2 <= size <= largest


def test_label_shares_of_two_classes_are_those_of_class_1() -> None:
    labels = np.array([0, 1] * 100)
    section = LabelSharesPartitionConfig(shares=(0.1, 0.9), size=50)
    dealt = partition(Traits(200, labels), section, 0)
    assert labels[dealt.order[:50]].sum() == 5
    assert labels[dealt.order[50:]].sum() == 45
    with pytest.raises(DataError, match=r"needs 108 training samples of class 0, there are 100; lower size"):
        partition(Traits(200, labels), section.model_copy(update={"size": 108}), 0)
    with pytest.raises(DataError, match="has shares of 2 classes, the training samples have 3"):
        partition(traits(60, classes=3), section, 0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"shares": [[0.5, 0.4]]}, "the shares of client 0 add up to 0.9, not to 1"),
        ({"shares": [[0.5, 0.5], [1.0]]}, "client 1 has 1 shares, client 0 has 2"),
        ({"shares": []}, "at least 1 item"),
        ({"shares": [0.5], "allow_empty": True}, "none is empty"),
    ],
)
def test_label_shares_that_are_none_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        LabelSharesPartitionConfig(**options)


def test_quantity_follows_the_power_law_by_rank() -> None:
    dealt = partition(traits(100_000), QuantityPartitionConfig(clients=50, exponent=1.2, min_size=1), 0)
    expected = np.arange(1, 51) ** -1.2
    np.testing.assert_allclose(np.sort(dealt.lengths)[::-1] - 1, expected / expected.sum() * (100_000 - 50), atol=1.0)
    assert dealt.lengths.tolist() != sorted(dealt.lengths.tolist(), reverse=True)


def test_quantity_follows_the_lognormal_law() -> None:
    section = QuantityPartitionConfig(clients=500, distribution="lognormal", sigma=0.7)
    logarithms = np.log(partition(traits(1_000_000), section, 0).lengths)
    assert logarithms.std() == pytest.approx(0.7, rel=0.1)


@settings(max_examples=30, deadline=None)
@given(clients=st.integers(1, 20), smallest=st.integers(0, 8), sigma=st.floats(0.1, 50), exponent=st.floats(0.1, 50))
def test_quantity_never_gives_less_than_the_minimum(clients: int, smallest: int, sigma: float, exponent: float) -> None:
    sections = (
        QuantityPartitionConfig(clients=clients, min_size=smallest, exponent=exponent),
        QuantityPartitionConfig(clients=clients, min_size=smallest, distribution="lognormal", sigma=sigma),
    )
    for section in sections:
        dealt = partition(traits(200), section, 1)
        assert dealt.lengths.min() >= max(1, smallest)
        assert dealt.lengths.sum() == 200


def test_quantity_refuses_a_minimum_that_the_samples_do_not_reach() -> None:
    with pytest.raises(DataError, match=r"10 clients of at least 11 samples need 110, there are 100"):
        partition(traits(100), QuantityPartitionConfig(clients=10, min_size=11), 0)


def test_natural_makes_every_owner_a_client_in_order() -> None:
    owners = np.array(["eve", "bob", "eve", "amy", "bob", "eve"])
    dealt = partition(Traits(6, owners=owners), NaturalPartitionConfig(), 0)
    assert dealt.owners is not None
    assert dealt.owners.tolist() == ["amy", "bob", "eve"]
    assert dealt.lengths.tolist() == [1, 2, 3]
    assert dealt.order.tolist() == [3, 1, 4, 0, 2, 5]


def test_natural_leaves_out_small_owners_and_keeps_a_keyed_choice() -> None:
    owners = np.repeat(np.arange(100), np.arange(1, 101))
    some = Traits(len(owners), owners=owners)
    dealt = partition(some, NaturalPartitionConfig(min_size=50, clients=10), 0)
    assert dealt.owners is not None
    assert len(dealt.owners) == 10
    assert dealt.owners.tolist() == sorted(dealt.owners.tolist())
    assert dealt.owners.min() >= 49
    np.testing.assert_array_equal(owners[dealt.order], np.repeat(dealt.owners, dealt.lengths))
    other = partition(some, NaturalPartitionConfig(min_size=50, clients=10), 1)
    assert other.owners is not None
    assert other.owners.tolist() != dealt.owners.tolist()


def test_natural_needs_owners_and_enough_of_them() -> None:
    with pytest.raises(DataError, match=r"natural needs an owner for each sample.*data\.source\.client"):
        partition(Traits(5), NaturalPartitionConfig(), 0)
    with pytest.raises(DataError, match=r"7 clients wanted, but 5 of 5 owners have min_size 1"):
        partition(traits(100), NaturalPartitionConfig(clients=7), 0)
    with pytest.raises(DataError, match=r"1 clients wanted, but 0 of 5 owners have min_size 90"):
        partition(traits(100), NaturalPartitionConfig(min_size=90), 0)


# Bad input.


@pytest.mark.parametrize("name", ["shards", "dirichlet", "classes", "label_shares"])
def test_label_partitioners_refuse_targets_that_are_no_labels(name: str) -> None:
    x = np.zeros((6, 2), np.float32)
    regression = Traits.of(Pool(x, x[:, 0], "real", "here"), DataInfo("regression", (2,), "real"))
    with pytest.raises(DataError, match=rf"{name} deals by class label, but the targets are numbers.*use iid"):
        partition(regression, config(name, 2), 0)
    tokens = np.zeros((6, 2), np.int64)
    info = DataInfo("classification", (2,), "tokens", (2,), 5, 5)
    with pytest.raises(DataError, match=rf"{name} deals by class label, but every sample has several targets"):
        partition(Traits.of(Pool(tokens, tokens, "tokens", "here"), info), config(name, 2), 0)


@pytest.mark.parametrize("name", ["iid", "shards", "dirichlet", "classes", "quantity"])
def test_more_clients_than_samples_are_refused_with_the_remedy(name: str) -> None:
    section = config(name, 30).model_copy(update={"allow_empty": False})
    with pytest.raises(DataError, match=r"30 clients, but only 20 training samples; lower data\.partition\.clients"):
        partition(traits(20), section, 0)


def test_more_shards_than_samples_are_refused() -> None:
    with pytest.raises(DataError, match=r"15 clients x 2 shards need 30 samples, there are 20"):
        partition(traits(20), ShardsPartitionConfig(clients=15), 0)


def test_an_empty_client_is_refused_by_its_id_unless_allowed() -> None:
    labels = np.array([0] * 30 + [1])
    section = ClassesPartitionConfig(clients=6, classes_per_client=1)
    with pytest.raises(
        DataError, match=r"classes leaves client \d without samples \(2 of 6 clients are empty\).*allow_empty"
    ):
        partition(Traits(31, labels), section, 0)
    dealt = partition(Traits(31, labels), section.model_copy(update={"allow_empty": True}), 0)
    assert (dealt.lengths == 0).sum() == 2


# A user's own.


def halves(labels: np.ndarray, seed: int) -> list[np.ndarray]:
    return [np.flatnonzero(labels == 0), np.flatnonzero(labels != 0)]


def by_size(size: int, clients: int) -> tuple[np.ndarray, list[int]]:
    return np.arange(size), [size // clients] * clients


def returning(result: str) -> Any:
    return {
        "nothing": None,
        "floats": [np.array([0.5])],
        "matrix": [np.zeros((2, 2), int)],
        "outside": [np.array([0, 100])],
        "negative": [np.array([-1])],
        "twice": [np.array([1, 2]), np.array([2])],
        "lengths": (np.arange(5), np.array([2, 2])),
        "empty": [np.array([1]), np.array([], int)],
    }[result]


def own(name: str, **args: Any) -> CustomConfig:
    return CustomConfig(name=f"{__name__}:{name}", args=args)


def test_a_function_of_the_user_gets_what_it_declares() -> None:
    some = traits(100)
    dealt = partition(some, own("halves"), 0)
    assert some.labels is not None
    assert dealt.lengths.tolist() == [int((some.labels == 0).sum()), int((some.labels != 0).sum())]
    assert partition(Traits(100), own("by_size", clients=4), 0).lengths.tolist() == [25] * 4


@pytest.mark.parametrize(
    ("result", "message"),
    [
        ("nothing", r"returned NoneType; expected a non-empty list"),
        ("floats", r"1 dimensions and type float64; expected one dimension of integers"),
        ("matrix", r"2 dimensions and type int64"),
        ("outside", r"dealt sample 100, but the training samples are 0 to 9"),
        ("negative", r"dealt sample -1"),
        ("twice", r"dealt sample 2 more than once"),
        ("lengths", r"the lengths that .* returned do not add up to its 5 samples"),
        ("empty", r"leaves client 1 without samples"),
    ],
)
def test_what_a_function_of_the_user_returns_is_checked(result: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        partition(Traits(10), own("returning", result=result), 0)


def test_a_function_of_the_user_that_does_not_fit_is_named() -> None:
    with pytest.raises(
        ConfigError, match=r"data\.partition\.args: .*by_size.* does not fit: missing a required argument"
    ):
        partition(Traits(10), own("by_size"), 0)
    with pytest.raises(DataError, match=r"deals by class label, but the samples have no labels"):
        partition(Traits(10), own("halves"), 0)
    with pytest.raises(ConfigError, match=r"data\.partition\.name: .* is not a function"):
        partition(Traits(10), own("CLASSES"), 0)
