"""The `algorithm` section of those that are federated averaging with another optimiser on the server."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from raysim.config.algorithm_base import AveragingConfig, BaseAlgorithmConfig


class FedAvgMConfig(AveragingConfig):
    """Federated averaging with server momentum (Hsu, Qi & Brown 2019)."""

    name: Literal["fedavgm"] = "fedavgm"
    server_momentum: float = Field(0.9, ge=0, lt=1)
    """Server momentum β."""


class DiLoCoConfig(AveragingConfig):
    """Many local steps of AdamW and Nesterov momentum on the server (Douillard et al. 2023).

    The paper's clients take `client.steps` of 500 with `client.optimizer` adamw, whose moments they keep
    (`state: keep`), on one `client.schedule` by steps, and count alike (`aggregation.weights: uniform`)."""

    name: Literal["diloco"] = "diloco"
    server_lr: float = Field(0.7, gt=0)
    """Outer learning rate η."""
    server_momentum: float = Field(0.9, ge=0, lt=1)
    """Outer Nesterov momentum β."""


class AdaptiveConfig(BaseAlgorithmConfig):
    """What the adaptive server optimisers take (Reddi et al. 2021)."""

    server_lr: float = Field(0.1, gt=0)
    """Server learning rate η."""
    beta1: float = Field(0.9, ge=0, lt=1)
    """Decay of the averaged update, β1."""
    tau: float = Field(1e-3, gt=0)
    """Degree of adaptivity τ: added to the root of the second moment, which begins at τ²."""


class FedAdagradConfig(AdaptiveConfig):
    """Adagrad on the server (Reddi et al. 2021)."""

    name: Literal["fedadagrad"] = "fedadagrad"
    beta1: float = Field(0.0, ge=0, lt=1)
    """Decay of the averaged update, β1."""


class FedAdamConfig(AdaptiveConfig):
    """Adam on the server (Reddi et al. 2021)."""

    name: Literal["fedadam"] = "fedadam"
    beta2: float = Field(0.99, ge=0, le=1)
    """Decay of the second moment, β2; 1 leaves it at τ²."""


class FedYogiConfig(AdaptiveConfig):
    """Yogi on the server (Reddi et al. 2021)."""

    name: Literal["fedyogi"] = "fedyogi"
    beta2: float = Field(0.99, ge=0, le=1)
    """Decay of the second moment, β2; 1 leaves it at τ²."""
