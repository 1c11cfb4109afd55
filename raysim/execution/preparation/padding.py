"""How much of what a transformer is given to classify is padding, with and without `client.buckets`."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from raysim.errors import ConfigError
from raysim.execution.preparation.prepare import Prepared
from raysim.selection.cohort import draw_round
from raysim.training import BatchPlan, LengthGroups, Shard, Shards

SUGGESTED = 50
"""Batches of a group, where the configuration says nothing."""
_CLIENTS = 64
"""Of the first cohort whose batches are looked at."""


@dataclass(frozen=True, slots=True)
class Padding:
    """Shares of the token ids in the first round's batches that are padding.

    Attributes:
        plain: in batches as they are drawn.
        grouped: in batches of one length each, cut to it.
        buckets: batches of a group, for the latter.
        chosen: whether the configuration asks for it.
    """

    plain: float
    grouped: float
    buckets: int
    chosen: bool


def padding(prepared: Prepared) -> Padding | None:
    """Of the first round; None where samples are no texts to classify, or none of its clients takes a step."""
    experiment, work, info = prepared.experiment, prepared.work, prepared.info
    wanted = experiment.client.buckets
    try:
        groups = LengthGroups.of(wanted or SUGGESTED, info)
    except ConfigError:
        return None
    task = draw_round(experiment, prepared.federation, work, work.rounds)
    clients = task.clients[np.argsort(-task.steps[:_CLIENTS], kind="stable")]
    if groups is None or work.batch_size is None or not len(clients):
        return None
    shards = Shards.join([Shard.load(prepared.federation.shard(c), torch.device("cpu")) for c in clients.tolist()])
    plan = BatchPlan.draw(experiment.seed, task.round, clients, shards.count, work)
    whole = info.tokens * int(plan.count.sum())
    if not whole:
        return None
    dealt = groups(plan, experiment.seed, task.round, clients, shards, work)
    real, cut = groups.real_tokens(plan, shards).sum(), groups.tokens(dealt, shards).sum()
    return Padding(float(1 - real / whole), float(1 - real / cut), groups.batches, wanted is not None)
