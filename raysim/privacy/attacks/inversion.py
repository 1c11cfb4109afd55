"""Gradient inversion: samples from the gradient that they left in an update.

* Zhu, Liu & Han, "Deep Leakage from Gradients", NeurIPS 2019, equation 4: samples whose gradient is nearest to the
  one seen, by L-BFGS (`euclidean`).
* Geiping, Bauermeister, Dröge & Moeller, "Inverting Gradients", NeurIPS 2020, equation 4: samples whose gradient has
  the same direction, and little total variation, by Adam on signs (`cosine`).
* Phong et al., "Privacy-Preserving Deep Learning via Additively Homomorphic Encryption", 2018, section 3: the input of
  a linear layer with a bias is ∂L/∂W_c / ∂L/∂b_c, exactly, where one sample alone moves output c.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from raysim.arrays import Float64
from raysim.training import Loss

Matching = Literal["cosine", "euclidean"]


@dataclass(frozen=True, slots=True)
class Inversion:
    """What an attack made of a gradient.

    Attributes:
        x: samples, float32 `[n, *shape]`.
        distance: of their gradient from the one seen: squared distance, or 1 - cosine.
    """

    x: Tensor
    distance: float


def invert(
    model: nn.Module,
    loss: Loss,
    gradient: Sequence[Tensor],
    labels: Tensor,
    shape: tuple[int, ...],
    *,
    matching: Matching = "cosine",
    steps: int = 300,
    lr: float = 0.1,
    variation: float = 1e-4,
    seed: int = 0,
) -> Inversion:
    """Samples in [0, 1] whose mean gradient looks like the one seen.

    Args:
        model: at the weights that the gradient was taken at; it is not changed.
        loss: of (output, target), one value a sample.
        gradient: one tensor a trainable parameter.
        labels: of the samples, `[n]` (`counted_labels`).
        shape: of a sample.
        matching: how gradients are compared.
        steps: of the search.
        lr: its step size, with `cosine`.
        variation: weight of the total variation, with `cosine`.
        seed: of the first guess.
    """
    parameters = [one for one in model.parameters() if one.requires_grad]
    seen = [one.detach() for one in gradient]
    x = torch.rand((len(labels), *shape), generator=torch.Generator().manual_seed(seed)).requires_grad_()

    def distance() -> Tensor:
        found = torch.autograd.grad(loss(model(x), labels).mean(), parameters, create_graph=True)
        if matching == "euclidean":
            return torch.stack([(a - b).square().sum() for a, b in zip(found, seen, strict=True)]).sum()
        dot, own, other = (
            torch.stack([(a * b).sum() for a, b in zip(left, right, strict=True)]).sum()
            for left, right in ((found, seen), (found, found), (seen, seen))
        )
        return 1 - dot / (own * other).clamp(min=1e-30).sqrt()

    with torch.enable_grad():
        if matching == "euclidean":
            _by_lbfgs(x, distance, steps)
        else:
            _by_signs(x, distance, steps, lr, variation)
        return Inversion(x.detach().clamp(0, 1), float(distance().detach()))


def _by_lbfgs(x: Tensor, distance: Callable[[], Tensor], steps: int) -> None:
    optimizer = torch.optim.LBFGS([x], max_iter=steps, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        (x.grad,) = torch.autograd.grad(value := distance(), x)
        return value

    optimizer.step(closure)  # type: ignore[no-untyped-call]  # torch has no annotation there


def _by_signs(x: Tensor, distance: Callable[[], Tensor], steps: int, lr: float, variation: float) -> None:
    optimizer = torch.optim.Adam([x], lr)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        value = distance() + variation * total_variation(x)
        (grad,) = torch.autograd.grad(value, x)
        x.grad = grad.sign()
        optimizer.step()
        schedule.step()
        with torch.no_grad():
            x.clamp_(0, 1)


def total_variation(x: Tensor) -> Tensor:
    """The sum of the differences between neighbouring pixels of `[n, *, height, width]`; 0 of other samples."""
    if x.ndim < 3:
        return x.new_zeros(())
    return (x.diff(dim=-1).abs().sum() + x.diff(dim=-2).abs().sum()) / len(x)


def inputs_of_linear(weight: Tensor, bias: Tensor) -> Tensor:
    """Inputs of a linear layer from its gradient, a candidate for each output: `[outputs, inputs]`.

    Row c is exact where one sample alone has moved output c; else it is a mean over samples, weighted by how they did.

    Args:
        weight, bias: gradients of its parameters, `[outputs, inputs]` and `[outputs]`.
    """
    return weight / torch.where(bias == 0, torch.inf, bias)[:, None]


def counted_labels(bias: Tensor, prediction: Tensor, samples: int) -> Tensor:
    """Labels of a batch, `[samples]`, from the gradient of a softmax layer's bias: Σ (p - y) / n.

    Of a class with share p of the predictions, n (p_c - g_c) samples are expected (Wainakh et al., "User-Level Label
    Leakage from Gradients in Federated Learning", 2022); rounded to whole ones that add up.

    Args:
        bias: the gradient, `[classes]`.
        prediction: mean probabilities that the model gives the classes, `[classes]`.
        samples: n.
    """
    expected = (samples * (prediction - bias)).clamp(min=0).double()
    counts = expected.floor()
    missing = int(samples - counts.sum())
    order = torch.argsort(expected - counts, descending=True, stable=True)
    for place in range(abs(missing)):
        counts[order[place % len(order)] if missing > 0 else counts.argmax()] += 1 if missing > 0 else -1
    return torch.repeat_interleave(torch.arange(len(counts)), counts.long())


def matched(found: Tensor, originals: Tensor) -> tuple[Float64, Float64]:
    """Each original's place among the found samples and the mean squared error, `[n]` both, by the best assignment."""
    from scipy.optimize import linear_sum_assignment

    a, b = originals.flatten(1).double(), found.flatten(1).double()
    errors = torch.cdist(a, b).square().numpy() / a.shape[1]
    rows, places = linear_sum_assignment(errors)
    found_at = np.full(len(a), -1)
    found_at[rows] = places
    mse = np.full(len(a), np.nan)
    mse[rows] = errors[rows, places]
    return found_at, mse
