"""A finished run's model as files that other programs open."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

from torch import nn

from raysim.data import DataInfo
from raysim.data.build import prepare
from raysim.errors import ConfigError, RunError
from raysim.files import looked_up, replacing, storing
from raysim.models import load_weights
from raysim.models.merging import save_adapters, save_transformer
from raysim.models.onnx import save_onnx
from raysim.models.pretrained import tokenizer_of
from raysim.outputs import ONNX
from raysim.rounds.job import Job
from raysim.tracking import RunDirectory
from raysim.training import EngineChoice

Format = Literal["hugging_face", "onnx"]


def export(
    run: str | Path,
    to: str | Path,
    *,
    format: Format = "hugging_face",
    merged: bool = False,
    model: nn.Module | None = None,
    data: Any = None,
) -> Path:
    """Write the model of a run as a folder of the Hugging Face library, or as an ONNX file (extra `onnx`).

    Args:
        run: the run directory; the run is finished.
        to: the folder, which must be empty or not there; of an ONNX file its name, which ends in `.onnx`.
        format: `onnx` writes a transformer, or any module of one input, for batches of any size: `input_ids` and
            `attention_mask`, or `x`, which is float32, of pixels divided by 255, or int64 token ids.
        merged: write the whole model, adapters merged into its weights, for `from_pretrained`; otherwise the adapters
            alone, for `PeftModel.from_pretrained`.
        model: the module that the run was started with, if it was handed over.
        data: the arrays that the run was started with, if they were handed over.

    Returns:
        The folder or file.

    Raises:
        RunError: there is no such run, or it has no model yet.
        ConfigError: the folder has files in it.
        ModelError: the model is no transformer, has nothing of what is to be written, or cannot be written as ONNX.
        StorageError: there is something at the name of the ONNX file, or the disk refuses.
    """
    directory = RunDirectory.open(run)
    if not directory.model.is_file():
        raise RunError(f"{directory.path}: has no model yet; continue the run with: raysim resume {directory.path}")
    if format == "onnx":
        if merged:
            raise ConfigError("merged is for transformers, and an ONNX file always has the whole model; leave it out")
        file = ONNX.check(Path(to).expanduser())
        module, info = _trained(directory, model, data)
        with storing(file), replacing(file) as temporary:
            save_onnx(module, info, temporary)
        return file
    folder = looked_up(Path(to).expanduser())
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError(f"{folder}: is not empty; name another folder")
    module, _ = _trained(directory, model, data)
    with storing(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as workshop:
            made = Path(workshop, "model")  # it appears complete, or not at all
            (save_transformer if merged else save_adapters)(module, made)
            tokenizer = tokenizer_of(directory.experiment().model)
            if merged and tokenizer is not None:
                tokenizer.save_pretrained(made)
            made.rename(folder)
    return folder


def _trained(directory: RunDirectory, model: nn.Module | None, data: Any) -> tuple[nn.Module, DataInfo]:
    """The module of a run with its final weights, and what it is given."""
    experiment = directory.experiment()
    spec = prepare(experiment.data, experiment.data_seed, arrays=data, task=experiment.training.task)
    job = Job(experiment, spec, EngineChoice("sequential", threads=experiment.execution.threads_per_client), model)
    info = spec.open().info
    module = job.build_module(info, share_frozen=False, called=False)
    load_weights(module, str(directory.model), name=experiment.model.name)
    return module, info
