"""Tensors on their way to another process: as bytes that the receiver need not copy, where they are plain."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from raysim.arrays import UInt8
from raysim.models.base_store import storable


@dataclass(frozen=True, slots=True)
class Packed:
    """A plain tensor; Ray's object store hands `data` to every process of a node without copying it.

    Attributes:
        data: its bytes.
        parameter: whether it is a parameter.
    """

    data: UInt8
    dtype: torch.dtype
    shape: tuple[int, ...]
    parameter: bool
    requires_grad: bool


def packed(tensor: Tensor) -> Packed | Tensor:
    """The tensor as it travels; one that is not plain is pickled by its own class."""
    if not storable(tensor):
        return tensor
    data = tensor.detach().reshape(-1).view(torch.uint8).numpy()
    return Packed(data, tensor.dtype, tuple(tensor.shape), isinstance(tensor, nn.Parameter), tensor.requires_grad)


def unpacked(one: Packed | Tensor) -> Tensor:
    """The tensor; of a packed one the memory may be read-only, so it is only to be copied from."""
    if isinstance(one, Tensor):
        return one
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writ")
        tensor = torch.from_numpy(one.data).view(one.dtype).view(one.shape)
    return nn.Parameter(tensor, one.requires_grad) if one.parameter else tensor.requires_grad_(one.requires_grad)
