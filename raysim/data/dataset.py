"""What a source returns: samples in one or two pools, before cleaning, splitting and dealing to clients.

The path of the data: `load_source` gives a `Dataset`; its `train` pool is split into training,
validation and test; `transforms.fit` looks at the training part alone; `transforms.apply` turns each part into plain
arrays (`x` float32, uint8 or integer ids; rows may be dropped) and `transforms.describe` says what they now look like;
the training part is then dealt to clients.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from raysim.arrays import Array, Bools, Int64
from raysim.data.federation import DataInfo
from raysim.data.lazy import LazyArray
from raysim.data.left_out import LeftOut

InputKind = Literal["real", "pixels", "tokens", "record"]


def holes(values: Array) -> Bools:
    """Which values are missing: None in a column of text, NaN or infinity among numbers; of the shape of `values`."""
    missing = [value is None for value in values.tolist()] if values.dtype == object else ~np.isfinite(values)
    return np.asarray(missing, dtype=np.bool_)


@dataclass(frozen=True, slots=True)
class Columns:
    """Features of a table while some may still be categorical or have holes: named columns of equal length."""

    names: tuple[str, ...]
    values: tuple[Array, ...]
    """`[n]` each: float64 with NaN for a hole, uint8 of 0 and 1, or object with `str` and None for a hole."""

    def __len__(self) -> int:
        return len(self.values[0]) if self.values else 0

    def take(self, rows: Int64) -> Columns:
        """These rows, in this order."""
        return Columns(self.names, tuple(values[rows] for values in self.values))


@dataclass(frozen=True, slots=True)
class Pool:
    """Samples that belong together, each with its target and perhaps its owner."""

    x: Array | Columns | LazyArray
    """`[n, *input_shape]` float32, uint8 or integer ids; characters (`<U1`) or `Columns` until `transforms.apply`."""
    y: Array | LazyArray
    """`[n, *target_shape]` integer labels or float32 targets (`<U1` while x is characters)."""
    kind: InputKind
    """What x is: `uint8` alone does not tell pixels from bytes of text."""
    origin: str
    """File or source that the samples came from, for error messages."""
    client: Array | None = None
    """`[n]` natural owner of each sample, of any type that sorts; None where the source has no owners."""
    weight: Array | LazyArray | None = None
    """`[n, *target_shape]` float32 weight of each target; None is 1 everywhere."""
    row: Int64 | None = None
    """`[n]` number of each sample in its source, from 0, kept through splits; None is 0, 1, …, n-1."""
    kinds: Int64 | None = None
    """`[n]` label, from 0, that partitions by label deal by, where a target is a token; None where there is none."""

    def __len__(self) -> int:
        return len(self.y)

    @property
    def sample_shape(self) -> tuple[int, ...]:
        """Shape of one sample's features; `(columns,)` for a table."""
        return (len(self.x.names),) if isinstance(self.x, Columns) else self.x.shape[1:]

    @property
    def features(self) -> Array:
        """x, in memory: of a source that is neither a table nor a large corpus."""
        assert isinstance(self.x, np.ndarray)
        return self.x

    @property
    def targets(self) -> Array:
        """y, in memory: of a source whose targets are labels or numbers, not tokens of a large corpus."""
        assert isinstance(self.y, np.ndarray)
        return self.y

    def take(self, rows: npt.ArrayLike) -> Pool:
        """These samples, in this order; `rows` are positions in this pool, not a mask."""
        rows = np.asarray(rows, dtype=np.int64)

        def pick(values: Any) -> Any:
            return None if values is None else values[rows]

        return replace(
            self,
            x=self.x.take(rows) if isinstance(self.x, Columns) else self.x[rows],
            y=self.y[rows],
            client=pick(self.client),
            weight=pick(self.weight),
            row=rows if self.row is None else self.row[rows],
            kinds=pick(self.kinds),
        )


@dataclass(frozen=True, slots=True)
class Dataset:
    """What a source returns."""

    train: Pool
    """Samples to split and to deal; all of them where the source has no test set of its own."""
    test: Pool | None
    """The source's own test set; None: `data.test` of `train` is split off."""
    info: DataInfo
    """Provisional: `transforms.describe` says what a sample looks like after the transforms."""
    class_names: tuple[str, ...] | None = None
    """What labels 0, 1, … stand for, where the source says so."""
    left_out: tuple[LeftOut, ...] = ()
    """What the source had and these samples have not."""
    counts: Mapping[str, int] = field(default_factory=dict)
    """What the source counted, by name: documents, tokens."""
    identity: str | None = None
    """What samples that are made when they are read are made from, as a hash; None where they are in memory."""
