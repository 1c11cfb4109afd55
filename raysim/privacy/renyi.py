"""Rényi divergences of noise that dp-accounting lacks, and what they are worth as (ε, δ).

Everything is an array over `ORDERS` α: the Rényi divergence of that order between the releases of two neighbouring
federations, at most. Divergences of several releases add up.
"""

from __future__ import annotations

from math import comb, log

import numpy as np

from raysim.aggregation.mechanism import IntegerNoise
from raysim.arrays import Float64

ORDERS: Float64 = np.array([*range(2, 65), 80, 96, 128, 192, 256], dtype=np.float64)
"""Whole orders, for which amplification by sampling is known for any mechanism."""


def gaussian(distance: float, orders: Float64 = ORDERS) -> Float64:
    """α μ² / 2 of Gaussian noise whose mean moves by μ standard deviations (Mironov 2017, proposition 7)."""
    return orders * distance**2 / 2


def skellam(noise: IntegerNoise, noise_multiplier: float, moved: float = 1.0) -> Float64:
    """Symmetric Skellam noise of variance μ (Agarwal, Kairouz & Liu, "The Skellam Mechanism for Differentially Private
    Federated Learning", NeurIPS 2021, theorem 3.5 and corollary 3.6).

    α Δ₂² / 2μ + min(((2α - 1) Δ₂² + 6 Δ₁) / 4μ², 3 Δ₁ / 2μ)

    Args:
        noise: with the norms Δ₁, Δ₂ of a client's contribution.
        noise_multiplier: √μ / Δ₂.
        moved: factor on both norms: 2 where one contribution is replaced by another.
    """
    variance = (noise_multiplier * noise.l2) ** 2
    l1, square = moved * noise.l1, (moved * noise.l2) ** 2
    more = np.minimum(((2 * ORDERS - 1) * square + 6 * l1) / (4 * variance**2), 3 * l1 / (2 * variance))
    found: Float64 = ORDERS * square / (2 * variance) + more
    return found


def discrete_gaussian(noise: IntegerNoise, noise_multiplier: float, moved: float = 1.0) -> Float64:
    """The sum of `shares` discrete Gaussians (Kairouz, Liu & Steinke, "The Distributed Discrete Gaussian Mechanism for
    Federated Learning with Secure Aggregation", ICML 2021, theorem 1): α ε² / 2 with

    ε = min(√(Δ₂² / σ² + τ d / 2), Δ₂ / σ + τ √d),   τ = 10 Σ_{0<k<n} exp(-2 π² (σ² / n) k / (k + 1))

    Args:
        noise: with the norm Δ₂ of a client's contribution, its values d, and the shares n.
        noise_multiplier: σ / Δ₂, of the sum.
        moved: factor on the norm: 2 where one contribution is replaced by another.
    """
    sigma, norm = noise_multiplier * noise.l2, moved * noise.l2
    k = np.arange(1, noise.shares)
    tau = 10 * float(np.exp(-2 * np.pi**2 * sigma**2 / noise.shares * k / (k + 1)).sum())
    joint = np.sqrt(norm**2 / sigma**2 + tau * noise.values / 2)
    return gaussian(min(float(joint), norm / sigma + tau * float(np.sqrt(noise.values))))


def poisson_sampled(divergences: Float64, rate: float) -> Float64:
    """Of a mechanism that sees every client with probability `rate` alone, for add-remove neighbours (Zhu & Wang,
    "Poisson Subsampled Rényi Differential Privacy", ICML 2019, theorem 5).

    Args:
        divergences: of the mechanism without sampling, at `ORDERS`.
        rate: q.
    """
    known = {int(order): float(value) for order, value in zip(ORDERS, divergences, strict=True)}

    def of(order: int) -> float:
        """At an order between those known, the divergence of the next one: it grows with the order."""
        return known[order] if order in known else known[min(one for one in known if one > order)]

    found = np.empty(len(ORDERS))
    for i, alpha in enumerate(ORDERS.astype(int).tolist()):
        first = (alpha - 1) * np.log1p(-rate) + log(alpha * rate - rate + 1)
        terms = [first, _term(alpha, 2, rate) + of(2)]
        terms += [log(3) + _term(alpha, count, rate) + (count - 1) * of(count) for count in range(3, alpha + 1)]
        found[i] = np.logaddexp.reduce(terms) / (alpha - 1)
    return np.minimum(found, divergences)


def _term(alpha: int, count: int, rate: float) -> float:
    """log of C(α, l) q^l (1 - q)^(α - l)."""
    return log(comb(alpha, count)) + count * log(rate) + (alpha - count) * float(np.log1p(-rate))


def epsilon(orders: Float64, divergences: Float64, delta: float) -> float:
    """The ε of divergences at δ: the least of d + log((α - 1) / α) - (log δ + log α) / (α - 1) over the orders.

    Canonne, Kamath & Steinke 2020, proposition 12; Balle et al. 2020.
    """
    found = divergences + np.log1p(-1 / orders) - (np.log(delta) + np.log(orders)) / (orders - 1)
    return max(float(np.min(found[orders > 1])), 0.0)


def legacy_epsilon(orders: Float64, divergences: Float64, delta: float) -> float:
    """The ε that papers of 2016 to 2020 report: the least of d + log(1 / δ) / (α - 1) (Abadi et al. 2016; Mironov 2017,
    proposition 3)."""
    return float(np.min((divergences + np.log(1 / delta) / (orders - 1))[orders > 1]))
