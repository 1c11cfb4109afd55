"""The inputs of a record as tensors: what a forward pass that takes several is given."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np
import torch
from torch import Tensor

from raysim.data.federation import DataInfo
from raysim.data.inputs import InputField, pack_inputs


def take_inputs(x: Tensor, inputs: Sequence[InputField]) -> dict[str, Tensor]:
    """The inputs of samples `[n, words]` by name, each `[n, *shape]` as a forward pass takes it."""
    found = {}
    for field in inputs:
        words = x[..., field.start : field.start + field.words]
        if field.kind in ("tokens", "integers"):
            values = words.to(torch.int64)
        else:
            kind = torch.float32 if field.kind == "real" else torch.uint8
            values = words.contiguous().view(kind)[..., : prod(field.shape)]
            if field.kind == "pixels":
                values = values.to(torch.float32) / 255.0
            elif field.kind == "flags":
                values = values.to(torch.bool)
        found[field.name] = values.reshape(*x.shape[:-1], *field.shape)
    return found


def largest_record(info: DataInfo, samples: int) -> Tensor:
    """Words of samples whose ids and other integers are the largest that there are, and all flags set."""
    found: dict[str, Any] = {}
    for field in info.inputs:
        largest = (field.count or 1) - 1 if field.kind in ("tokens", "integers") else int(field.kind == "flags")
        found[field.name] = np.full((samples, *field.shape), largest, np.float32 if field.kind == "real" else np.int64)
    return torch.from_numpy(pack_inputs(found, info.inputs)[0])
