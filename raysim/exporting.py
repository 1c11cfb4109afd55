"""A finished run's transformer as a folder that other programs open."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from torch import nn

from raysim.data.build import prepare
from raysim.errors import ConfigError, RunError
from raysim.files import looked_up, storing
from raysim.models import load_weights
from raysim.models.merging import save_adapters, save_transformer
from raysim.models.pretrained import tokenizer_of
from raysim.rounds.job import Job
from raysim.tracking import RunDirectory
from raysim.training import EngineChoice


def export(
    run: str | Path, to: str | Path, *, merged: bool = False, model: nn.Module | None = None, data: Any = None
) -> Path:
    """Write the model of a run as a folder of the Hugging Face library.

    Args:
        run: the run directory; the run is finished.
        to: the folder, which must be empty or not there.
        merged: write the whole model, adapters merged into its weights, for `from_pretrained`; otherwise the adapters
            alone, for `PeftModel.from_pretrained`.
        model: the module that the run was started with, if it was handed over.
        data: the arrays that the run was started with, if they were handed over.

    Returns:
        The folder.

    Raises:
        RunError: there is no such run, or it has no model yet.
        ConfigError: the folder has files in it.
        ModelError: the model is no transformer, or has nothing of what is to be written.
    """
    directory, folder = RunDirectory.open(run), looked_up(Path(to).expanduser())
    if not directory.model.is_file():
        raise RunError(f"{directory.path}: has no model yet; continue the run with: raysim resume {directory.path}")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError(f"{folder}: is not empty; name another folder")
    experiment = directory.experiment()
    spec = prepare(experiment.data, experiment.data_seed, arrays=data, task=experiment.training.task)
    job = Job(experiment, spec, EngineChoice("sequential", threads=experiment.execution.threads_per_client), model)
    module = job.build_module(spec.open().info, share_frozen=False, called=False)
    load_weights(module, str(directory.model), name=experiment.model.name)
    with storing(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as workshop:
            made = Path(workshop, "model")  # it appears complete, or not at all
            (save_transformer if merged else save_adapters)(module, made)
            tokenizer = tokenizer_of(experiment.model)
            if merged and tokenizer is not None:
                tokenizer.save_pretrained(made)
            made.rename(folder)
    return folder
