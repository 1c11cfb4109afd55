"""The gradient of one client's loss as a function of tensors, vectorised over clients."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.func import functional_call, vjp, vmap

from raysim.training.capture import CannotCapture, Vectorised
from raysim.training.engine import in_bf16
from raysim.training.examples import clipped
from raysim.training.features import FeatureTerm
from raysim.training.layout import ParameterLayout
from raysim.training.losses import ClientLoss, Loss, element_weight


def gradient_of(
    module: nn.Module, layout: ParameterLayout, loss: Loss | ClientLoss, features: FeatureTerm | None = None,
    *, bf16: bool = False, clip: float | None = None,
) -> Vectorised:  # fmt: skip
    """A function to be captured: of the values of k clients' segments, of those of the other models that their
    representations are compared with, and of x, y, share (what each target counts) and the clients' context, if the
    loss is told one, each `[k, …]`, to gradients of the parameters and losses `[k]`.

    Args:
        clip: clips the gradient of each sample to this norm; then gradients and losses are sums over samples, of which
            those with a share of zero add nothing.

    Raises:
        CannotCapture: when it is called, if the forward pass changes a buffer.
    """
    names = [segment.name for segment in layout.segments]
    parameters = len(layout.parameters)

    def elements_of(
        values: Sequence[Tensor], buffers: Sequence[Tensor], peers: Sequence[Tensor], x: Tensor, y: Tensor,
        context: Sequence[Tensor],
    ) -> Tensor:  # fmt: skip
        given = dict(zip(names, (*values, *buffers), strict=True))
        used = dict(given)
        forward = partial(functional_call, module, used)
        elements = loss(in_bf16(forward, x) if bf16 else forward(x), y, *context)
        if elements.ndim == 0:
            raise CannotCapture("its loss is one number a batch, and batches in rows are filled up")
        changed = [name for name in names if used[name] is not given[name]]
        if changed:
            raise CannotCapture(f"its forward pass changes {changed[0]!r}")
        if features is not None:
            starts = range(0, len(peers), len(names))
            others = [dict(zip(names, peers[start : start + len(names)], strict=True)) for start in starts]
            elements = elements + features.penalty(x, others, bf16=bf16).view(-1, *(1,) * (elements.ndim - 1))
        return elements

    def of_one(
        values: Sequence[Tensor], others: Sequence[Sequence[Tensor]], x: Tensor, y: Tensor, share: Tensor,
        *context: Tensor,
    ) -> tuple[Tensor, ...]:  # fmt: skip
        buffers, peers = others
        given = partial(elements_of, buffers=buffers, peers=peers, x=x, y=y, context=context)
        elements, pull_back = vjp(given, values)[:2]
        weight = element_weight(elements, share)
        if elements.numel() != share.numel():  # one loss for all targets of a sample
            weight = weight * (share.numel() / elements.numel())
        (grads,) = pull_back(weight)
        return (*grads, (weight * elements).sum())

    def of_samples(
        values: Sequence[Tensor], others: Sequence[Sequence[Tensor]], x: Tensor, y: Tensor, share: Tensor,
        *context: Tensor,
    ) -> tuple[Tensor, ...]:  # fmt: skip
        assert clip is not None, "samples are clipped one by one"

        def of_sample(*sample: Tensor) -> tuple[Tensor, ...]:
            *grads, loss = of_one(values, others, *(one.unsqueeze(0) for one in sample), *context)
            return (*clipped(grads, clip), torch.where(loss.isfinite(), loss, 0.0))

        each: Callable[..., tuple[Tensor, ...]] = vmap(of_sample, randomness="error")
        return tuple(one.sum(0) for one in each(x, y, share))

    def function(*arguments: Tensor) -> tuple[Tensor, ...]:
        models = len(names) * (1 if features is None else 1 + features.peers)
        values, others = arguments[:parameters], (arguments[parameters : len(names)], arguments[len(names) : models])
        vectorised: Callable[..., tuple[Tensor, ...]] = vmap(of_one if clip is None else of_samples, randomness="error")
        return vectorised(values, others, *arguments[models:])

    return function
