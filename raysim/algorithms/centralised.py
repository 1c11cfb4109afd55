"""Training without a federation: the baseline that no federated algorithm is expected to beat."""

from __future__ import annotations

from raysim.algorithms.base import Algorithm
from raysim.config import Experiment
from raysim.config.server import ExplicitWeightsConfig, LearnedWeightsConfig
from raysim.errors import ConfigError


class Centralised(Algorithm):
    """All clients' training samples in one place, where `client.epochs` passes over them are a round."""

    paper = "the baseline of McMahan et al. 2017, arXiv:1602.05629"

    def check(self, experiment: Experiment) -> None:
        if experiment.algorithm.server_lr != 1:
            raise ConfigError("algorithm.server_lr: centralised has no server; its model is what training came to")
        if experiment.client.stragglers.share:
            raise ConfigError("client.stragglers: centralised has no clients that could be late; leave it out")
        if isinstance(experiment.aggregation.weights, ExplicitWeightsConfig | LearnedWeightsConfig):
            raise ConfigError("aggregation.weights: centralised has one place with all samples; use samples")
        if experiment.execution.clients_per_actor is not None:
            raise ConfigError("execution.clients_per_actor: centralised trains in one place; leave it out")
