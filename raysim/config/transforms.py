"""How samples are cleaned and preprocessed: `data.transforms`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, Tag, model_validator

from raysim.config.base import BY_NAME, SHORTHAND, Section
from raysim.config.bounds import UNITS

DatePart = Literal["year", "month", "day", "weekday", "hour", "days"]


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


class DatesConfig(Section):
    """Turn columns of dates into numbers: `column.year`, `column.month` and so on in the place of each."""

    name: Literal["dates"] = "dates"
    columns: Annotated[tuple[str, ...], Field(min_length=1)]
    """Columns of text, such as `2024-03-01` or `2024-03-01T12:30:00+01:00`."""
    format: str | None = None
    """How they are written, as in Python's `strptime` (`%d.%m.%Y`); by default ISO 8601."""
    parts: Annotated[tuple[DatePart, ...], Field(min_length=1)] = ("year", "month", "weekday")
    """What becomes a column; `days` are those since 1970-01-01 with their fractions, `weekday` is 0 on Mondays."""


class RareConfig(Section):
    """Put one category in the place of all that are rare in training; one that training never saw is rare, too."""

    name: Literal["rare"] = "rare"
    columns: tuple[str, ...] | None = None
    """Columns of categories; by default every column that is not numeric."""
    min_count: int = Field(10, ge=2)
    """A category of fewer training samples is rare."""
    other: str = Field("other", min_length=1)
    """What they become."""


class ClipConfig(Section):
    """Move outliers to quantiles of the training part."""

    name: Literal["clip"] = "clip"
    columns: tuple[str, ...] | None = None
    """Columns of a table; by default every numeric feature."""
    low: float = Field(0.01, ge=0, lt=1)
    """Share of the training part below which values are raised."""
    high: float = Field(0.99, gt=0, le=1)
    """Share of the training part above which values are lowered."""

    @model_validator(mode="after")
    def _ordered(self) -> ClipConfig:
        if not self.low < self.high:
            raise ValueError(f"low ({self.low}) must be below high ({self.high})")
        return self


class OrdinalConfig(Section):
    """Turn each category into its number: 0, 1, … in sorted order, or in one that is given; -1 where it is unknown."""

    name: Literal["ordinal"] = "ordinal"
    columns: tuple[str, ...] | None = None
    """Columns to encode; by default every column that is not numeric."""
    order: dict[str, tuple[str, ...]] = Field({}, max_length=1000)
    """Categories of a column from the lowest to the highest, by its name; sorted, where it has none here."""


class HashConfig(Section):
    """Turn categorical columns into 0/1 columns `name#0`, `name#1`, …: a category belongs to one by its hash.

    Weinberger et al., "Feature Hashing for Large Scale Multitask Learning", ICML 2009. No vocabulary is kept.
    """

    name: Literal["hash"] = "hash"
    columns: tuple[str, ...] | None = None
    """Columns to encode; by default every column that is not numeric."""
    buckets: int = Field(32, ge=2, le=10_000)
    """Columns that are made of each."""


class TargetMeanConfig(Section):
    """Turn each category into the mean target of its training samples, of each class where there are more than two.

    Micci-Barreca, "A Preprocessing Scheme for High-Cardinality Categorical Attributes in Classification and Prediction
    Problems", SIGKDD Explorations 2001: (Σ y + m · prior) / (n + m). The statistics are those of all clients together.
    """

    name: Literal["target_mean"] = "target_mean"
    columns: tuple[str, ...] | None = None
    """Columns to encode; by default every column that is not numeric."""
    smoothing: float = Field(10.0, ge=0)
    """m: samples that the mean of all counts for."""


class IdsConfig(Section):
    """Give the model ids of categories by their columns' names, for embeddings; 0 is whatever training never saw.

    It comes last: the other columns, which are numeric by then, are one more input, `features`.
    """

    name: Literal["ids"] = "ids"
    columns: tuple[str, ...] | None = None
    """Columns of categories, such as users and items; by default every column that is not numeric."""


class TargetConfig(Section):
    """Learn transformed numbers: models predict log(1 + y), or y, standardised or not. Metrics are in the units of the
    data; the loss is not."""

    name: Literal["target"] = "target"
    log1p: bool = False
    """Take log(1 + y) first; every target must be above -1."""
    standardise: bool = True
    """Subtract the training part's mean and divide by its standard deviation."""

    @model_validator(mode="after")
    def _does_something(self) -> TargetConfig:
        if not self.log1p and not self.standardise:
            raise ValueError("neither log1p nor standardise is true; remove the transform")
        return self


class SeriesWindowsConfig(Section):
    """Turn the rows of each owner, in the order of time, into windows `[length, features]`, with the target of a later
    row. It comes last."""

    name: Literal["windows"] = "windows"
    length: int = Field(ge=1, le=UNITS)
    """Rows of a window."""
    horizon: int = Field(1, ge=0, le=UNITS)
    """Rows from the last one of a window to the one whose target is predicted."""
    step: int = Field(1, ge=1, le=UNITS)
    """Rows from one window to the next."""
    time: str | None = None
    """Column that rows are sorted by, which is no feature; by default rows are in the order of the file."""
    past_targets: bool = False
    """Whether the targets of a window's rows are one more feature, the last one."""

    @model_validator(mode="after")
    def _looks_ahead(self) -> SeriesWindowsConfig:
        if self.past_targets and self.horizon == 0:
            raise ValueError("past_targets with horizon 0 would give the model its target; set horizon to 1 or more")
        return self


TransformConfig = Annotated[
    Annotated[MissingConfig, Tag("missing")]
    | Annotated[MinMaxConfig, Tag("min_max")]
    | Annotated[StandardiseConfig, Tag("standardise")]
    | Annotated[OneHotConfig, Tag("one_hot")]
    | Annotated[DatesConfig, Tag("dates")]
    | Annotated[RareConfig, Tag("rare")]
    | Annotated[ClipConfig, Tag("clip")]
    | Annotated[OrdinalConfig, Tag("ordinal")]
    | Annotated[HashConfig, Tag("hash")]
    | Annotated[TargetMeanConfig, Tag("target_mean")]
    | Annotated[IdsConfig, Tag("ids")]
    | Annotated[TargetConfig, Tag("target")]
    | Annotated[SeriesWindowsConfig, Tag("windows")],
    BY_NAME,
    SHORTHAND,
]
