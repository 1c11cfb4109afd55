"""Membership inference: which samples a run's model was trained on, told by its loss."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from raysim.arrays import Float64
from raysim.data import DataInfo, Samples
from raysim.errors import RunError
from raysim.models import load_weights
from raysim.privacy.attacks import Membership, membership
from raysim.replaying import Replay
from raysim.tracking import read_rounds
from raysim.training import Loss, ParameterLayout, resolve_loss
from raysim.training.batches import Shard, gather

_BATCH = 512


@dataclass(frozen=True, slots=True)
class AttackedModel:
    """Membership inference against a run's model by the loss of samples.

    Attributes:
        members, others: training samples of clients that took part, and samples of the test set.
        round: the last one of the model.
        found: how well minus the loss tells them apart.
        member_loss, other_loss: means.
    """

    members: int
    others: int
    round: int
    found: Membership
    member_loss: float
    other_loss: float

    def facts(self) -> dict[str, Any]:
        """For programs."""
        return {
            "members": self.members, "others": self.others, "round": self.round, **self.found.facts(),
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
    loss = resolve_loss(prepared.experiment.training, prepared.info, prepared.job.handed)
    some = range(min(clients, prepared.federation.population))
    members = np.concatenate(
        [sample_losses(prepared.info, called, loss, prepared.federation.shard(one)) for one in some]
    )
    others = sample_losses(prepared.info, called, loss, test)
    found = membership(-members, -others)
    rounds = read_rounds(replay.directory).num_rows
    return AttackedModel(len(members), len(others), rounds, found, float(members.mean()), float(others.mean()))


def sample_losses(info: DataInfo, module: nn.Module, loss: Loss, samples: Samples) -> Float64:
    """The loss of each sample, `[n]`; of several targets the mean."""
    x, y = sample_tensors(info, samples)
    with torch.no_grad():
        parts = [loss(module(x[i : i + _BATCH]), y[i : i + _BATCH]) for i in range(0, len(x), _BATCH)]
    if any(one.ndim == 0 for one in parts):
        raise RunError("training.loss is one number a batch, and the attack compares losses of samples")
    found: Float64 = torch.cat([one.flatten(1).mean(1) if one.ndim > 1 else one for one in parts]).double().numpy()
    return found


def sample_tensors(info: DataInfo, samples: Samples) -> tuple[Tensor, Tensor]:
    shard = Shard.load(samples, torch.device("cpu"))
    batch = gather(shard, torch.arange(len(shard)), info)
    return batch.x, batch.y
