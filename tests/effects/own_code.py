"""Components of a user's own, found by import string."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import nn

from raysim.algorithms.averaging import FedAvg
from raysim.selection import Selection
from raysim.tracking import Observer


def source(count: int = 40) -> Any:
    generator = np.random.default_rng(0)
    return generator.normal(size=(count, 3)).astype(np.float32), np.arange(count) % 2


def deal(size: int, clients: int = 4) -> list[Any]:
    return np.array_split(np.arange(size), clients)


def network(units: int = 5) -> nn.Module:
    return nn.Sequential(nn.Linear(4, units), nn.Linear(units, 3))


class TwoOutputs(nn.Module):
    """Logits, and others beside them."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.side = nn.Linear(4, 3), nn.Linear(3, 3)

    def forward(self, x: Any) -> Any:
        logits = self.inner(x)
        return {"logits": logits, "side": self.side(logits)}


class Mixed(nn.Module):
    """Classes by a category and by numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.head = nn.Embedding(9, 3), nn.Linear(4, 3)

    def forward(self, kind: Any, features: Any) -> Any:
        return self.table(kind) + self.head(features)


class Bag(nn.Module):
    """Classes of the mean embedding of those tokens that are no padding."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.head = nn.Embedding(256, 4), nn.Linear(4, 2)

    def forward(self, input_ids: Any, attention_mask: Any = None) -> Any:
        rows = self.table(input_ids)
        return self.head((rows if attention_mask is None else rows * attention_mask.unsqueeze(-1)).mean(1))


def keep(default: Any, scores: Any, /, *, trials: int, seed: int) -> Any:
    return default[::-1].copy()


def by_trials(default: Any, scores: Any, /, *, trials: int, seed: int) -> Any:
    weights = np.arange(1.0, len(default) + 1) ** trials
    return weights / weights.sum()


class Window(Selection):
    """As many clients in a row, from a keyed one on."""

    def __init__(self, experiment: Any, federation: Any, work: Any, shift: int = 0) -> None:
        super().__init__(experiment, federation, work)
        self._shift = shift

    def cohort(self, round_number: int, state: Any, measure: Any) -> Any:
        start = int(self.uniform(round_number) * self.federation.population) + self._shift
        return np.sort((start + np.arange(self.size)) % self.federation.population)


class Teller(Observer):
    """Says a word at the beginning of a run."""

    def __init__(self, word: str = "hello") -> None:
        self._word = word

    def start(self, *arguments: Any, **named: Any) -> None:
        print(self._word)


class Half(FedAvg):
    """Moves by a share of what FedAvg would."""

    def __init__(self, config: Any, layout: Any, share: float = 0.5) -> None:
        super().__init__(config, layout)
        self._share = share

    def send(self, c: Any) -> Any:
        sent = dict(super().send(c))
        return {name: self._share * value for name, value in sent.items()}
