"""Outputs of `raysim runs` and `compare`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from raysim.tracking.past import State
from raysim.tracking.report.groups import At, Compared


@dataclass(frozen=True, slots=True)
class ListedRun:
    """A run.

    Attributes:
        run: its directory.
        began: when, in ISO 8601 with the time zone; null where its log does not say.
        state: `unfinished` was killed; `damaged` cannot be read.
        reason: why it ended, or what is damaged.
        rounds: that are committed.
        planned: rounds that its configuration asks for.
        seconds: spent in rounds, by the clock.
        metric: that it is judged by; null if nothing was measured.
        last: its last value.
        best: its best value.
        best_round: the round of the best; 0 where there is none.
        config: dotted keys and values of its configuration.
    """

    run: str
    began: str | None
    state: State
    reason: str | None
    rounds: int
    planned: int | None
    seconds: float
    metric: str | None
    last: float
    best: float
    best_round: int
    config: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class RunsOutput:
    """The runs of a folder.

    Attributes:
        runs: newest first, no more than `--limit`.
        found: how many there are that pass the filters.
    """

    runs: tuple[ListedRun, ...]
    found: int


@dataclass(frozen=True, slots=True)
class ComparedGroup:
    """Runs that differ in their seeds alone.

    Attributes:
        label: what tells it from the other groups: keys and values.
        seeds: of its runs.
        values: of the metric, one a seed.
        mean: of the values.
        half: half of the 95 % interval of the mean; null for one seed.
    """

    label: str
    seeds: tuple[int, ...]
    values: tuple[float, ...]
    mean: float
    half: float


@dataclass(frozen=True, slots=True)
class ComparedContrast:
    """How far a group's mean lies above that of the first.

    Attributes:
        label: of the group.
        difference: of the means, over the common seeds where there are two or more.
        half: half of its 95 % interval; null where a group has one run.
        pairs: common seeds, over which differences were taken; 0 for Welch's interval.
        more_than_seeds: whether the interval excludes 0; null where nothing can be said.
    """

    label: str
    difference: float
    half: float
    pairs: int
    more_than_seeds: bool | None


@dataclass(frozen=True, slots=True)
class CompareOutput:
    """Runs of several seeds beside each other.

    Attributes:
        metric: that was compared.
        at: whether its last or its best value in each run.
        groups: in the order in which their first runs were given.
        contrasts: of each group but the first, with the first.
        picture: that was drawn.
    """

    metric: str
    at: At
    groups: tuple[ComparedGroup, ...]
    contrasts: tuple[ComparedContrast, ...]
    picture: Path | None

    @classmethod
    def of(cls, found: Compared, picture: Path | None) -> CompareOutput:
        """The same for a program."""
        groups = (
            ComparedGroup(one.label, one.seeds, tuple(one.values.tolist()), one.mean, one.half) for one in found.groups
        )
        contrasts = (
            ComparedContrast(one.label, one.difference, one.half, one.paired, one.more_than_seeds)
            for one in found.contrasts
        )
        return cls(found.metric, found.at, tuple(groups), tuple(contrasts), picture)
