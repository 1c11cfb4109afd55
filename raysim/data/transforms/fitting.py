"""Fitting a chain of transforms, applying it, and storing it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any, Protocol

import numpy as np

from raysim.arrays import Array
from raysim.config.transforms import (
    ClipConfig,
    DatesConfig,
    HashConfig,
    IdsConfig,
    MinMaxConfig,
    MissingConfig,
    OneHotConfig,
    OrdinalConfig,
    RareConfig,
    SeriesWindowsConfig,
    StandardiseConfig,
    TargetConfig,
    TargetMeanConfig,
    TransformConfig,
)
from raysim.data.dataset import Columns, Pool
from raysim.data.federation import DataInfo
from raysim.data.lazy import LazyArray
from raysim.data.transforms.categories import Encode, fit_one_hot
from raysim.data.transforms.clipping import ClipOutliers, fit_clip
from raysim.data.transforms.dates import Dates, fit_dates
from raysim.data.transforms.encodings import (
    Hashed,
    Merge,
    Numbered,
    fit_hash,
    fit_ordinal,
    fit_rare,
    fit_target_mean,
)
from raysim.data.transforms.features import feature_name, is_numeric, source_row
from raysim.data.transforms.ids import Ids, fit_ids
from raysim.data.transforms.memory import check_room
from raysim.data.transforms.missing import Drop, Fill, fit_missing
from raysim.data.transforms.scaling import Scale, fit_min_max, fit_standardise
from raysim.data.transforms.target import ScaledTarget, fit_target
from raysim.data.transforms.vocabulary import Vocabulary, fit_vocabulary
from raysim.data.transforms.windows import SeriesWindows, fit_windows
from raysim.errors import DataError


class FittedTransform(Protocol):
    """A fitted transform: a frozen dataclass whose fields are strings, numbers, None, or tuples of these."""

    def apply(self, pool: Pool) -> Pool:
        """The pool, transformed.

        Raises:
            DataError: the pool does not look like the one that was fitted.
        """
        ...


_FIT: dict[type, Callable[[Any, Pool], FittedTransform]] = {
    MissingConfig: fit_missing,
    MinMaxConfig: fit_min_max,
    StandardiseConfig: fit_standardise,
    OneHotConfig: fit_one_hot,
    DatesConfig: fit_dates,
    RareConfig: fit_rare,
    ClipConfig: fit_clip,
    OrdinalConfig: fit_ordinal,
    HashConfig: fit_hash,
    TargetMeanConfig: fit_target_mean,
    IdsConfig: fit_ids,
    TargetConfig: fit_target,
    SeriesWindowsConfig: fit_windows,
}
_STEPS: dict[str, type[Any]] = {
    "drop": Drop,
    "fill": Fill,
    "scale": Scale,
    "encode": Encode,
    "vocabulary": Vocabulary,
    "dates": Dates,
    "merge": Merge,
    "clip": ClipOutliers,
    "numbered": Numbered,
    "hashed": Hashed,
    "ids": Ids,
    "target": ScaledTarget,
    "windows": SeriesWindows,
}
_FEWER = "list columns in data.source.ignore"
_NAMES = {step: name for name, step in _STEPS.items()}


@dataclass(frozen=True, slots=True)
class Fitted:
    """The fitted chain, in order."""

    steps: tuple[FittedTransform, ...]

    @property
    def vocabulary(self) -> Vocabulary | None:
        """The characters behind token ids, where x was text."""
        return next((step for step in self.steps if isinstance(step, Vocabulary)), None)

    def to_json(self) -> list[dict[str, Any]]:
        """Plain lists, dictionaries, strings and numbers; floats survive `json` to the last bit."""
        steps: Iterable[Any] = self.steps  # dataclasses, which the protocol does not say
        return [{"step": _NAMES[type(step)], **asdict(step)} for step in steps]

    @classmethod
    def from_json(cls, value: Any) -> Fitted:
        """What `to_json` gave.

        Raises:
            DataError: it is something else.
        """
        try:
            steps = [dict(entry) for entry in value]
            return cls(tuple(_STEPS[entry.pop("step")](**_tuples(entry)) for entry in steps))
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"stored transforms are not readable ({error!r}); build the data again") from None


def _tuples(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _tuples(entry) for key, entry in value.items()}
    return tuple(map(_tuples, value)) if isinstance(value, list | tuple) else value


def fit(transforms: Sequence[TransformConfig], train: Pool) -> Fitted:
    """Fit each transform on the training part as the ones before it leave it.

    Raises:
        DataError: a transform does not apply to this data, or leaves no sample.
    """
    if transforms and isinstance(train.x, LazyArray):
        what = "a corpus of tokens" if train.kind == "tokens" else "what is read sample by sample"
        raise DataError(f"{train.origin}: {what} takes no transforms; remove data.transforms")
    steps: list[FittedTransform] = []
    if not isinstance(train.x, Columns) and train.x.dtype.kind == "U":
        steps.append(fit_vocabulary(train))
        train = steps[-1].apply(train)
    for config in transforms:
        if steps and isinstance(steps[-1], Ids | SeriesWindows):
            last = "ids makes several inputs" if isinstance(steps[-1], Ids) else "windows makes series"
            raise DataError(f"{train.origin}: {last} of a table, so it is the last transform; move it")
        if isinstance(config, TargetConfig) and any(isinstance(step, ScaledTarget) for step in steps):
            raise DataError(f"{train.origin}: target is among the transforms twice; remove one")
        fit_step = _FIT[type(config)]
        if isinstance(config, OneHotConfig) and any(isinstance(step, Fill) for step in steps):
            fit_step = partial(fit_one_hot, holes_are_zeros=True)
        steps.append(fit_step(config, train))
        train = _not_empty(steps[-1].apply(train), steps[-1])
    return Fitted(tuple(steps))


def apply(fitted: Fitted, pool: Pool, watch: Callable[[Pool, Pool], None] | None = None) -> Pool:
    """Any part of the data as the arrays that models see; rows may have been dropped.

    Args:
        fitted: the chain.
        pool: the part.
        watch: called with the pool before and after each step that has dropped rows.

    Returns:
        A pool with x `[n, …]` float32 (`real`), uint8 (`pixels`) or integer ids (`tokens`); without NaN or infinity.

    Raises:
        DataError: a hole or a categorical column is left, no sample is, or the pool is not of the fitted kind.
    """
    for step in fitted.steps:
        before, pool = pool, step.apply(pool)
        if watch is not None and len(pool) < len(before):
            watch(before, pool)
    _not_empty(pool, fitted.steps[-1] if fitted.steps else None)
    names = pool.x.names if isinstance(pool.x, Columns) else None
    x = _matrix(pool.x, pool) if isinstance(pool.x, Columns) else pool.x
    if pool.kind == "real" and isinstance(x, np.ndarray):
        x = x.astype(np.float32, copy=False)
        _check_finite(pool, x, names)
    return replace(pool, x=x)


def describe(fitted: Fitted, info: DataInfo, train: Pool) -> DataInfo:
    """What a sample looks like now; `train` is the training part after `apply`."""
    info = replace(info, input_shape=train.sample_shape, input_kind=train.kind)
    if fitted.steps and isinstance(fitted.steps[-1], Ids):
        info = replace(info, inputs=fitted.steps[-1].inputs)
    if scaled := [step for step in fitted.steps if isinstance(step, ScaledTarget)]:
        if info.targets:
            raise DataError(f"{train.origin}: target transforms one target, samples have several by name; remove it")
        info = replace(info, scaling=scaled[0].scaling)
    if fitted.vocabulary is None:
        return info
    return replace(info, classes=len(fitted.vocabulary), vocabulary=len(fitted.vocabulary))


def _not_empty(pool: Pool, step: FittedTransform | None) -> Pool:
    if len(pool) == 0 and isinstance(step, SeriesWindows):
        rows = step.length + step.horizon
        raise DataError(f"{pool.origin}: no owner has {rows} rows in one part, a window and its target; lower length")
    if len(pool) == 0:
        raise DataError(f"{pool.origin}: no sample is left; every row has a hole: use `missing: {{action: mean}}`")
    return pool


def _matrix(columns: Columns, pool: Pool) -> Array:
    for name, values in zip(columns.names, columns.values, strict=True):
        if not is_numeric(values):
            remedy = "the `one_hot` transform (or dates, ordinal, hash, target_mean), or list it in data.source.ignore"
            raise DataError(f"{pool.origin}: column {name!r} is not numeric; add {remedy}")
    check_room(pool, 4 * len(columns) * len(columns.names), f"a matrix of {len(columns.names):,} columns", _FEWER)
    matrix = np.empty((len(columns), len(columns.names)), np.float32)
    with np.errstate(over="ignore"):  # what becomes infinite is named by `_check_finite`
        for i, values in enumerate(columns.values):
            matrix[:, i] = values
    return matrix


def _check_finite(pool: Pool, x: Array, names: tuple[str, ...] | None) -> None:
    if np.isfinite(x).all():
        return
    flat = x.reshape(len(x), -1)
    sample, feature = (int(i) for i in np.argwhere(~np.isfinite(flat))[0])
    value = "empty" if names is not None and np.isnan(flat[sample, feature]) else f"{flat[sample, feature]}"
    if np.isinf(flat[sample, feature]):
        value += " in float32, which ends at 3.4e38"
    place = f"{source_row(pool, sample)}, {feature_name(pool, feature, names)}"
    raise DataError(f"{pool.origin}: {place} is {value}; add the `missing` transform")
