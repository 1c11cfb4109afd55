"""How values get from the host to the training device.

To a GPU through pinned memory, and without waiting: the copy takes its place among the kernels that were asked for
before it, and the caller goes on. torch does not reuse the pinned memory before the copy is made. On a CPU
nothing is copied that need not be.
"""

from __future__ import annotations

import torch
from torch import Tensor

from raysim.arrays import Array


def to_device(values: Array | Tensor, device: torch.device) -> Tensor:
    """The values on the device. On a CPU they share memory with what was given: who writes to them, writes there."""
    if device.type == "cuda":
        return copied(values.numpy() if isinstance(values, Tensor) else values, device)
    return (values if isinstance(values, Tensor) else torch.from_numpy(values)).to(device)


def copied(array: Array, device: torch.device) -> Tensor:
    """The array's values in a tensor of its own on the device, which begins on a 64-byte boundary.

    A tensor that wraps an array (`torch.from_numpy`) might not, and torch would write to it although it is read-only.
    """
    if device.type == "cuda":
        return _staged(array, pinned=True).to(device, non_blocking=True)
    return _staged(array, pinned=False).to(device)


def copy_into(place: Tensor, array: Array) -> None:
    """Put the array's values into a tensor of the same shape and kind."""
    if place.device.type == "cuda":
        place.copy_(_staged(array, pinned=True), non_blocking=True)
    else:
        place.numpy()[...] = array


def _staged(array: Array, *, pinned: bool) -> Tensor:
    """The values in host memory that torch has allocated."""
    room = torch.empty(array.shape, dtype=_DTYPES[array.dtype.name], pin_memory=pinned)
    room.numpy()[...] = array
    return room


_DTYPES = {
    "bool": torch.bool,
    "uint8": torch.uint8,
    "int8": torch.int8,
    "int16": torch.int16,
    "uint16": torch.int32,  # torch cannot index uint16
    "int32": torch.int32,
    "int64": torch.int64,
    "float32": torch.float32,
    "float64": torch.float64,
}
