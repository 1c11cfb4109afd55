"""What `client.privacy` cannot protect is refused before anything starts: everything else that looks at samples."""

from __future__ import annotations

from torch import nn

from raysim.aggregation import Weighting
from raysim.algorithms import Algorithm
from raysim.config import Experiment
from raysim.config.server import OortConfig, PowerOfChoiceConfig
from raysim.data import DataInfo
from raysim.errors import ConfigError
from raysim.execution.clients.local_training import heard
from raysim.models import moved_statistic


def check_private_samples(experiment: Experiment, algorithm: Algorithm, model: nn.Module, info: DataInfo) -> None:
    """Refuse an experiment that looks at protected samples outside of the mechanism.

    Args:
        model: on the meta device.
        info: what a sample looks like.

    Raises:
        ConfigError: names the key, the reason and the remedy.
    """
    if experiment.client.privacy is None:
        return
    for reason in (_of_program(experiment, algorithm), _of_model(model, info), _of_labels(experiment)):
        if reason is not None:
            raise ConfigError(f"client.privacy: {reason}")
    _check_use_of_losses(experiment)
    if experiment.evaluation.fine_tune is not None:
        raise ConfigError(
            "evaluation.fine_tune: clients tune models on samples that client.privacy protects; remove one of them"
        )


def _of_program(experiment: Experiment, algorithm: Algorithm) -> str | None:
    name, work = experiment.algorithm.name, algorithm.work(experiment.client)
    remedy = "use an algorithm that takes one gradient of each batch, such as fedavg"
    if work.poisson is None:
        return f"{name} takes gradients of whole shards, not of Poisson batches; {remedy}"
    if work.repeats > 1 or work.rounds > 1:
        return f"{name} takes several gradients of the same batch, each of which is a release; {remedy}"
    if algorithm.feature_loss() is not None:
        return f"{name} compares representations of samples in its loss; {remedy}"
    if unprotected := heard(experiment, algorithm).unprotected:
        return f"{name} looks at {unprotected[0]}, which are not protected; {remedy}"
    return None


def _of_model(model: nn.Module, info: DataInfo) -> str | None:
    if (name := moved_statistic(model, info)) is None:
        return None
    return f"the model keeps statistics of its samples ({name}); use one without batch normalisation"


def _of_labels(experiment: Experiment) -> str | None:
    training, augmentation = experiment.training, experiment.data.augmentation.name
    if training.class_weights.name in ("inverse", "effective"):
        return f"training.class_weights {training.class_weights.name} counts labels; set it to none or explicit"
    if training.logits.name != "plain":
        return f"training.logits {training.logits.name} counts labels; set it to plain"
    if augmentation != "none":
        return f"data.augmentation {augmentation} makes several samples of one; set it to none"
    return None


def _check_use_of_losses(experiment: Experiment) -> None:
    if Weighting(experiment.aggregation.weights).needs_loss:
        raise ConfigError(
            f"aggregation.weights: {experiment.aggregation.weights.name} weighs clients by losses of samples that "
            "client.privacy protects; use samples or uniform"
        )
    if isinstance(experiment.selection, OortConfig | PowerOfChoiceConfig):
        raise ConfigError(
            f"selection: {experiment.selection.name} chooses clients by losses of samples that client.privacy "
            "protects; use uniform, poisson or round_robin"
        )
    metric = experiment.stop.metric
    if metric is not None and metric.startswith(("train/", "clients/")):
        raise ConfigError(
            f"stop.metric: {metric} is measured on clients' samples, which client.privacy protects; use one of the "
            "test or validation set"
        )
