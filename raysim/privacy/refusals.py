"""What noise cannot protect: experiments in which something of the clients' data gets past it, with the reason."""

from __future__ import annotations

from collections.abc import Sequence

from raysim.aggregation import Field
from raysim.aggregation.stages import ModelColumns
from raysim.config import Experiment
from raysim.config.algorithms import CentralisedConfig
from raysim.config.balance import AdjustedLogitsConfig, CountedWeightsConfig
from raysim.errors import ConfigError


def check_private(experiment: Experiment, fields: Sequence[Field], columns: ModelColumns) -> None:
    """Refuse an experiment in which something that depends on clients' data is not bounded and noised together.

    Args:
        fields: of the algorithm.
        columns: of the model.

    Raises:
        ConfigError: one line with the reason and the remedy.
    """
    name = experiment.algorithm.name
    if isinstance(experiment.algorithm, CentralisedConfig):
        raise ConfigError("centralised training has one client, who has all samples; use another algorithm")
    _check_fields(name, fields)
    training = experiment.training
    if isinstance(training.class_weights, CountedWeightsConfig) and training.class_weights.scope == "federation":
        raise ConfigError(
            "training.class_weights counts the labels of all clients, which no noise protects; set "
            "training.class_weights.scope to client"
        )
    if isinstance(training.logits, AdjustedLogitsConfig):
        raise ConfigError(
            "training.logits: adjusted counts the labels of all clients, which no noise protects; set it to fedlc"
        )
    if columns.size > columns.trainable:
        raise ConfigError(
            "the model has running statistics (batch normalisation), which noise makes invalid; use layers without "
            "them, such as group or layer normalisation"
        )
    if experiment.client.optimizer.state == "keep":
        raise ConfigError(
            "what an optimiser keeps acts in later rounds, so that a record is not that of its round alone; set "
            "client.optimizer.state to reset"
        )


def _check_fields(algorithm: str, fields: Sequence[Field]) -> None:
    for field in fields:
        if field.kept:
            raise ConfigError(
                f"the server takes {field.name!r} of every client by itself, so that noise on a sum does not protect "
                "it; set algorithm.products to sums, or use another algorithm"
            )
        if field.statistic:
            raise ConfigError(
                f"{algorithm} sends {field.name!r}, a number that would be false if it were clipped with the update, "
                "and a release of its own if it were not; use another algorithm, such as fedavg"
            )
        if field.summed or field.constant:
            raise ConfigError(
                f"{algorithm} sends {field.name!r}, which is neither clipped nor noised and depends on who takes part; "
                "use another algorithm, such as fedavg"
            )
