"""Counts what each step of a build leaves out, and refuses that whole classes or clients vanish by accident."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from raysim.arrays import Array, Bools, Int64
from raysim.config.data import DataConfig
from raysim.config.partition import NaturalPartitionConfig
from raysim.config.transforms import MissingConfig, TransformConfig
from raysim.data.dataset import Columns, Dataset, Pool, holes
from raysim.data.federation import DataInfo
from raysim.data.left_out import GRAVE, LeftOut, Unit, listed
from raysim.data.partition import Partition, Traits
from raysim.data.transforms.features import feature_name
from raysim.errors import DataError

_EMPTY = {Columns: "is empty", np.ndarray: "is not finite"}


class Account:
    """Collects what is left out; `entries` go into the store."""

    def __init__(self, dataset: Dataset, config: DataConfig) -> None:
        self.entries: list[LeftOut] = list(dataset.left_out)
        self._config = config
        self._names = config.classes or dataset.class_names
        self._by_class = dataset.info.classes is not None and dataset.train.y.ndim == 1 and _integers(dataset.train)

    def imbalance(self, before: Int64, after: Int64) -> None:
        """Training rows before and after `data.imbalance`."""
        self._add("data.imbalance", "training", len(before) - len(after), len(before), "samples of rare classes")

    def drops(self, part: str) -> Callable[[Pool, Pool], None]:
        """For `apply`: takes the pool before and after a transform that dropped rows of this part.

        Raises:
            DataError: a class or a client has lost all training samples, and `allow_lost` does not name them.
        """

        def watch(before: Pool, after: Pool) -> None:
            gone = ~np.isin(_rows(before), _rows(after))
            if isinstance(before.x, Columns) and not isinstance(after.x, Columns):
                self._windows(before, gone, part)
                return
            counts = _holes_by_feature(before, gone)
            lost: list[str] = []
            for kind, groups in self._groups(before, part):
                lost += self._lost(kind, groups, gone, before, part)
            why = ", ".join(f"{name} {_EMPTY[type(before.x)]} in {count:,}" for name, count in counts[:3])
            why += ", …" if len(counts) > 3 else ""
            why += "".join(f"; with them all of {one}" for one in lost)
            count = int(gone.sum())
            grave = bool(lost) or count > GRAVE * len(before)
            self._add("missing: drop", part, count, len(before), why, grave=grave)

        return watch

    def partition(self, traits: Traits, dealt: Partition) -> None:
        """Samples and owners that were not dealt to any client."""
        missing = traits.size - len(dealt.order)
        why = f"by the {self._config.partition.name} partition"
        if isinstance(self._config.partition, NaturalPartitionConfig) and traits.owners is not None:
            owners = len(np.unique(traits.owners))
            wanted = f"min_size {self._config.partition.min_size}"
            if self._config.partition.clients is not None:
                wanted += f", clients {self._config.partition.clients}"
            why = f"those of {owners - len(dealt.lengths):,} of {owners:,} owners ({wanted})"
        self._add("data.partition", "training", missing, traits.size, why)

    def classes(self, dataset: Dataset, train: Pool, trained: Int64, info: DataInfo) -> None:
        """Classes that have no training sample in the end; `trained` are the rows of `train` that clients train on."""
        if not self._by_class or info.classes is None or info.preferences:
            return
        pools = [pool.targets for pool in (dataset.train, dataset.test) if pool is not None]
        occurs = np.unique(np.concatenate([np.unique(y) for y in pools]))
        never = np.setdiff1d(np.arange(info.classes), occurs)
        if len(never):
            why = f"the labels have a gap; no sample has class {listed(self._class(one) for one in never)}"
            self._add("labels", "source", len(never), info.classes, why, unit="classes", grave=True)
        untrained = np.setdiff1d(occurs, np.unique(train.targets[trained]))
        if len(untrained):
            names = listed(self._class(one) for one in untrained)
            why = f"no client trains on class {names}: all samples are held back for evaluation or left out"
            self._add("data", "training", len(untrained), len(occurs), why, unit="classes", grave=True)

    def _groups(self, pool: Pool, part: str) -> list[tuple[str, Array]]:
        """What may be lost as a whole, and to which one each sample belongs."""
        found = [("class", pool.targets)] if self._by_class else []
        if (
            part == "training"
            and isinstance(self._config.partition, NaturalPartitionConfig)
            and pool.client is not None
        ):
            found.append(("client", pool.client))
        return found

    def _lost(self, kind: str, groups: Array, gone: Bools, before: Pool, part: str) -> list[str]:
        """What has lost all samples, in words; an error in the training part unless it is allowed."""
        left = np.unique(groups[~gone])
        lost = np.setdiff1d(np.unique(groups), left)
        if not len(lost):
            return []
        names = [self._class(one) if kind == "class" else str(one) for one in lost]
        if part == "training" and kind not in allowed(self._config.transforms):
            its = groups == lost[0]
            name, count = _holes_by_feature(before, its)[0]
            more = f", and those of {len(lost) - 1:,} more" if len(lost) > 1 else ""
            plural = "classes" if kind == "class" else "clients"
            found = f"{name} {_EMPTY[type(before.x)]} in {count:,} of its {int(its.sum()):,}"
            remedy = f"fill it (action: median), or set allow_lost: [{plural}] of missing"
            raise DataError(
                f"{before.origin}: missing: drop removes every training sample of {kind} {names[0]}{more}: {found}; "
                f"leave the column out (data.source.ignore), {remedy}"
            )
        return [f"{kind} {listed(names)}"]

    def _windows(self, before: Pool, gone: Bools, part: str) -> None:
        """Rows that are the target of no window."""
        owners = () if before.client is None else np.setdiff1d(before.client, before.client[~gone])
        short = f"; {listed(map(str, owners))} have too few for one window" if len(owners) else ""
        why = f"rows that are no window's target{short}"
        self._add("windows", part, int(gone.sum()), len(before), why, grave=len(owners) > 0)

    def _class(self, label: int) -> str:
        return self._names[label] if self._names is not None and label < len(self._names) else str(label)

    def _add(
        self, step: str, part: str, count: int, of: int, why: str, *, unit: Unit = "samples", grave: bool = False
    ) -> None:
        if count:
            self.entries.append(LeftOut(step, part, count, of, unit, why, grave))


def allowed(transforms: Sequence[TransformConfig]) -> set[str]:
    """What `missing: drop` may lose as a whole: `class`, `client`."""
    named = {one for config in transforms if isinstance(config, MissingConfig) for one in config.allow_lost}
    return {{"classes": "class", "clients": "client"}[one] for one in named}


def _rows(pool: Pool) -> Int64:
    return np.arange(len(pool)) if pool.row is None else pool.row


def _integers(pool: Pool) -> bool:
    return pool.y.dtype.kind in "iu"


def _holes_by_feature(pool: Pool, rows: Bools) -> list[tuple[str, int]]:
    """How many of these samples have a hole in each feature, most first; features without holes are left out."""
    if isinstance(pool.x, Columns):
        names: tuple[str, ...] | None = pool.x.names
        counts = np.array([int(holes(values)[rows].sum()) for values in pool.x.values])
    else:
        names, counts = None, holes(pool.features[rows]).reshape(int(rows.sum()), -1).sum(axis=0)
    order = [int(i) for i in np.argsort(-counts, kind="stable") if counts[i]]
    return [(feature_name(pool, i, names), int(counts[i])) for i in order]
