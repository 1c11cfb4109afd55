"""How much updates of old models count, for asynchronous timetables."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, Tag

from raysim.config.base import BY_NAME, SHORTHAND, Section


class ConstantStalenessConfig(Section):
    """Old updates count as much as new ones."""

    name: Literal["constant"] = "constant"


class PolynomialStalenessConfig(Section):
    """An update that is s server steps old counts (1 + s)^-exponent (Xie et al. 2019; Nguyen et al. 2022)."""

    name: Literal["polynomial"] = "polynomial"
    exponent: float = Field(0.5, ge=0, le=10)
    """How fast updates lose their weight."""


class HingeStalenessConfig(Section):
    """An update counts in full until it is b server steps old, then 1 / (a·(s - b) + 1) (Xie et al. 2019)."""

    name: Literal["hinge"] = "hinge"
    a: float = Field(10.0, gt=0, le=1e6)
    """How fast updates lose their weight beyond b."""
    b: int = Field(4, ge=0)
    """Server steps until which an update counts in full."""


StalenessConfig = Annotated[
    Annotated[ConstantStalenessConfig, Tag("constant")]
    | Annotated[PolynomialStalenessConfig, Tag("polynomial")]
    | Annotated[HingeStalenessConfig, Tag("hinge")],
    BY_NAME,
    SHORTHAND,
]
