"""From a data configuration to a federation that any worker can open: load, split, clean, deal, store."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from raysim.arrays import Array, Int64
from raysim.config.base import CustomConfig
from raysim.config.data import DataConfig
from raysim.config.sources import InMemoryConfig, SyntheticVirtualConfig
from raysim.config.text import CorpusConfig
from raysim.data.augmentation import augmented, smote_version
from raysim.data.dataset import Dataset, Pool
from raysim.data.dividing import DividedData, divide, pool_features
from raysim.data.federation import DataInfo, FederationSpec, Samples
from raysim.data.identity import code_identity, dataset_identity, source_identity
from raysim.data.lazy import LazyArray, gathered
from raysim.data.noise import mislabelled
from raysim.data.sources import load_source
from raysim.data.sources.corpus import TextCodec
from raysim.data.sources.targets import Task
from raysim.data.store import ArrowFederation, StoreSpec, StoreWriter, cut
from raysim.data.store.cache import build_once, cache_folder
from raysim.data.store.manifest import STORES
from raysim.data.virtual import VirtualFederation, VirtualSpec, check_virtual_room
from raysim.errors import DataError

Tell = Callable[[str], None]
"""Called with what is about to be done, where that may take seconds."""


def say_nothing(what: str) -> None:
    """The default: no output."""


def prepare(
    config: DataConfig, seed: int, *, arrays: Any = None, task: Task | None = None, tell: Tell = say_nothing
) -> FederationSpec:
    """Build the federation that a configuration describes, or find it where it was built before.

    Shards are stored under a hash of all that they depend on: the configuration, the seed, the state of the source, and
    the code that builds them.

    Args:
        config: the `data` section.
        seed: the experiment's data seed.
        arrays: what was handed to the simulation, for `in_memory`: a `Dataset`, arrays, or map-style datasets.
        task: what the targets are for, where the source does not say (`training.task`).
        tell: told where the store is not there yet.

    Raises:
        DataError: the source is missing or damaged, the samples do not fit the configuration, or the store is damaged.
        ConfigError: the user's own source or partitioner cannot be found or called.
    """
    if isinstance(config.source, SyntheticVirtualConfig):
        return _prepare_virtual(config, config.source, seed, tell)
    build = _Build(config, seed, arrays, task)
    folder = store_folder(config, seed, build.identity)
    if not folder.exists():
        tell(f"building the shards: {config.source.name}, {config.partition.name} partition")
        parts = build.parts  # what is wrong with the data is reported as it is, not as a failure to write
        build_once(folder, lambda temporary: _write(parts, config, seed, temporary))
    return _stored(folder)


def codec(config: DataConfig) -> TextCodec | None:
    """What reads prompts and writes text as the corpus was read; None where the data is no language to learn.

    Raises:
        DataError, ConfigError: as for `prepare`.
    """
    source = config.source
    if not isinstance(source, CorpusConfig) or source.task != "causal_lm":
        return None
    return TextCodec.of(source, cache_folder(config.cache))


def _stored(folder: Path) -> StoreSpec:
    """The store in this folder; a damaged index is found out here, not in a round that meets it."""
    federation = ArrowFederation(folder)
    federation.verify_index()
    return StoreSpec(str(folder), federation.fingerprint)


def store_folder(config: DataConfig, seed: int, identity: str) -> Path:
    """Folder of the store of this configuration and seed, for a source of this identity; it need not exist."""
    data = config.model_dump(mode="json", exclude={"cache": True, "seed": True, "source": {"fingerprint"}})
    key = json.dumps([code_identity(), data, seed, identity], sort_keys=True)
    return cache_folder(config.cache) / STORES / hashlib.sha256(key.encode()).hexdigest()[:32]


def load_for(config: DataConfig, seed: int, arrays: Any, task: Task | None) -> Dataset:
    """The source's samples; arguments and errors as of `prepare`."""
    return load_source(config.source, seed=seed, arrays=arrays, task=task, cache=cache_folder(config.cache))


SMALLER = 16
"""Share of a record batch that samples which are made when they are read are written in."""


class _Build:
    """The steps of a build, each taken when it is first needed: a store that is there needs none of the samples."""

    def __init__(self, config: DataConfig, seed: int, arrays: Any, task: Task | None) -> None:
        self._config = config
        self._seed = seed
        self._arrays = arrays
        self._task = task

    @cached_property
    def dataset(self) -> Dataset:
        """The source's samples."""
        return load_for(self._config, self._seed, self._arrays, self._task)

    @cached_property
    def parts(self) -> DividedData:
        """The samples split, cleaned and dealt."""
        return divide(self.dataset, self._config, self._seed)

    @property
    def identity(self) -> str:
        """What the store is built from."""
        source = self._config.source
        identity = source_identity(source) or dataset_identity(self.dataset)
        if isinstance(source, InMemoryConfig) and source.fingerprint not in ("", identity):
            raise DataError("data.source: these are not the arrays that the run was started with; pass the same data=…")
        if isinstance(self._config.partition, CustomConfig):
            # The user's code may change while its name does not: only what it deals identifies it.
            dealt = self.parts.partition
            identity += hashlib.sha256(dealt.order.tobytes() + b"|" + dealt.lengths.tobytes()).hexdigest()
        if self._config.augmentation.name == "smote":
            identity += f" imbalanced-learn {smote_version()}"
        return identity


def _write(parts: DividedData, config: DataConfig, seed: int, folder: Path) -> None:
    """Write the store. The training part is gathered and written a bounded chunk of clients at a time."""
    sizes, holdout, order = parts.partition.lengths, parts.holdout, parts.order
    ends = np.cumsum(sizes)
    with StoreWriter(folder, parts.info, histograms=config.label_histograms) as writer:
        room = writer.batch_rows(_samples(parts.train, order[:0]))
        if isinstance(parts.train.x, LazyArray):  # what they are made of is not in memory, they need not be either
            room = max(1, room // SMALLER)
        for first, last in cut(sizes, room):
            rows = order[int(ends[first] - sizes[first]) : int(ends[last - 1])]
            samples = _samples(parts.train, rows)
            if config.noise.clients:
                spoiled = _spoiled(samples.y, parts.info, config, seed, first, sizes[first:last], holdout[first:last])
                samples = replace(samples, y=spoiled)
            grown, held = sizes[first:last], holdout[first:last]
            samples, grown = augmented(config.augmentation, samples, grown, held, first, parts.info, seed)
            writer.append(samples, grown, held)
            del samples  # before the next chunk is made
        if parts.validation is not None:
            writer.server("validation", _samples(parts.validation))
        if parts.test is not None:
            writer.server("test", _samples(parts.test))
        if parts.tests is not None:
            writer.tests(parts.tests.order, parts.tests.lengths)
        owners = parts.partition.owners
        writer.close(
            data=_description(config, seed),
            owners=None if owners is None else [str(owner) for owner in owners.tolist()],
            transforms=parts.fitted.to_json(),
            left_out=parts.left_out,
            counts=parts.counts,
        )


def _spoiled(
    labels: Array, info: DataInfo, config: DataConfig, seed: int, first: int, sizes: Int64, holdout: Int64
) -> Array:
    """The labels of consecutive clients from `first` on with `data.noise` in those that each trains on."""
    labels, start = labels.copy(), 0
    for client, (size, held) in enumerate(zip(sizes.tolist(), holdout.tolist(), strict=True), start=first):
        part = slice(start, start + size - held)
        labels[part] = mislabelled(config.noise, labels[part], client, info.classes or 0, seed)
        start += size
    return labels


def _samples(pool: Pool, rows: Int64 | None = None) -> Samples:
    if rows is not None:
        pool = pool.take(rows)
    weight = None if pool.weight is None else gathered(pool.weight)
    return Samples(gathered(pool_features(pool)), gathered(pool.y), weight)


def _description(config: DataConfig, seed: int) -> dict[str, Any]:
    return config.model_dump(mode="json", exclude={"cache"}) | {"seed": seed}


def _prepare_virtual(config: DataConfig, source: SyntheticVirtualConfig, seed: int, tell: Tell) -> FederationSpec:
    if config.transforms:
        raise DataError(
            "data.transforms: synthetic_virtual takes none, for its training part is never seen as a whole; "
            "remove them, or use the source synthetic"
        )
    if config.augmentation.name != "none":
        raise DataError("data.augmentation: synthetic_virtual has no rare classes; remove it, or use source synthetic")
    if config.imbalance.ratio > 1:
        raise DataError(
            "data.imbalance: synthetic_virtual is never seen as a whole; remove it, or use source synthetic"
        )
    if config.classes is not None:
        raise DataError("data.classes: the classes of synthetic_virtual have no names; remove it")
    if config.noise.clients:
        raise DataError("data.noise: synthetic_virtual has no labels to spoil; remove it, or use the source synthetic")
    check_virtual_room(source)
    spec = VirtualSpec(source, seed, config.holdout, config.validation > 0)
    if not source.on_disk:
        return spec
    folder = store_folder(config, seed, "synthetic_virtual")
    if not folder.exists():
        tell(f"building the shards: {source.name}, {source.clients:,} clients")
        build_once(folder, lambda temporary: _write_virtual(spec.open(), config, seed, temporary))
    return _stored(folder)


def _write_virtual(federation: VirtualFederation, config: DataConfig, seed: int, folder: Path) -> None:
    sizes, holdout = (federation.sizes(part) for part in ("train", "holdout"))
    with StoreWriter(folder, federation.info, histograms=config.label_histograms) as writer:
        for first, last in cut(sizes + holdout, writer.batch_rows(federation.block(0, 0))):
            held = holdout[first:last]
            writer.append(federation.block(first, last), sizes[first:last] + held, held)
        for part in ("validation", "test"):
            samples = federation.server(part)
            if samples is not None:
                writer.server(part, samples)
        writer.close(data=_description(config, seed))
