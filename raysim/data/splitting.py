"""A source's samples cut into training, validation and test as `data.split` says: at random, by class, group, time."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from raysim.arrays import Array, Int64
from raysim.config.data import DataConfig
from raysim.config.partition import NaturalPartitionConfig
from raysim.config.splitting import GroupSplitConfig, RandomSplitConfig, StratifiedSplitConfig, TimeSplitConfig
from raysim.data.dataset import Columns, Dataset, Pool, holes
from raysim.data.split import Split, split
from raysim.data.transforms.dates import days_of
from raysim.data.transforms.features import source_row
from raysim.errors import DataError
from raysim.keyed import Purpose, bits

_GROUPS = 3
"""Keys the order of groups, beside the purposes of `split`."""


def cut_dataset(dataset: Dataset, config: DataConfig, seed: int) -> tuple[Dataset, Split]:
    """The data set, without the column that it was cut by unless that is kept; and which samples are for what.

    Raises:
        DataError: there are no samples, classes, or no such column; a share gives no sample; or nothing is split.
    """
    pool, chosen = dataset.train, config.split
    owners = pool.client if isinstance(config.partition, NaturalPartitionConfig) else None
    test = config.test if dataset.test is None else 0.0
    if not isinstance(chosen, RandomSplitConfig) and test == 0 and config.validation == 0:
        raise DataError(
            "data.split: nothing is split, for data.validation is 0, and data.test 0 or a set of the source's"
        )
    if isinstance(chosen, RandomSplitConfig):
        return dataset, split(len(pool), seed, test=test, validation=config.validation, owners=owners)
    if isinstance(chosen, StratifiedSplitConfig):
        strata = _strata(pool, owners)
        return dataset, split(len(pool), seed, test=test, validation=config.validation, owners=strata)
    column = _column(pool, chosen.column)
    if isinstance(chosen, TimeSplitConfig):
        cut = _by_time(days_of(pool, chosen.column, column), owners, test, config.validation)
    else:
        missing = np.flatnonzero(holes(column))
        if len(missing):
            where = f"{source_row(pool, int(missing[0]))}, column {chosen.column!r}"
            raise DataError(f"{pool.origin}: {where} is empty; every sample is of a group")
        groups = np.unique(column.astype(str), return_inverse=True)[1].reshape(-1)
        cut = _by_group(groups, seed, test, config.validation)
    for key, share, taken in (("test", test, cut.test), ("validation", config.validation, cut.validation)):
        if share > 0 and not len(taken):
            raise DataError(f"data.{key}: a share of {share:g} is not one sample of any owner or group; raise it")
    return (dataset if chosen.keep else _without(dataset, chosen)), cut


def _strata(pool: Pool, owners: Array | None) -> Int64:
    if pool.y.ndim != 1 or pool.y.dtype.kind not in "iu":
        raise DataError(
            "data.split: stratified takes shares of each class, but samples have no single class; remove it"
        )
    classes = pool.targets.astype(np.int64)
    if owners is None:
        return classes
    owner = np.unique(owners, return_inverse=True)[1].reshape(-1)
    return np.asarray(owner * (int(classes.max()) + 1) + classes, np.int64)


def _column(pool: Pool, name: str) -> Array:
    if not isinstance(pool.x, Columns):
        raise DataError(f"data.split: {pool.origin} has no columns; use random or stratified")
    if name not in pool.x.names:
        known = ", ".join(map(repr, pool.x.names))
        raise DataError(f"data.split.column: no column {name!r} among the features of {pool.origin}: {known}")
    return pool.x.values[pool.x.names.index(name)]


def _without(dataset: Dataset, chosen: GroupSplitConfig | TimeSplitConfig) -> Dataset:
    pools = [None if pool is None else _dropped(pool, chosen.column) for pool in (dataset.train, dataset.test)]
    assert pools[0] is not None
    info = replace(dataset.info, input_shape=pools[0].sample_shape)
    return replace(dataset, train=pools[0], test=pools[1], info=info)


def _dropped(pool: Pool, column: str) -> Pool:
    assert isinstance(pool.x, Columns)
    kept = [i for i, name in enumerate(pool.x.names) if name != column]
    if not kept:
        raise DataError(f"data.split: {column!r} is the only column of {pool.origin}; set keep: true, or add features")
    return replace(pool, x=Columns(tuple(pool.x.names[i] for i in kept), tuple(pool.x.values[i] for i in kept)))


def _by_time(time: Array, owners: Array | None, test: float, validation: float) -> Split:
    """The latest of each owner; of samples of one time those that come last in the source. Shares are rounded."""
    owner = np.zeros(len(time), np.int64) if owners is None else np.unique(owners, return_inverse=True)[1].reshape(-1)
    counts = np.bincount(owner)
    tested = np.minimum(np.rint(counts * test).astype(np.int64), counts - 1)
    checked = np.minimum(np.rint((counts - tested) * validation).astype(np.int64), counts - tested - 1)
    order = np.lexsort((np.arange(len(time)), time, owner))
    left = np.empty(len(time), np.int64)  # how many of its owner's samples are later
    left[order] = np.repeat(np.cumsum(counts), counts) - 1 - np.arange(len(time))
    is_test = left < tested[owner]
    is_validation = ~is_test & (left < (tested + checked)[owner])
    return Split(np.flatnonzero(~is_test & ~is_validation), np.flatnonzero(is_validation), np.flatnonzero(is_test))


def _by_group(groups: Int64, seed: int, test: float, validation: float) -> Split:
    """Whole groups in keyed order, as long as they bring a share nearer; one stays for training."""
    counts = np.bincount(groups)
    order = np.argsort(bits(seed, Purpose.SPLIT, _GROUPS, np.arange(len(counts))), kind="stable")
    part = np.zeros(len(counts), np.int64)
    left = len(groups)
    for number, share in ((1, test), (2, validation)):
        wanted, taken = share * left, 0
        for group in order[: len(order) - 1].tolist():
            if part[group] == 0 and abs(taken + counts[group] - wanted) < abs(taken - wanted):
                part[group], taken = number, taken + int(counts[group])
        left -= taken
    return Split(*(np.flatnonzero(part[groups] == number) for number in (0, 2, 1)))
