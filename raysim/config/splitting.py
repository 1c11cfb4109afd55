"""Which samples are tested on: `data.split`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Tag

from raysim.config.base import BY_NAME, SHORTHAND, Section


class RandomSplitConfig(Section):
    """Keyed choices, of the whole or of each owner."""

    name: Literal["random"] = "random"


class StratifiedSplitConfig(Section):
    """Shares are taken of each class separately, and of each class of each owner where owners are clients."""

    name: Literal["stratified"] = "stratified"


class GroupSplitConfig(Section):
    """Samples of one group stay together: all are for training, for validation, or for testing."""

    name: Literal["group"] = "group"
    column: str
    """Column of the table that says whose group a sample is of, such as a household."""
    keep: bool = False
    """Whether the model learns from the column as well."""


class TimeSplitConfig(Section):
    """The latest samples are for testing, those before them for validation; of each owner where owners are clients."""

    name: Literal["time"] = "time"
    column: str
    """Column of the table: numbers, or dates in ISO 8601."""
    keep: bool = False
    """Whether the model learns from the column as well (see the transform `dates`)."""


SplitConfig = Annotated[
    Annotated[RandomSplitConfig, Tag("random")]
    | Annotated[StratifiedSplitConfig, Tag("stratified")]
    | Annotated[GroupSplitConfig, Tag("group")]
    | Annotated[TimeSplitConfig, Tag("time")],
    BY_NAME,
    SHORTHAND,
]
