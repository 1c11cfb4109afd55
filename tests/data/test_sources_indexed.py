"""Map-style datasets, torch's and others, become the arrays that they are made of."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import ConcatDataset, DataLoader, IterableDataset, Subset, TensorDataset
from torch.utils.data import Dataset as TorchDataset

from raysim.config.sources import InMemoryConfig
from raysim.data.dataset import Dataset
from raysim.data.sources import load_source
from raysim.errors import DataError

X = np.random.default_rng(0).normal(size=(12, 4)).astype(np.float32)
Y = np.arange(12) % 3


class Pairs(TorchDataset[Any]):
    """Samples one at a time, as a user writes it; `change` spoils one."""

    def __init__(self, change: dict[int, Any] | None = None, count: int = 12) -> None:
        self.change, self.count, self.read = change or {}, count, 0

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, i: int) -> Any:
        self.read += 1
        found = self.change.get(i, (torch.from_numpy(X[i]), int(Y[i])))
        if isinstance(found, Exception):
            raise found
        return found


class Stream(IterableDataset[Any]):
    """Has neither a length nor an index."""

    def __iter__(self) -> Iterator[Any]:
        return iter(())


def load(data: Any) -> Dataset:
    return load_source(InMemoryConfig(), seed=0, arrays=data)


def same(found: Dataset, *, test: bool) -> None:
    for pool in (found.train, found.test):
        if pool is not None:
            np.testing.assert_array_equal(pool.x, X)
            np.testing.assert_array_equal(pool.y, Y)
    assert (found.test is not None) is test
    assert (found.info.task, found.info.classes, found.info.input_shape) == ("classification", 3, (4,))


TENSORS = TensorDataset(torch.from_numpy(X), torch.from_numpy(Y))


@pytest.mark.parametrize(
    ("data", "test"),
    [
        (Pairs(), False),
        (TENSORS, False),
        (ConcatDataset([Subset(TENSORS, range(5)), Subset(Pairs(), range(5, 12))]), False),
        ((Pairs(), TENSORS), True),
        ({"train": Pairs()}, False),
        ({"train": TENSORS, "test": Pairs()}, True),
        ({"train": (X, Y), "test": TENSORS}, True),
    ],
)
def test_a_map_style_dataset_is_the_arrays_that_its_samples_make(data: Any, test: bool) -> None:
    same(load(data), test=test)


def test_owners_and_weights_stand_beside_a_dataset() -> None:
    found = load({"train": Pairs(), "client": np.arange(12) // 4, "weight": np.ones(12)})
    assert found.train.client is not None
    assert found.train.client.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert found.train.weight is not None


def test_a_pair_of_arrays_is_still_features_and_targets() -> None:
    same(load((torch.from_numpy(X), torch.from_numpy(Y))), test=False)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (Pairs({3: (X[0], 1, 2)}), r"data: train: sample 3 is a tuple of 3; expected a map-style dataset"),
        (Pairs({0: {"image": X[0]}}), r"data: train: sample 0 has the entries 'image'; name its target by 'label'"),
        (Pairs({2: (X[0, :3], 1)}), r"data: train: sample 2: x is float32 \(3,\), of sample 0 float32 \(4,\)"),
        (Pairs({2: (torch.from_numpy(X[0]), 0.5)}), r"data: train: sample 2: y is float64 \(\), of sample 0 int64"),
        (Pairs({1: ("a word", 1)}), r"data: train: sample 1: x has type <U6; expected numbers"),
        (Pairs({5: OSError("gone")}), r"data: train: sample 5 cannot be read: OSError: gone"),
        (Pairs(count=0), r"data: train: Pairs has no samples"),
        (Stream(), r"data: train: Stream has no length; expected a map-style dataset"),
        ((Pairs(), Pairs({4: (X[0],)})), r"data: test: sample 4 is a tuple of 1"),
        ({"train": 3}, r"data: train: expected a map-style dataset.*; or a pair \(x, y\) of arrays; got int"),
        ({"train": Pairs(), "tset": Pairs()}, r"data: unknown array 'tset'"),
        (
            DataLoader(TENSORS),
            r"data: a DataLoader makes batches in an order of its own.*; give what it reads: loader.dataset",
        ),
    ],
)
def test_a_dataset_that_cannot_be_read_is_one_line(data: Any, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        load(data)
    assert "\n" not in str(caught.value)


def test_the_data_room_does_not_import_torch() -> None:
    code = "import sys, raysim.data.sources; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
