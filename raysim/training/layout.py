"""Everything trainable is one flat vector: where each parameter lives in it, as views, without copying.

Columns are ordered trainable parameters | float buffers. Every parameter starts on a 64-byte boundary and the total is
a multiple of 128 bytes, so that in a `[K, P]` matrix every row does too: kernels that see another alignment give other
bits, and so do those that leave the end of a tensor to a scalar loop. The padding between parameters is always zero.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from math import prod
from typing import NoReturn

import torch
from torch import Tensor, nn

from raysim.errors import ModelError

ALIGNMENT = 16
"""float32 values in 64 bytes."""
TURN = 32
"""float32 values that an elementwise kernel computes in a turn of its vectorised loop; a scalar loop does the rest."""


@dataclass(frozen=True, slots=True)
class Segment:
    """One parameter or buffer: its name in the module, and its columns `[start, start + size)`."""

    name: str
    shape: tuple[int, ...]
    start: int

    @property
    def size(self) -> int:
        """Number of values."""
        return prod(self.shape)


class ParameterLayout:
    """Maps a module's trainable parameters and float buffers to the columns of a float32 vector and back.

    Tied parameters appear once. Frozen parameters, integer buffers, and buffers that are no part of a module's state
    (`persistent=False`, such as tables of rotary positions) are no part of it: they stay in the module.

    Attributes:
        parameters: segments of the trainable parameters, in the module's order.
        buffers: segments of the float buffers (batch normalisation's running statistics).
        trainable: T, the number of columns that a gradient has; a multiple of 32.
        size: P, the number of columns; a multiple of 32.
    """

    def __init__(self, module: nn.Module) -> None:
        trainable = [(name, p) for name, p in module.named_parameters() if p.requires_grad]
        for name, parameter in trainable:
            if parameter.dtype != torch.float32:
                raise ModelError(
                    f"parameter {name!r} is {parameter.dtype}; trainable ones must be float32: use .float()"
                )
        if not trainable:
            raise ModelError("the model has no trainable parameter (requires_grad is False everywhere)")
        constant = _constants(module)
        buffers = [
            (n, b) for n, b in module.named_buffers() if b.dtype == torch.float32 and b.numel() and n not in constant
        ]
        self.parameters, self.trainable = _place(trainable, 0)
        self.buffers, self.size = _place(buffers, self.trainable)

    @property
    def segments(self) -> tuple[Segment, ...]:
        """All segments, in the order of their columns."""
        return self.parameters + self.buffers

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the names, shapes and columns: two modules with the same one can exchange vectors."""
        return hashlib.sha256(repr([(s.name, s.shape, s.start) for s in self.segments]).encode()).hexdigest()

    @property
    def count(self) -> int:
        """Number of trainable values, without padding."""
        return sum(segment.size for segment in self.parameters)

    def values(self, size: int) -> int:
        """Values of a vector of P or T columns without padding; `size` of any other."""
        if size == self.size:
            return sum(segment.size for segment in self.segments)
        return self.count if size == self.trainable else size

    def matching(self, patterns: Sequence[str]) -> list[Segment]:
        """Segments whose names match one of the patterns, with `*`."""
        return [s for s in self.segments if any(fnmatchcase(s.name, pattern) for pattern in patterns)]

    def name_at(self, column: int) -> str:
        """The parameter or buffer that a column belongs to; empty for padding."""
        return next((s.name for s in self.segments if s.start <= column < s.start + s.size), "")

    def part(self, start: int, stop: int) -> LayoutPart:
        """Columns `[start, stop)`, for algebra that treats columns apart."""
        return LayoutPart(stop - start, min(max(self.trainable - start, 0), stop - start))

    def views(self, rows: Tensor) -> dict[str, Tensor]:
        """Views of `[..., P]` (or `[..., T]`, parameters only) by name, each `[..., *shape]`."""
        segments = self.parameters if rows.shape[-1] == self.trainable else self.segments
        lead = rows.shape[:-1]
        return {s.name: rows[..., s.start : s.start + s.size].view((*lead, *s.shape)) for s in segments}

    def pack(self, module: nn.Module) -> Tensor:
        """The module's values as a new vector `[P]` on the CPU."""
        row = torch.zeros(self.size)
        with torch.no_grad():
            for view, tensor in zip(self.views(row).values(), self._tensors(module), strict=True):
                view.copy_(tensor)
        return row

    def unpack(self, row: Tensor, module: nn.Module) -> None:
        """Copy a vector `[P]` into the module."""
        with torch.no_grad():
            for view, tensor in zip(self.views(row).values(), self._tensors(module), strict=True):
                tensor.copy_(view)

    def bind(self, row: Tensor, module: nn.Module) -> None:
        """Make the module's parameters and float buffers *be* views of a vector `[P]`: writing one writes the other."""
        for view, tensor in zip(self.views(row).values(), self._tensors(module), strict=True):
            tensor.data = view

    def _tensors(self, module: nn.Module) -> Iterator[Tensor]:
        parameters, buffers = dict(module.named_parameters()), dict(module.named_buffers())
        yield from (parameters[segment.name] for segment in self.parameters)
        yield from (buffers[segment.name] for segment in self.buffers)


class LayoutPart(ParameterLayout):
    """A range of a layout's columns: how many, and how many of them are trainable, and no more.

    Parameters may be cut anywhere, so there are no segments.
    """

    def __init__(self, size: int, trainable: int) -> None:
        self.size, self.trainable = size, trainable

    def __getattr__(self, name: str) -> NoReturn:
        raise AttributeError(
            f"a part of a layout has no {name}: an algorithm that needs it sets columnwise = False in its class"
        )


def flat_values(values: Tensor) -> Tensor:
    """`[k, *shape]` as `[k, size]`; a number each, `[k]`, as `[k, 1]`."""
    return values.flatten(1) if values.ndim > 1 else values.unsqueeze(1)


def _constants(module: nn.Module) -> set[str]:
    """Names of the buffers that are no part of the module's state."""
    return {
        f"{prefix}.{name}" if prefix else name
        for prefix, one in module.named_modules()
        for name in one._non_persistent_buffers_set
    }


def _place(tensors: Sequence[tuple[str, Tensor]], start: int) -> tuple[tuple[Segment, ...], int]:
    segments = []
    for name, tensor in tensors:
        segments.append(Segment(name, tuple(tensor.shape), start))
        start += -(-tensor.numel() // ALIGNMENT) * ALIGNMENT
    return tuple(segments), -(-start // TURN) * TURN
