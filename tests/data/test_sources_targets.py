"""Targets: when floats are classes and when numbers, and what several data sets in one value mean."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from raysim import Experiment, Simulation
from raysim.config.sources import InMemoryConfig, NpzConfig
from raysim.data.dataset import Dataset
from raysim.data.sources import load_source
from raysim.errors import DataError

X = np.random.default_rng(0).normal(size=(40, 4)).astype("float32")
SIGN = (X[:, 0] > 0).astype("float32")


def load(y: Any, task: Any = None, **more: Any) -> Dataset:
    return load_source(InMemoryConfig(), seed=0, arrays={"x": X, "y": y, **more}, task=task)


@pytest.mark.parametrize("loss", ["binary_cross_entropy", "cross_entropy", "focal"])
def test_whole_floats_are_classes_where_the_loss_is_of_classes(loss: str, tmp_path: Path) -> None:
    setting = {
        "rounds": 1,
        "cohort": 2,
        "data": {"partition": {"name": "dirichlet", "clients": 2, "min_size": 1}},
        "training": {"loss": loss, "engine": "sequential"},
        "execution": {"executor": "inprocess"},
        "tracking": {"report": False},
    }
    outcomes = []
    for y in (SIGN, SIGN.astype(int)):
        torch.manual_seed(0)
        module = nn.Linear(4, 1 if loss == "binary_cross_entropy" else 2)
        experiment = Experiment.parse(setting)
        with Simulation(experiment, model=module, data=(X, y), directory=tmp_path / f"{y.dtype}") as simulation:
            (only,) = simulation
        outcomes.append(dict(only.metrics))
    assert outcomes[0] == outcomes[1]
    assert "test/accuracy" in outcomes[0]


def test_floats_that_may_be_classes_or_numbers_are_asked_about() -> None:
    for y, losses in (
        (SIGN, "binary_cross_entropy or cross_entropy for classes"),
        (np.arange(40) % 3.0, "cross_entropy"),
    ):
        with pytest.raises(DataError, match=rf"which may be classes or numbers; set training.loss: {losses}"):
            load(y)
    assert load(SIGN, "regression").info.task == "regression"
    assert load(SIGN, "by_type").info.task == "regression"
    for y in (SIGN / 2, SIGN * 2, np.arange(40.0), np.arange(80.0).reshape(40, 2) % 3):
        assert load(y).info.task == "regression"


def test_a_loss_of_numbers_takes_integers_as_numbers() -> None:
    found = load(np.arange(40), "regression")
    assert (found.info.task, found.train.y.dtype) == ("regression", np.float32)


def test_a_fraction_among_classes_is_named() -> None:
    with pytest.raises(DataError, match=r"y\[1\] is 0.5; class labels are integers 0..C-1: correct it, or regress on"):
        load([0.0, 0.5] * 20, "classification")


def test_an_archive_of_floats_says_how_to_write_classes_and_numbers(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=X, y=SIGN)
    with pytest.raises(
        DataError, match=r"y has type float32; class labels are integers: y.astype\(int\); numbers: task"
    ):
        load_source(NpzConfig(path=str(tmp_path / "a.npz")), seed=0)


def test_a_column_of_labels_is_one_label_a_sample() -> None:
    found = load(SIGN[:, None].astype(int))
    assert (found.info.target_shape, found.train.y.shape) == ((), (40,))


def test_a_list_of_data_sets_is_refused_and_a_tuple_is_training_and_test() -> None:
    parts = [torch.utils.data.TensorDataset(torch.tensor(X), torch.tensor(SIGN).long()) for _ in range(2)]
    pairs = [(X, SIGN.astype(int))] * 2
    for given in (parts, pairs, parts * 2, tuple(parts * 2)):
        with pytest.raises(DataError, match=r"a (list|tuple) of \d data sets is ambiguous; give \(training, test\) as"):
            load_source(InMemoryConfig(), seed=0, arrays=given)
    for pair in (tuple(parts), tuple(pairs)):
        found = load_source(InMemoryConfig(), seed=0, arrays=pair)
        assert found.test is not None
        assert (len(found.train), len(found.test)) == (40, 40)
    assert len(load_source(InMemoryConfig(), seed=0, arrays=[X, SIGN.astype(int)]).train) == 40
