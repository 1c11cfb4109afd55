"""A recorded run, attacked: what one client's update gives away of its samples, and what the model does.

Nothing has to be recorded for it: a round is a pure function of the state before it, so the message that a client sent
is computed again (`raysim.replaying`), as the server received it: after clips and noise of the client's own.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from raysim.aggregation.records import PartialSum, mean
from raysim.arrays import Float64, Int64
from raysim.data import DataInfo, Samples
from raysim.errors import RunError
from raysim.models import load_weights
from raysim.privacy.attacks import (
    Membership,
    counted_labels,
    inputs_of_linear,
    invert,
    matched,
    membership,
)
from raysim.replaying import Replay
from raysim.training import Loss, ParameterLayout, resolve_loss
from raysim.training.batches import Shard, gather

Method = Literal["cosine", "euclidean", "linear"]
Say = Callable[[str], object]
_BATCH = 512


@dataclass(frozen=True, slots=True)
class InvertedUpdate:
    """Samples that were reconstructed from one client's message, beside its own.

    Attributes:
        samples, steps: of the client in that round.
        labels: that the attack worked with, int64 `[n]`.
        found: reconstructed, float32 `[n, *shape]`, each at the place of the original that it is most like.
        originals: `[n, *shape]`.
        error: mean squared error of each pair, `[n]`.
        guess: mean squared error of the best constant guess, the mean over the originals: what no attack needs.
    """

    client: int
    round: int
    method: Method
    samples: int
    steps: int
    labels: Int64
    found: Tensor
    originals: Tensor
    error: Float64
    guess: float

    @property
    def psnr(self) -> Float64:
        """Peak signal-to-noise ratio of each pair in decibels, for values in [0, 1]."""
        found: Float64 = -10 * np.log10(np.maximum(self.error, 1e-12))
        return found

    def facts(self) -> dict[str, Any]:
        """For programs."""
        return {
            "client": self.client, "round": self.round, "method": self.method, "samples": self.samples,
            "steps": self.steps, "reconstructed": len(self.error), "error": self.error.tolist(),
            "psnr": self.psnr.tolist(), "mean_error": float(self.error.mean()), "guess_error": self.guess,
        }  # fmt: skip


def invert_update(
    run: str | Path,
    *,
    client: int,
    round: int,
    method: Method = "cosine",
    most: int = 8,
    steps: int = 300,
    model: nn.Module | None = None,
    data: Any = None,
    tell: Say = lambda text: None,
) -> InvertedUpdate:
    """Reconstruct samples from the message that a client sent in a round.

    Its update is taken for one step along the mean gradient of its samples. With several local steps, other samples of
    the batch and noise that is less and less true, and the attack is the weaker.

    Args:
        run: the run directory.
        method: `cosine` and `euclidean` search for samples whose gradient is like the update; `linear` divides the
            gradients of a first linear layer, at once.
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
    worker, server, info = replay.executor.worker, replay.server, replay.prepared.info
    _check_seen(replay)
    if info.input_kind not in ("pixels", "real") or info.task != "classification" or info.target_shape:
        raise RunError(f"{run}: inversion is for images or numbers with one class each")
    lease = replay.lease(task, client)
    record, report = worker.train(lease, server.model, server.shared, replay.executor.states(server, round))
    facts = report.facts.to_pylist()[0]
    if not isinstance(record, PartialSum) or facts["dropped"] is not None or not facts["steps"]:
        raise RunError(f"client {client} sent nothing in round {round}: {facts['dropped'] or 'it has no samples'}")
    update = mean(record, replay.prepared.aggregation.rule.fields)["update"]
    module = replay.prepared.job.build_module(info, share_frozen=False).eval()
    layout, loss = ParameterLayout(module), resolve_loss(replay.prepared.experiment.training, info)
    layout.unpack(torch.from_numpy(server.model.copy()), module)
    scale = -1 / max(lease.lr * facts["steps"], 1e-12)
    row = torch.from_numpy((update[: layout.trainable] * scale).astype(np.float32))
    gradient = list(layout.views(row).values())
    originals, _ = _tensors(info, replay.prepared.federation.shard(client))
    count = min(most, len(originals))
    tell(f"reconstructing {count} of {len(originals)} samples by {method}")
    labels = _labels(module, gradient, info.classes or 0, count, tuple(info.input_shape))
    if method == "linear":
        found = _linear(module, layout, gradient, info.input_shape)
    else:
        shape = tuple(info.input_shape)
        found = invert(module, loss, gradient, labels, shape, matching=method, steps=steps).x
    errors = torch.cdist(originals.flatten(1), found.flatten(1)).square() / originals[0].numel()
    nearest = torch.argsort(errors.min(dim=1).values, stable=True)[:count].sort().values
    places, error = matched(found, originals[nearest])
    guess = float((originals - originals.mean(0)).square().mean())
    return InvertedUpdate(
        client, round, method, len(originals), facts["steps"], labels.numpy(), found[places], originals[nearest],
        error, guess,
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class AttackedModel:
    """Membership inference against a run's model by the loss of samples.

    Attributes:
        members, others: training samples of clients that took part, and samples of the test set.
        found: how well minus the loss tells them apart.
        member_loss, other_loss: means.
    """

    members: int
    others: int
    found: Membership
    member_loss: float
    other_loss: float

    def facts(self) -> dict[str, Any]:
        """For programs."""
        return {
            "members": self.members, "others": self.others, "auc": self.found.auc, "advantage": self.found.advantage,
            "tpr_at_1_percent": self.found.low, "member_loss": self.member_loss, "other_loss": self.other_loss,
        }  # fmt: skip


def attack_model(
    run: str | Path, *, clients: int = 200, model: nn.Module | None = None, data: Any = None
) -> AttackedModel:
    """Tell training samples from test samples by their loss under the run's model (Yeom et al. 2018).

    Args:
        run: the run directory; the run is finished.
        clients: of which samples are taken, at most: the first ones.
        model: the module that the run was started with, if it was handed over.
        data: the arrays that the run was started with, if they were handed over.

    Raises:
        RunError: the run has no model yet, or its data have no test set.
    """
    replay = Replay(run, model=model, data=data)
    prepared = replay.prepared
    if not replay.directory.model.is_file():
        raise RunError(f"{run}: has no model yet; continue the run with: raysim resume {run}")
    test = prepared.federation.server("test")
    if test is None:
        raise RunError(f"{run}: there is no test set to tell training samples from; set data.test")
    module = prepared.job.build_module(prepared.info, share_frozen=False, called=False)
    load_weights(module, str(replay.directory.model), name=prepared.experiment.model.name)
    row = ParameterLayout(module).pack(module)
    called = prepared.job.build_module(prepared.info, share_frozen=False).eval()
    ParameterLayout(called).unpack(row, called)
    loss = resolve_loss(prepared.experiment.training, prepared.info)
    some = range(min(clients, prepared.federation.population))
    members = np.concatenate(
        [sample_losses(prepared.info, called, loss, prepared.federation.shard(one)) for one in some]
    )
    others = sample_losses(prepared.info, called, loss, test)
    found = membership(-members, -others)
    return AttackedModel(len(members), len(others), found, float(members.mean()), float(others.mean()))


def sample_losses(info: DataInfo, module: nn.Module, loss: Loss, samples: Samples) -> Float64:
    """The loss of each sample, `[n]`; of several targets the mean."""
    x, y = _tensors(info, samples)
    with torch.no_grad():
        parts = [loss(module(x[i : i + _BATCH]), y[i : i + _BATCH]) for i in range(0, len(x), _BATCH)]
    found: Float64 = torch.cat([one.flatten(1).mean(1) if one.ndim > 1 else one for one in parts]).double().numpy()
    return found


def _tensors(info: DataInfo, samples: Samples) -> tuple[Tensor, Tensor]:
    shard = Shard.load(samples, torch.device("cpu"))
    batch = gather(shard, torch.arange(len(shard)), info)
    return batch.x, batch.y


def _check_seen(replay: Replay) -> None:
    rule = replay.prepared.aggregation.rule
    if rule.road != "sum":
        raise RunError(
            f"{replay.directory.path}: updates are only attacked where records travel as sums, and here they travel "
            f"as {rule.road}; attack the model instead"
        )
    if "update" not in [field.name for field in rule.fields]:
        raise RunError(f"{replay.directory.path}: clients send no update that a gradient could be made of")


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


def draw_inversion(found: InvertedUpdate, path: str | Path) -> None:
    """Draw reconstructed images below the originals.

    Raises:
        RunError: samples are no images, or the file cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    shape = found.originals.shape[1:]
    if len(shape) not in (2, 3) or (len(shape) == 3 and shape[0] not in (1, 3)):
        raise RunError("samples are no images that could be drawn")
    count = len(found.error)
    figure = Figure(figsize=(1.1 * count, 2.6))
    FigureCanvasAgg(figure)
    for i, (pair, psnr) in enumerate(zip(zip(found.originals, found.found, strict=True), found.psnr, strict=True)):
        for row, image in enumerate(pair):
            ax = figure.add_subplot(2, count, row * count + i + 1)
            ax.imshow(image.movedim(0, -1).squeeze(-1) if image.ndim == 3 else image, cmap="gray", vmin=0, vmax=1)
            ax.set_axis_off()
            if row:
                ax.set_title(f"{psnr:.0f} dB", fontsize=8)
    try:
        figure.savefig(path)
    except (OSError, ValueError) as error:
        raise RunError(f"{path}: {error}") from None
