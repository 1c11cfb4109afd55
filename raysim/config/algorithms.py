"""The `algorithm` section: one class for each federated algorithm, with the knobs of its paper."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self

from pydantic import Field, Tag, model_validator

from raysim.config.base import BY_NAME, SHORTHAND, ImportString, Section


@dataclass(frozen=True, slots=True)
class DataFacts:
    """What an algorithm's section may want to know of the data.

    Attributes:
        population: clients.
        cohort: clients of a round.
        loss: the training loss, by name.
        samples: counts all training samples.
        largest: counts those of the largest client.
    """

    population: int
    cohort: int
    loss: str
    samples: Callable[[], int]
    largest: Callable[[], int]


class Algorithm(Section):
    """What every algorithm takes."""

    server_lr: float = Field(1.0, gt=0)
    """Server learning rate: the factor on the averaged update."""

    def fitted(self, facts: DataFacts) -> Self:
        """With what depends on the data made concrete.

        Raises:
            ValueError: a knob does not suit the data; names it and the remedy.
        """
        return self


class Averaging(Algorithm):
    """What every algorithm takes whose server moves along the averaged update."""

    server_momentum: float = Field(0.0, ge=0, lt=1)
    """Server momentum on the averaged update (FedAvgM, Hsu, Qi & Brown 2019)."""


class FedAvg(Averaging):
    """Federated averaging (McMahan et al. 2017)."""

    name: Literal["fedavg"] = "fedavg"


class FedSgd(Averaging):
    """One gradient step of the averaged full gradient (McMahan et al. 2017); `server_lr` is its learning rate.

    The `client` section's optimiser, epochs and batch size are not used.
    """

    name: Literal["fedsgd"] = "fedsgd"
    server_lr: float = Field(0.1, gt=0)
    """Learning rate of the step."""


class Centralised(Algorithm):
    """All training samples in one place, as without a federation: the baseline.

    `cohort`, `selection` and `aggregation.weights` are not used.
    """

    name: Literal["centralised"] = "centralised"


class FedAvgM(Averaging):
    """Federated averaging with server momentum (Hsu, Qi & Brown 2019)."""

    name: Literal["fedavgm"] = "fedavgm"
    server_momentum: float = Field(0.9, ge=0, lt=1)
    """Server momentum β."""


class Adaptive(Algorithm):
    """What the adaptive server optimisers take (Reddi et al. 2021)."""

    server_lr: float = Field(0.1, gt=0)
    """Server learning rate η."""
    beta1: float = Field(0.9, ge=0, lt=1)
    """Decay of the averaged update, β1."""
    tau: float = Field(1e-3, gt=0)
    """Degree of adaptivity τ: added to the root of the second moment, which begins at τ²."""


class FedAdagrad(Adaptive):
    """Adagrad on the server (Reddi et al. 2021)."""

    name: Literal["fedadagrad"] = "fedadagrad"
    beta1: float = Field(0.0, ge=0, lt=1)
    """Decay of the averaged update, β1."""


class FedAdam(Adaptive):
    """Adam on the server (Reddi et al. 2021)."""

    name: Literal["fedadam"] = "fedadam"
    beta2: float = Field(0.99, ge=0, le=1)
    """Decay of the second moment, β2; 1 leaves it at τ²."""


class FedYogi(Adaptive):
    """Yogi on the server (Reddi et al. 2021)."""

    name: Literal["fedyogi"] = "fedyogi"
    beta2: float = Field(0.99, ge=0, le=1)
    """Decay of the second moment, β2; 1 leaves it at τ²."""


class FedProx(Averaging):
    """Local steps with a proximal term that holds them near the broadcast model (Li et al. 2020)."""

    name: Literal["fedprox"] = "fedprox"
    mu: float = Field(0.01, ge=0)
    """Weight µ of the proximal term; 0 is FedAvg."""


class FedNova(Averaging):
    """Updates normalised by how far local steps reach, so that unequal ones do not bias the average (Wang et al. 2020).

    Local SGD, with momentum or without; the other optimisers have no such length.
    """

    name: Literal["fednova"] = "fednova"
    mu: float = Field(0.0, ge=0)
    """Weight µ of a proximal term as in FedProx."""


class FedExp(Algorithm):
    """A server learning rate from how much the updates disagree (Jhunjhunwala et al. 2023); `server_lr` is a factor."""

    name: Literal["fedexp"] = "fedexp"
    epsilon: float = Field(1e-3, ge=0)
    """Added to the squared norm of the averaged update; larger ones keep the learning rate at 1."""


class Scaffold(Averaging):
    """Control variates against client drift, kept by each client (Karimireddy et al. 2020)."""

    name: Literal["scaffold"] = "scaffold"
    option: Literal[1, 2] = 2
    """How clients renew their control variate: 1, the gradient of the whole shard at the broadcast model, a pass over
    it more; 2, the mean of the gradients that they went along, which needs SGD and costs nothing."""


class FedDyn(Algorithm):
    """Dynamic regularisation: dual variables, kept by each client, tilt the local objectives (Acar et al. 2021)."""

    name: Literal["feddyn"] = "feddyn"
    alpha: float = Field(0.1, gt=0)
    """Weight α of the regulariser; the paper tries 0.001 to 0.1."""


class LocalLayers(Averaging):
    """What algorithms take whose clients keep some layers to themselves."""

    local_layers: tuple[str, ...] | None = None
    """Names of the parameters and buffers that stay with the clients, with `*`: `["head.*", "*.bias"]`; by default what
    the paper keeps."""


class FedPer(LocalLayers):
    """Clients keep the last layer to themselves, and all layers train together (Arivazhagan et al. 2019)."""

    name: Literal["fedper"] = "fedper"


class FedRep(LocalLayers):
    """Clients keep the last layer to themselves and train it first, then the others (Collins et al. 2021).

    `client.epochs` are those of the others.
    """

    name: Literal["fedrep"] = "fedrep"
    head_epochs: int = Field(5, ge=0)
    """Epochs that a client trains its own layers, with the shared ones fixed."""


class FedBn(LocalLayers):
    """Clients keep their normalisation layers to themselves (Li et al. 2021)."""

    name: Literal["fedbn"] = "fedbn"


class Local(LocalLayers):
    """No federation: every client trains a model of its own. The baseline of personalisation."""

    name: Literal["local"] = "local"


class MimeLite(Averaging):
    """Local steps with the server's momentum (Karimireddy et al. 2021)."""

    name: Literal["mimelite"] = "mimelite"
    beta: float = Field(0.9, ge=0, lt=1)
    """Momentum β; 0 is FedAvg."""


class Moon(Averaging):
    """Representations held near the global model's, and away from the client's last one's (Li et al. 2021)."""

    name: Literal["moon"] = "moon"
    mu: float = Field(1.0, ge=0)
    """Weight µ of the contrastive term; 0 is FedAvg. The paper tries 0.1 to 10."""
    temperature: float = Field(0.5, gt=0)
    """Temperature τ."""
    layer: str | None = None
    """Name of the submodule whose input is the representation; by default the layer whose parameters come last."""


class Mime(Averaging):
    """Local steps with the server's momentum, every gradient corrected as in SVRG (Karimireddy et al. 2021).

    A cohort stays for two rounds: gradients in the first, local steps in the second.
    """

    name: Literal["mime"] = "mime"
    beta: float = Field(0.9, ge=0, lt=1)
    """Momentum β."""


class Ditto(Averaging):
    """FedAvg, and a model of each client's own that is held near the global one (Li et al. 2021)."""

    name: Literal["ditto"] = "ditto"
    strength: float = Field(0.1, ge=0)
    """How strongly a client's own model is drawn to the global one, λ; 0 trains it alone. The paper tries 0.05 to 2."""


class Ifca(Algorithm):
    """Several models, each for a cluster of clients, who choose the one that suits them best (Ghosh et al. 2020)."""

    name: Literal["ifca"] = "ifca"
    clusters: int = Field(2, ge=1, le=100)
    """Models; 1 is FedAvg. All of them travel in every round."""
    spread: float = Field(1.0, gt=0)
    """How far the other models begin from the first: weights differ by normal numbers of this standard deviation,
    divided by the square root of a layer's inputs."""


class PFedMe(Averaging):
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
    def _does_not_overshoot(self) -> PFedMe:
        if self.local_lr * self.strength > 1 + 1e-9:
            raise ValueError(
                f"local_lr · strength must be at most 1, with which a model follows all the way; it is "
                f"{self.local_lr} · {self.strength}: lower local_lr"
            )
        return self


class Apfl(Averaging):
    """FedAvg, and for each client a mixture of the global model and one of its own (Deng et al. 2020)."""

    name: Literal["apfl"] = "apfl"
    alpha: float = Field(0.5, ge=0, le=1)
    """Share of a client's own model in the mixture, α; 0 is FedAvg, 1 trains alone."""
    adaptive: bool = False
    """Whether every client adapts its α, by a gradient step at the beginning of a round."""


class PerFedAvg(Averaging):
    """A model from which one step on a client's data leads far: first-order Per-FedAvg (Fallah et al. 2020).

    `client.optimizer.lr` is the paper's β. A step takes two batches, so that an epoch is two passes over the shard.
    """

    name: Literal["perfedavg"] = "perfedavg"
    adapt_lr: float = Field(0.01, ge=0)
    """Learning rate of the step ahead, α; 0 is FedAvg."""


class LossRange(Algorithm):
    """What algorithms take that look at the clients' losses under the broadcast model."""

    low: float = Field(1e-3, gt=0)
    """Losses below are raised to this."""
    high: float = Field(10.0, gt=0)
    """Losses above are lowered to this."""

    @model_validator(mode="after")
    def _ordered(self) -> LossRange:
        if not self.low < self.high:
            raise ValueError(f"low ({self.low}) must be below high ({self.high})")
        return self


class QFedAvg(LossRange):
    """Fairer accuracies: clients of high loss count more, by the power q (Li et al. 2020)."""

    name: Literal["qfedavg"] = "qfedavg"
    q: float = Field(1.0, ge=0)
    """Power q; 0 is FedAvg."""
    lipschitz: float | None = Field(None, gt=0)
    """Estimate L of the gradient's Lipschitz constant; by default 1 / the client learning rate, as in the paper."""

    @model_validator(mode="after")
    def _representable(self) -> QFedAvg:
        if (self.high / self.low) ** self.q > 1e9:
            raise ValueError(
                f"(high / low) ** q must be at most 1e9, as sums have 52 fraction bits; it is "
                f"({self.high} / {self.low}) ** {self.q}: raise low"
            )
        return self


class Term(LossRange):
    """Tilted empirical risk: clients count in proportion to exp(t · loss) (Li et al. 2021)."""

    name: Literal["term"] = "term"
    t: float = Field(1.0)
    """Tilt t: above 0 towards the worst clients, below 0 towards the best; 0 is FedAvg."""

    @model_validator(mode="after")
    def _representable(self) -> Term:
        if abs(self.t) * (self.high - self.low) > 20:
            raise ValueError(
                f"|t| · (high - low) must be at most 20, as sums have 52 fraction bits; it is "
                f"{abs(self.t) * (self.high - self.low):g}: lower high"
            )
        return self


class Afl(Averaging):
    """Agnostic federated learning: a model for the worst mixture of domains, groups of clients (Mohri et al. 2019)."""

    name: Literal["afl"] = "afl"
    domains: int | None = Field(None, ge=1)
    """Domains D; a client is of domain id mod D. By default each is one of its own. A client sends 2D numbers."""
    rate: float = Field(0.1, ge=0)
    """Learning rate γ of the mixture λ; 0 is FedAvg with uniform weights."""
    low: float = Field(0.0, ge=0)
    """Losses below are raised to this."""
    high: float = Field(10.0, gt=0, le=1e6)
    """Losses above are lowered to this."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if not self.low < self.high:
            raise ValueError(f"low ({self.low}) must be below high ({self.high})")
        return self

    def fitted(self, facts: DataFacts) -> Self:
        population = facts.population
        if self.domains is None and population > MOST_DOMAINS:
            raise ValueError(
                f"domains: one for each of {population:,} clients would travel with every record; set it, e.g. to 100"
            )
        if self.domains is not None and self.domains > population:
            raise ValueError(f"domains ({self.domains}) are more than the clients ({population}); lower it")
        return self.model_copy(update={"domains": self.domains or population})


MOST_DOMAINS = 10_000
"""Clients beyond which each is not taken for a domain of its own unasked."""


class Cocoa(Algorithm):
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


class CustomAlgorithm(Averaging):
    """An `Algorithm` subclass of yours, by import string; built with `args`."""

    name: ImportString
    args: dict[str, Any] = Field(default_factory=dict)
    """Keyword arguments passed to it."""


AlgorithmConfig = Annotated[
    Annotated[FedAvg, Tag("fedavg")]
    | Annotated[FedSgd, Tag("fedsgd")]
    | Annotated[FedAvgM, Tag("fedavgm")]
    | Annotated[FedAdagrad, Tag("fedadagrad")]
    | Annotated[FedAdam, Tag("fedadam")]
    | Annotated[FedYogi, Tag("fedyogi")]
    | Annotated[FedProx, Tag("fedprox")]
    | Annotated[FedNova, Tag("fednova")]
    | Annotated[FedExp, Tag("fedexp")]
    | Annotated[Scaffold, Tag("scaffold")]
    | Annotated[FedDyn, Tag("feddyn")]
    | Annotated[FedPer, Tag("fedper")]
    | Annotated[FedRep, Tag("fedrep")]
    | Annotated[FedBn, Tag("fedbn")]
    | Annotated[Local, Tag("local")]
    | Annotated[Ditto, Tag("ditto")]
    | Annotated[PFedMe, Tag("pfedme")]
    | Annotated[Apfl, Tag("apfl")]
    | Annotated[PerFedAvg, Tag("perfedavg")]
    | Annotated[MimeLite, Tag("mimelite")]
    | Annotated[Mime, Tag("mime")]
    | Annotated[Moon, Tag("moon")]
    | Annotated[QFedAvg, Tag("qfedavg")]
    | Annotated[Term, Tag("term")]
    | Annotated[Afl, Tag("afl")]
    | Annotated[Centralised, Tag("centralised")]
    | Annotated[Ifca, Tag("ifca")]
    | Annotated[Cocoa, Tag("cocoa")]
    | Annotated[CustomAlgorithm, Tag("custom")],
    BY_NAME,
    SHORTHAND,
]
