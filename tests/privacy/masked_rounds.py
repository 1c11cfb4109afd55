"""Rounds of secure aggregation without a model: clients with random records, in leases, and an aggregator."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch

from raysim.aggregation import Field, PartialSum, SumOpening, WeightedMean, build_rule, combine
from raysim.config.server import AggregationConfig

SEED, ROUND = 7, 3
CPU = torch.device("cpu")
FIELDS = (Field("update", 300), Field("length", 1))


class Leaving:
    """Clients that drop out before a message, as they are told."""

    def __init__(self, sets: Mapping[str, Sequence[int]]) -> None:
        self._sets = sets

    def lost(self, seed: int, round_number: int, stage: str, positions: Any, clients: Any) -> Any:
        return np.intersect1d(positions, np.array(self._sets.get(stage, ()), dtype=np.int64))


def rule_of(leaving: Mapping[str, Sequence[int]] | None = None, fields: Sequence[Field] = FIELDS, **config: Any) -> Any:
    """The rule of a protection, whose clients leave when they are told to."""
    rule: Any = build_rule(AggregationConfig.model_validate({"protection": config}), fields)
    if leaving is not None:
        rule.protocol._dropout = Leaving(leaving)
    return rule


@dataclass
class Cohort:
    """Clients with ids, weights and records."""

    count: int
    fields: Sequence[Field] = FIELDS
    clients: Any = field(init=False)
    weights: Any = field(init=False)
    sent: Any = field(init=False)

    def __post_init__(self) -> None:
        generator = np.random.default_rng(self.count)
        self.clients = np.sort(generator.choice(10_000, self.count, replace=False))
        raw = generator.random(self.count) + 0.1
        self.weights = raw / raw.sum()
        self.sent = {
            one.name: torch.from_numpy(generator.normal(0, 0.5, (self.count, one.size)).astype(np.float32))
            for one in self.fields
        }

    def rows(self, positions: Any) -> dict[str, torch.Tensor]:
        return {name: one[torch.from_numpy(positions)] for name, one in self.sent.items()}


@dataclass
class Received:
    """All that reached the aggregator, and what it made of that."""

    records: list[PartialSum]
    opening: SumOpening
    total: PartialSum
    contributed: Any
    begun: Any
    mean: dict[str, Any]


def run(rule: Any, cohort: Cohort, cuts: int = 3, integers: Any = None) -> Received:
    """One round, its clients in this many leases."""
    protocol, everyone = rule.protocol, np.arange(cohort.count)
    ask = partial(protocol.answer, SEED)
    begun = protocol.begin(SEED, ROUND, cohort.clients, ask)
    records, contributed = [], []
    for part in np.array_split(everyone, cuts):
        bound = rule.among(begun.peers, SEED, ROUND, integers or (lambda *given: None))
        accumulator = bound.accumulator(ROUND, CPU)
        reasons = accumulator.fold(part, cohort.weights[part], cohort.rows(part))
        contributed += [p for p, reason in zip(part.tolist(), reasons, strict=True) if reason is None]
        records.append(accumulator.seal())
    opening = protocol.end(SEED, ROUND, begun, np.array(contributed, dtype=np.int32), ask)
    opened = rule.opened(records, opening, SEED)
    view: Any = type("View", (), {"opening": opening, "seed": SEED, "round": ROUND})
    finished = rule.finish(opened, view)
    mean = {one.name: finished.mean.mean(one, slice(0, one.size)) for one in finished.fields}
    return Received(records, opening, combine(opened), contributed, begun, mean)


def plain(cohort: Cohort, positions: Any) -> PartialSum:
    """The sum of some clients, as an unprotected round has it."""
    accumulator = WeightedMean(cohort.fields).accumulator(ROUND, CPU)
    positions = np.array(positions)
    assert not any(accumulator.fold(positions, cohort.weights[positions], cohort.rows(positions)))
    total = accumulator.seal()
    assert isinstance(total, PartialSum)
    return total


def digest(total: PartialSum) -> str:
    """SHA-256 of a sum."""
    found = hashlib.sha256(str(total.weight).encode() + total.positions.tobytes())
    for name in sorted(total.totals):
        found.update(np.ascontiguousarray(total.totals[name]).tobytes())
    return found.hexdigest()
