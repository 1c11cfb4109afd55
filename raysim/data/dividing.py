"""The samples of a source split, cleaned and dealt: what a store is written from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from raysim.arrays import Array, Int64
from raysim.config.data import DataConfig
from raysim.data.accounting import Account
from raysim.data.augmentation import check_augmentation
from raysim.data.class_names import named
from raysim.data.dataset import Columns, Dataset, Pool
from raysim.data.federation import DataInfo
from raysim.data.imbalance import imbalanced
from raysim.data.inputs import check_packed
from raysim.data.lazy import LazyArray
from raysim.data.left_out import LeftOut
from raysim.data.noise import check_noise
from raysim.data.owners import owned_tests
from raysim.data.partition import Partition, Traits, partition
from raysim.data.split import holdout_last, holdout_sizes, training_samples
from raysim.data.splitting import cut_dataset
from raysim.data.transforms import Fitted, apply, describe, fit, refuse_strays
from raysim.data.transforms.windows import check_windows
from raysim.errors import DataError


@dataclass(frozen=True, slots=True)
class DividedData:
    """Samples in their final form, and which of them each client trains on."""

    train: Pool
    validation: Pool | None
    test: Pool | None
    info: DataInfo
    fitted: Fitted
    partition: Partition
    order: Int64
    """Of the partition, each client's held-out samples last."""
    holdout: Int64
    """Held-out samples of each client."""
    left_out: Sequence[LeftOut]
    tests: Partition | None = None
    """Which of the test samples are which client's."""
    counts: Mapping[str, int] = field(default_factory=dict)
    """What the source counted."""


def divide(dataset: Dataset, config: DataConfig, seed: int) -> DividedData:
    """Split first, then fit the transforms on the training part alone, then deal it."""
    refuse_strays(config.transforms, dataset.train)
    dataset, cut = cut_dataset(dataset, config, seed)
    check_windows(config, cut)
    pool = dataset.train
    account = Account(dataset, config)
    dealt_out = imbalanced(config.imbalance, pool, cut.train, dataset.info, seed)
    account.imbalance(cut.train, dealt_out)
    fitted = fit(config.transforms, pool.take(dealt_out))
    train = apply(fitted, pool.take(dealt_out), account.drops("training"))
    checked = pool.take(cut.validation) if len(cut.validation) else None
    validation = apply(fitted, checked, account.drops("validation")) if checked is not None else None
    held_back = pool.take(cut.test) if len(cut.test) else dataset.test
    test = apply(fitted, held_back, account.drops("test")) if held_back is not None else None
    info = describe(fitted, dataset.info, train)
    if config.classes is not None:
        info = named(info, config.classes, "data.classes")
    elif dataset.class_names is not None:
        # A source may name classes of which these samples have none: the last ones.
        info = named(info, dataset.class_names[: info.classes], pool.origin)
    for part in (train, validation, test):
        if part is not None:
            _check(part, info)
    traits = Traits.of(train, info)
    dealt = partition(traits, config.partition, seed)
    account.partition(traits, dealt)
    holdout = holdout_sizes(dealt.lengths, config.holdout, seed)
    order = holdout_last(dealt.order, dealt.lengths, holdout, seed)
    account.classes(dataset, train, training_samples(order, dealt.lengths, holdout), info)
    check_noise(config.noise, info, len(dealt.lengths))
    check_augmentation(config.augmentation, info, weighted=train.weight is not None)
    tests = owned_tests(pool, test, dealt) if dataset.test is not None and test is not None else None
    left_out = tuple(account.entries)
    return DividedData(train, validation, test, info, fitted, dealt, order, holdout, left_out, tests, dataset.counts)


def _check(pool: Pool, info: DataInfo) -> None:
    """What a source of the user's own may have got wrong, and what every model relies on."""
    x = pool_features(pool)
    if x.shape[1:] != info.input_shape or pool.y.shape[1:] != info.target_shape:
        raise DataError(
            f"{pool.origin}: samples have shape {x.shape[1:]} and targets {pool.y.shape[1:]}, expected "
            f"{info.input_shape} and {info.target_shape}; all parts of a data set must look alike"
        )
    kind = {"real": "f", "pixels": "u", "tokens": "iu", "record": "i"}[info.input_kind]
    wanted = kind, "iu" if info.classes else "f"
    for name, values, kinds in zip(("features", "targets"), (x, pool.y), wanted, strict=True):
        if values.dtype.kind not in kinds:
            expected = "floats" if kinds == "f" else "integers"
            raise DataError(f"{pool.origin}: {name} have type {values.dtype}, expected {expected}; convert them")
    if isinstance(pool.y, np.ndarray):  # the tokens of a corpus were checked as they were written
        _check_range(pool, "label", pool.y, info.classes)
    if info.input_kind == "tokens" and isinstance(x, np.ndarray):
        _check_range(pool, "token", x, info.vocabulary)
    if isinstance(x, np.ndarray):
        check_packed(x, info.inputs, pool.origin)
    if info.task == "regression" and not np.isfinite(pool.targets).all():
        sample = int(np.argwhere(~np.isfinite(pool.targets))[0][0])
        raise DataError(f"{pool.origin}: the target of sample {_row(pool, sample)} is not finite; remove the sample")


def _check_range(pool: Pool, what: str, values: Any, count: int | None) -> None:
    if count is None:
        return
    outside = np.argwhere((values < 0) | (values >= count))
    if len(outside):
        place = tuple(outside[0])
        raise DataError(
            f"{pool.origin}: {what} {values[place]} of sample {_row(pool, int(place[0]))} is outside 0..{count - 1}; "
            f"correct it, or the number of {'classes' if what == 'label' else 'token ids'}"
        )


def _row(pool: Pool, sample: int) -> int:
    return sample if pool.row is None else int(pool.row[sample])


def pool_features(pool: Pool) -> Array | LazyArray:
    """The features of a pool after its transforms."""
    assert not isinstance(pool.x, Columns)  # `apply` has made arrays of a table's columns
    return pool.x
