"""Federated algorithms, one file a family. Algebra on rows: knows no modules, no devices, no actors."""

from __future__ import annotations

from raysim.algorithms.averaging import FedAvg, FedSgd
from raysim.algorithms.base import Algorithm
from raysim.config import load
from raysim.config.server import AlgorithmConfig, CustomAlgorithm
from raysim.errors import ConfigError
from raysim.training import ParameterLayout

ALGORITHMS: dict[str, type[Algorithm]] = {"fedavg": FedAvg, "fedsgd": FedSgd}
"""Every algorithm by its name in the configuration."""


def build_algorithm(config: AlgorithmConfig, layout: ParameterLayout) -> Algorithm:
    """The algorithm that the configuration names.

    Raises:
        ConfigError: an import string names something that is no `Algorithm`, or its arguments do not fit.
    """
    if not isinstance(config, CustomAlgorithm):
        return ALGORITHMS[config.name](config, layout)
    found = load(config.name, key="algorithm.name")
    if not (isinstance(found, type) and issubclass(found, Algorithm)):
        raise ConfigError(f"algorithm.name: {config.name} is not a subclass of raysim.algorithms.Algorithm")
    try:
        return found(config, layout, **config.args)
    except TypeError as error:
        raise ConfigError(f"algorithm.args: {config.name}: {error}") from None


__all__ = ["ALGORITHMS", "Algorithm", "FedAvg", "FedSgd", "build_algorithm"]
