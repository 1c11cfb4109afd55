"""The server's algebra on pairs of LoRA: float64, on a single thread, so that its bits are the same everywhere."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from raysim import keyed
from raysim.algorithms.lora_pairs import LoraPair, part
from raysim.arrays import Float32, Float64
from raysim.training import torch_threads


@contextmanager
def single_thread() -> Iterator[None]:
    """One thread, and no gradients."""
    with torch_threads(1), torch.no_grad():
        yield


@dataclass(frozen=True, slots=True)
class Product:
    """A matrix `[d_out, d_in]` as left `[d_out, m]` times right `[m, d_in]`, plus a dense part where there is one."""

    left: Tensor
    right: Tensor
    dense: Tensor | None = None

    def matrix(self) -> Tensor:
        """All of it."""
        found = self.left @ self.right
        return found if self.dense is None else found + self.dense

    def plus(self, factor: float, left: Tensor, right: Tensor) -> Product:
        """With factor · left right added."""
        return Product(torch.cat([self.left, factor * left], 1), torch.cat([self.right, right]), self.dense)

    def times(self, factor: float) -> Product:
        """All of it times a factor."""
        return Product(factor * self.left, self.right, None if self.dense is None else factor * self.dense)

    def square(self) -> float:
        """The squared Frobenius norm."""
        small = self._core()[1] if self.dense is None else self.matrix()
        return float(small.square().sum())

    def leading(self, rank: int) -> tuple[Tensor, Tensor]:
        """The nearest matrix of a rank as factors A = Vᵀ `[r, d_in]` and B = U Σ `[d_out, r]`, largest values first.

        The largest element of each row of A, the first of several, is above 0, which makes the factors unique where the
        singular values are. Beyond the rank of the matrix's shape both are zero.
        """
        if self.dense is None:  # by the QR factors of what is narrow
            (outer, inner), core = self._core()
            left, values, right = torch.linalg.svd(core, full_matrices=False)
            left, right = outer @ left, right @ inner.T
        else:
            left, values, right = torch.linalg.svd(self.matrix(), full_matrices=False)
        held = min(rank, len(values))
        down, up = right.new_zeros(rank, right.shape[1]), left.new_zeros(left.shape[0], rank)
        largest = right[:held].abs().argmax(dim=1)
        signs = torch.where(right[torch.arange(held), largest] < 0, -1.0, 1.0).to(right.dtype)
        down[:held] = right[:held] * signs[:, None]
        up[:, :held] = left[:, :held] * (values[:held] * signs)
        return down, up

    def _core(self) -> tuple[tuple[Tensor, Tensor], Tensor]:
        """Orthonormal columns Q and P, and C with left right = Q C Pᵀ."""
        (outer, upper), (inner, lower) = torch.linalg.qr(self.left), torch.linalg.qr(self.right.T)
        return (outer, inner), upper @ lower.T


@dataclass(frozen=True, slots=True)
class PairMeans:
    """One pair before a round, and the clients' means after it; all float64.

    Attributes:
        down, up: A `[r, d_in]` and B `[d_out, r]`.
        mean_down, mean_up: Σ p_k A_k and Σ p_k B_k, padded with zeros where a client's rank is lower.
        product: Σ p_k B_k A_k.
    """

    pair: LoraPair
    down: Tensor
    up: Tensor
    mean_down: Tensor
    mean_up: Tensor
    product: Product

    def stepped(self, lr: float) -> Product:
        """The product that the pair is to have after a step of the server."""
        return self.product if lr == 1 else self.product.times(lr).plus(1 - lr, self.up, self.down)


Factors = Iterator[tuple[LoraPair, Tensor, Tensor, Tensor, Tensor]]


def from_sums(
    pairs: Sequence[LoraPair], model: Float32, update: Float64, coverage: Float64, product: Float64
) -> list[PairMeans]:
    """The pairs' means from sums alone.

    With A_k = C_k A + a_k and B_k = B C_k + b_k, where C_k keeps the parts that client k has, and C = Σ p_k C_k:
    Σ p_k B_k A_k = B Ā + (B̄ - B C) A + Σ p_k b_k a_k, for B C_k a_k = B a_k and b_k C_k A = b_k A.

    Args:
        model: broadcast, `[P]`.
        update: the mean of the clients' models less the broadcast one, `[P]`.
        coverage: C, `[r]`.
        product: Σ p_k b_k a_k of the updates, one pair after the other.
    """
    shares, flat = torch.from_numpy(coverage), torch.from_numpy(product)
    found, start = [], 0
    for pair, down, up, mean_down, mean_up in _factors(pairs, model, update):
        size = pair.outputs * pair.inputs
        of_updates = flat[start : start + size].view(pair.outputs, pair.inputs)
        start += size
        known = Product(up, mean_down, of_updates)
        found.append(
            PairMeans(pair, down, up, mean_down, mean_up, known.plus(1.0, mean_up - up * shares[: pair.rank], down))
        )
    return found


def from_rows(
    pairs: Sequence[LoraPair], model: Float32, update: Float64, present: Float32, updates: Mapping[str, Float32],
    weights: Float64,
) -> list[PairMeans]:  # fmt: skip
    """The pairs' means from what each client sent.

    Args:
        model, update: see `from_sums`.
        present: which parts of the largest rank clients have, `[k, r]`.
        updates: of each parameter of the pairs, by name, `[k, size]`.
        weights: p_k, `[k]`, summing to 1.
    """
    shares, found = torch.from_numpy(weights), []
    for pair, down, up, mean_down, mean_up in _factors(pairs, model, update):
        has = torch.from_numpy(present[:, : pair.rank].astype(np.float64))
        a, b = (
            torch.from_numpy(updates[one.name].astype(np.float64)).view(-1, *one.shape) for one in (pair.down, pair.up)
        )
        downs, ups = a + has[:, :, None] * down, (b + has[:, None, :] * up) * shares[:, None, None]
        stacked = Product(ups.permute(1, 0, 2).flatten(1), downs.flatten(0, 1))
        found.append(PairMeans(pair, down, up, mean_down, mean_up, stacked))
    return found


def _factors(pairs: Sequence[LoraPair], model: Float32, update: Float64) -> Factors:
    """Each pair with A, B, Ā and B̄."""
    before = torch.from_numpy(model.astype(np.float64))
    after = before + torch.from_numpy(update)
    for pair in pairs:
        yield pair, *pair.factors(before), *pair.factors(after)


def gap(means: Sequence[PairMeans]) -> Float64:
    """‖mean(B_k A_k) - mean(B_k) mean(A_k)‖ / ‖mean(B_k A_k)‖ over all pairs, `[1]`; 0 where nothing has a product."""
    lost = sum(one.product.plus(-1.0, one.mean_up, one.mean_down).square() for one in means)
    whole = sum(one.product.square() for one in means)
    return np.array([np.sqrt(lost / whole) if whole else 0.0])


def drawn_factor(pair: LoraPair, seed: int, number: int, place: int) -> Float64:
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
