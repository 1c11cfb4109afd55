"""The buffered linear Toeplitz matrix (BLT) of least error for a run.

Its generating function is rational, 1 + Σ ωᵢ x / (1 - θᵢ x) = Π (1 - θ̂ⱼ x) / Π (1 - θⱼ x), and that of its inverse the
other way round, so that both are known by θ and θ̂ (Dvijotham et al. 2024, lemma 5.2). Good ones have
1 > θ₁ > θ̂₁ > θ₂ > θ̂₂ > … > 0, which the search keeps to (McMahan & Pillutla, "An Inversion Theorem for Buffered Linear
Toeplitz Matrices", 2025, theorem 1).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from raysim.arrays import Float64
from raysim.errors import ConfigError

BltError = Literal["largest", "mean"]
"""The variance of the last prefix sum, which is the largest, or the mean over all of them."""

_STEPS = 60
"""Steps of Newton's method at most, after a first search."""
_NEGLIGIBLE = 1e-9
"""A buffer of this scale changes no digit of the error."""


@dataclass(frozen=True, slots=True)
class Blt:
    """A BLT by its parameters, the buffer that forgets least first.

    Attributes:
        output_scale: ω, `[buffers]`.
        buf_decay: θ, `[buffers]`.
    """

    output_scale: tuple[float, ...]
    buf_decay: tuple[float, ...]


def optimal_blt(rounds: int, buffers: int, separation: int = 1, most: int = 1, error: BltError = "largest") -> Blt:
    """The BLT whose error times sensitivity over a run is least; over one or two rounds independent noise.

    Args:
        rounds: of the run, n.
        buffers: vectors of the model's size that the noise needs, at most: those that gain nothing are left out.
        separation: rounds from one participation of a client to the next, at least.
        most: participations of a client, at most.
        error: what of the errors counts.

    Raises:
        ConfigError: there is nothing to gain, since a client takes part in every round, or there are too many buffers
            for so few rounds.
    """
    allowed = min(most, 1 + (rounds - 1) // separation)
    if rounds < 3:
        return Blt((0.0,), (0.0,))
    if separation == 1 and allowed == rounds:
        raise ConfigError(
            f"correlated noise gains nothing over {rounds} rounds in which a client may take part {allowed} times; use "
            "independent noise, or another selection"
        )

    def loss(point: Tensor) -> Tensor:
        decay, inverse_decay = _decays(point)
        return _error(inverse_decay, decay, rounds, error) + _sensitivity(
            decay, inverse_decay, rounds, separation, allowed
        )

    point = torch.log(torch.full((2 * buffers,), np.log(2.0 * rounds) / (2 * buffers), dtype=torch.float64))
    with torch.enable_grad():
        point = _newton(loss, _first_search(loss, point))
        decay, inverse_decay = _decays(point)
    scale = _scales(decay, inverse_decay)
    used = scale > _NEGLIGIBLE
    found = Blt(tuple(scale[used].tolist()), tuple(decay[used].tolist()))
    if not (np.isfinite(scale.numpy()).all() and float(scale.sum()) <= 1):
        raise ConfigError(f"no buffered Toeplitz matrix of {buffers} buffers was found for {rounds} rounds; use fewer")
    return found


def _decays(point: Tensor) -> tuple[Tensor, Tensor]:
    """θ and θ̂ `[buffers]`, interlaced, of an unbounded point `[2 buffers]`: the gaps of -log(1 - θ), as logarithms."""
    depth = torch.cumsum(point.exp().flip(0), 0).flip(0)
    decays = -torch.expm1(-depth)
    return decays[0::2], decays[1::2]


def _scales(decay: Tensor, inverse_decay: Tensor) -> Tensor:
    """ωᵢ = Πⱼ (θᵢ - θ̂ⱼ) / Πⱼ≠ᵢ (θᵢ - θⱼ), `[buffers]`; negative where the two change places."""
    numerators = (decay[:, None] - inverse_decay).prod(1)
    gaps = decay[:, None] - decay + torch.eye(len(decay), dtype=decay.dtype)
    return numerators / gaps.prod(1)


def _coefficients(decay: Tensor, other: Tensor, rounds: int) -> Tensor:
    """The first column `[rounds]` of the matrix with these decays, whose inverse has the others."""
    powers = torch.exp(torch.log(decay)[:, None] * torch.arange(rounds - 1, dtype=torch.float64))
    return torch.cat([torch.ones(1, dtype=torch.float64), _scales(decay, other) @ powers])


def _error(inverse_decay: Tensor, decay: Tensor, rounds: int, error: BltError) -> Tensor:
    """The logarithm of the variance of the prefix sums (see `raysim.privacy.factorisation`)."""
    squares = torch.cumsum(_coefficients(inverse_decay, decay, rounds), 0).square()
    if error == "mean":
        squares = squares * torch.arange(rounds, 0, -1, dtype=torch.float64) / rounds
    return squares.sum().log()


def _sensitivity(decay: Tensor, inverse_decay: Tensor, rounds: int, separation: int, most: int) -> Tensor:
    """The logarithm of the squared sensitivity (see `raysim.privacy.factorisation.sensitivity`)."""
    column = _coefficients(decay, inverse_decay, rounds)
    total = column
    for i in range(1, most):
        start = i * separation
        total = total + torch.cat([torch.zeros(start, dtype=torch.float64), column[: rounds - start]])
    return total.square().sum().log()


def _first_search(loss: Callable[[Tensor], Tensor], point: Tensor) -> Tensor:
    """Near the minimum, by a quasi-Newton method from any start."""
    from scipy.optimize import minimize

    def value(at: Float64) -> tuple[float, Float64]:
        where = torch.tensor(at, requires_grad=True)
        found = loss(where)
        (slope,) = torch.autograd.grad(found, where)
        return float(found.detach()), slope.numpy()

    return torch.from_numpy(minimize(value, point.numpy(), jac=True, method="L-BFGS-B").x)


def _newton(loss: Callable[[Tensor], Tensor], point: Tensor) -> Tensor:
    """The minimum to the last digits."""
    for _ in range(_STEPS):
        where = point.clone().requires_grad_()
        (slope,) = torch.autograd.grad(loss(where), where)
        curvature = torch.autograd.functional.hessian(loss, point)  # type: ignore[no-untyped-call]  # torch has no annotation there
        values, directions = torch.linalg.eigh(curvature)
        step = directions @ ((directions.T @ slope) / values.abs().clamp(min=1e-9))
        length = float(step.abs().max())
        point = point - step * min(1.0, 0.5 / length) if length > 0 else point
        if length < 1e-12:
            break
    return point.detach()
