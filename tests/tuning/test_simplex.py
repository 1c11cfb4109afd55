"""Weights on the simplex as numbers in a box, and back."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raysim.tuning.simplex import BOUNDS, LEAST, Coordinates, size, to_box, to_weights

COORDINATES = pytest.mark.parametrize("coordinates", ["sticks", "logs"])


@COORDINATES
@given(data=st.data(), count=st.integers(2, 12))
def test_every_point_of_the_box_is_weights(coordinates: Coordinates, data: st.DataObject, count: int) -> None:
    low, high = BOUNDS[coordinates]
    box = data.draw(
        st.lists(st.floats(low, high), min_size=size(coordinates, count), max_size=size(coordinates, count))
    )
    weights = to_weights(coordinates, np.array(box), count)
    assert weights.sum() == pytest.approx(1.0, abs=1e-12)
    assert (weights >= LEAST / 2).all()


@COORDINATES
@given(st.lists(st.floats(0.01, 1.0), min_size=2, max_size=12))
def test_weights_come_back_from_their_box(coordinates: Coordinates, raw: list[float]) -> None:
    weights = np.array(raw) / sum(raw)
    box = to_box(coordinates, weights)
    low, high = BOUNDS[coordinates]
    assert ((box >= low) & (box <= high)).all()
    np.testing.assert_allclose(to_weights(coordinates, box, len(weights)), weights, rtol=2e-2, atol=1e-4)


@COORDINATES
def test_weights_that_mute_some_come_back_as_nearly_muted(coordinates: Coordinates) -> None:
    weights = np.array([0.5, 0.0, 0.5, 0.0])
    found = to_weights(coordinates, to_box(coordinates, weights), 4)
    np.testing.assert_allclose(found, weights, atol=1e-3)


@COORDINATES
def test_uniform_numbers_are_uniform_on_the_simplex(coordinates: Coordinates) -> None:
    """A weight of a uniform point of a simplex of K has mean 1/K and variance (K-1) / (K² (K+1))."""
    random, count = np.random.default_rng(0), 5
    boxes = random.uniform(*BOUNDS[coordinates], (4000, size(coordinates, count)))
    weights = np.array([to_weights(coordinates, box, count) for box in boxes])
    np.testing.assert_allclose(weights.mean(axis=0), np.full(count, 0.2), atol=0.01)
    np.testing.assert_allclose(weights.var(axis=0), np.full(count, 4 / 150), rtol=0.1)
