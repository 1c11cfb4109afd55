"""How much each client counts."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raysim.aggregation import Weighting
from raysim.aggregation.weights import FLOOR
from raysim.config.server import (
    ExplicitWeightsConfig,
    LawWeightsConfig,
    LossWeightsConfig,
    SamplesWeightsConfig,
    UniformWeightsConfig,
    WeightsConfig,
)

CLIENTS = np.array([3, 8, 9, 40])
SAMPLES = np.array([10, 0, 30, 60])
SCHEMES: dict[str, WeightsConfig] = {
    "uniform": UniformWeightsConfig(),
    "samples": SamplesWeightsConfig(),
    "loss": LossWeightsConfig(low=0.1, high=10.0),
    "inverse_loss": LossWeightsConfig(name="inverse_loss", low=0.1, high=10.0),
    "law": LawWeightsConfig(samples=0.5, loss=2.0, low=0.1, high=5.0),
    "explicit": ExplicitWeightsConfig(table={3: 0.6, 9: 0.4, 40: 2.0}, default=0.5),
}
SCHEME = pytest.mark.parametrize("scheme", SCHEMES)


def full(scheme: str, losses: list[float], samples: npt.NDArray[np.int64] = SAMPLES) -> list[float]:
    """Weights as the mean sees them: base times factor, normalised."""
    weighting = Weighting(SCHEMES[scheme])
    base = weighting.base(CLIENTS, samples)
    weights = [b * weighting.factor(loss)[0] for b, loss in zip(base, losses, strict=True)]
    return [w / sum(weights) for w in weights]


@SCHEME
@given(st.lists(st.integers(0, 1000), min_size=1, max_size=50).filter(any))
def test_every_scheme_normalises_to_one_and_empty_clients_have_nothing(scheme: str, sizes: list[int]) -> None:
    samples = np.array(sizes)
    weights = Weighting(SCHEMES[scheme]).base(np.arange(len(sizes)), samples)
    assert weights.dtype == np.float64
    assert weights.sum() == pytest.approx(1.0, abs=1e-12)
    assert not weights[samples == 0].any()
    assert (weights[samples > 0] > 0).all()


@pytest.mark.parametrize(
    ("scheme", "expected"),
    [
        ("uniform", [1 / 3, 0, 1 / 3, 1 / 3]),
        ("samples", [0.1, 0, 0.3, 0.6]),
        ("explicit", [0.2, 0, 0.4 / 3, 2 / 3]),
    ],
)
def test_schemes_that_do_not_look_at_the_loss(scheme: str, expected: list[float]) -> None:
    weighting = Weighting(SCHEMES[scheme])
    np.testing.assert_allclose(weighting.base(CLIENTS, SAMPLES), expected, atol=1e-15)
    assert not weighting.needs_loss
    assert weighting.factor(math.nan) == (1.0, False)


def test_weights_by_loss_and_by_its_inverse() -> None:
    losses = [2.0, 5.0, 0.5, 1.0]
    assert Weighting(SCHEMES["loss"]).needs_loss
    np.testing.assert_allclose(full("loss", losses), [2 / 3.5, 0, 0.5 / 3.5, 1 / 3.5], atol=1e-15)
    np.testing.assert_allclose(full("inverse_loss", losses), [0.5 / 3.5, 0, 2 / 3.5, 1 / 3.5], atol=1e-15)


@given(st.floats(0, 1e6))
def test_losses_are_clamped_and_factors_stay_above_zero_and_up_to_one(loss: float) -> None:
    for name in ("loss", "inverse_loss"):
        factor, clamped = Weighting(SCHEMES[name]).factor(loss)
        inside = min(max(loss, 0.1), 10.0)
        assert factor == pytest.approx(inside / 10 if name == "loss" else 0.1 / inside)
        assert 0 < factor <= 1
        assert clamped == (not 0.1 <= loss <= 10)


@pytest.mark.parametrize(("loss", "clamped"), [(0.1, False), (10.0, False), (0.0999, True), (10.001, True), (0, True)])
def test_a_clamp_is_told(loss: float, clamped: bool) -> None:
    for name in ("loss", "inverse_loss"):
        assert Weighting(SCHEMES[name]).factor(loss)[1] is clamped


@pytest.mark.parametrize("loss", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_gives_no_weight(loss: float) -> None:
    for name in ("loss", "inverse_loss"):
        factor, clamped = Weighting(SCHEMES[name]).factor(loss)
        assert math.isnan(factor)
        assert not clamped


def test_clients_that_the_table_does_not_name_have_the_default() -> None:
    table = {3: 0.6, 9: 0.4}
    nothing = Weighting(ExplicitWeightsConfig(table=table)).base(CLIENTS, np.array([1, 1, 1, 1]))
    np.testing.assert_allclose(nothing, [0.6, 0, 0.4, 0])
    something = Weighting(ExplicitWeightsConfig(table=table, default=0.5)).base(CLIENTS, np.array([1, 1, 1, 1]))
    np.testing.assert_allclose(something, [0.3, 0.25, 0.2, 0.25])


@SCHEME
def test_a_cohort_without_samples_has_weights_of_zero_and_an_empty_one_has_none(scheme: str) -> None:
    weighting = Weighting(SCHEMES[scheme])
    assert weighting.base(CLIENTS, np.zeros(4, dtype=np.int64)).tolist() == [0, 0, 0, 0]
    assert weighting.base(np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64)).shape == (0,)


def test_a_table_of_zeros_leaves_nobody() -> None:
    weighting = Weighting(ExplicitWeightsConfig(table={3: 0.0, 9: 0.0, 1_000: 1.0}))
    assert not weighting.base(CLIENTS, SAMPLES).any()


def test_weights_do_not_depend_on_the_order_of_the_cohort() -> None:
    turned = np.array([2, 0, 3, 1])
    for config in SCHEMES.values():
        weighting = Weighting(config)
        one, two = weighting.base(CLIENTS, SAMPLES), weighting.base(CLIENTS[turned], SAMPLES[turned])
        np.testing.assert_allclose(one[turned], two, rtol=1e-15)


def test_the_law_is_the_product_that_it_says() -> None:
    law = Weighting(LawWeightsConfig(samples=0.5, loss=2.0))
    base = law.base(CLIENTS, SAMPLES)
    losses = np.array([0.3, 0.3, 1.0, 2.0])
    weights = base * [law.factor(loss)[0] for loss in losses]
    expected = np.where(SAMPLES > 0, SAMPLES**0.5 * np.exp(-2.0 * losses), 0)
    np.testing.assert_allclose(weights / weights.sum(), expected / expected.sum(), rtol=1e-12)


def test_the_law_as_it_stands_is_samples_weights_and_looks_at_no_loss() -> None:
    law = Weighting(LawWeightsConfig())
    assert not law.needs_loss
    np.testing.assert_array_equal(law.base(CLIENTS, SAMPLES), Weighting(SamplesWeightsConfig()).base(CLIENTS, SAMPLES))
    assert law.factor(3.0) == (1.0, False)


@pytest.mark.parametrize("exponent", [-3.0, 3.0])
def test_the_laws_factors_stay_in_range_and_clamps_are_reported(exponent: float) -> None:
    law = Weighting(LawWeightsConfig(loss=exponent, low=0.5, high=20.0))
    for loss in (0.0, 0.5, 3.0, 20.0, 1e9):
        factor, clamped = law.factor(loss)
        assert FLOOR <= factor <= 1
        outside = not 0.5 <= loss <= 20 or math.exp(-abs(exponent) * abs(loss - (0.5 if exponent > 0 else 20))) < FLOOR
        assert clamped is outside
    assert math.isnan(law.factor(math.inf)[0])
