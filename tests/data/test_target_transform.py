"""Targets that models see transformed: fitted on training rows, and the way back."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from raysim import Experiment
from raysim.config.transforms import TargetConfig
from raysim.data import TargetScaling, prepare
from raysim.data.dataset import Pool
from raysim.data.transforms import Fitted, apply, fit
from raysim.errors import ConfigError, DataError

X = np.zeros((5, 1), np.float32)
Y = np.array([0.0, 3.0, 8.0, 15.0, 99.0], np.float32)


def pool(y: np.ndarray = Y) -> Pool:
    return Pool(X, y, "real", "t.csv")


@pytest.mark.parametrize("log1p", [False, True])
@pytest.mark.parametrize("standardise", [False, True])
def test_targets_are_the_logarithm_standardised_and_come_back(log1p: bool, standardise: bool) -> None:
    if not (log1p or standardise):
        return
    fitted = fit([TargetConfig(log1p=log1p, standardise=standardise)], pool())
    assert Fitted.from_json(json.loads(json.dumps(fitted.to_json()))) == fitted
    y = apply(fitted, pool()).targets
    expected = np.log1p(Y.astype(float)) if log1p else Y.astype(float)
    expected = (expected - expected.mean()) / expected.std() if standardise else expected
    np.testing.assert_allclose(y, expected, rtol=1e-6)
    scaling = TargetScaling(log1p, fitted.steps[0].centre, fitted.steps[0].divisor)  # type: ignore[attr-defined]
    np.testing.assert_allclose(scaling.in_units(y), Y, rtol=1e-5, atol=1e-5)


def test_each_number_of_a_vector_is_standardised_by_itself_and_a_constant_one_goes_to_zero() -> None:
    y = np.stack([Y, np.full(5, 7, np.float32)], axis=1)
    found = apply(fit([TargetConfig()], pool(y)), pool(y)).targets
    np.testing.assert_allclose(found[:, 0], (Y - Y.mean()) / Y.std(), rtol=1e-6)
    assert found[:, 1].tolist() == [0] * 5


def test_the_stored_info_says_how_targets_were_transformed(tmp_path: Path) -> None:
    data = {"source": "diabetes", "transforms": [{"name": "target", "log1p": True}], "cache": str(tmp_path)}
    config = Experiment.parse({"data": data}).data
    plain = Experiment.parse({"data": data | {"transforms": []}}).data
    one, other = prepare(config, 0).open(), prepare(plain, 0).open()
    assert one.info.scaling is not None
    assert other.info.scaling is None
    test, units = one.server("test"), other.server("test")
    assert test is not None
    assert units is not None
    np.testing.assert_allclose(one.info.scaling.in_units(test.y), units.y, rtol=1e-5)


def test_what_cannot_be_transformed_is_one_line() -> None:
    with pytest.raises(DataError, match="targets are classes; remove it, or set task: regression"):
        fit([TargetConfig()], pool(np.arange(5)))
    with pytest.raises(DataError, match=r"log1p is of numbers above -1, and sample 2 has the target -1\.5"):
        fit([TargetConfig(log1p=True)], pool(np.array([1, 2, -1.5, 0, 0], np.float32)))
    with pytest.raises(DataError, match="target is among the transforms twice"):
        fit([TargetConfig(), TargetConfig()], pool())
    with pytest.raises(ConfigError, match="neither log1p nor standardise is true"):
        Experiment.parse({"data": {"transforms": [{"name": "target", "standardise": False}]}})
