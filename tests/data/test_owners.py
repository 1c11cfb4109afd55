"""Whose a test sample is: owners matched to clients, however they are written, and what is refused."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import csv

from raysim.config.data import DataConfig
from raysim.config.sources import InMemoryConfig
from raysim.data import ArrowFederation, Dataset, Pool, describe, prepare
from raysim.data.owners import owned_tests, owner_name
from raysim.data.partition import Partition
from raysim.data.pooled import PooledFederation
from raysim.data.sources import from_arrays
from raysim.errors import DataError

OWNERS = ("a", "b", "c")


def pool(owners: Any, count: int | None = None) -> Pool:
    count = len(owners) if count is None else count
    x = np.arange(2 * count, dtype=np.float32).reshape(count, 2)
    return Pool(x, np.zeros(count, np.int64), "real", "data", None if owners is None else np.asarray(owners))


def dealt(owners: Any) -> Partition:
    """Four samples for each of three clients, who stand for these owners."""
    return Partition(np.arange(12), np.full(3, 4), None if owners is None else np.array(owners))


def arrays(client: Any, client_test: Any, **more: Any) -> dict[str, Any]:
    """Thirty training samples of three owners, and a test sample for each of `client_test`, told apart by x."""
    count = len(client_test)
    x_test = np.arange(count, dtype=np.float32).reshape(-1, 1)
    found = {"x": np.arange(30, dtype=np.float32).reshape(-1, 1), "y": np.arange(30) % 2, "client": client}
    return found | {"x_test": x_test, "y_test": np.arange(count) % 2, "client_test": client_test} | more


def built(tmp_path: Path, data: Any, **sections: Any) -> ArrowFederation:
    given = {"source": InMemoryConfig(), "partition": "natural", "cache": str(tmp_path)} | sections
    federation = prepare(DataConfig.model_validate(given), 0, arrays=data).open()
    assert isinstance(federation, ArrowFederation)
    return federation


def own(federation: Any) -> list[list[int]]:
    shards = [federation.shard(client, "test") for client in range(federation.population)]
    return [shard.x[:, 0].astype(int).tolist() for shard in shards]


@given(st.lists(st.integers(-1, 2), max_size=40))
def test_every_client_gets_its_own_test_samples_in_the_order_of_the_set(owner: list[int]) -> None:
    found = owned_tests(
        pool(np.repeat(OWNERS, 4)), pool([["a", "b", "c", ""][i] for i in owner] or ["", ""]), dealt(OWNERS)
    )
    expected = [[i for i, one in enumerate(owner) if one == client] for client in range(3)]
    if found is None:
        assert expected == [[], [], []]
    else:
        parts = np.split(found.order, np.cumsum(found.lengths)[:-1])
        assert [part.tolist() for part in parts] == expected


@pytest.mark.parametrize(
    ("trained", "tested"),
    [
        ([3, 5, 9], ["3", "5", "9"]),
        (["3", "5", "9"], [3, 5, 9]),
        ([3.0, 5.0, 9.0], [3, 5, 9]),
        (["3", "5", "9"], [3.0, 5.0, 9.0]),
        ([True, False, True], [1, 0, 1]),
    ],
)
def test_owners_are_the_same_however_they_are_written(trained: list[Any], tested: list[Any]) -> None:
    clients = sorted(set(trained))
    found = owned_tests(pool(trained), pool(tested), Partition(np.arange(3), np.ones(len(clients)), np.array(clients)))
    assert found is not None
    assert found.lengths.sum() == 3
    names = [owner_name(clients[client]) for client in np.repeat(np.arange(len(clients)), found.lengths)]
    assert names == [owner_name(np.asarray(tested)[row].item()) for row in found.order]


@pytest.mark.parametrize(
    "owners",
    [["a", "", "c"], np.array(["a", None, "c"], dtype=object), np.array(["a", float("nan"), "c"], dtype=object)],
)
def test_a_test_sample_without_an_owner_stays_with_the_server_alone(tmp_path: Path, owners: Any) -> None:
    federation = built(tmp_path, arrays(np.repeat(OWNERS, 10), owners))
    test = federation.server("test")
    assert test is not None
    assert test.x[:, 0].tolist() == [0, 1, 2]
    assert own(federation) == [[0], [], [2]]


@pytest.mark.parametrize(("owners", "expected"), [([0, -1, 2], [[0], [], [2]]), ([0.0, np.nan, 2.0], [[0], [], [2]])])
def test_minus_one_and_nan_are_nobody_among_numbers(tmp_path: Path, owners: Any, expected: list[list[int]]) -> None:
    assert own(built(tmp_path, arrays(np.repeat([0, 1, 2], 10), owners))) == expected


def test_minus_one_is_an_owner_where_it_owns_training_samples(tmp_path: Path) -> None:
    assert own(built(tmp_path, arrays(np.repeat([-1, 0, 1], 10), [0, -1, -1]))) == [[1, 2], [0], []]


def test_the_test_samples_of_an_owner_that_is_left_out_stay_with_the_server_alone(tmp_path: Path) -> None:
    client = ["a"] * 14 + ["b"] * 14 + ["c"] * 2
    federation = built(tmp_path, arrays(client, ["c", "b", "a"]), partition={"name": "natural", "min_size": 5})
    assert own(federation) == [[2], [1]]
    assert federation.manifest.samples["test"] == 3


def test_clients_that_are_made_up_are_owners_by_their_ids_where_the_source_names_none(tmp_path: Path) -> None:
    data = arrays(None, [2, 0, 2])
    iid = {"partition": {"name": "iid", "clients": 3}}
    assert own(built(tmp_path, data, **iid)) == [[1], [], [0, 2]]
    with pytest.raises(
        DataError, match=r"data: 1 of 3 test samples \(the first is sample 1\) .* '3', but clients are 0 to 2"
    ):
        built(tmp_path, arrays(None, [2, 3, 2]), **iid)
    # With owners of training samples, test samples belong to them, whom such a partition does not know.
    assert own(built(tmp_path, arrays(np.repeat(OWNERS, 10), list("abc")), **iid)) == [[], [], []]


def test_an_owner_without_training_samples_is_refused_by_name(tmp_path: Path) -> None:
    data = arrays(np.repeat(OWNERS, 10), ["a", "zzz", "d", "zzz"])
    with pytest.raises(DataError) as caught:
        built(tmp_path, data)
    assert str(caught.value) == (
        "data: 3 of 4 test samples (the first is sample 1) belong to 'd', 'zzz', but no training sample has such an "
        "owner; correct the names, or leave these samples without an owner (None, NaN, '' or -1)"
    )
    assert not list(tmp_path.rglob("manifest.json"))


@pytest.mark.parametrize(
    ("data", "line"),
    [
        ({"client_test": ["a"]}, "data: client_test says something of a test set, but there is no x_test"),
        ({"weight_test": [1.0]}, "data: weight_test says something of a test set, but there is no x_test"),
        ({"client": np.array(["a", None] * 15, dtype=object)}, "data: client[1] is None; every training sample needs"),
        ({"client": [0.0, float("nan")] * 15}, "data: client[1] is nan; every training sample needs an owner"),
    ],
)
def test_what_says_nothing_is_refused(data: dict[str, Any], line: str) -> None:
    with pytest.raises(DataError) as caught:
        from_arrays({"x": np.zeros((30, 1)), "y": np.arange(30) % 2, **data}, origin="data")
    assert str(caught.value).startswith(line)


def test_owners_stay_with_their_samples_where_rows_are_dropped_and_pooling_leaves_them(tmp_path: Path) -> None:
    data = arrays(np.repeat(OWNERS, 10), list("cabca"), weight=np.arange(30) + 1.0, weight_test=np.arange(5) + 1.0)
    data["x_test"] = np.array([[0.0], [np.nan], [2.0], [3.0], [4.0]], np.float32)
    federation = built(tmp_path, data, transforms=[{"name": "missing", "action": "drop"}])
    assert own(federation) == own(PooledFederation(federation)) == [[4], [2], [0, 3]]
    assert federation.sizes("test", np.array([2, 0])).tolist() == [2, 1]
    weight = federation.shard(2, "test").weight
    assert weight is not None
    assert weight.tolist() == [1.0, 4.0]
    assert describe(federation).owned == 4
    federation.verify()


def test_a_data_set_of_the_users_own_may_say_whose_its_test_samples_are(tmp_path: Path) -> None:
    given = from_arrays(arrays(np.repeat(OWNERS, 10), list("abc")), origin="mine")
    assert isinstance(given, Dataset)
    assert own(built(tmp_path, given)) == [[0], [1], [2]]
    pairs = {"train": (np.arange(30.0).reshape(-1, 1), np.arange(30) % 2), "test": (np.zeros((2, 1)), np.arange(2))}
    assert [
        len(one) for one in own(built(tmp_path, pairs | {"client": np.repeat(OWNERS, 10), "client_test": ["b", "b"]}))
    ] == [0, 2, 0]


def test_an_archive_has_owners_of_test_samples(tmp_path: Path) -> None:
    np.savez(tmp_path / "waves.npz", **arrays(np.repeat(OWNERS, 10), list("cab")))
    assert own(built(tmp_path, None, source={"name": "npz", "path": str(tmp_path / "waves.npz")})) == [[1], [2], [0]]


def test_whose_test_samples_are_is_part_of_the_fingerprint_and_without_owners_nothing_changes(tmp_path: Path) -> None:
    data = arrays(np.repeat(OWNERS, 10), list("abc"))
    bare = {key: value for key, value in data.items() if key != "client_test"}
    one, other, none = (built(tmp_path, each) for each in (data, data | {"client_test": list("cba")}, bare))
    assert len({one.fingerprint, other.fingerprint, none.fingerprint}) == 3
    assert not none.sizes("test").any()
    assert sorted(file.name for file in none.path.iterdir()) == [
        "histograms.arrow", "index.arrow", "manifest.json", "test.arrow", "train.arrow",
    ]  # fmt: skip


@pytest.mark.parametrize("spoil", ["bytes", "rows"])
def test_a_damaged_table_of_owners_is_found(tmp_path: Path, spoil: str) -> None:
    federation = built(tmp_path, arrays(np.repeat(OWNERS, 10), list("abc")))
    path = federation.path / "tests.arrow"
    content = bytearray(path.read_bytes())
    place = content.index((2).to_bytes(8, "little"), 200) if spoil == "rows" else len(content) - 20
    content[place] ^= 0xFF
    path.write_bytes(bytes(content))
    with pytest.raises(DataError, match=r"tests\.arrow: .* delete the folder"):
        ArrowFederation(federation.path).verify_index()


@pytest.mark.parametrize("name", ["csv", "parquet"])
def test_a_test_table_has_owners_classes_and_columns_of_the_training_table(tmp_path: Path, name: str) -> None:
    train = {"size": [float(i) for i in range(30)], "kind": ["x", "y", "z"] * 10, "site": [7, 8, 9] * 10}
    train["seen"] = ["no", "yes"] * 15
    test = {"seen": ["yes", "no", "no"], "site": [9, None, 7], "size": [1, 2, None], "kind": ["z", None, "x"]}
    source = {"name": name, "label": "seen", "client": "site"}
    for key, columns in (("path", train), ("test", test)):
        path = tmp_path / f"{key}.{name}"
        (csv.write_csv if name == "csv" else pq.write_table)(pa.table(columns), path)
        source[key] = str(path)
    transforms = [{"name": "missing", "action": "zero"}, "one_hot"]
    federation = built(tmp_path, None, source=source, transforms=transforms)
    assert own(federation) == [[0], [], [1]]
    found = federation.server("test")
    assert found is not None
    assert found.x[:, 0].tolist() == [1.0, 2.0, 0.0]
    assert found.y.tolist() == [1, 0, 0]
    for column, cells, line in (
        ("seen", ["maybe", "no", "no"], "row 1, column 'seen' is maybe, a class that"),
        ("size", ["big", "no", "no"], "column 'size' is text, in"),
        ("site", [1, 8, 9], "1 of 3 test samples (the first is sample 0) belong to '1'"),
    ):
        spoiled = pa.table(test | {column: cells})
        (csv.write_csv if name == "csv" else pq.write_table)(spoiled, tmp_path / f"test.{name}")
        with pytest.raises(DataError, match=re.escape(line)):
            built(tmp_path, None, source=source, transforms=transforms)
    rest = pa.table({key: cells for key, cells in test.items() if key != "size"})
    (csv.write_csv if name == "csv" else pq.write_table)(rest, tmp_path / f"test.{name}")
    with pytest.raises(DataError, match=r"no column 'size', which .* has; give both tables the same columns"):
        built(tmp_path, None, source=source, transforms=transforms)
