"""Factorisations against matrices written out, and against published figures."""

from __future__ import annotations

from itertools import combinations, pairwise

import numpy as np
import pytest
import scipy.linalg

from raysim.arrays import Float64
from raysim.privacy.factorisation import (
    banded_square_root,
    blt_coefficients,
    inverse,
    largest_error,
    root_mean_square_error,
    sensitivity,
    square_root,
)


def toeplitz(coefficients: Float64, rounds: int) -> Float64:
    column = np.zeros(rounds)
    column[: min(rounds, len(coefficients))] = coefficients[:rounds]
    return np.tril(scipy.linalg.toeplitz(column))


def test_the_square_root_of_the_prefix_sums_squares_to_them() -> None:
    root = toeplitz(square_root(30), 30)
    np.testing.assert_allclose(root @ root, np.tril(np.ones((30, 30))), atol=1e-12)


@pytest.mark.parametrize("coefficients", [banded_square_root(4), blt_coefficients([0.1, 0.3], [0.95, 0.5], 12)])
def test_inverse_errors_and_sensitivity_are_those_of_the_matrices(coefficients: Float64) -> None:
    rounds = 12
    strategy = toeplitz(coefficients, rounds)
    np.testing.assert_allclose(toeplitz(inverse(coefficients, rounds), rounds) @ strategy, np.eye(rounds), atol=1e-12)
    decoder = np.tril(np.ones((rounds, rounds))) @ np.linalg.inv(strategy)
    assert root_mean_square_error(coefficients, rounds) == pytest.approx(np.linalg.norm(decoder) / np.sqrt(rounds))
    assert largest_error(coefficients, rounds) == pytest.approx(np.linalg.norm(decoder, axis=1).max())
    for separation, most in ((1, 3), (3, 4), (4, 2)):
        patterns = (
            chosen
            for chosen in combinations(range(rounds), most)
            if all(later - earlier >= separation for earlier, later in pairwise(chosen))
        )
        worst = max(float(np.linalg.norm(strategy[:, list(chosen)].sum(axis=1))) for chosen in patterns)
        assert sensitivity(coefficients, rounds, separation, most) == pytest.approx(worst)


def test_streams_of_noise_need_bands_less_one_vectors_or_one_a_buffer() -> None:
    rounds, draws = 20, np.random.default_rng(3).normal(size=20)
    scale, decay = np.array([0.2, 0.1]), np.array([0.9, 0.4])
    buffers, streamed = np.zeros(2), []
    for draw in draws:
        streamed.append(draw - scale @ buffers)
        buffers = decay * buffers + streamed[-1]
    expected = toeplitz(inverse(blt_coefficients(scale, decay, rounds), rounds), rounds) @ draws
    np.testing.assert_allclose(streamed, expected, atol=1e-12)
    banded = banded_square_root(5)
    kept: list[float] = []
    for draw in draws:
        last = kept[-4:][::-1]
        kept.append(float(draw - banded[1 : len(last) + 1] @ last))
    np.testing.assert_allclose(kept, toeplitz(inverse(banded, rounds), rounds) @ draws, atol=1e-12)


@pytest.mark.parametrize(("participations", "separation", "published"), [(4, 50, 5.44), (10, 20, 10.36)])
def test_the_banded_square_root_has_the_published_error(participations: int, separation: int, published: float) -> None:
    """Kalinin & Lampert 2024: n = 200, as many bands as the separation."""
    coefficients = banded_square_root(separation)
    found = root_mean_square_error(coefficients, 200) * sensitivity(coefficients, 200, separation, participations)
    assert round(found, 2) == published


def test_coefficients_that_grow_are_refused() -> None:
    with pytest.raises(ValueError, match="negative or grow"):
        sensitivity(np.array([1.0, 0.5, 0.6]), 5)
