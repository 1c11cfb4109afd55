"""Sequences of different lengths: filled up to the longest, with a mask of what is real."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from raysim.arrays import Array, Bools
from raysim.data.room import check_room
from raysim.data.sources.targets import Place
from raysim.errors import DataError


def padded(sequences: Sequence[Any], *, value: float = 0, length: int | None = None) -> tuple[Array, Bools]:
    """Sequences filled up at their ends.

    Args:
        sequences: arrays `[length_i, *shape]`, of one shape but for their lengths, and of one kind of numbers.
        value: what they are filled up with.
        length: of the result; by default that of the longest.

    Returns:
        Values `[n, length, *shape]`, and a mask `[n, length]` that is True where a value is real.

    Raises:
        DataError: there are none; one is longer than `length`, is no sequence or has another shape; or memory is short.

    Example:
        >>> values, mask = padded([[1, 2, 3], [4]])
        >>> values.tolist(), mask.sum(axis=1).tolist()
        ([[1, 2, 3], [4, 0, 0]], [3, 1])
    """
    return _padded(sequences, value, length, Place("padded", "sequences"))


def _padded(sequences: Sequence[Any], value: float, length: int | None, place: Place) -> tuple[Array, Bools]:
    arrays = [_one(one, i, place) for i, one in enumerate(sequences)]
    if not arrays:
        raise place.error(" has no sequences")
    longest = max(len(one) for one in arrays)
    if length is not None and longest > length:
        worst = next(i for i, one in enumerate(arrays) if len(one) > length)
        raise place.error(f"[{worst}] has length {len(arrays[worst])}, more than {length}; cut it, or raise the length")
    inner, kind = arrays[0].shape[1:], np.result_type(*{one.dtype for one in arrays})
    for i, one in enumerate(arrays):
        if one.shape[1:] != inner:
            raise place.error(f"[{i}] has shape {one.shape}, [0] {arrays[0].shape}; only lengths may differ")
    shape = (len(arrays), longest if length is None else length, *inner)
    check_room(int(np.prod(shape)) * kind.itemsize, place.origin, f"padding {place.key} to {shape[1]}", "cut sequences")
    if kind.kind in "iu" and (value != int(value) or (kind.kind == "u" and value < 0)):
        raise place.error(f" has integers, which cannot be filled up with {value}")
    values, mask = np.full(shape, value, kind), np.zeros(shape[:2], np.bool_)
    for i, one in enumerate(arrays):
        values[i, : len(one)], mask[i, : len(one)] = one, True
    return values, mask


def _one(sequence: Any, i: int, place: Place) -> Array:
    if hasattr(sequence, "detach"):  # a torch tensor
        sequence = sequence.detach().cpu().numpy()
    array = np.asarray(sequence)
    if array.ndim == 0 or array.dtype.kind not in "biuf" or len(array) == 0:
        raise place.error(f"[{i}] has shape {array.shape} and type {array.dtype}; expected a sequence of numbers")
    return array


def is_ragged(value: Any) -> bool:
    """Whether it is a list of sequences of different lengths."""
    if not isinstance(value, list | tuple) or not value or not all(hasattr(one, "__len__") for one in value):
        return False
    return len({len(one) for one in value}) > 1


@dataclass(frozen=True, slots=True)
class SequencePadding:
    """How ragged inputs and targets are filled up: `padding` and `mask` beside the arrays."""

    value: float
    mask: str | None = None
    """Name of an input that is True where the others are real."""

    @classmethod
    def taken_from(cls, arrays: dict[str, Any], origin: str) -> SequencePadding | None:
        """What the mapping says of padding, which is taken out of it; None where it says nothing.

        Raises:
            DataError: the value is no number, or a mask is named without it.
        """
        value, mask = arrays.pop("padding", None), arrays.pop("mask", None)
        if value is None:
            if mask is not None:
                raise DataError(
                    f"{origin}: 'mask' names the mask of padded inputs; say what fills them up by 'padding'"
                )
            return None
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise DataError(f"{origin}: 'padding' is {value!r}; expected the number that fills up short sequences")
        if mask is not None and not (isinstance(mask, str) and mask.isidentifier()):
            raise DataError(f"{origin}: 'mask' is {mask!r}; expected the name of an input of the forward pass")
        return cls(value, mask)

    def of(self, arrays: dict[str, Any], origin: str) -> dict[str, Any]:
        """The arrays, with all that is ragged filled up to the longest of training and test samples.

        Ragged targets are filled up with 0, which weighs nothing.

        Raises:
            DataError: nothing is ragged, or sequences of a sample differ in length.
        """
        ragged = _ragged_names(arrays)
        longest = _longest(arrays, ragged)
        if not ragged:
            raise DataError(f"{origin}: 'padding' is given, but all samples are of one length; leave it out")
        found = dict(arrays)
        for suffix in ("", "_test"):
            if f"x{suffix}" not in arrays:
                continue
            masks: list[Bools] = []
            x = arrays[f"x{suffix}"]
            filled = {}
            for name, value in _inputs(x).items():
                filled[name] = value
                if name in ragged:
                    filled[name], mask = _padded(value, self.value, longest, Place(origin, f"x{suffix}"))
                    masks.append(mask)
            if self.mask is not None:
                filled[self.mask] = self._mask(masks, filled, longest, origin)
            found[f"x{suffix}"] = filled if isinstance(x, Mapping) or self.mask is not None else filled["x"]
            if _Y in ragged:
                self._targets(found, suffix, masks, longest, origin)
        return found

    def _targets(self, found: dict[str, Any], suffix: str, masks: list[Bools], longest: int, origin: str) -> None:
        values, real = _padded(found[f"y{suffix}"], 0, longest, Place(origin, f"y{suffix}"))
        for mask in masks:
            if not np.array_equal(mask, real):
                first = int(np.flatnonzero((mask != real).any(axis=1))[0])
                raise DataError(
                    f"{origin}: sample {first} has {int(mask[first].sum())} steps of x{suffix} and "
                    f"{int(real[first].sum())} of y{suffix}; give a target for each step"
                )
        weight = found.get(f"weight{suffix}")
        weights = np.broadcast_to(real.reshape(*real.shape, *(1,) * (values.ndim - 2)), values.shape).astype(np.float32)
        if weight is not None:
            given = _padded(weight, 0, longest, Place(origin, "weight"))[0] if is_ragged(weight) else np.asarray(weight)
            weights = weights * given.reshape(len(given), *given.shape[1:], *(1,) * (weights.ndim - given.ndim))
        found[f"y{suffix}"], found[f"weight{suffix}"] = values, weights

    def _mask(self, masks: list[Bools], filled: Mapping[str, Any], longest: int, origin: str) -> Bools:
        if self.mask in filled:
            raise DataError(f"{origin}: the inputs have a {self.mask!r} already; give the mask another name")
        if not masks:
            raise DataError(f"{origin}: 'mask' is for inputs of different lengths, and only targets are; leave it out")
        for other in masks[1:]:
            if not np.array_equal(other, masks[0]):
                raise DataError(f"{origin}: the inputs of a sample differ in length; give each a mask of its own")
        return masks[0]


_Y = "y of a step"
"""Stands for ragged targets among the names of ragged inputs."""


def _inputs(x: Any) -> Mapping[str, Any]:
    return x if isinstance(x, Mapping) else {"x": x}


def _ragged_names(arrays: Mapping[str, Any]) -> set[str]:
    """Inputs whose samples differ in length, in training or test; and `_Y` where targets do."""
    found = set()
    for suffix in ("", "_test"):
        found |= {name for name, value in _inputs(arrays.get(f"x{suffix}")).items() if is_ragged(value)}
        found |= {_Y} if is_ragged(arrays.get(f"y{suffix}")) else set()
    return found


def _longest(arrays: Mapping[str, Any], ragged: set[str]) -> int:
    every: list[Any] = []
    for suffix in ("", "_test"):
        every += [value for name, value in _inputs(arrays.get(f"x{suffix}")).items() if name in ragged]
        every += [arrays.get(f"y{suffix}")] if _Y in ragged else []
    return max((len(sequence) for one in every if one is not None for sequence in one), default=0)
