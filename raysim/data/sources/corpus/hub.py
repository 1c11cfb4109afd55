"""Data sets of Hugging Face's `datasets`: saved in a folder, or by name from its cache; offline by default."""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from raysim.config.text import CorpusConfig
from raysim.data.sources.files import first_line
from raysim.errors import ConfigError, DataError

ON_THIS_MACHINE = "; it is looked for on this machine alone, set data.source.download to fetch it"
_ROWS = 1024
"""Rows that are read at a time."""
_SAVED = ("state.json", "dataset_dict.json")


def needed(package: str, key: str) -> Any:
    """An optional package, imported.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        return importlib.import_module(package)
    except ImportError as error:
        why = "" if isinstance(error, ModuleNotFoundError) else f" ({first_line(error)})"
        raise ConfigError(
            f"{key}: needs the package {package}, which cannot be imported{why}; install it with "
            "`pip install 'raysim-fl[llm]'`"
        ) from None


@contextmanager
def offline(*, download: bool) -> Iterator[None]:
    """Keep Hugging Face's libraries from the network inside, unless a download is allowed."""
    names = ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "TRANSFORMERS_OFFLINE")
    before = {name: os.environ.get(name) for name in names}
    if not download:
        os.environ.update(dict.fromkeys(names, "1"))
    constants = needed("huggingface_hub.constants", "data.source")
    was = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = was if download else True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = was
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def is_saved(place: Path) -> bool:
    """Whether `save_to_disk` wrote this folder."""
    return any((place / name).is_file() for name in _SAVED)


def hub_dataset(config: CorpusConfig) -> Any:
    """The data set (one split) that the configuration names.

    Raises:
        ConfigError: the package `datasets` is not installed.
        DataError: there is no such data set, or it has no such split.
    """
    path = Path(config.path or "").expanduser()
    datasets = needed("datasets", "data.source.format: hub")
    try:
        if is_saved(path):
            found = datasets.load_from_disk(str(path))
        else:
            with offline(download=config.download):
                found = datasets.load_dataset(config.path)
    except Exception as error:  # the library may raise anything
        how = "" if config.download or is_saved(path) else ON_THIS_MACHINE
        raise DataError(f"{config.path}: no data set can be loaded ({first_line(error)}){how}") from None
    if isinstance(found, dict):
        split = config.split or "train"
        if split not in found:
            raise DataError(f"{config.path}: data.source.split: no split {split!r}; there are {', '.join(found)}")
        return found[split]
    if config.split is not None:
        raise DataError(f"{config.path}: data.source.split: this data set has no splits; remove it")
    return found


def hub_identity(config: CorpusConfig) -> str:
    """What a data set that is given by its name holds, without reading it."""
    return f"hub {config.path} {hub_dataset(config)._fingerprint}"


def hub_records(config: CorpusConfig) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The rows of a data set; classes by their names, where it has any."""
    dataset = hub_dataset(config)
    classes = {name: feature for name, feature in dataset.features.items() if hasattr(feature, "int2str")}
    number = 0
    for columns in dataset.with_format(None).iter(batch_size=_ROWS):
        for values in zip(*columns.values(), strict=True):
            number += 1
            fields = dict(zip(columns, values, strict=True))
            for name, feature in classes.items():
                label = fields[name]
                fields[name] = None if label is None or label < 0 else feature.int2str(label)
            yield f"{config.path}: row {number}", fields
