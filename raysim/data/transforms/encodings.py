"""Categories as numbers, other than one column each: their order, a hash, the mean target; and rare ones as one."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace

import numpy as np

from raysim.arrays import Array
from raysim.config.transforms import HashConfig, OrdinalConfig, RareConfig, TargetMeanConfig
from raysim.data.dataset import Columns, Pool, holes
from raysim.data.transforms.tables import categorical, column_of, table_of, text_of
from raysim.errors import DataError

UNKNOWN = -1.0
"""Ordinal of a category that training did not have."""


@dataclass(frozen=True, slots=True)
class Merge:
    """Put one category in the place of all but these."""

    columns: tuple[str, ...]
    kept: tuple[tuple[str, ...], ...]
    """Those of each column that stay as they are, sorted."""
    other: str

    def apply(self, pool: Pool) -> Pool:
        """The same samples; holes stay holes, and numbers become categories."""
        table = table_of(pool, "rare")
        values = list(table.values)
        for name, kept in zip(self.columns, self.kept, strict=True):
            column, known = column_of(pool, name, "rare", filled=False), set(kept)
            missing = holes(column)
            found = [
                None if hole else (text_of(one) if text_of(one) in known else self.other)
                for hole, one in zip(missing.tolist(), column.tolist(), strict=True)
            ]
            values[table.names.index(name)] = np.array(found, dtype=object)
        return replace(pool, x=Columns(table.names, tuple(values)))


def fit_rare(config: RareConfig, train: Pool) -> Merge:
    """The categories that are not rare in the training part.

    Raises:
        DataError: x is no table, or a column does not exist.
    """
    columns = categorical(train, "rare", config.columns)
    kept = []
    for name in columns:
        values = column_of(train, name, "rare", filled=False)
        found, counts = np.unique([text_of(one) for one in values[~holes(values)].tolist()], return_counts=True)
        kept.append(tuple(found[counts >= config.min_count].tolist()))
    return Merge(columns, tuple(kept), config.other)


@dataclass(frozen=True, slots=True)
class Numbered:
    """Put numbers `name` in the place of each categorical column: one of each category, or several `name=…`."""

    columns: tuple[str, ...]
    categories: tuple[tuple[str, ...], ...]
    """Those of each column."""
    numbers: tuple[tuple[tuple[float, ...], ...], ...]
    """Of each column's categories, the values in the columns that are made of it."""
    unknown: tuple[tuple[float, ...], ...]
    """What a category has that is not among them, for each column."""
    suffixes: tuple[str, ...]
    """Ends of the names of the columns that are made of each."""
    transform: str

    def apply(self, pool: Pool) -> Pool:
        """The same samples, encoded.

        Raises:
            DataError: a column does not exist or has a hole.
        """
        table = table_of(pool, self.transform)
        made: dict[str, Array] = {}
        for i, name in enumerate(self.columns):
            column = column_of(pool, name, self.transform)
            place = dict(zip(self.categories[i], self.numbers[i], strict=True))
            made[name] = np.array([place.get(text_of(one), self.unknown[i]) for one in column.tolist()], np.float64)
        return replace(pool, x=_replaced(table, made, self.suffixes))


def fit_ordinal(config: OrdinalConfig, train: Pool) -> Numbered:
    """The number of each category.

    Raises:
        DataError: x is no table, a column does not exist or has a hole, or an order lacks one of its categories.
    """
    columns = categorical(train, "ordinal", config.columns)
    for name in config.order:
        if name not in columns:
            raise DataError(f"{train.origin}: ordinal.order: {name!r} is no column that is encoded; correct the name")
    categories = []
    for name in columns:
        found = _categories(train, name, "ordinal")
        order = config.order.get(name, found)
        if missing := [one for one in found if one not in order]:
            raise DataError(
                f"{train.origin}: ordinal.order: column {name!r} has {missing[0]!r}, which is not in its order"
            )
        categories.append(tuple(order))
    numbers = tuple(tuple((float(i),) for i in range(len(found))) for found in categories)
    return Numbered(columns, tuple(categories), numbers, ((UNKNOWN,),) * len(columns), ("",), "ordinal")


def fit_target_mean(config: TargetMeanConfig, train: Pool) -> Numbered:
    """The smoothed mean target of each category; what training never saw has the mean of all.

    Raises:
        DataError: x is no table, a column does not exist or has a hole, or a sample has several targets.
    """
    columns = categorical(train, "target_mean", config.columns)
    y = train.targets
    if y.ndim != 1:
        raise DataError(f"{train.origin}: target_mean needs one target a sample; remove it from data.transforms")
    classes = int(y.max()) + 1 if y.dtype.kind in "iu" else 0
    suffixes = tuple(f"={label}" for label in range(classes)) if classes > 2 else ("",)
    targets = np.eye(classes)[y] if classes > 2 else y.astype(np.float64)[:, None]
    prior = targets.mean(axis=0)
    categories, numbers = [], []
    for name in columns:
        values = np.array([text_of(one) for one in column_of(train, name, "target_mean").tolist()])
        found, which, counts = np.unique(values, return_inverse=True, return_counts=True)
        sums = np.zeros((len(found), targets.shape[1]))
        np.add.at(sums, which.reshape(-1), targets)
        means = (sums + config.smoothing * prior) / (counts[:, None] + config.smoothing)
        categories.append(tuple(found.tolist()))
        numbers.append(tuple(map(tuple, means.tolist())))
    unknown = (tuple(prior.tolist()),) * len(columns)
    return Numbered(columns, tuple(categories), tuple(numbers), unknown, suffixes, "target_mean")


@dataclass(frozen=True, slots=True)
class Hashed:
    """Put 0/1 columns `name#0`, `name#1`, … in the place of each categorical column; a hole has zeros."""

    columns: tuple[str, ...]
    buckets: int

    def apply(self, pool: Pool) -> Pool:
        """The same samples, encoded."""
        table = table_of(pool, "hash")
        made = {}
        for name in self.columns:
            column = column_of(pool, name, "hash", filled=False)
            missing, known = holes(column), dict[str, int]()
            made[name] = np.zeros((len(column), self.buckets), np.uint8)
            for row, one in enumerate(column.tolist()):
                if not missing[row]:
                    text = text_of(one)
                    bucket = known.setdefault(text, self._bucket(name, text))
                    made[name][row, bucket] = 1
        return replace(pool, x=_replaced(table, made, tuple(f"#{i}" for i in range(self.buckets))))

    def _bucket(self, name: str, category: str) -> int:
        """The same on any machine, and another one for the same text in another column."""
        digest = hashlib.sha256(f"{name}\0{category}".encode()).digest()
        return int.from_bytes(digest[:8], "little") % self.buckets


def fit_hash(config: HashConfig, train: Pool) -> Hashed:
    """The columns that are hashed.

    Raises:
        DataError: x is no table, or a column does not exist.
    """
    return Hashed(categorical(train, "hash", config.columns), config.buckets)


def _categories(train: Pool, name: str, transform: str) -> tuple[str, ...]:
    """Those of the training part in sorted order, numbers by their values."""
    return tuple(text_of(one) for one in np.unique(column_of(train, name, transform)).tolist())


def _replaced(table: Columns, made: dict[str, Array], suffixes: tuple[str, ...]) -> Columns:
    names, values = list[str](), list[Array]()
    for name, column in zip(table.names, table.values, strict=True):
        if name not in made:
            names.append(name)
            values.append(column)
            continue
        names += [name + suffix for suffix in suffixes]
        values += list(made[name].T)
    return Columns(tuple(names), tuple(values))
