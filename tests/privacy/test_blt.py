"""Optimal BLTs: published parameters, and that no neighbour is better."""

from __future__ import annotations

import numpy as np
import pytest

from raysim.errors import ConfigError
from raysim.privacy.blt import BltError, optimal_blt
from raysim.privacy.factorisation import blt_coefficients, largest_error, root_mean_square_error, sensitivity


def test_the_published_parameters_for_one_participation() -> None:
    """google-deepmind/jax_privacy, buffered_toeplitz_test.py: n = 100,000, 2 buffers, largest error."""
    found = optimal_blt(100_000, 2)
    np.testing.assert_allclose(found.output_scale, [0.0122853238, 0.1878393665], rtol=1e-7)
    np.testing.assert_allclose(found.buf_decay, [0.9999528892, 0.9857068667], rtol=1e-9)


def test_the_published_parameters_for_several_participations() -> None:
    """The same file names them for n = 1,000 and 2 participations; they are those of n = 500, 4 participations and the
    mean error, and not the best for what it names."""
    published = [0.10595704738], [0.98770275595]
    found = optimal_blt(500, 1, separation=5, most=4, error="mean")
    np.testing.assert_allclose(found.output_scale, published[0], rtol=1e-6)
    np.testing.assert_allclose(found.buf_decay, published[1], rtol=1e-9)
    named = optimal_blt(1000, 1, separation=5, most=2)
    ours, theirs = (blt_coefficients(np.array(a), np.array(b), 1000) for a, b in (
        (named.output_scale, named.buf_decay), published,
    ))  # fmt: skip
    loss = [largest_error(one, 1000) * sensitivity(one, 1000, 5, 2) for one in (ours, theirs)]
    assert [round(one, 3) for one in loss] == [6.870, 7.983]


@pytest.mark.parametrize("error", ["largest", "mean"])
def test_no_neighbour_is_better(error: BltError) -> None:
    rounds, separation, most = 100, 50, 2 if error == "largest" else 1

    def loss(scale: list[float], decay: list[float]) -> float:
        one = blt_coefficients(np.array(scale), np.array(decay), rounds)
        size = largest_error(one, rounds) if error == "largest" else root_mean_square_error(one, rounds)
        return size * sensitivity(one, rounds, separation, most)

    found = optimal_blt(rounds, 2, separation, most, error)
    best = loss(list(found.output_scale), list(found.buf_decay))
    for i in range(4):
        for change in (-1e-3, 1e-3):
            point = [*found.output_scale, *found.buf_decay]
            point[i] *= 1 + change
            assert loss(point[:2], point[2:]) > best


def test_a_buffer_that_gains_nothing_is_left_out() -> None:
    found = optimal_blt(200, 2, separation=50, most=4, error="mean")
    assert len(found.output_scale) == len(found.buf_decay) == 1


def test_two_rounds_have_independent_noise() -> None:
    found = optimal_blt(2, 3)
    assert blt_coefficients(np.array(found.output_scale), np.array(found.buf_decay), 2).tolist() == [1, 0]


def test_where_nothing_is_to_be_gained_it_is_said() -> None:
    with pytest.raises(ConfigError, match="gains nothing over 10 rounds in which a client may take part 10 times"):
        optimal_blt(10, 2, separation=1, most=10)
