"""What a run really kept of its clients: canaries in it, and the same run without one of them.

Runs are exact, so that the neighbouring federation of differential privacy, without client k, need not be imagined: it
is trained, with everything else as it was.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from raysim.arrays import Float32, Float64, Int64
from raysim.attacking import sample_losses
from raysim.config import Experiment
from raysim.config.canaries import CanariesStageConfig
from raysim.errors import ConfigError, RunError
from raysim.execution.inprocess.executor import InProcessExecutor
from raysim.execution.preparation.prepare import Prepared, prepare_job
from raysim.models import load_weights
from raysim.privacy.attacks import Membership, epsilon_lower_bound, membership
from raysim.privacy.canaries import CanaryAudit, audit, direction, silent
from raysim.privacy.samples import sample_epsilons
from raysim.replaying import Replay, Say
from raysim.rounds.task import RoundWork
from raysim.selection.cohort import draw_round, without
from raysim.tracking import RunDirectory
from raysim.tracking.reading import read_clients, read_rounds
from raysim.training import ParameterLayout, resolve_loss


def audit_canaries(
    run: str | Path, *, delta: float = 1e-5, level: float = 0.95, model: nn.Module | None = None, data: Any = None
) -> CanaryAudit:
    """Estimate epsilon from how much the model of a run kept of its canaries (`raysim.privacy.canaries`).

    Args:
        run: the run directory; the run is finished, and its outermost stage is `canaries`.
        delta: at which epsilon is estimated.
        level: of confidence of the lower end.
        model: the module that the run was started with, if it was handed over.
        data: the arrays that the run was started with, if they were handed over.

    Raises:
        RunError: the run has no canaries, or no model yet.
    """
    replay = Replay(run, model=model, data=data)
    prepared, experiment = replay.prepared, replay.prepared.experiment
    config = next((one for one in experiment.aggregation.stages if isinstance(one, CanariesStageConfig)), None)
    if config is None:
        raise RunError(f"{run}: no client was a canary; put the stage canaries into aggregation.stages")
    if not replay.directory.model.is_file():
        raise RunError(f"{run}: has no model yet; continue the run with: raysim resume {run}")
    module = prepared.job.build_module(prepared.info, share_frozen=False, called=False)
    layout = ParameterLayout(module)
    load_weights(module, str(replay.directory.model), name=experiment.model.name)
    change = layout.pack(module).double().numpy() - replay.executor.first().model
    canaries = np.arange(config.first, prepared.federation.population)
    quiet = silent(experiment.seed, canaries, config.silent)
    directions = [direction(experiment.seed, one, layout) for one in canaries[~quiet].tolist()]
    return audit(change[: layout.trainable], directions, layout.count, delta, level, int(quiet.sum()))


@dataclass(frozen=True, slots=True)
class PrivateClients:
    """What samples of the clients of a run are promised.

    Attributes:
        clients, samples, rounds, steps: of each client that took part, int64 `[n]`; rounds and steps in all.
        epsilon: of a sample of each, at `delta`, `[n]`.
    """

    clients: Int64
    samples: Int64
    rounds: Int64
    steps: Int64
    epsilon: Float64
    delta: float

    def facts(self) -> dict[str, Any]:
        """For programs."""
        found = self.epsilon if len(self.epsilon) else np.zeros(1)
        return {
            "clients": len(self.clients), "delta": self.delta, "largest_epsilon": float(found.max()),
            "median_epsilon": float(np.median(found)), "smallest_epsilon": float(found.min()),
            "most_steps": int(self.steps.max(initial=0)),
        }  # fmt: skip


def private_clients(run: str | Path, delta: float = 1e-5) -> PrivateClients:
    """Epsilon of each client's samples, by all the steps that the run recorded of it, also where it was left out.

    In asynchronous runs, which record what a step takes in, trips that came too late count with all of their steps.

    Raises:
        RunError: the run does not protect samples.
        ConfigError: dp-accounting is not installed.
    """
    directory = RunDirectory.open(run)
    experiment = directory.experiment()
    client = experiment.client
    if client.privacy is None or client.batch_size == "full":
        raise RunError(f"{run}: samples were not protected; set client.privacy")
    found: dict[int, list[int]] = {}
    for batch in read_clients(directory, ["client", "samples", "steps"]):
        for one, count, steps in zip(
            *(batch[name].to_pylist() for name in ("client", "samples", "steps")), strict=True
        ):
            before = found.setdefault(one, [count, 0, 0])
            before[1] += 1
            before[2] += steps
    for one, count in _too_late(directory, experiment):
        before = found.setdefault(one, [count, 0, 0])
        before[1] += 1
        before[2] += client.steps or 0
    clients = np.array(sorted(found), dtype=np.int64)
    table = np.array([found[one] for one in clients.tolist()], dtype=np.int64).reshape(-1, 3)
    samples, rounds, steps_of = table.T
    epsilon = sample_epsilons(client.privacy, client.batch_size, samples, steps_of, delta)
    return PrivateClients(clients, samples, rounds, steps_of, epsilon, delta)


def _too_late(directory: RunDirectory, experiment: Experiment) -> Iterator[tuple[int, int]]:
    """The client, and its number of samples, of each trip of an asynchronous run that no step took in."""
    if not experiment.systems.asynchronous:
        return
    prepared, rounds = prepare_job(experiment), read_rounds(directory).num_rows
    assert prepared.timetable is not None, "asynchronous rounds have a timetable"
    for plan in islice(prepared.timetable.plans(), rounds):
        yield from zip(plan.late.tolist(), prepared.federation.sizes("train", plan.late).tolist(), strict=True)


@dataclass(frozen=True, slots=True)
class Neighbours:
    """A run with and without one client, over several seeds.

    Attributes:
        client: that is left out.
        distances: of the two models of each seed, `[n]`.
        with_client, without_client: minus the mean loss of the client's own samples under each model, `[n]`.
        found: how well that tells the two kinds of models apart.
        low: the epsilon that they refute at a confidence of 95 %, at `delta`: no more than about log(n / 8).
    """

    client: int
    distances: Float64
    with_client: Float64
    without_client: Float64
    found: Membership
    low: float
    delta: float

    def facts(self) -> dict[str, Any]:
        """For programs."""
        return {
            "client": self.client, "runs": len(self.distances), "distance": float(self.distances.mean()),
            **self.found.facts(), "epsilon_at_least": self.low,
            "delta": self.delta, "loss_with": float(-self.with_client.mean()),
            "loss_without": float(-self.without_client.mean()),
        }  # fmt: skip


def neighbouring_runs(
    given: Experiment | str | Path, *, client: int, runs: int = 8, delta: float = 1e-5, model: nn.Module | None = None,
    data: Any = None, tell: Say = lambda text: None,
) -> Neighbours:  # fmt: skip
    """Train an experiment several times with and without one client, in this process, and tell the models apart.

    Each pair has a seed of its own, hence other cohorts, batches and noise; clients and their samples stay. Both runs
    of a pair are the same but for the client's records. Nothing is written.

    Args:
        given: the experiment, or the directory of a run of it.
        client: that is left out.
        runs: pairs of runs.
        delta: of the epsilon that is refuted.
        model: a module of the user's own, where there is one.
        data: arrays of the user's own, where there are some.
        tell: is told what is being done, a line at a time.

    Raises:
        ConfigError: cohorts depend on the rounds before, or there is no such client.
    """
    experiment = given if isinstance(given, Experiment) else RunDirectory.open(given).experiment()
    kept, lost, distances = list[float](), list[float](), list[float]()
    for number in range(runs):
        seed = experiment.seed + number
        overrides = [f"seed={seed}", f"data.seed={experiment.data_seed}", "execution.executor=inprocess"]
        prepared = prepare_job(experiment.updated(overrides), model=model, data=data)
        _check(prepared, client)
        tell(f"seed {seed}: with and without client {client}")
        models = [_final(prepared, left) for left in (set(), {client})]
        distances.append(float(np.linalg.norm(models[0].astype(np.float64) - models[1])))
        for side, one in zip((kept, lost), models, strict=True):
            side.append(-_loss_of(prepared, one, client))
    with_it, without_it = np.array(kept), np.array(lost)
    found = membership(with_it, without_it)
    low = epsilon_lower_bound(with_it, without_it, delta) if runs > 1 else 0.0
    return Neighbours(client, np.array(distances), with_it, without_it, found, low, delta)


def _check(prepared: Prepared, client: int) -> None:
    if prepared.selection.adaptive:
        raise ConfigError(
            f"selection: cohorts of {prepared.experiment.selection.name} depend on the rounds before, so that leaving "
            "a client out changes them; use uniform or poisson"
        )
    if not 0 <= client < prepared.federation.population:
        raise ConfigError(f"there is no client {client}; clients are 0 to {prepared.federation.population - 1}")


def _final(prepared: Prepared, left_out: set[int]) -> Float32:
    """The model after all rounds, from which some clients were left out."""
    executor, selection = InProcessExecutor(prepared.job), prepared.selection

    def works() -> Iterator[RoundWork]:
        for number in range(1, prepared.last_round + 1):
            cohort = selection.cohort(number, selection.first(), lambda ranges: [])
            task = draw_round(prepared.experiment, prepared.federation, prepared.work, number, cohort)
            yield RoundWork(without(task, left_out), ())

    server = executor.first()
    for done in executor.rounds(works(), server):
        server = done.server
    found: Float32 = np.array(executor.fetch(server))
    return found


def _loss_of(prepared: Prepared, values: Float32, client: int) -> float:
    module = prepared.job.build_module(prepared.info, share_frozen=False).eval()
    ParameterLayout(module).unpack(torch.from_numpy(values), module)
    loss = resolve_loss(prepared.experiment.training, prepared.info, prepared.job.handed)
    return float(sample_losses(prepared.info, module, loss, prepared.federation.shard(client)).mean())
