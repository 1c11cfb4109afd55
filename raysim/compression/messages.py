"""A client's message as bytes: for each field that is encoded a header, the codec's bytes, and its other values."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import torch
from torch import Tensor

from raysim.arrays import Float32
from raysim.compression.codec import Codec, check_length

_HEADER = struct.Struct("<BI")
"""The codec's number, and bytes of what follows."""
HEADER = _HEADER.size
"""Bytes of a header, which is all that a client without steps sends of a field."""


def message_bytes(coded: int, dense: int) -> int:
    """Length of a field's message in bytes: those of the codec, and those of the values that are sent as they are."""
    return HEADER + coded + 4 * dense


def write_message(codec: Codec[Any], code: Any, dense: Float32) -> bytes:
    """The message of a field: what a codec made of some layers, and the values of the others."""
    body = codec.encode(code) + dense.astype("<f4").tobytes()
    return _HEADER.pack(codec.number, len(body)) + body


def read_message(codec: Codec[Any], data: bytes, dense: int) -> tuple[Any, Float32]:
    """What a message says.

    Args:
        dense: values that the codec did not encode.

    Raises:
        ValueError: it is of another codec, or cut off.
    """
    if len(data) < HEADER:
        raise ValueError(f"a message of {len(data)} bytes; expected at least {HEADER}")
    number, length = _HEADER.unpack_from(data)
    if number != codec.number:
        raise ValueError(f"a message of codec {number}; expected {codec.number}")
    check_length(data, HEADER + length)
    if length < 4 * dense:
        raise ValueError(f"a message of {len(data)} bytes; expected {4 * dense} for values alone")
    end = len(data) - 4 * dense
    return codec.decode(data[HEADER:end]), np.frombuffer(data, "<f4", dense, end).astype(np.float32)


def write_back(rows: Tensor, array: Float32) -> None:
    """Take over what was changed in `rows.cpu().numpy()`, which on a CPU is the same memory."""
    if rows.device.type != "cpu":
        rows.copy_(torch.from_numpy(array))
