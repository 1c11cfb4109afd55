"""Text from a language model, a token at a time; what is drawn depends on keyed numbers alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from raysim.arrays import Float64
from raysim.data import DataInfo
from raysim.data.inputs import pack_inputs
from raysim.models import cache_argument, takes_any_length
from raysim.training.losses import classes_last


@torch.no_grad()
def continued(
    module: nn.Module,
    info: DataInfo,
    prompt: Sequence[int],
    draws: Float64,
    temperature: float,
    end: int | None,
    device: torch.device,
) -> tuple[int, ...]:
    """Ids that a model writes behind those of a prompt, without the one that ends a text.

    A text longer than the data's samples is continued from as many of its last tokens as a sample has.

    Args:
        module: in evaluation mode, called with one tensor of samples; logits for every position.
        info: what a sample looks like; an input that is a record has what the source `corpus` puts into one.
        prompt: at least one id.
        draws: uniform numbers in [0, 1), one for each token to write.
        temperature: divides the logits; 0 takes the likeliest token, the first of equal ones.
        end: the id that ends a text.
        device: where the module is.
    """
    found, reader = list(prompt), _TextReader(module, info, device)
    for draw in draws.tolist():
        logits = reader.next_logits(found).double().cpu().numpy()
        if np.isnan(logits).any() or logits.max() == np.inf:
            break  # the model has diverged, and says nothing any more
        chosen = _chosen(logits, temperature, draw)
        if chosen == end:
            break
        found.append(chosen)
    return tuple(found[len(prompt) :])


class _TextReader:
    """Logits of what follows a text that grows; a decoder that keeps keys and values reads each token once, as long as
    the text is no longer than a sample."""

    def __init__(self, module: nn.Module, info: DataInfo, device: torch.device) -> None:
        self._module, self._info, self._device = module, info, device
        self._length, plain = info.target_shape[0], info.input_kind == "tokens"
        self._trimmed = plain and takes_any_length(module)
        self._cache = cache_argument(module) if plain else None
        self._kept: Any = None
        self._read = 0

    def next_logits(self, ids: Sequence[int]) -> Tensor:
        """`[vocabulary]`; the text is that of the call before, and more."""
        if self._cache is not None and len(ids) <= self._length:
            new = torch.tensor([ids[self._read :]], device=self._device)
            # Not through the hooks, which would make masks and positions for a whole sample.
            before = {self._cache: self._kept}
            found = self._module.forward(input_ids=new, use_cache=True, return_dict=True, **before)
            self._kept, self._read = found.get(self._cache), len(ids)
            if self._kept is None:  # it keeps none after all
                self._cache = None
            logits: Tensor = found.logits[0, -1, : self._info.classes]
            return logits
        self._kept = None
        window = ids[-self._length :]
        size = len(window) if self._trimmed else self._length
        output = self._module(_sample(self._info, window, size).to(self._device))
        return classes_last(output, torch.zeros(1, size))[0, len(window) - 1]


def _chosen(logits: Float64, temperature: float, draw: float) -> int:
    if temperature == 0:
        return int(logits.argmax())
    upto = np.exp((logits - logits.max()) / temperature).cumsum()
    return min(int(np.searchsorted(upto, draw * upto[-1], side="right")), len(logits) - 1)


def _sample(info: DataInfo, ids: Sequence[int], length: int) -> Tensor:
    """One sample of these ids, padded behind them, where no position that counts attends to."""
    count = len(ids)
    padded = np.zeros((1, length), np.int64)
    padded[0, :count] = ids
    if info.input_kind == "tokens":
        return torch.from_numpy(padded)
    real = (np.arange(length) < count)[None]
    known: dict[str, Any] = {
        "input_ids": padded,
        "attention_mask": real,
        "segments": real.astype(np.int64),
        "position_ids": np.where(real, np.arange(length), 0),
    }
    return torch.from_numpy(pack_inputs({field.name: known[field.name] for field in info.inputs}, info.inputs)[0])
