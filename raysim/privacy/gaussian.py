"""Gaussian noise, exactly: what a release is worth whose mean moves by μ standard deviations.

Several Gaussian releases are one with μ² = Σ μᵢ², also where each depends on those before it.
"""

from __future__ import annotations

from math import exp, inf, log, log1p, sqrt

from raysim.privacy.searching import smallest


def log_delta(distance: float, epsilon: float) -> float:
    """log δ(ε) = log(Φ(μ/2 - ε/μ) - e^ε Φ(-μ/2 - ε/μ)) (Balle & Wang, "Improving the Gaussian Mechanism for
    Differential Privacy", ICML 2018, theorem 8).

    Args:
        distance: μ > 0.
        epsilon: at least 0.
    """
    from scipy.special import log_ndtr

    kept = float(log_ndtr(distance / 2 - epsilon / distance))
    taken = epsilon + float(log_ndtr(-distance / 2 - epsilon / distance))
    return kept + log1p(-exp(taken - kept)) if taken < kept else -inf


def gaussian_epsilon(distance: float, delta: float) -> float:
    """The least ε at δ of a release whose mean moves by μ = `distance` standard deviations; 0 for none."""
    if distance == 0 or log_delta(distance, 0.0) <= log(delta):
        return 0.0
    enough = distance**2 / 2 + distance * sqrt(2 * log(1 / delta))  # by way of zCDP (Bun & Steinke 2016)
    return smallest(lambda epsilon: log_delta(distance, epsilon) <= log(delta), 0.0, enough)


def gaussian_epsilon_of_zcdp(rho: float, delta: float) -> float:
    """The least ε at δ of Gaussian noise that is ρ-zCDP: μ = √(2ρ)."""
    return gaussian_epsilon(sqrt(2 * rho), delta)


def zcdp_delta(rho: float, epsilon: float) -> float:
    """A δ at ε of *any* ρ-zCDP mechanism: the least of exp((α - 1)(αρ - ε)) / (α - 1) · (1 - 1/α)^α over α > 1.

    Canonne, Kamath & Steinke, "The Discrete Gaussian for Differential Privacy", NeurIPS 2020, corollary 13.
    """
    if rho == 0:
        return 0.0
    low, high = 1.01, (epsilon + 1) / (2 * rho) + 2
    for _ in range(200):  # the slope of the logarithm in α: (2α - 1)ρ - ε + log1p(-1/α)
        middle = (low + high) / 2
        low, high = (middle, high) if (2 * middle - 1) * rho - epsilon + log1p(-1 / middle) < 0 else (low, middle)
    found = exp((high - 1) * (high * rho - epsilon) + high * log1p(-1 / high)) / (high - 1)
    return min(found, 1.0)


def zcdp_epsilon(rho: float, delta: float) -> float:
    """The least ε at δ that holds for any ρ-zCDP mechanism."""
    if zcdp_delta(rho, 0.0) <= delta:
        return 0.0
    return smallest(lambda epsilon: zcdp_delta(rho, epsilon) <= delta, 0.0, rho + 1.0)
