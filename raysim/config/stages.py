"""Stages of `aggregation.stages`: layers around the sum of updates, outermost first."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, Tag

from raysim.config.base import BY_NAME, SHORTHAND, ImportString, Section
from raysim.config.bounds import Arguments
from raysim.config.canaries import CanariesStageConfig
from raysim.config.compression import (
    CompressStageConfig,
    DownlinkStageConfig,
    RandomKStageConfig,
    RotateStageConfig,
    SketchStageConfig,
)
from raysim.config.noise import (
    AdaptiveClipStageConfig,
    BltStageConfig,
    BsrStageConfig,
    DiscreteGaussianStageConfig,
    GaussianStageConfig,
    LayerClipStageConfig,
    LocalGaussianStageConfig,
    LocalLaplaceStageConfig,
    SkellamStageConfig,
    TreeStageConfig,
)


class ZeroStageConfig(Section):
    """Set what a client sends to zero where it is not finite, or its norm is too large."""

    name: Literal["zero"] = "zero"
    max_norm: float | None = Field(None, gt=0)
    """L2 norm beyond which everything that a client sends is set to zero; by default only values that are not finite
    are a reason."""


class ClipStageConfig(Section):
    """Scale what a client sends down to a largest norm, over all fields that depend on its data together."""

    name: Literal["clip"] = "clip"
    max_norm: float = Field(gt=0)
    """The largest norm."""
    order: Literal[1, 2] = 2
    """Of the norm: 2 is the Euclidean one, 1 the sum of magnitudes, which Laplace noise needs."""


class MeasureStageConfig(Section):
    """Record the norms of what clients send here, and of their mean; change nothing."""

    name: Literal["measure"] = "measure"


class CustomStageConfig(Section):
    """An `UpdateStage` subclass of yours, by import string; built with `args`."""

    name: ImportString
    args: Arguments = Field(default_factory=dict)
    """Keyword arguments passed to it."""


StageConfig = Annotated[
    Annotated[CanariesStageConfig, Tag("canaries")]
    | Annotated[AdaptiveClipStageConfig, Tag("adaptive_clip")]
    | Annotated[LayerClipStageConfig, Tag("layer_clip")]
    | Annotated[GaussianStageConfig, Tag("gaussian")]
    | Annotated[TreeStageConfig, Tag("tree")]
    | Annotated[BsrStageConfig, Tag("bsr")]
    | Annotated[BltStageConfig, Tag("blt")]
    | Annotated[LocalGaussianStageConfig, Tag("local_gaussian")]
    | Annotated[LocalLaplaceStageConfig, Tag("local_laplace")]
    | Annotated[DiscreteGaussianStageConfig, Tag("discrete_gaussian")]
    | Annotated[SkellamStageConfig, Tag("skellam")]
    | Annotated[RotateStageConfig, Tag("rotate")]
    | Annotated[CompressStageConfig, Tag("compress")]
    | Annotated[RandomKStageConfig, Tag("randk")]
    | Annotated[SketchStageConfig, Tag("sketch")]
    | Annotated[DownlinkStageConfig, Tag("downlink")]
    | Annotated[ZeroStageConfig, Tag("zero")]
    | Annotated[ClipStageConfig, Tag("clip")]
    | Annotated[MeasureStageConfig, Tag("measure")]
    | Annotated[CustomStageConfig, Tag("custom")],
    BY_NAME,
    SHORTHAND,
]
