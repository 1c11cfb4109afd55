"""An experiment with its automatic choices made concrete, by what was handed over, by the data, and by the engine."""

from __future__ import annotations

from math import prod

from torch import nn

from raysim.config import Experiment
from raysim.config.algorithm_base import DataFacts
from raysim.config.hugging_face import HuggingFaceConfig
from raysim.config.model import InMemoryModelConfig
from raysim.config.server import LearnedWeightsConfig, PoissonConfig
from raysim.config.sources import InMemoryConfig
from raysim.data import Dataset, Federation
from raysim.data.identity import dataset_identity
from raysim.errors import ConfigError
from raysim.models import fingerprint, resolved
from raysim.selection.cohort import cohort_size
from raysim.training import EngineChoice
from raysim.training.losses import loss_name


def with_handed_over(experiment: Experiment, model: nn.Module | None, data: Dataset | None) -> Experiment:
    """Every `auto` that needs no data made concrete, and what was handed over named by its fingerprint.

    Raises:
        ConfigError: a GPU without a share of one, or what the run was started with is missing or another.
    """
    values = experiment.to_dict()
    execution = experiment.execution
    gpus = max(execution.num_gpus, *(one.num_gpus for one in execution.classes.values()), 0.0)
    if execution.device == "cuda" and execution.executor == "ray" and gpus == 0:
        raise ConfigError("execution.device: cuda needs a share of a GPU for each actor; set execution.num_gpus")
    if experiment.execution.device == "auto":
        values["execution"]["device"] = "cuda" if gpus > 0 else "cpu"
    if model is not None:
        values["model"] = InMemoryModelConfig(fingerprint=_model_fingerprint(experiment, model)).to_dict()
    elif isinstance(experiment.model, HuggingFaceConfig):
        values["model"] = resolved(experiment.model, experiment.training.engine).to_dict()
    elif isinstance(experiment.model, InMemoryModelConfig):
        raise ConfigError("model: the run was started with a module of your own; pass it again as model=… (--model)")
    if data is not None and not isinstance(experiment.data.source, InMemoryConfig):
        values["data"]["source"] = InMemoryConfig(fingerprint=dataset_identity(data)).to_dict()
    elif data is None and isinstance(experiment.data.source, InMemoryConfig):
        raise ConfigError(
            "data.source: the run was started with arrays of your own; pass them again as data=… (--data)"
        )
    return Experiment.parse(values)


def fit_algorithm(experiment: Experiment, federation: Federation) -> Experiment:
    """The experiment with what its algorithm wants to know of the data made concrete.

    Raises:
        ConfigError: a knob of the algorithm does not suit the data.
    """
    config, cohort = experiment.algorithm, cohort_size(experiment, federation.population)
    try:
        fitted = config.fitted(
            DataFacts(
                federation.population,
                federation.population if isinstance(experiment.selection, PoissonConfig) else cohort,
                loss_name(experiment.training, federation.info),
                samples=lambda: int(federation.sizes("train").sum()),
                largest=lambda: int(federation.sizes("train").max()),
                targets=prod(federation.info.target_shape),
                seed=experiment.seed,
                changed=any(stage.name != "measure" for stage in experiment.aggregation.stages),
                learned=isinstance(experiment.aggregation.weights, LearnedWeightsConfig),
            )
        )
    except ValueError as error:
        raise ConfigError(f"algorithm.{error}") from None
    return experiment if fitted == config else Experiment.parse(experiment.to_dict() | {"algorithm": fitted.to_dict()})


def with_engine(experiment: Experiment, engine: EngineChoice) -> Experiment:
    """The experiment with the engine that was chosen."""
    values = experiment.to_dict()
    rows = engine.rows if engine.name == "rows" else None
    values["training"] |= {"engine": engine.name, "rows": rows, "compile": engine.compiled}
    return Experiment.parse(values)


def _model_fingerprint(experiment: Experiment, model: nn.Module) -> str:
    found = fingerprint(model)
    if isinstance(experiment.model, InMemoryModelConfig) and experiment.model.fingerprint not in ("", found):
        raise ConfigError("model: this is not the module that the run was started with; pass the same model=…")
    return found
