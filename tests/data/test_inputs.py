"""Input that could be taken for something else: each line works as it stands, or is one clear line."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from torch import nn

from raysim.config import Experiment
from raysim.config.sources import InMemoryConfig
from raysim.data.dataset import Dataset
from raysim.data.sources import load_source
from raysim.errors import ConfigError, DataError, ModelError
from raysim.execution.preparation.prepare import prepare_job

X = np.random.default_rng(0).normal(size=(12, 3)).astype("float32")
Y = np.arange(12) % 3
FULL = np.ones(12)


def load(**arrays: Any) -> Dataset:
    return load_source(InMemoryConfig(), seed=0, arrays={"x": X, "y": Y} | arrays)


TAKEN: dict[str, tuple[dict[str, Any], str, Any]] = {
    "half floats": ({"x": X.astype("float16")}, "x", X.astype("float16").astype("float32")),
    "booleans as features": ({"x": X > 0}, "x", (X > 0).astype("float32")),
    "booleans as classes": ({"y": Y > 0}, "y", (Y > 0).astype("int64")),
    "unsigned classes": ({"y": Y.astype("uint8")}, "y", Y),
    "ids beyond 2^31": ({"x": np.array([[2**33]] * 6 + [[1]] * 6)}, "x", np.array([[2**33]] * 6 + [[1]] * 6)),
    "bytes as pixels": ({"x": np.full((12, 2), 200, "uint8")}, "x", np.full((12, 2), 200, "uint8")),
    "a mask that masks nothing": ({"x": np.ma.masked_array(X, np.zeros(X.shape, bool))}, "x", X),
    "boolean weights": ({"weight": FULL > 0}, "weight", FULL.astype("float32")),
}


@pytest.mark.parametrize(("arrays", "key", "expected"), TAKEN.values(), ids=TAKEN)
def test_arrays_of_every_usual_type_are_taken_as_they_are(arrays: dict[str, Any], key: str, expected: Any) -> None:
    found = getattr(load(**arrays).train, key)
    np.testing.assert_array_equal(found, expected)


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "masked features": ({"x": np.ma.masked_array(X, X[0, 0] == X)}, "x has 1 masked values; x.filled(np.nan) makes"),
    "masked classes": ({"y": np.ma.masked_array(Y, Y > 1)}, "y has 4 masked values; y.filled(…) says what they are"),
    "complex features": ({"x": X + 1j}, "x has type complex64; expected numbers"),
    "text features": ({"x": X.astype(str)}, "x has type <U32; expected numbers"),
    "dates": ({"x": np.full((12, 1), np.datetime64("2020-01-01"))}, "x has type datetime64[D]; expected numbers"),
    "names of classes": ({"y": Y.astype(str)}, "expected numbers; number classes by np.unique(y, return_inverse=True)"),
    "classes -1 and 1": ({"y": Y % 2 * 2 - 1}, "y[0] is -1; class labels are integers 0..C-1"),
    "bytes as owners": ({"client": Y.astype("S1")}, "client has type |S1; expected numbers or text"),
    "owners that are holes": ({"client": np.where(Y > 1, np.nan, Y)}, "client[2] is nan; every training sample needs"),
    "no weight at all": ({"weight": 0 * FULL}, "weight is 0 everywhere, so that nothing counts; leave the weights out"),
    "weights too small": ({"weight": FULL * 1e-60}, "weight has values below 1e-45, which are 0 in float32"),
    "weights too large": ({"weight": FULL * 1e60}, "weight[0] is inf; weights are finite and not negative"),
}


@pytest.mark.parametrize(("arrays", "message"), REFUSED.values(), ids=REFUSED)
@pytest.mark.filterwarnings("error")
def test_arrays_that_would_be_changed_silently_are_one_clear_line(arrays: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=re.escape(message)) as error:
        load(**arrays)
    assert "\n" not in str(error.value)


UNFIT: dict[str, tuple[Any, nn.Module, str]] = {
    "integer features": (np.arange(36).reshape(12, 3), nn.Linear(3, 3), "give features as float32"),
    "float ids": (np.abs(X).round(), nn.Embedding(9, 3), "floats are taken for features: give token ids as integers"),
    "an embedding too small": (np.full((12, 3), 2**33), nn.Embedding(9, 3), f"token ids go up to {2**33}"),
}


@pytest.mark.parametrize(("x", "model", "remark"), UNFIT.values(), ids=UNFIT)
def test_a_model_that_another_type_of_samples_was_meant_for_says_what_the_type_means(
    x: Any, model: nn.Module, remark: str
) -> None:
    experiment = Experiment.parse({"cohort": 1.0, "data": {"partition": {"name": "iid", "clients": 2}}})
    with pytest.raises(ModelError, match=re.escape(remark)):
        prepare_job(experiment, model=model, data=(x, Y))


def test_an_algorithm_for_one_target_a_sample_refuses_several() -> None:
    setting = {"cohort": 1.0, "algorithm": "cocoa", "training": {"loss": "binary_cross_entropy"}}
    experiment = Experiment.parse(setting | {"data": {"partition": {"name": "iid", "clients": 2}}})
    with pytest.raises(ConfigError, match="cocoa is for one target a sample, these have 2; use fedavg"):
        prepare_job(experiment, model=nn.Linear(3, 2), data=(X, (X[:, :2] > 0).astype(int)))
