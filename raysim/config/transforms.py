"""How samples are cleaned and preprocessed: `data.transforms`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, Tag, model_validator

from raysim.config.base import BY_NAME, SHORTHAND, Section


class MissingConfig(Section):
    """Rows with NaN or infinity: drop them, or fill the holes with a statistic of the training part."""

    name: Literal["missing"] = "missing"
    action: Literal["drop", "mean", "median", "zero"] = "drop"
    """`drop` removes the row; the others fill the hole."""
    allow_lost: tuple[Literal["classes", "clients"], ...] = ()
    """What `drop` may remove to the last training sample; by default a class or a client that it would is an error."""

    @model_validator(mode="after")
    def _only_drop_loses(self) -> MissingConfig:
        if self.allow_lost and self.action != "drop":
            raise ValueError(f"allow_lost is for action: drop; {self.action} loses nothing, remove it")
        return self


class MinMaxConfig(Section):
    """Scale each feature linearly to a range, from the training part's minimum and maximum."""

    name: Literal["min_max"] = "min_max"
    low: float = 0.0
    """Where the minimum goes."""
    high: float = 1.0
    """Where the maximum goes."""

    @model_validator(mode="after")
    def _ordered(self) -> MinMaxConfig:
        if not self.low < self.high:
            raise ValueError(f"low ({self.low}) must be below high ({self.high})")
        return self


class StandardiseConfig(Section):
    """Subtract the training part's mean of each feature and divide by its standard deviation."""

    name: Literal["standardise"] = "standardise"


class OneHotConfig(Section):
    """Turn categorical columns of a table into one 0/1 column a category seen in training."""

    name: Literal["one_hot"] = "one_hot"
    columns: tuple[str, ...] | None = None
    """Columns to encode; by default every column that is not numeric."""
    max_categories: int = Field(1000, ge=1)
    """A column with more categories is an error: each becomes a column of its own, and it may be an id or a text."""


TransformConfig = Annotated[
    Annotated[MissingConfig, Tag("missing")]
    | Annotated[MinMaxConfig, Tag("min_max")]
    | Annotated[StandardiseConfig, Tag("standardise")]
    | Annotated[OneHotConfig, Tag("one_hot")],
    BY_NAME,
    SHORTHAND,
]
