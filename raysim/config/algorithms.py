"""The `algorithm` section: one class for each federated algorithm, with the knobs of its paper."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, Tag

from raysim.config.adapters import (
    FedExLoraConfig,
    FedItConfig,
    FedSaLoraConfig,
    FfaLoraConfig,
    FlexLoraConfig,
    FloraConfig,
    HLoraConfig,
    RoLoraConfig,
)
from raysim.config.algorithm_base import AveragingConfig, BaseAlgorithmConfig, DataFacts
from raysim.config.base import BY_NAME, SHORTHAND, ImportString
from raysim.config.bounds import SEED, Arguments
from raysim.config.edges import HierFavgConfig
from raysim.config.fair_averaging import AflConfig, QFedAvgConfig, TermConfig
from raysim.config.gossip import DPsgdConfig, PushSumConfig
from raysim.config.personal import (
    ApflConfig,
    DittoConfig,
    FedBnConfig,
    FedPerConfig,
    FedRepConfig,
    IfcaConfig,
    LocalConfig,
    PerFedAvgConfig,
    PFedMeConfig,
)
from raysim.config.server_optimizers import DiLoCoConfig, FedAdagradConfig, FedAdamConfig, FedAvgMConfig, FedYogiConfig


class FedAvgConfig(AveragingConfig):
    """Federated averaging (McMahan et al. 2017)."""

    name: Literal["fedavg"] = "fedavg"


class FedSgdConfig(AveragingConfig):
    """One gradient step of the averaged full gradient (McMahan et al. 2017); `server_lr` is its learning rate.

    The `client` section's optimiser, epochs and batch size are not used.
    """

    name: Literal["fedsgd"] = "fedsgd"
    server_lr: float = Field(0.1, gt=0)
    """Learning rate of the step."""


class CentralisedConfig(BaseAlgorithmConfig):
    """All training samples in one place, as without a federation: the baseline.

    `cohort`, `selection` and `aggregation.weights` are not used.
    """

    name: Literal["centralised"] = "centralised"


class FedProxConfig(AveragingConfig):
    """Local steps with a proximal term that holds them near the broadcast model (Li et al. 2020)."""

    name: Literal["fedprox"] = "fedprox"
    mu: float = Field(0.01, ge=0)
    """Weight µ of the proximal term; 0 is FedAvg."""


class FedNovaConfig(AveragingConfig):
    """Updates normalised by how far local steps reach, so that unequal ones do not bias the average (Wang et al. 2020).

    Local SGD, with momentum or without; the other optimisers have no such length.
    """

    name: Literal["fednova"] = "fednova"
    mu: float = Field(0.0, ge=0)
    """Weight µ of a proximal term as in FedProx."""


class FedExpConfig(BaseAlgorithmConfig):
    """A server learning rate from how much the updates disagree (Jhunjhunwala et al. 2023); `server_lr` is a factor."""

    name: Literal["fedexp"] = "fedexp"
    epsilon: float = Field(1e-3, ge=0)
    """Added to the squared norm of the averaged update; larger ones keep the learning rate at 1."""


class ScaffoldConfig(AveragingConfig):
    """Control variates against client drift, kept by each client (Karimireddy et al. 2020)."""

    name: Literal["scaffold"] = "scaffold"
    option: Literal[1, 2] = 2
    """How clients renew their control variate: 1, the gradient of the whole shard at the broadcast model, a pass over
    it more; 2, the mean of the gradients that they went along, which needs SGD and costs nothing."""


class FedDynConfig(BaseAlgorithmConfig):
    """Dynamic regularisation: dual variables, kept by each client, tilt the local objectives (Acar et al. 2021)."""

    name: Literal["feddyn"] = "feddyn"
    alpha: float = Field(0.1, gt=0)
    """Weight α of the regulariser; the paper tries 0.001 to 0.1."""


class MimeLiteConfig(AveragingConfig):
    """Local steps with the server's momentum (Karimireddy et al. 2021)."""

    name: Literal["mimelite"] = "mimelite"
    beta: float = Field(0.9, ge=0, lt=1)
    """Momentum β; 0 is FedAvg."""


class MoonConfig(AveragingConfig):
    """Representations held near the global model's, and away from the client's last one's (Li et al. 2021)."""

    name: Literal["moon"] = "moon"
    mu: float = Field(1.0, ge=0)
    """Weight µ of the contrastive term; 0 is FedAvg. The paper tries 0.1 to 10."""
    temperature: float = Field(0.5, gt=0)
    """Temperature τ."""
    layer: str | None = None
    """Name of the submodule whose input is the representation; by default the layer whose parameters come last."""


class FedKSeedConfig(BaseAlgorithmConfig):
    """Forward passes alone, along directions made from seeds: only scalars travel (Qin et al. 2024).

    A local step takes two losses, and goes `client.optimizer.lr` times the slope between them. The larger the model,
    the smaller the learning rate must be."""

    name: Literal["fedkseed"] = "fedkseed"
    seeds: int = Field(4096, ge=1, le=1 << 20)
    """Directions S, and scalars that travel each way."""
    epsilon: float = Field(1e-3, gt=0)
    """How far from the weights the two losses are taken, ε, along a direction of values around 1."""
    seed: int = Field(0, ge=0, le=SEED)
    """Of the directions: what clients and server share from the start."""


class MimeConfig(AveragingConfig):
    """Local steps with the server's momentum, every gradient corrected as in SVRG (Karimireddy et al. 2021).

    A cohort stays for two rounds: gradients in the first, local steps in the second.
    """

    name: Literal["mime"] = "mime"
    beta: float = Field(0.9, ge=0, lt=1)
    """Momentum β."""


class CocoaConfig(BaseAlgorithmConfig):
    """Linear models by their dual: clients solve for the dual variables of their own samples (Smith et al. 2018).

    `client.epochs` are passes of coordinate ascent, `client.steps` its steps; optimiser and batch size are not used.
    """

    name: Literal["cocoa"] = "cocoa"
    l2: float = Field(0.01, gt=0)
    """Weight λ of the regulariser: λ/2 ‖w‖² is added to the mean loss."""
    combine: Literal["add", "average"] = "add"
    """How the clients' steps are combined: `add` (CoCoA+, γ = 1, σ' = K) or `average` (CoCoA, γ = 1/K, σ' = 1)."""
    loss: Literal["auto", "squared", "logistic", "hinge"] = "auto"
    """Loss; `auto` is that of `training.loss`: squared for numbers, logistic for classes, one against all others."""
    samples: int | None = Field(None, ge=1)
    """Training samples n of all clients; counted by itself."""
    largest: int | None = Field(None, ge=1)
    """Training samples of the largest client; counted by itself."""
    machines: int | None = Field(None, ge=1)
    """Clients K of a round; by default the cohort. More make clients more careful."""

    def fitted(self, facts: DataFacts) -> Self:
        fits = {"mse": "squared", "cross_entropy": "logistic", "binary_cross_entropy": "logistic"}
        if facts.loss not in fits:
            raise ValueError(
                f"loss: cocoa solves squared, logistic and hinge losses, not {facts.loss}; set training.loss to mse, "
                "cross_entropy or binary_cross_entropy"
            )
        if facts.targets != 1:
            raise ValueError(f"name: cocoa is for one target a sample, these have {facts.targets}; use fedavg")
        loss = fits[facts.loss] if self.loss == "auto" else self.loss
        if (loss == "squared") != (facts.loss == "mse"):
            raise ValueError(f"loss: {loss} does not suit {facts.loss}; use {fits[facts.loss]}")
        counted = {"samples": facts.samples(), "largest": facts.largest()}
        for key, count in counted.items():
            if (given := getattr(self, key)) not in (None, count):
                raise ValueError(f"{key}: {given} is not what the data have ({count}); leave it out")
        machines = self.machines or facts.cohort
        if machines < facts.cohort:
            raise ValueError(f"machines ({machines}) are fewer than a round's clients ({facts.cohort}); leave it out")
        return self.model_copy(update={"loss": loss, "machines": machines, **counted})


class CustomAlgorithmConfig(AveragingConfig):
    """An `Algorithm` subclass of yours, by import string; built with `args`."""

    name: ImportString
    args: Arguments = Field(default_factory=dict)
    """Keyword arguments passed to it."""


AlgorithmConfig = Annotated[
    Annotated[FedAvgConfig, Tag("fedavg")]
    | Annotated[FedSgdConfig, Tag("fedsgd")]
    | Annotated[FedAvgMConfig, Tag("fedavgm")]
    | Annotated[DiLoCoConfig, Tag("diloco")]
    | Annotated[FedAdagradConfig, Tag("fedadagrad")]
    | Annotated[FedAdamConfig, Tag("fedadam")]
    | Annotated[FedYogiConfig, Tag("fedyogi")]
    | Annotated[FedProxConfig, Tag("fedprox")]
    | Annotated[FedNovaConfig, Tag("fednova")]
    | Annotated[FedExpConfig, Tag("fedexp")]
    | Annotated[ScaffoldConfig, Tag("scaffold")]
    | Annotated[FedDynConfig, Tag("feddyn")]
    | Annotated[FedPerConfig, Tag("fedper")]
    | Annotated[FedRepConfig, Tag("fedrep")]
    | Annotated[FedBnConfig, Tag("fedbn")]
    | Annotated[LocalConfig, Tag("local")]
    | Annotated[DittoConfig, Tag("ditto")]
    | Annotated[PFedMeConfig, Tag("pfedme")]
    | Annotated[ApflConfig, Tag("apfl")]
    | Annotated[PerFedAvgConfig, Tag("perfedavg")]
    | Annotated[MimeLiteConfig, Tag("mimelite")]
    | Annotated[MimeConfig, Tag("mime")]
    | Annotated[MoonConfig, Tag("moon")]
    | Annotated[FedKSeedConfig, Tag("fedkseed")]
    | Annotated[QFedAvgConfig, Tag("qfedavg")]
    | Annotated[TermConfig, Tag("term")]
    | Annotated[AflConfig, Tag("afl")]
    | Annotated[CentralisedConfig, Tag("centralised")]
    | Annotated[IfcaConfig, Tag("ifca")]
    | Annotated[HierFavgConfig, Tag("hierfavg")]
    | Annotated[DPsgdConfig, Tag("d_psgd")]
    | Annotated[PushSumConfig, Tag("push_sum")]
    | Annotated[CocoaConfig, Tag("cocoa")]
    | Annotated[FedItConfig, Tag("fedit")]
    | Annotated[FfaLoraConfig, Tag("ffa_lora")]
    | Annotated[RoLoraConfig, Tag("rolora")]
    | Annotated[FedSaLoraConfig, Tag("fedsa_lora")]
    | Annotated[FedExLoraConfig, Tag("fedex_lora")]
    | Annotated[FloraConfig, Tag("flora")]
    | Annotated[FlexLoraConfig, Tag("flexlora")]
    | Annotated[HLoraConfig, Tag("hlora")]
    | Annotated[CustomAlgorithmConfig, Tag("custom")],
    BY_NAME,
    SHORTHAND,
]
