"""Inversion of updates: samples of one client from its message, or from the models that are published."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from raysim.arrays import Float32, Float64, Int64
from raysim.attacking.membership import sample_tensors
from raysim.attacking.messages import change, check_seen, message, without_noise
from raysim.errors import RunError
from raysim.privacy.attacks import counted_labels, inputs_of_linear, invert, matched
from raysim.replaying import Replay, Say
from raysim.training import ParameterLayout, resolve_loss

Method = Literal["cosine", "euclidean", "linear"]
Sees = Literal["message", "model"]


@dataclass(frozen=True, slots=True)
class InvertedUpdate:
    """Samples that were reconstructed from one client's message, beside its own.

    Attributes:
        sees: what the attacker has: the client's message, or the models before and after the round.
        samples, steps: of the client in that round.
        labels: that the attack worked with, int64 `[n]`.
        found: reconstructed, float32 `[n, *shape]`, each at the place of the original that it is most like.
        originals: `[n, *shape]`.
        error: mean squared error of each pair, `[n]`.
        guess: mean squared error of the best constant guess, the mean over the originals: what no attack needs.
        unprotected: reconstructed from what the client would have sent without clips and noise, `[n, *shape]`; None
            where the client adds no noise, or its message cannot be computed without it.
    """

    client: int
    round: int
    method: Method
    sees: Sees
    samples: int
    steps: int
    labels: Int64
    found: Tensor
    originals: Tensor
    error: Float64
    guess: float
    unprotected: Tensor | None = None

    @property
    def psnr(self) -> Float64:
        """Peak signal-to-noise ratio of each pair in decibels, for values in [0, 1]."""
        found: Float64 = -10 * np.log10(np.maximum(self.error, 1e-12))
        return found

    @property
    def unprotected_error(self) -> float | None:
        """Mean squared error without protection."""
        return None if self.unprotected is None else float((self.unprotected - self.originals).square().mean())

    def facts(self) -> dict[str, Any]:
        """For programs."""
        bare = self.unprotected_error
        return {
            "client": self.client, "round": self.round, "method": self.method, "sees": self.sees,
            "samples": self.samples, "steps": self.steps, "reconstructed": len(self.error),
            "error": self.error.tolist(), "psnr": self.psnr.tolist(), "mean_error": float(self.error.mean()),
            "guess_error": self.guess, **({} if bare is None else {"unprotected_error": bare}),
        }  # fmt: skip


def invert_update(
    run: str | Path,
    *,
    client: int,
    round: int,
    method: Method = "cosine",
    sees: Sees = "message",
    most: int = 8,
    steps: int = 300,
    model: nn.Module | None = None,
    data: Any = None,
    tell: Say = lambda text: None,
) -> InvertedUpdate:
    """Reconstruct samples from the message that a client sent in a round.

    Its update is taken for one step along the mean gradient of its samples. With several local steps, other samples of
    the batch and noise that is less and less true, and the attack is the weaker. Where the client itself adds noise,
    its message without clips and noise is attacked as well.

    Args:
        run: the run directory.
        method: `cosine` and `euclidean` search for samples whose gradient is like the update; `linear` divides the
            gradients of a first linear layer, at once.
        sees: `message` is what the server receives of the client; `model` is what everybody sees: by how much the
            model changed in the round, with all the cohort and the server's noise in it.
        most: samples to reconstruct, at most.
        steps: of the search.
        model: the module that the run was started with, if it was handed over.
        data: the arrays that the run was started with, if they were handed over.
        tell: is told what is being done, a line at a time.

    Raises:
        RunError: there is no such client in such a round, its message was not seen by anyone, or the attack is not
            for such samples or such a model.
    """
    replay = Replay(run, model=model, data=data)
    task = replay.before(round, client, tell)
    prepared, info = replay.prepared, replay.prepared.info
    if sees == "message":
        check_seen(replay)
    if info.input_kind not in ("pixels", "real") or info.task != "classification" or info.target_shape:
        raise RunError(f"{run}: inversion is for images or numbers with one class each")
    lease = replay.lease(task, client)
    taken = int(lease.steps.sum())
    attack = _Attack(replay, replay.model(lease), method, steps, taken * lease.lr)
    bare = None
    if sees == "message":
        update = message(replay, lease)
        if (executor := without_noise(replay, model, data)) is not None:
            bare = message(replay, lease, executor)
    else:
        update = change(replay, task)
    originals, _ = sample_tensors(info, prepared.federation.shard(client))
    if not len(originals):
        raise RunError(f"client {client} has no samples")
    count = min(most, len(originals))
    tell(f"reconstructing {count} of {len(originals)} samples by {method}")
    found, labels = attack.samples(update, count)
    errors = torch.cdist(originals.flatten(1), found.flatten(1)).square() / originals[0].numel()
    nearest = torch.argsort(errors.min(dim=1).values, stable=True)[:count].sort().values
    chosen = originals[nearest]
    places, error = matched(found, chosen)
    unprotected = None
    if bare is not None:
        bare_found, _ = attack.samples(bare, count)
        unprotected = bare_found[matched(bare_found, chosen)[0]]
    guess = float((originals - originals.mean(0)).square().mean())
    return InvertedUpdate(
        client, round, method, sees, len(originals), taken, labels.numpy(), found[places], chosen, error, guess,
        unprotected,
    )  # fmt: skip


class _Attack:
    """Makes samples of updates against the model that they started from; `length` is the clients' steps times learning
    rate."""

    def __init__(self, replay: Replay, model: Float32, method: Method, steps: int, length: float) -> None:
        prepared = replay.prepared
        self._info, self._method, self._steps, self._length = prepared.info, method, steps, length
        self._module = prepared.job.build_module(self._info, share_frozen=False).eval()
        self._layout = ParameterLayout(self._module)
        self._loss = resolve_loss(prepared.experiment.training, self._info, prepared.job.handed)
        self._layout.unpack(torch.from_numpy(model.copy()), self._module)

    def samples(self, update: Float64, count: int) -> tuple[Tensor, Tensor]:
        """At least `count` reconstructed samples from an update `[P]`, and the labels that were worked with."""
        scale = -1 / max(self._length, 1e-12)
        row = torch.from_numpy((update[: self._layout.trainable] * scale).astype(np.float32))
        gradient, shape = list(self._layout.views(row).values()), tuple(self._info.input_shape)
        labels = _labels(self._module, gradient, self._info.classes or 0, count, shape)
        if self._method == "linear":
            found = _linear(self._module, self._layout, gradient, shape)
            if len(found) < count:
                raise RunError(
                    f"method linear finds {len(found)} samples in this layer; ask for no more, or use cosine"
                )
            return found, labels
        found = invert(self._module, self._loss, gradient, labels, shape, matching=self._method, steps=self._steps).x
        return found, labels


def _labels(model: nn.Module, gradient: list[Tensor], classes: int, count: int, shape: tuple[int, ...]) -> Tensor:
    """Labels from the last bias; classes in turn where there is none."""
    bias = gradient[-1]
    if bias.shape != (classes,):
        return torch.arange(count) % max(classes, 1)
    with torch.no_grad():
        noise = torch.rand((64, *shape), generator=torch.Generator().manual_seed(0))
        prediction = torch.softmax(model(noise), 1).mean(0)
    return counted_labels(bias, prediction, count)


def _linear(model: nn.Module, layout: ParameterLayout, gradient: list[Tensor], shape: tuple[int, ...]) -> Tensor:
    weight, bias = gradient[:2]
    if weight.ndim != 2 or weight.shape[1] != math.prod(shape) or bias.shape != weight.shape[:1]:
        raise RunError("method linear divides the gradients of a first linear layer with a bias; use cosine")
    return inputs_of_linear(weight, bias).clamp(0, 1).view(-1, *shape)
