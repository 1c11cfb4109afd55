"""Samples of several inputs (token ids, a mask, an image, …) as one array of 32-bit words, and what lies where in it.

Splits, partitioners, the shard store and engines see an array `[n, words]` like any other; the model's forward pass
gets the inputs by name (`raysim.models.calling`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any, Literal

import numpy as np

from raysim.arrays import Array
from raysim.errors import DataError

IDS, ANSWER = "input_ids", "answer"
"""Inputs of text: token ids; and of pairs of answers, which of the ids are an answer's."""

InputFieldKind = Literal["tokens", "integers", "flags", "pixels", "real"]
"""`tokens`, `integers`: int32, int64 for the model. `flags`: a byte each, bool for the model. `pixels`: uint8, divided
by 255 for the model. `real`: float32."""

_STORED: dict[InputFieldKind, Any] = {
    "tokens": np.int32,
    "integers": np.int32,
    "flags": np.uint8,
    "pixels": np.uint8,
    "real": np.float32,
}


@dataclass(frozen=True, slots=True)
class InputField:
    """One input of a sample: its name, what its values are, and the words `[start, start + words)` that hold it.

    Attributes:
        count: of `tokens` and `integers`, how many values there are: they are 0, 1, …, count - 1.
    """

    name: str
    kind: InputFieldKind
    shape: tuple[int, ...]
    start: int = 0
    count: int | None = None

    @property
    def words(self) -> int:
        """32-bit words of a sample."""
        size: int = np.dtype(_STORED[self.kind]).itemsize
        return -(-prod(self.shape) * size // 4)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> InputField:
        """What `dataclasses.asdict` gave, perhaps through JSON; a TypeError or KeyError if it is something else."""
        return cls(**{**values, "shape": tuple(values["shape"])})


def pack_inputs(inputs: Mapping[str, Array], fields: Sequence[InputField]) -> tuple[Array, tuple[InputField, ...]]:
    """Several inputs as one array.

    Args:
        inputs: `[n, *shape]` of each field, by name.
        fields: their order; `start` is set here.

    Returns:
        int32 `[n, words]`, and the fields with their places.

    Raises:
        DataError: a value does not fit the kind or the count of its field.
    """
    placed, start = list[InputField](), 0
    for field in fields:
        placed.append(replace(field, start=start))
        start += field.words
    first = inputs[fields[0].name]
    packed = np.zeros((len(first), start), np.int32)
    for field in placed:
        values = inputs[field.name]
        _check(field, values, len(first))
        stored = np.ascontiguousarray(values.reshape(len(values), prod(field.shape)), _STORED[field.kind])
        place = packed[:, field.start : field.start + field.words].view(stored.dtype)
        place[:, : stored.shape[1]] = stored
    return packed, tuple(placed)


def unpack_inputs(packed: Array, fields: Sequence[InputField]) -> dict[str, Array]:
    """The inputs `[n, *shape]` by name, as they are stored, given `[n, words]`."""
    found = {}
    for field in fields:
        words = packed[:, field.start : field.start + field.words]
        values = np.ascontiguousarray(words).view(_STORED[field.kind])[:, : prod(field.shape)]
        found[field.name] = values.reshape(len(packed), *field.shape)
    return found


def check_packed(packed: Array, fields: Sequence[InputField], origin: str) -> None:
    """Check that token ids and other integers are within their counts, also where they were packed elsewhere.

    Raises:
        DataError: names the input, the sample and the value.
    """
    for field in fields:
        if field.kind in ("tokens", "integers") and field.count is not None:
            values = packed[:, field.start : field.start + field.words]
            _check_range(field, values, origin)


def _check(field: InputField, values: Array, samples: int) -> None:
    if values.shape != (samples, *field.shape):
        raise DataError(
            f"input {field.name!r} has shape {list(values.shape)}; expected {list(field.shape)} for each of {samples} "
            "samples"
        )
    wanted = "biu" if field.kind in ("tokens", "integers", "flags", "pixels") else "fiub"
    if values.dtype.kind not in wanted:
        expected = "numbers" if field.kind == "real" else f"integers ({field.kind})"
        raise DataError(f"input {field.name!r} has type {values.dtype}, expected {expected}")
    if field.kind == "real":
        with np.errstate(over="ignore"):
            finite = np.isfinite(values.astype(np.float32)).reshape(samples, -1).all(1)
        if not finite.all():
            raise DataError(f"input {field.name!r}: sample {int(np.argmin(finite))} has a value that is not finite")
    if (field.count or 0) > 2**31:
        raise DataError(f"input {field.name!r} has {field.count:,} values, more than 32 bits hold")
    if field.kind == "flags" and values.dtype.kind != "b" and values.size and (values.min() < 0 or values.max() > 1):
        raise DataError(f"input {field.name!r}: flags are 0 or 1, found {values.min()}..{values.max()}")
    if field.kind == "pixels" and values.size and (values.min() < 0 or values.max() > 255):
        raise DataError(f"input {field.name!r}: pixels are 0..255, found {values.min()}..{values.max()}")
    if field.count is not None:
        _check_range(field, values.reshape(samples, prod(field.shape)), "")


def _check_range(field: InputField, values: Array, origin: str) -> None:
    outside = np.argwhere((values < 0) | (values >= field.count))
    if len(outside):
        sample, position = (int(i) for i in outside[0])
        raise DataError(
            f"{origin + ': ' if origin else ''}input {field.name!r}: {values[sample, position]} of sample {sample} is "
            f"outside 0..{(field.count or 0) - 1}"
        )
