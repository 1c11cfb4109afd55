"""Baselines of scikit-learn: local models and averaged linear ones, against a plain loop."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from forms import OWNERS, PARTS, X, Y
from sklearn.linear_model import SGDClassifier, SGDRegressor
from sklearn.naive_bayes import GaussianNB

from raysim.adapters import sklearn_baseline
from raysim.errors import ConfigError, DataError

DATA = {"x": X, "y": Y, "client": OWNERS, "x_test": X, "y_test": Y}
SETTING = {"rounds": 3, "cohort": 1.0, "data": {"partition": "natural"}, "client": {"epochs": 2}}


def plain() -> Any:
    return SGDClassifier(learning_rate="constant", eta0=0.1, shuffle=False)


def test_linear_models_are_averaged_and_others_stay_alone() -> None:
    found = sklearn_baseline(plain(), SETTING, data=DATA)
    alone, shared = [plain() for _ in PARTS], [plain() for _ in PARTS]
    x, coefficients, intercept = X.astype(np.float64), np.empty(0), np.empty(0)
    for number in range(3):
        for rows, mine, ours in zip(PARTS, alone, shared, strict=True):
            if number:
                ours.coef_, ours.intercept_ = coefficients.copy(), intercept.copy()
            for _ in range(2):
                mine.partial_fit(x[rows], Y[rows], classes=[0, 1, 2])
                ours.partial_fit(x[rows], Y[rows], classes=[0, 1, 2])
        coefficients = 0.6 * shared[0].coef_ + 0.4 * shared[1].coef_
        intercept = 0.6 * shared[0].intercept_ + 0.4 * shared[1].intercept_
    np.testing.assert_allclose(found.local, [one.score(x, Y) for one in alone])
    assert found.weights is not None
    np.testing.assert_allclose(found.weights[0], coefficients, rtol=1e-12)
    right = (np.argmax(x @ coefficients.T + intercept, axis=1) == Y).mean()
    assert found.averaged == pytest.approx(right)


def test_an_estimator_without_coefficients_is_a_local_baseline_alone() -> None:
    found = sklearn_baseline(GaussianNB(), SETTING, data=DATA)
    assert found.averaged is None
    assert found.local == pytest.approx(
        [GaussianNB().fit(np.tile(X[rows], (6, 1)), np.tile(Y[rows], 6)).score(X, Y) for rows in PARTS], abs=0.06
    )


def test_numbers_are_regressed_on() -> None:
    found = sklearn_baseline(SGDRegressor(), SETTING, data={**DATA, "y": X[:, 0], "y_test": X[:, 0]})
    assert found.averaged is not None
    assert found.averaged <= 1


def test_what_is_no_baseline_is_one_line() -> None:
    with pytest.raises(ConfigError, match="SGDClassifier: a baseline needs an instance with partial_fit"):
        sklearn_baseline(SGDClassifier, SETTING, data=DATA)
    without = {key: value for key, value in DATA.items() if not key.endswith("_test")}
    with pytest.raises(DataError, match=r"data\.test: a baseline is scored on the test set"):
        sklearn_baseline(plain(), {**SETTING, "data": {"partition": "natural", "test": 0.0}}, data=without)
