"""More training samples of each client's rare classes, made when the shards are built, from its own samples alone.

What a client gets is keyed by (seed, client) and a function of its training samples; nothing is made from, or added to,
holdouts, the validation or the test set.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import metadata
from typing import Any

import numpy as np

from raysim.arrays import Array, Int64
from raysim.config.imbalance import (
    AugmentationConfig,
    BaseAugmentationConfig,
    ImageAugmentationConfig,
    JitterConfig,
    NoAugmentationConfig,
    SmoteConfig,
)
from raysim.data.federation import DataInfo, Samples
from raysim.data.warping import rotated_and_shifted
from raysim.errors import ConfigError, DataError
from raysim.keyed import Purpose, generator, integer


def check_augmentation(config: AugmentationConfig, info: DataInfo, *, weighted: bool) -> None:
    """Refuse an augmentation that this data cannot have.

    Raises:
        ConfigError: it needs a package that is not installed.
        DataError: the samples have not one class each, or are not of the kind that it is made for.
    """
    if isinstance(config, NoAugmentationConfig):
        return
    if info.task != "classification" or info.target_shape:
        raise DataError(f"data.augmentation: {config.name} is for samples with one class each; remove it")
    if isinstance(config, ImageAugmentationConfig) and (info.input_kind == "tokens" or len(info.input_shape) != 3):
        raise DataError(
            f"data.augmentation: images have shape [channels, height, width], these samples {list(info.input_shape)}; "
            "use jitter or smote"
        )
    if isinstance(config, JitterConfig) and info.input_kind != "real":
        raise DataError(f"data.augmentation: jitter is for real features, not for {info.input_kind}; use images")
    if isinstance(config, SmoteConfig):
        if info.input_kind in ("tokens", "record"):
            raise DataError("data.augmentation: nothing is between two tokens; remove smote")
        if weighted:
            raise DataError("data.augmentation: smote takes no weights of samples; use images or jitter")
        smote_version()


def augmented(
    config: AugmentationConfig,
    samples: Samples,
    sizes: Int64,
    holdout: Int64,
    first: int,
    info: DataInfo,
    seed: int,
) -> tuple[Samples, Int64]:
    """Consecutive clients from `first` on with what is made for each, and their sizes `[clients]`.

    Args:
        samples: client after client, each one's held-out samples last.
        sizes: samples of each, holdout included.
        holdout: how many of them are held out.
    """
    if isinstance(config, NoAugmentationConfig):
        return samples, sizes
    parts: list[Samples] = []
    grown, start = sizes.copy(), 0
    for i, (size, held) in enumerate(zip(sizes.tolist(), holdout.tolist(), strict=True)):
        middle, stop = start + size - held, start + size
        more = _made(config, samples.slice(start, middle), info, first + i, seed)
        parts += [samples.slice(start, middle), *more, samples.slice(middle, stop)]
        grown[i] += sum(len(one) for one in more)
        start = stop
    weights = [part.weight for part in parts if part.weight is not None]
    return (
        Samples(
            np.concatenate([part.x for part in parts]),
            np.concatenate([part.y for part in parts]),
            np.concatenate(weights) if weights else None,
        ),
        grown,
    )


def growth(config: BaseAugmentationConfig, counts: Int64) -> Int64:
    """Samples to be made of each class of a client, int64 `[classes]`, given how many it has."""
    wanted = np.full(len(counts), round(config.to * int(counts.max(initial=0))))
    if config.most is not None:
        wanted = np.minimum(wanted, np.floor(config.most * counts)).astype(np.int64)
    return np.where(counts > 0, np.maximum(wanted - counts, 0), 0)


def _made(config: BaseAugmentationConfig, own: Samples, info: DataInfo, client: int, seed: int) -> list[Samples]:
    """What is made for a client, class by class."""
    labels = own.y.astype(np.int64)
    counts = np.bincount(labels, minlength=info.classes or 0)
    made: list[Samples] = []
    for label in np.flatnonzero(growth(config, counts)).tolist():
        random = generator(seed, Purpose.AUGMENTATION, client, label)
        members, count = np.flatnonzero(labels == label), int(growth(config, counts)[label])
        if isinstance(config, SmoteConfig):
            if len(members) > 1:
                key = integer(seed, Purpose.AUGMENTATION, client, label)
                x = _between(config, own, label, len(members), count, key % 2**32)
                made.append(Samples(_as(x, own.x), np.full(len(x), label, dtype=own.y.dtype)))
            continue
        base = random.permutation(members)[np.arange(count) % len(members)]  # each in turn
        x = _changed(config, own.x, base, info, random)
        made.append(Samples(_as(x, own.x), own.y[base], None if own.weight is None else own.weight[base]))
    return made


def _changed(
    config: BaseAugmentationConfig, x: Array, base: Int64, info: DataInfo, random: np.random.Generator
) -> Array:
    """Altered copies of these samples of a client, float64."""
    if isinstance(config, JitterConfig):
        values = x.astype(np.float64)
        scale = np.where(((values == 0) | (values == 1)).all(axis=0), 0.0, config.scale * values.std(axis=0))
        jittered: Array = values[base] + scale * random.standard_normal((len(base), *x.shape[1:]))
        return jittered
    assert isinstance(config, ImageAugmentationConfig)
    low, high = (0.0, 255.0) if info.input_kind == "pixels" else (float(x.min()), float(x.max()))
    angle = np.deg2rad(random.uniform(-config.rotate, config.rotate, len(base)))
    shift = random.integers(-config.shift, config.shift, (2, len(base)), endpoint=True)
    changed = rotated_and_shifted(x[base].astype(np.float64), angle, shift)
    if config.noise:
        changed += config.noise * (high - low) * random.standard_normal(changed.shape)
    clipped: Array = np.clip(changed, low, high)
    return clipped


def _between(config: SmoteConfig, own: Samples, label: int, size: int, count: int, key: int) -> Array:
    """`count` samples of a class between those that a client has, float64."""
    flat = own.x.reshape(len(own), -1).astype(np.float64)
    smote = _smote()(
        sampling_strategy={label: size + count}, k_neighbors=min(config.neighbours, size - 1), random_state=key
    )
    found, _ = smote.fit_resample(flat, own.y)
    new: Array = found[len(own) :].reshape(-1, *own.x.shape[1:])
    return new


def _as(values: Array, stored: Array) -> Array:
    """Values in the type of the stored ones."""
    return np.rint(values).astype(stored.dtype) if stored.dtype.kind in "iu" else values.astype(stored.dtype)


def smote_version() -> str:
    """Version of the package that makes samples between others.

    Raises:
        ConfigError: it is not installed.
    """
    _smote()
    return metadata.version("imbalanced-learn")


def _smote() -> Callable[..., Any]:
    try:
        from imblearn.over_sampling import SMOTE
    except ImportError:
        raise ConfigError(
            "data.augmentation: smote needs the package imbalanced-learn; install it with "
            "`pip install 'raysim-fl[imbalance]'`"
        ) from None
    smote: Callable[..., Any] = SMOTE
    return smote
