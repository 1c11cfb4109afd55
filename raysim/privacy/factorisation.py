"""Matrix factorisations for noise that is correlated over rounds: A = (A C⁻¹) C, with A the prefix sums.

Each C is lower triangular and Toeplitz, given by its first column c (c₀ = 1), its *coefficients*. The rounds' sums X
with noise C⁻¹Z are C⁻¹(C X + Z), and C X + Z is one Gaussian mechanism, whose sensitivity is that of C to all
contributions of a client.

* Banded square root (BSR): Kalinin & Lampert, "Banded Square Root Matrix Factorization for Differentially Private Model
  Training", NeurIPS 2024.
* Buffered linear Toeplitz (BLT): Dvijotham, McMahan, Pillutla, Steinke & Thakurta, "Efficient and Near-Optimal Noise
  Generation for Streaming Differential Privacy", FOCS 2024; McMahan, Xu & Zhang, "A Hassle-free Algorithm for
  Private Learning in Practice: Don't Use Tree Aggregation, Use BLTs", 2024.
"""

from __future__ import annotations

import numpy as np

from raysim.arrays import Float64


def square_root(rounds: int) -> Float64:
    """Coefficients `[rounds]` of C = A^(1/2): c₀ = 1, cₖ = cₖ₋₁ (2k - 1) / 2k (Henzinger et al. 2022; Fichtenberger et
    al. 2023)."""
    k = np.arange(1, rounds)
    found: Float64 = np.concatenate([[1.0], np.cumprod((2 * k - 1) / (2 * k))])
    return found


def banded_square_root(bands: int) -> Float64:
    """Coefficients `[bands]` of the banded square root: those of the square root, zero from `bands` on."""
    return square_root(bands)


def blt_coefficients(output_scale: Float64, buf_decay: Float64, rounds: int) -> Float64:
    """Coefficients `[rounds]` of a BLT: 1, then cᵢ = Σⱼ ωⱼ θⱼ^(i-1).

    Args:
        output_scale: ω, `[buffers]`.
        buf_decay: θ, `[buffers]`.
    """
    powers = np.asarray(buf_decay)[:, None] ** np.arange(rounds - 1)
    found: Float64 = np.concatenate([[1.0], np.asarray(output_scale) @ powers])
    return found


def inverse(coefficients: Float64, rounds: int) -> Float64:
    """Coefficients `[rounds]` of C⁻¹: how much of each of the last draws is in a round's noise.

    A round's noise is ẑₜ = zₜ - Σ_{0<j<bands} cⱼ ẑₜ₋ⱼ, so that bands - 1 vectors are kept. A BLT keeps a vector sᵢ a
    buffer instead: ẑₜ = zₜ - Σᵢ ωᵢ sᵢ, then sᵢ ← θᵢ sᵢ + ẑₜ.
    """
    found = np.zeros(rounds)
    found[0] = 1.0 / coefficients[0]
    for t in range(1, rounds):
        last = min(t, len(coefficients) - 1)
        found[t] = -np.dot(coefficients[1 : last + 1], found[t - last : t][::-1]) / coefficients[0]
    return found


def sensitivity(coefficients: Float64, rounds: int, separation: int = 1, most: int | None = None) -> float:
    """The L2 sensitivity of C to a client that contributes a vector of norm 1 at most, several times.

    The norm of the sum of the columns 0, b, 2b, … of C: the worst pattern where coefficients neither are negative nor
    grow (Kalinin & Lampert 2024, theorem 2).

    Args:
        coefficients: the first column of C; zero beyond its length.
        rounds: rows of C.
        separation: rounds b from one participation to the next, at least.
        most: participations, at most; by default as many as the separation allows.

    Raises:
        ValueError: a coefficient is negative, or larger than the one before it.
    """
    column = np.zeros(rounds)
    used = min(rounds, len(coefficients))
    column[:used] = coefficients[:used]
    if (column < 0).any() or (np.diff(column) > 1e-12).any():
        raise ValueError("the coefficients are negative or grow; expected 0 <= c[i + 1] <= c[i]")
    allowed = 1 + (rounds - 1) // separation
    total = np.zeros(rounds)
    for i in range(allowed if most is None else min(most, allowed)):
        total[i * separation :] += column[: rounds - i * separation]
    return float(np.linalg.norm(total))


def root_mean_square_error(coefficients: Float64, rounds: int) -> float:
    """Root of the mean squared error of the prefix sums, for noise Z of standard deviation 1: ‖A C⁻¹‖_F / √rounds."""
    prefix = np.cumsum(inverse(coefficients, rounds))  # A C⁻¹ is Toeplitz, too
    return float(np.sqrt(np.sum(np.arange(rounds, 0, -1) * prefix**2) / rounds))


def largest_error(coefficients: Float64, rounds: int) -> float:
    """The largest standard deviation of a prefix sum, for noise Z of standard deviation 1: that of the last round."""
    return float(np.linalg.norm(np.cumsum(inverse(coefficients, rounds))))


def tree_sensitivity(rounds: int, separation: int = 1, most: int | None = None, restart: int | None = None) -> float:
    """An upper bound of the L2 sensitivity of binary trees of sums to a client that contributes several times.

    Each node of a tree adds noise to the sum of its rounds. A node of 2^j rounds holds at most c = ⌈2^j / b⌉ of a
    client's contributions, so that the squares of all nodes of a level sum to at most k · min(c, k); exact for one
    participation (Kairouz et al., "Practical and Private (Deep) Learning without Sampling or Shuffling", ICML 2021,
    appendix D).

    Args:
        rounds: so far.
        separation: rounds b from one participation to the next, at least.
        most: participations k, at most; by default as many as the separation allows.
        restart: rounds of a tree, after which another begins; by default one tree has all.
    """
    allowed = 1 + (rounds - 1) // separation
    k = allowed if most is None else min(most, allowed)
    levels = min(rounds, rounds if restart is None else restart).bit_length()
    return float(np.sqrt(sum(k * min(k, -(-(2**j) // separation)) for j in range(levels))))
