"""A user's own data: a function named by an import string, or what was handed to the simulation."""

from __future__ import annotations

import inspect
from typing import Any

from raysim.config import load
from raysim.config.base import CustomConfig
from raysim.data.dataset import Dataset, Pool
from raysim.data.sources.arrays import from_arrays
from raysim.data.sources.forms import as_arrays
from raysim.data.sources.targets import Task
from raysim.errors import ConfigError, DataError
from raysim.user_code import user_code


def load_custom(config: CustomConfig, task: Task | None = None) -> Dataset:
    """Call the user's function with its `args`; it returns a `Dataset`, or what `from_arrays` takes.

    Args:
        config: names the function.
        task: what its targets are for, if the configuration says so and it returns no `Dataset`.

    Raises:
        ConfigError: the function cannot be imported, or does not take these arguments.
        DataError: it fails, or what it returned is no data set.
    """
    function = load(config.name, key="data.source")
    if not callable(function):
        raise ConfigError(f"data.source: {config.name!r} is a {type(function).__name__}, not a function")
    try:
        inspect.signature(function).bind(**config.args)
    except TypeError as error:
        raise ConfigError(f"data.source.args: {config.name} cannot be called with them: {error}") from None
    with user_code(f"data.source: {config.name}", DataError):
        return given(function(**config.args), config.name, task)


def given(data: Any, origin: str, task: Task | None = None) -> Dataset:
    """A data set from what a user gave: a `Dataset`, map-style datasets (see `as_arrays`), or what `from_arrays` takes.

    Raises:
        DataError: it is neither, or its arrays do not fit together.
    """
    if not isinstance(data, Dataset):
        return from_arrays(as_arrays(data, origin), origin=origin, task=task, floats=task is not None)
    for name, pool in (("train", data.train), ("test", data.test)):
        if pool is not None:
            _check_lengths(pool, f"{origin}: {name}")
    return data


def _check_lengths(pool: Pool, where: str) -> None:
    if len(pool) == 0:
        raise DataError(f"{where} has no samples")
    for key in ("x", "client", "weight", "row"):
        values = getattr(pool, key)
        if values is not None and len(values) != len(pool):
            raise DataError(f"{where}.{key} has length {len(values)}, y has {len(pool)}")
