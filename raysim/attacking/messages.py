"""What clients send in a replayed round, as the server receives it or without the noise of their own."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import nn

from raysim.aggregation.records import PartialSum, mean
from raysim.arrays import Float32, Float64
from raysim.config import Experiment
from raysim.errors import RunError
from raysim.execution.inprocess.executor import InProcessExecutor
from raysim.execution.preparation.prepare import prepare_job
from raysim.replaying import Replay
from raysim.rounds.lease import Lease
from raysim.rounds.task import RoundTask, RoundWork

_CLIPS = frozenset({"clip", "layer_clip", "adaptive_clip"})
_SERVER_NOISE = frozenset({"gaussian", "tree", "bsr", "blt"})
_CLIENT_NOISE = frozenset({"local_gaussian", "local_laplace"})


def message(replay: Replay, lease: Lease, executor: InProcessExecutor | None = None) -> Float64:
    """What the lease's one client sends, `[P]`.

    Args:
        executor: that computes it, by default that of the replay (`without_noise`).

    Raises:
        RunError: it sends nothing.
    """
    server, round, own = replay.server, lease.round, executor is None
    executor = replay.executor if executor is None else executor
    shared, states = (server.shared, executor.states(server, round)) if own else (None, None)
    record, report = executor.worker.train(lease, replay.model(lease), shared, states)
    facts = report.facts.to_pylist()[0]
    if not isinstance(record, PartialSum) or facts["dropped"] is not None or not facts["steps"]:
        why = facts["dropped"] or "it has no samples"
        raise RunError(f"client {facts['client']} sent nothing in round {round}: {why}")
    update: Float64 = mean(record, executor.server.aggregation.rule.fields)["update"]
    return update


def change(replay: Replay, task: RoundTask) -> Float64:
    """By how much the round changes the model that everybody sees, `[P]`."""
    if (task.base < task.round - 1).any():
        raise RunError(f"round {task.round}: its clients started from several versions; attack the message instead")
    before: Float32 = replay.server.model
    done = next(replay.executor.rounds(iter([RoundWork(task, ())]), replay.server))
    found: Float64 = done.server.model.astype(np.float64) - before
    return found


def without_noise(replay: Replay, model: nn.Module | None, data: Any) -> InProcessExecutor | None:
    """An executor of the same clients without clips and noise, with the same batches; None where clients add no noise,
    or read what only the run's own server has.

    Args:
        model, data: that the run was started with, if they were handed over.
    """
    experiment = _without_noise(replay.prepared.experiment)
    if experiment is None:
        return None
    executor = InProcessExecutor(prepare_job(experiment, model=model, data=data).job)
    return None if executor.first().shared is not None or executor.worker.states.width else executor


def adds_noise(experiment: Experiment) -> bool:
    """Whether clients add noise to what they send."""
    stages = experiment.aggregation.stages
    return experiment.client.privacy is not None or any(one.name in _CLIENT_NOISE for one in stages)


def check_seen(replay: Replay) -> None:
    """Refuse a run whose server does not see the update of a single client.

    Raises:
        RunError: it does not.
    """
    rule = replay.prepared.aggregation.rule
    if rule.road != "sum":
        raise RunError(
            f"{replay.directory.path}: updates are only attacked where records travel as sums, and here they travel "
            f"as {rule.road}; attack the model instead"
        )
    if "update" not in [field.name for field in rule.fields]:
        raise RunError(f"{replay.directory.path}: clients send no update that a gradient could be made of")


def _without_noise(experiment: Experiment) -> Experiment | None:
    if not adds_noise(experiment):
        return None
    values, private = experiment.to_dict(), experiment.client.privacy
    protecting = _CLIPS | _SERVER_NOISE | _CLIENT_NOISE
    stages = values["aggregation"]["stages"]
    values["aggregation"]["stages"] = [one for one in stages if one["name"] not in protecting]
    values["privacy"] = {}
    if private is not None:
        expected = experiment.client.batch_size
        assert isinstance(expected, int), "client.privacy is refused with batches of all samples"
        largest = private.most(expected)
        values["client"]["privacy"] = {"clip": 1e6, "noise_multiplier": 0.0, "largest_batch": largest}
    return Experiment.parse(values)
