"""What a client does against classes of unequal size: weights of classes, corrected logits, resampled epochs."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, Tag, model_validator

from raysim.config.base import BY_NAME, SHORTHAND, Section

# `training.class_weights`


class EqualClassesConfig(Section):
    """Every sample counts the same."""

    name: Literal["none"] = "none"


class CountedWeightsConfig(Section):
    """What weights take that are made from label counts."""

    scope: Literal["client", "federation"] = "federation"
    """Whose training labels are counted: each client's own, or those of all clients."""


class InverseWeightsConfig(CountedWeightsConfig):
    """A class counts in inverse proportion to its samples."""

    name: Literal["inverse"] = "inverse"


class EffectiveWeightsConfig(CountedWeightsConfig):
    """A class counts in inverse proportion to its effective number of samples (Cui et al. 2019)."""

    name: Literal["effective"] = "effective"
    beta: float = Field(0.999, ge=0, lt=1)
    """The effective number of n samples is (1 − βⁿ) / (1 − β): 0 counts all classes the same, near 1 as `inverse`."""


class ExplicitClassWeightsConfig(Section):
    """Weights by hand, used as they are: `{3: 10.0}` has a sample of class 3 count ten times."""

    name: Literal["explicit"] = "explicit"
    table: dict[Annotated[int, Field(ge=0)], Annotated[float, Field(ge=0)]]
    """Weight of each class."""
    default: float = Field(1.0, ge=0)
    """Weight of a class that the table does not name."""


ClassWeightsConfig = Annotated[
    Annotated[EqualClassesConfig, Tag("none")]
    | Annotated[InverseWeightsConfig, Tag("inverse")]
    | Annotated[EffectiveWeightsConfig, Tag("effective")]
    | Annotated[ExplicitClassWeightsConfig, Tag("explicit")],
    BY_NAME,
    SHORTHAND,
]


# `training.logits`


class PlainLogitsConfig(Section):
    """Logits as the model gives them."""

    name: Literal["plain"] = "plain"


class AdjustedLogitsConfig(Section):
    """Add tau · log of each class's share of the federation's labels in training (Menon et al. 2021)."""

    name: Literal["adjusted"] = "adjusted"
    tau: float = Field(1.0, ge=0)
    """Strength; 0 changes nothing."""


class FedLcLogitsConfig(Section):
    """FedLC: subtract tau · n^(−1/4) for the client's own n samples of each class (Zhang et al. 2022)."""

    name: Literal["fedlc"] = "fedlc"
    tau: float = Field(1.0, ge=0)
    """Strength; 0 changes nothing."""


class FedRsLogitsConfig(Section):
    """FedRS, restricted softmax: scale the logits of classes that the client lacks (Li & Zhan 2021)."""

    name: Literal["fedrs"] = "fedrs"
    alpha: float = Field(0.5, ge=0, le=1)
    """The scale; 1 changes nothing."""


LogitsConfig = Annotated[
    Annotated[PlainLogitsConfig, Tag("plain")]
    | Annotated[AdjustedLogitsConfig, Tag("adjusted")]
    | Annotated[FedLcLogitsConfig, Tag("fedlc")]
    | Annotated[FedRsLogitsConfig, Tag("fedrs")],
    BY_NAME,
    SHORTHAND,
]


# `client.resampling`


class NoResamplingConfig(Section):
    """An epoch sees every sample once."""

    name: Literal["none"] = "none"


class BalancedResamplingConfig(Section):
    """Draw the samples of an epoch so that each class of the client is drawn equally often; its length stays."""

    name: Literal["balanced"] = "balanced"


class CappedResamplingConfig(Section):
    """Draw the samples of an epoch as if no class had more than a given number of them; its length stays."""

    name: Literal["capped"] = "capped"
    ratio: float | None = Field(5.0, ge=1)
    """No class counts for more than this multiple of the client's smallest; null (default beside `cap`) is no limit."""
    cap: int | None = Field(None, ge=1)
    """No class counts for more than this number of samples."""

    @model_validator(mode="before")
    @classmethod
    def _a_cap_alone(cls, values: Any) -> Any:
        if isinstance(values, dict) and values.get("cap") is not None:
            return {"ratio": None, **values}
        return values

    @model_validator(mode="after")
    def _some_limit(self) -> CappedResamplingConfig:
        if self.ratio is None and self.cap is None:
            raise ValueError("capped resampling without a limit caps nothing; set ratio or cap")
        return self


ResamplingConfig = Annotated[
    Annotated[NoResamplingConfig, Tag("none")]
    | Annotated[BalancedResamplingConfig, Tag("balanced")]
    | Annotated[CappedResamplingConfig, Tag("capped")],
    BY_NAME,
    SHORTHAND,
]
