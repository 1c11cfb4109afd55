"""The `algorithm` section of those that give every client, or every cluster of clients, a model of its own."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from raysim.config.algorithm_base import AveragingConfig, BaseAlgorithmConfig


class LocalLayersConfig(AveragingConfig):
    """What algorithms take whose clients keep some layers to themselves."""

    local_layers: tuple[str, ...] | None = None
    """Names of the parameters and buffers that stay with the clients, with `*`: `["head.*", "*.bias"]`; by default what
    the paper keeps."""


class FedPerConfig(LocalLayersConfig):
    """Clients keep the last layer to themselves, and all layers train together (Arivazhagan et al. 2019)."""

    name: Literal["fedper"] = "fedper"


class FedRepConfig(LocalLayersConfig):
    """Clients keep the last layer to themselves and train it first, then the others (Collins et al. 2021).

    `client.epochs` are those of the others.
    """

    name: Literal["fedrep"] = "fedrep"
    head_epochs: int = Field(5, ge=0)
    """Epochs that a client trains its own layers, with the shared ones fixed."""


class FedBnConfig(LocalLayersConfig):
    """Clients keep their normalisation layers to themselves (Li et al. 2021)."""

    name: Literal["fedbn"] = "fedbn"


class LocalConfig(LocalLayersConfig):
    """No federation: every client trains a model of its own. The baseline of personalisation."""

    name: Literal["local"] = "local"


class DittoConfig(AveragingConfig):
    """FedAvg, and a model of each client's own that is held near the global one (Li et al. 2021)."""

    name: Literal["ditto"] = "ditto"
    strength: float = Field(0.1, ge=0)
    """How strongly a client's own model is drawn to the global one, λ; 0 trains it alone. The paper tries 0.05 to 2."""


class IfcaConfig(BaseAlgorithmConfig):
    """Several models, each for a cluster of clients, who choose the one that suits them best (Ghosh et al. 2020)."""

    name: Literal["ifca"] = "ifca"
    clusters: int = Field(2, ge=1, le=100)
    """Models; 1 is FedAvg. All of them travel in every round."""
    spread: float = Field(1.0, gt=0)
    """How far the other models begin from the first: weights differ by normal numbers of this standard deviation,
    divided by the square root of a layer's inputs."""


class PFedMeConfig(AveragingConfig):
    """Personal models as proximal points of an averaged one: Moreau envelopes (T Dinh et al. 2020).

    `client.optimizer.lr` is of the steps towards a personal model, `server_lr` is the paper's β.
    """

    name: Literal["pfedme"] = "pfedme"
    strength: float = Field(15.0, gt=0)
    """How strongly a personal model is held, λ; times `client.optimizer.lr` below 2."""
    inner_steps: int = Field(5, ge=1)
    """Gradient steps on each batch towards the personal model, K."""
    local_lr: float = Field(0.005, gt=0)
    """Learning rate η with which the client's share of the global model follows the personal one; at most 1 / λ."""

    @model_validator(mode="after")
    def _does_not_overshoot(self) -> PFedMeConfig:
        if self.local_lr * self.strength > 1 + 1e-9:
            raise ValueError(
                f"local_lr · strength must be at most 1, with which a model follows all the way; it is "
                f"{self.local_lr} · {self.strength}: lower local_lr"
            )
        return self


class ApflConfig(AveragingConfig):
    """FedAvg, and for each client a mixture of the global model and one of its own (Deng et al. 2020)."""

    name: Literal["apfl"] = "apfl"
    alpha: float = Field(0.5, ge=0, le=1)
    """Share of a client's own model in the mixture, α; 0 is FedAvg, 1 trains alone."""
    adaptive: bool = False
    """Whether every client adapts its α, by a gradient step at the beginning of a round."""


class PerFedAvgConfig(AveragingConfig):
    """A model from which one step on a client's data leads far: first-order Per-FedAvg (Fallah et al. 2020).

    `client.optimizer.lr` is the paper's β. A step takes two batches, so that an epoch is two passes over the shard.
    """

    name: Literal["perfedavg"] = "perfedavg"
    adapt_lr: float = Field(0.01, ge=0)
    """Learning rate of the step ahead, α; 0 is FedAvg."""
