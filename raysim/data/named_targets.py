"""Several targets a sample, handed over by name, such as boxes, labels and masks: `y = {"boxes": …, "labels": …}`.

They are stored side by side in one array of float32; losses and metrics get them by name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any, Literal

import numpy as np

from raysim.arrays import Array
from raysim.errors import DataError

TargetKind = Literal["real", "integers", "flags"]
"""What a loss gets: float32, int64, bool."""
_EXACT = 1 << 24
"""float32 holds all integers up to here."""
_KINDS: dict[str, TargetKind] = {"f": "real", "i": "integers", "u": "integers", "b": "flags"}


@dataclass(frozen=True, slots=True)
class TargetField:
    """One target of a sample: its name, what its values are, and the columns `[start, start + width)` that hold it."""

    name: str
    kind: TargetKind
    shape: tuple[int, ...]
    start: int

    @property
    def width(self) -> int:
        """Numbers of a sample."""
        return prod(self.shape)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> TargetField:
        """What `dataclasses.asdict` gave, perhaps through JSON; a TypeError or KeyError if it is something else."""
        return cls(**{**values, "shape": tuple(values["shape"])})


def pack_targets(
    train: Mapping[str, Array], test: Mapping[str, Array] | None, origin: str
) -> tuple[Array, Array | None, tuple[TargetField, ...]]:
    """Mappings of arrays `[n, …]` as float32 `[n, width]`, those of a test set alike.

    Raises:
        DataError: a target is empty, of another length, shape or type, not finite, or an integer that float32 has not;
            or the test set has others.
    """
    if not train:
        raise DataError(f"{origin}: y has no targets; give arrays by name, e.g. {{'boxes': …, 'labels': …}}")
    if test is not None and set(test) != set(train):
        raise DataError(f"{origin}: y has the targets {sorted(train)}, y_test {sorted(test)}; give both the same")
    fields, start = list[TargetField](), 0
    for name, values in train.items():
        fields.append(TargetField(str(name), _KINDS[values.dtype.kind], values.shape[1:], start))
        start += fields[-1].width
    packed = _packed(train, fields, start, f"{origin}: y")
    return packed, None if test is None else _packed(test, fields, start, f"{origin}: y_test"), tuple(fields)


def _packed(targets: Mapping[str, Array], fields: list[TargetField], width: int, where: str) -> Array:
    count = len(targets[fields[0].name])
    found = np.empty((count, width), np.float32)
    for field in fields:
        values, place = targets[field.name], f"{where}[{field.name!r}]"
        if values.ndim < 1 or values.shape != (count, *field.shape) or values.size == 0:
            raise DataError(f"{place} has shape {list(values.shape)}; expected {[count, *field.shape]}, none of them 0")
        if _KINDS[values.dtype.kind] != field.kind:
            raise DataError(f"{place} has type {values.dtype}, in training {field.kind}; make them alike")
        flat = values.reshape(count, -1)
        if field.kind == "integers" and max(abs(int(flat.min())), abs(int(flat.max()))) > _EXACT:
            raise DataError(f"{place} has {int(flat.max())}; integers among targets by name are at most {_EXACT:,}")
        with np.errstate(over="ignore"):
            found[:, field.start : field.start + field.width] = flat
        if not np.isfinite(found[:, field.start : field.start + field.width]).all():
            raise DataError(f"{place} has a value that is not finite; remove samples without a target")
    return found
