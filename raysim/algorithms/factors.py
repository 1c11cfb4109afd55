"""The server's algebra on pairs of LoRA, in float64 and on one thread, so that its bits are the same everywhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from raysim import keyed
from raysim.algorithms.lora_pairs import LoraPair, part
from raysim.arrays import Float32, Float64
from raysim.training import torch_threads


@dataclass(frozen=True, slots=True)
class PairMeans:
    """One pair before a round, and the clients' means after it; all float64.

    Attributes:
        down, up: A `[r, d_in]` and B `[d_out, r]`.
        mean_down, mean_up: Σ p_k A_k and Σ p_k B_k, padded with zeros where a client's rank is lower.
        mean_product: Σ p_k B_k A_k, `[d_out, d_in]`.
    """

    pair: LoraPair
    down: Tensor
    up: Tensor
    mean_down: Tensor
    mean_up: Tensor
    mean_product: Tensor

    def product(self, lr: float) -> Tensor:
        """The product that the pair is to have after a step of the server."""
        before = self.up @ self.down
        return before + lr * (self.mean_product - before)


def pair_means(
    pairs: Sequence[LoraPair], model: Float32, moved: Float64, coverage: Float64, product: Float64
) -> list[PairMeans]:
    """What the pairs' means are, from sums alone.

    With A_k = C_k A + a_k and B_k = B C_k + b_k, where C_k keeps the parts that client k has, and C = Σ p_k C_k:
    Σ p_k B_k A_k = B Ā + B̄ A - B C A + Σ p_k b_k a_k, for B C_k a_k = B a_k and b_k C_k A = b_k A.

    Args:
        model: broadcast, `[P]`.
        moved: of the mean of the clients' models, `[P]`.
        coverage: C, `[r]`.
        product: Σ p_k b_k a_k of the updates, one pair after the other.
    """
    before = torch.from_numpy(model.astype(np.float64))
    after, shares, flat = before + torch.from_numpy(moved), torch.from_numpy(coverage), torch.from_numpy(product)
    found, start = [], 0
    with torch_threads(1), torch.no_grad():
        for pair in pairs:
            (down, up), (mean_down, mean_up) = pair.factors(before), pair.factors(after)
            of_updates = flat[start : start + pair.outputs * pair.inputs].view(pair.outputs, pair.inputs)
            start += pair.outputs * pair.inputs
            known = up * shares[: pair.rank] @ down
            mean_product = up @ mean_down + mean_up @ down - known + of_updates
            found.append(PairMeans(pair, down, up, mean_down, mean_up, mean_product))
    return found


def gap(means: Sequence[PairMeans]) -> Float64:
    """‖mean(B_k A_k) - mean(B_k) mean(A_k)‖ / ‖mean(B_k A_k)‖ over all pairs, `[1]`; 0 where nothing has a product."""
    with torch_threads(1), torch.no_grad():
        lost = sum(float((one.mean_product - one.mean_up @ one.mean_down).square().sum()) for one in means)
        whole = sum(float(one.mean_product.square().sum()) for one in means)
    return np.array([np.sqrt(lost / whole) if whole else 0.0])


def leading(matrix: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """The nearest matrix of a rank as factors: A = Vᵀ `[r, d_in]`, B = U Σ `[d_out, r]`, by falling singular values.

    The largest element of each row of A, the first of several, is above 0, which makes the factors unique where the
    singular values are. Beyond the rank of the matrix's shape both are zero.
    """
    with torch_threads(1), torch.no_grad():
        left, values, right = torch.linalg.svd(matrix, full_matrices=False)
        held = min(rank, len(values))
        down, up = matrix.new_zeros(rank, matrix.shape[1]), matrix.new_zeros(matrix.shape[0], rank)
        largest = right[:held].abs().argmax(dim=1)
        signs = torch.where(right[torch.arange(held), largest] < 0, -1.0, 1.0).to(matrix.dtype)
        down[:held] = right[:held] * signs[:, None]
        up[:, :held] = left[:, :held] * (values[:held] * signs)
    return down, up


def fresh(pair: LoraPair, seed: int, number: int, place: int) -> Float64:
    """A new A `[r, d_in]`, uniform in ±1/√d_in as in peft, keyed by the step of the server and the pair's place."""
    bound = 1 / np.sqrt(pair.inputs)
    generator = keyed.generator(seed, keyed.Purpose.ADAPTERS, number, place)
    return generator.uniform(-bound, bound, (pair.rank, pair.inputs))


def write(row: Float32, pair: LoraPair, *, down: Tensor | None = None, up: Tensor | None = None) -> None:
    """Put factors into a model `[P]`, in place."""
    place = torch.from_numpy(row)
    for segment, values in ((pair.down, down), (pair.up, up)):
        if values is not None:
            part(place, segment).copy_(values)


def write_residual(row: Float32, pair: LoraPair, values: Tensor) -> None:
    """Put a version of the base into a model `[P]`, in place."""
    assert pair.residual is not None, "the model was built with versions"
    part(torch.from_numpy(row), pair.residual).copy_(values)
