"""The `algorithm` section of those that aggregate LoRA adapters."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from raysim.config.algorithm_base import AveragingConfig, BaseAlgorithmConfig, DataFacts
from raysim.config.bounds import SEED, UNITS
from raysim.config.personal import LocalLayersConfig


class AdaptersConfig(BaseAlgorithmConfig):
    """What algorithms take that aggregate LoRA adapters."""

    ranks: tuple[Annotated[int, Field(ge=1, le=UNITS)], ...] | None = None
    """Ranks of the clients' adapters: of n ranks, client i has the one at place i mod n. By default all have the
    model's."""
    shares: tuple[Annotated[float, Field(gt=0, le=1)], ...] | None = None
    """Share of the population that has each of `ranks`; which client has which is a keyed hash of the client."""
    seed: int | None = Field(None, ge=0, le=SEED)
    """Keys what is drawn: ranks by `shares`, and fresh adapters; by default the experiment's."""

    draws: ClassVar[bool] = False
    """Whether adapters are drawn anew."""

    @model_validator(mode="after")
    def _shares_make_a_whole(self) -> Self:
        if self.ranks is not None and not self.ranks:
            raise ValueError("ranks: empty; give at least one, or leave it out")
        if self.shares is not None and len(self.shares) != len(self.ranks or ()):
            raise ValueError(f"shares: {len(self.shares)} of {len(self.ranks or ())} ranks; give one for each rank")
        if self.shares is not None and abs(sum(self.shares) - 1) > 1e-6:
            raise ValueError(f"shares: they sum to {sum(self.shares):g}; they must sum to 1")
        if self.seed is not None and self.shares is None and not self.draws:
            raise ValueError("seed: nothing is drawn; leave it out, or set shares")
        return self

    def fitted(self, facts: DataFacts) -> Self:
        draws = self.draws or self.shares is not None
        return self.model_copy(update={"seed": facts.seed}) if draws and self.seed is None else self


class ProductsConfig(AdaptersConfig):
    """What algorithms take for which the server needs the mean of products."""

    products: Literal["auto", "sums", "rows"] = "auto"
    """How products B_k A_k reach the server: as sums of the products of updates, or of each client the factors, from
    which the server forms them. `auto` takes rows where they are fewer bytes than a sum, or where there are stages that
    change updates."""
    clients: int | None = Field(None, ge=1)
    """Clients of a round, by which `auto` decides; counted by itself."""

    @property
    def multiplies(self) -> bool:
        """Whether there are products at all."""
        return True

    def fitted(self, facts: DataFacts) -> Self:
        fitted = super().fitted(facts)
        if not self.multiplies or self.products != "auto":
            return fitted
        if self.clients not in (None, facts.cohort):
            raise ValueError(f"clients: {self.clients} is not what a round has ({facts.cohort}); leave it out")
        if facts.learned:
            return fitted.model_copy(update={"products": "sums"})
        return fitted.model_copy(update={"products": "rows"} if facts.changed else {"clients": facts.cohort})


class FedItConfig(ProductsConfig, AveragingConfig):
    """A and B averaged apart, adapters of lower rank padded with zeros (Zhang et al. 2023)."""

    name: Literal["fedit"] = "fedit"
    measure_gap: bool = False
    """Record how far the product of the averages is from the average of the products, as `lora/gap`."""

    @property
    def multiplies(self) -> bool:
        return self.measure_gap

    @model_validator(mode="after")
    def _has_products(self) -> Self:
        if not self.measure_gap and (self.products != "auto" or self.clients is not None):
            raise ValueError("products: there are none; leave it out, or set measure_gap")
        return self


class FfaLoraConfig(AdaptersConfig, AveragingConfig):
    """A stays at its first value, only B trains and travels (Sun et al. 2024)."""

    name: Literal["ffa_lora"] = "ffa_lora"


class RoLoraConfig(AdaptersConfig):
    """B trains and travels in odd rounds, A in even ones (Chen et al. 2024)."""

    name: Literal["rolora"] = "rolora"


class FedSaLoraConfig(LocalLayersConfig):
    """A is averaged, every client keeps its B (Guo et al. 2024)."""

    name: Literal["fedsa_lora"] = "fedsa_lora"


class FedExLoraConfig(ProductsConfig):
    """A and B averaged apart, and what their product lacks goes into the base (Singhal et al. 2024)."""

    name: Literal["fedex_lora"] = "fedex_lora"
    versions: ClassVar[bool] = True


class FloraConfig(ProductsConfig):
    """The mean of the products goes into the base, and adapters begin anew each round (Wang et al. 2024)."""

    name: Literal["flora"] = "flora"
    versions: ClassVar[bool] = True
    draws: ClassVar[bool] = True


class FlexLoraConfig(ProductsConfig):
    """The mean of the products, cut to the adapters' rank by its singular values (Bai et al. 2024)."""

    name: Literal["flexlora"] = "flexlora"


class HLoraConfig(ProductsConfig):
    """The same for mixed ranks: each client has the leading part that its rank can hold (Liu et al. 2025)."""

    name: Literal["hlora"] = "hlora"
