"""The model of a round, made again from the first model and the scalars that travelled."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from raysim.algorithms.zeroth_order import rebuilt
from raysim.arrays import Float32
from raysim.config.algorithms import FedKSeedConfig
from raysim.errors import RunError
from raysim.execution.preparation.prepare import prepare_job
from raysim.execution.server.server import VECTORS, Server
from raysim.files import replacing, storing
from raysim.outputs import REBUILT
from raysim.rounds.vectors import read_vectors
from raysim.tracking import CheckpointFolder, RunDirectory


def rebuild(
    run: str | Path, *, round: int | None = None, model: nn.Module | None = None, data: Any = None
) -> nn.Module:
    """The model of a run of `fedkseed` after a round, to the bit, from scalars alone.

    Args:
        run: the run directory.
        round: one of which there is a checkpoint; by default the last of them.
        model: the module that the run was started with, if it was handed over.
        data: the arrays that the run was started with, if they were handed over.

    Raises:
        RunError: the run is of another algorithm, or there is no checkpoint of the round.
    """
    server, found = _rebuilt(run, round, model, data)
    job = server.job
    module = job.build_module(job.federation.open().info, share_frozen=False, called=False)
    server.layout.unpack(torch.from_numpy(found), module)
    return module


def write_rebuilt(run: str | Path, to: str | Path, *, round: int | None = None) -> Path:
    """Write the model of `rebuild` as a `.safetensors` file, as a run's `model.safetensors` is.

    Raises:
        RunError: as for `rebuild`.
        StorageError: there is something at `to`, its name ends otherwise, or the disk refuses.
    """
    file = REBUILT.check(Path(to).expanduser())
    server, found = _rebuilt(run, round, None, None)
    with storing(file), replacing(file) as temporary:
        server.export(str(temporary), found)
    return file


def _rebuilt(run: str | Path, round: int | None, model: nn.Module | None, data: Any) -> tuple[Server, Float32]:
    """The run's server, and the model `[P]`."""
    directory = RunDirectory.open(run)
    experiment = directory.experiment().updated(["execution.executor=inprocess"])
    config = experiment.algorithm
    if not isinstance(config, FedKSeedConfig):
        raise RunError(f"{run}: was trained by {config.name}, and only models of fedkseed are made of scalars")
    with CheckpointFolder(directory, experiment.tracking.checkpoints) as folder:
        known = folder.rounds()
        if not known or (round is not None and round not in known):
            which = f"round {round}" if round is not None else "any round"
            raise RunError(f"{run}: there is no checkpoint of {which}; there are those of {known or 'none'}")
        scalars = read_vectors(folder.open(known[-1] if round is None else round).path / VECTORS)["state.scalars"]
    server = Server(prepare_job(experiment, model=model, data=data).job)
    return server, rebuilt(server.first()[1], scalars, config.seed, server.layout)
