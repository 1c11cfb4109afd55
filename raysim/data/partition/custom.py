"""A user's own partitioner, by import string."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np

from raysim.arrays import Int64
from raysim.config.base import CustomConfig
from raysim.config.imports import load
from raysim.data.partition.base import Partition, Traits
from raysim.errors import ConfigError, DataError
from raysim.user_code import user_code


def custom(traits: Traits, config: CustomConfig, seed: int) -> Partition:
    """Call the user's function with what it declares of `labels`, `owners`, `size` and `seed`, and with `args`.

    It returns a list with an array of sample positions for each client, or a tuple `(order, lengths)`. It may leave
    samples out; it may not deal one twice.

    Raises:
        ConfigError: there is no such function, or it does not take these arguments.
        DataError: it needs labels that the samples do not have, it fails, or what it returns is no partition.
    """
    function = load(config.name, key="data.partition.name")
    arguments = _arguments(function, traits, config, seed)
    with user_code(f"data.partition: {config.name}", DataError):
        return _parse(function(**arguments), traits.size, config.name)


def _arguments(function: Any, traits: Traits, config: CustomConfig, seed: int) -> dict[str, Any]:
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        raise ConfigError(f"data.partition.name: {config.name} is not a function") from None
    offered = {"labels": traits.labels, "owners": traits.owners, "size": traits.size, "seed": seed}
    if "labels" in signature.parameters:
        offered["labels"] = traits.require_labels(config.name)
    arguments = {name: value for name, value in offered.items() if name in signature.parameters} | config.args
    try:
        signature.bind(**arguments)
    except TypeError as error:
        raise ConfigError(
            f"data.partition.args: {config.name}{signature} does not fit: {error}; "
            f"it is offered {', '.join(offered)} and your args"
        ) from None
    return arguments


def _parse(result: Any, size: int, name: str) -> Partition:
    if isinstance(result, Partition):
        order, lengths = result.order, result.lengths
    elif isinstance(result, tuple) and len(result) == 2:
        order, lengths = (_integers(part, name) for part in result)
    elif isinstance(result, list) and result:
        shares = [_integers(share, name) for share in result]
        order, lengths = np.concatenate(shares), np.array([len(share) for share in shares], dtype=np.int64)
    else:
        raise DataError(
            f"data.partition: {name} returned {type(result).__name__}; expected a non-empty list with an index array "
            f"for each client, or a tuple (order, lengths)"
        )
    if len(lengths) == 0 or int(lengths.min()) < 0 or int(lengths.sum()) != len(order):
        raise DataError(f"data.partition: the lengths that {name} returned do not add up to its {len(order)} samples")
    outside = np.flatnonzero((order < 0) | (order >= size))
    if len(outside):
        raise DataError(
            f"data.partition: {name} dealt sample {order[outside[0]]}, but the training samples are 0 to {size - 1}"
        )
    times = np.bincount(order, minlength=size)
    if len(times) and int(times.max()) > 1:
        raise DataError(f"data.partition: {name} dealt sample {int(times.argmax())} more than once")
    return Partition(order, lengths, result.owners if isinstance(result, Partition) else None)


def _integers(values: Any, name: str) -> Int64:
    array = np.asarray(values)
    if array.ndim != 1 or (array.size and array.dtype.kind not in "iu"):
        raise DataError(
            f"data.partition: {name} returned an array of {array.ndim} dimensions and type {array.dtype}; "
            f"expected one dimension of integers"
        )
    return array.astype(np.int64)
