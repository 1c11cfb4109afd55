"""Federated algorithms, one file a family. Algebra on rows: knows no modules, no devices, no actors."""

from __future__ import annotations

import inspect

from raysim.algorithms.adapter_products import FedExLora, FlexLora, Flora, HLora
from raysim.algorithms.adapters import Adapters, FedIt, FfaLora, RoLora
from raysim.algorithms.agnostic import Afl
from raysim.algorithms.averaging import FedAvg, FedSgd
from raysim.algorithms.base import Algorithm, ClientVector
from raysim.algorithms.centralised import Centralised
from raysim.algorithms.clustered import Ifca
from raysim.algorithms.contrastive import Moon
from raysim.algorithms.control_variates import Scaffold
from raysim.algorithms.ditto import Ditto
from raysim.algorithms.dual import Cocoa
from raysim.algorithms.dynamic_regularisation import FedDyn
from raysim.algorithms.extrapolation import FedExp
from raysim.algorithms.fair_averaging import QFedAvg, Term
from raysim.algorithms.gossip import DPsgd, PushSum
from raysim.algorithms.hierarchical import HierFavg
from raysim.algorithms.meta_learning import PerFedAvg
from raysim.algorithms.mime import Mime, MimeLite
from raysim.algorithms.mixture import Apfl
from raysim.algorithms.moreau import PFedMe
from raysim.algorithms.normalised import FedNova
from raysim.algorithms.personal_layers import FedBn, FedPer, FedRep, FedSaLora, Local
from raysim.algorithms.proximal import FedProx
from raysim.algorithms.returns import ON_CLIENTS, RETURNS, wrong_attribute
from raysim.algorithms.server_optimizers import DiLoCo, FedAdagrad, FedAdam, FedAvgM, FedYogi
from raysim.algorithms.zeroth_order import FedKSeed
from raysim.config import load
from raysim.config.algorithms import AlgorithmConfig, CustomAlgorithmConfig
from raysim.errors import ConfigError
from raysim.training import ParameterLayout
from raysim.user_code import guarded, user_code

ALGORITHMS: dict[str, type[Algorithm]] = {
    "fedavg": FedAvg,
    "fedsgd": FedSgd,
    "centralised": Centralised,
    "fedavgm": FedAvgM,
    "diloco": DiLoCo,
    "fedadagrad": FedAdagrad,
    "fedadam": FedAdam,
    "fedyogi": FedYogi,
    "fedprox": FedProx,
    "fednova": FedNova,
    "fedexp": FedExp,
    "scaffold": Scaffold,
    "feddyn": FedDyn,
    "fedper": FedPer,
    "fedrep": FedRep,
    "fedbn": FedBn,
    "local": Local,
    "ditto": Ditto,
    "pfedme": PFedMe,
    "apfl": Apfl,
    "perfedavg": PerFedAvg,
    "mimelite": MimeLite,
    "mime": Mime,
    "moon": Moon,
    "fedkseed": FedKSeed,
    "qfedavg": QFedAvg,
    "term": Term,
    "afl": Afl,
    "ifca": Ifca,
    "hierfavg": HierFavg,
    "d_psgd": DPsgd,
    "push_sum": PushSum,
    "cocoa": Cocoa,
    "fedit": FedIt,
    "ffa_lora": FfaLora,
    "rolora": RoLora,
    "fedsa_lora": FedSaLora,
    "fedex_lora": FedExLora,
    "flora": Flora,
    "flexlora": FlexLora,
    "hlora": HLora,
}
"""Every algorithm by its name in the configuration."""


def build_algorithm(config: AlgorithmConfig, layout: ParameterLayout) -> Algorithm:
    """The algorithm that the configuration names.

    Raises:
        ConfigError: an import string names something that is no `Algorithm`, or its arguments do not fit.
        UserCodeError: its constructor fails.
    """
    if not isinstance(config, CustomAlgorithmConfig):
        return ALGORITHMS[config.name](config, layout)
    found = load(config.name, key="algorithm.name")
    if not (isinstance(found, type) and issubclass(found, Algorithm)):
        raise ConfigError(f"algorithm.name: {config.name} is not a subclass of raysim.algorithms.Algorithm")
    place = f"algorithm {config.name}"
    with user_code(place):
        signature = inspect.signature(found)
    try:
        signature.bind(config, layout, **config.args)
    except TypeError as error:
        raise ConfigError(f"algorithm.args: {config.name}: {error}") from None
    algorithm = guarded(found, Algorithm, place, apart_from=ON_CLIENTS, returns=RETURNS)
    with user_code(place):
        made = algorithm(config, layout, **config.args)
        wrong = wrong_attribute(made)
    if wrong is not None:
        raise ConfigError(f"{place}: {wrong}")
    return made


__all__ = ["ALGORITHMS", "Adapters", "Algorithm", "ClientVector", "FedAvg", "FedSgd", "build_algorithm"]
