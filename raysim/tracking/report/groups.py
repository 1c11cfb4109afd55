"""Runs of several seeds beside each other: means with intervals, and whether a difference is more than seeds."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from raysim.arrays import Float64
from raysim.errors import RunError
from raysim.tracking.report.markup import table
from raysim.tracking.report.recorded import RecordedRun, labels, read_run
from raysim.tracking.report.result_table import ResultTable

At = Literal["last", "best"]
LEVEL = 0.95
"""Of all intervals; they are Student's."""

_SEEDS = ("seed", "data.seed")
_NO_MATTER = ("name", "tracking.", "execution.", "tuning.")
"""Keys, or what they begin with, by which runs of one group may differ."""


@dataclass(frozen=True, slots=True)
class Group:
    """Runs that differ in their seeds alone.

    Attributes:
        label: what tells it from the other groups: keys and values.
        seeds: of the runs `[n]`, each once.
        values: of the metric `[n]`.
        curves: rounds, and values of the metric `[n, rounds]` where all runs measured it.
    """

    label: str
    seeds: tuple[int, ...]
    values: Float64
    curves: tuple[Float64, Float64]

    @property
    def mean(self) -> float:
        """Over the seeds."""
        return float(self.values.mean())

    @property
    def half(self) -> float:
        """Half of the interval of the mean; NaN for one seed."""
        return interval(self.values)


@dataclass(frozen=True, slots=True)
class Contrast:
    """How far a group's mean lies above that of the first.

    Attributes:
        label: of the group.
        difference: of the means; over the common seeds where it is paired.
        half: half of its interval; NaN where a group has one run.
        paired: over how many seeds that both have; 0 where there are fewer than two, and Welch's interval was taken.
    """

    label: str
    difference: float
    half: float
    paired: int

    @property
    def more_than_seeds(self) -> bool | None:
        """Whether the interval excludes 0; None where nothing can be said."""
        return None if math.isnan(self.half) else abs(self.difference) > self.half


@dataclass(frozen=True, slots=True)
class Compared:
    """What came of a comparison.

    Attributes:
        metric: that was compared.
        at: where in each run.
        groups: in the order in which their first runs were given.
        contrasts: of each group but the first, with the first.
    """

    metric: str
    at: At
    groups: tuple[Group, ...]
    contrasts: tuple[Contrast, ...]

    @property
    def head(self) -> list[str]:
        """The columns of `rows`."""
        return ["group", "seeds", f"{self.metric} ({self.at})", "difference", "more than seeds"]

    def rows(self, sign: str = "±") -> Iterator[list[str]]:
        """A row of text for each group; `sign` stands before half of an interval."""
        for group, contrast in zip(self.groups, (None, *self.contrasts), strict=True):
            row = [group.label, str(len(group.seeds)), _shown(group.mean, group.half, sign)]
            if contrast is None:
                yield [*row, "", ""]
                continue
            pairs = f", {contrast.paired} pairs" if contrast.paired else ""
            verdict = {True: "yes", False: "no", None: "unknown: one run"}[contrast.more_than_seeds]
            yield [*row, _shown(contrast.difference, contrast.half, sign, signed=True), verdict + pairs]

    def table(self) -> ResultTable:
        """A row a group, with its difference from the first."""
        rows = [
            {
                "group": group.label,
                "seeds": len(group.seeds),
                "mean": group.mean,
                "half": group.half,
                "difference": None if contrast is None else contrast.difference,
                "difference_half": None if contrast is None else contrast.half,
                "more_than_seeds": None if contrast is None else contrast.more_than_seeds,
            }
            for group, contrast in zip(self.groups, (None, *self.contrasts), strict=True)
        ]
        return ResultTable(pa.Table.from_pylist(rows))

    def to_pandas(self) -> Any:
        """The same as a `pandas.DataFrame`.

        Raises:
            ConfigError: pandas is not installed.
        """
        return self.table().to_pandas()

    def _repr_html_(self) -> str:
        return table(self.head, self.rows()).text


def interval(values: Float64, level: float = LEVEL) -> float:
    """Half of the interval of the mean of these values `[n]`; NaN for fewer than two."""
    if len(values) < 2:
        return math.nan
    return _quantile(len(values) - 1, level) * float(values.std(ddof=1)) / math.sqrt(len(values))


def compare(runs: Sequence[str | Path], metric: str | None = None, at: At = "last") -> Compared:
    """Compare runs, those that differ in seeds alone as one group.

    Args:
        runs: run directories.
        metric: a column of rounds.parquet; by default the one that the first run is judged by.
        at: the metric's last value in each run, or its best.

    Raises:
        RunError: a folder is no run, a run has not measured the metric, or a seed is there twice in a group.
    """
    paths = list({Path(run).resolve(): Path(run) for run in runs}.values())
    if not paths:
        raise RunError("nothing to compare: give run directories")
    return compare_read([read_run(path, label) for path, label in zip(paths, labels(paths), strict=True)], metric, at)


def compare_read(read: Sequence[RecordedRun], metric: str | None = None, at: At = "last") -> Compared:
    """As `compare`, of runs that were read.

    Raises:
        RunError: a run has not measured the metric, or a seed is there twice in a group.
    """
    metric = metric or read[0].headline
    if metric is None:
        raise RunError(f"{read[0].label}: has measured nothing; give --metric")
    found: dict[str, list[RecordedRun]] = {}
    for run in read:
        found.setdefault(repr(sorted(_identity(run).items(), key=lambda pair: pair[0])), []).append(run)
    names = _names([_identity(members[0]) for members in found.values()])
    groups = tuple(_group(name, members, metric, at) for name, members in zip(names, found.values(), strict=True))
    return Compared(metric, at, groups, tuple(_contrast(groups[0], one) for one in groups[1:]))


def _shown(value: float, half: float, sign: str, *, signed: bool = False) -> str:
    text = f"{value:+.4f}" if signed else f"{value:.4f}"
    return text if math.isnan(half) else f"{text} {sign} {half:.4f}"


def _identity(run: RecordedRun) -> dict[str, Any]:
    """What the runs of a group have in common."""
    return {key: value for key, value in run.config.items() if key not in _SEEDS and not key.startswith(_NO_MATTER)}


def _names(configs: Sequence[Mapping[str, Any]]) -> list[str]:
    """What tells each of these configurations from the others: keys with values, a chosen name before its options."""
    keys = list(dict.fromkeys(key for config in configs for key in config))
    differ = [key for key in keys if any(one.get(key) != configs[0].get(key) for one in configs)]
    chosen = {key.removesuffix("name") for key in differ if key.endswith(".name")}
    shown = [key for key in differ if key.endswith(".name") or not key.startswith(tuple(chosen))]
    texts = [
        ", ".join(f"{key.removesuffix('.name')} {config[key]}" for key in shown if key in config) for config in configs
    ]
    if len(set(texts)) < len(texts):  # choices of one name differ in their options
        texts = [", ".join(f"{key} {config[key]}" for key in differ if key in config) for config in configs]
    return [text or "all runs" for text in texts]


def _group(name: str, runs: Sequence[RecordedRun], metric: str, at: At) -> Group:
    seeds = [int(run.config["seed"]) for run in runs]
    if len(set(seeds)) < len(seeds):
        twice = next(seed for seed in seeds if seeds.count(seed) > 1)
        raise RunError(f"{runs[0].label}: seed {twice} is there twice in the group {name!r}; give each run once")
    values = []
    for run in runs:
        curve, best = run.curve(metric), run.best(metric)
        if not len(curve.values):
            measured = ", ".join(run.metrics[:6]) or "nothing"
            raise RunError(f"{run.label}: has not measured {metric!r}; it has {measured}")
        if at == "best" and best is None:
            raise RunError(f"{metric}: has no better and worse; use --at last")
        values.append(best[1] if at == "best" and best is not None else float(curve.values[-1]))
    return Group(name, tuple(seeds), np.array(values), _curves(runs, metric))


def _curves(runs: Sequence[RecordedRun], metric: str) -> tuple[Float64, Float64]:
    curves = [run.curve(metric) for run in runs]
    rounds = curves[0].rounds
    for curve in curves[1:]:
        rounds = np.intersect1d(rounds, curve.rounds)
    return rounds, np.array([curve.values[np.isin(curve.rounds, rounds)] for curve in curves])


def _contrast(first: Group, other: Group) -> Contrast:
    common = [seed for seed in first.seeds if seed in other.seeds]
    if len(common) >= 2:
        pairs = [other.values[other.seeds.index(seed)] - first.values[first.seeds.index(seed)] for seed in common]
        differences = np.array(pairs)
        return Contrast(other.label, float(differences.mean()), interval(differences), len(common))
    return Contrast(other.label, other.mean - first.mean, _welch(first.values, other.values), 0)


def _welch(a: Float64, b: Float64) -> float:
    """Half of the interval of the difference of two means whose variances differ (Welch 1947)."""
    if min(len(a), len(b)) < 2:
        return math.nan
    u, v = float(a.var(ddof=1)) / len(a), float(b.var(ddof=1)) / len(b)
    if u + v == 0:
        return 0.0
    freedom = (u + v) ** 2 / (u**2 / (len(a) - 1) + v**2 / (len(b) - 1))
    return _quantile(freedom, LEVEL) * math.sqrt(u + v)


def _quantile(freedom: float, level: float) -> float:
    from scipy.stats import t

    return float(t.ppf(0.5 + level / 2, freedom))
