"""What was recorded of a round, beside what it comes to when it is computed again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch
from safetensors.torch import load_file

from raysim.evaluation.summaries import own_metrics
from raysim.execution.preparation.prepare import Prepared
from raysim.privacy import EpsilonCurve
from raysim.round_loop import metrics_of, timed
from raysim.rounds.results import RoundFacts
from raysim.rounds.rows import EXACT, EXACT_OF_CLIENTS, ROUND_FIELDS, VIRTUAL_SCHEMA, round_values
from raysim.systems import VirtualClock
from raysim.tracking import RunDirectory, read_rounds
from raysim.tracking.chain import Link
from raysim.tracking.checking import Deviation, clients_by_round
from raysim.tracking.row_digests import of_clients, of_row

_FIXED = frozenset(column.name for column in ROUND_FIELDS)


class Recomputed:
    """The recorded rows of some rounds, to compare with."""

    def __init__(self, run: RunDirectory, prepared: Prepared, epsilon: EpsilonCurve | None, rounds: set[int]) -> None:
        self._run, self._prepared, self._epsilon = run, prepared, epsilon
        self._rows = {row["round"]: row for row in read_rounds(run).to_pylist() if row["round"] in rounds}
        self._clients = {number: batch for number, batch in clients_by_round(run) if number in rounds}

    def compare(self, link: Link, facts: RoundFacts, *, whole: bool) -> Iterator[Deviation]:
        """Differences between what was recorded of a round and what it comes to now.

        Args:
            whole: whether the round was evaluated as the configuration now says; otherwise only metrics are compared
                that both have.
        """
        number, rows = link.round, link.rows
        assert rows is not None, "every round has rows"
        measured = own_metrics(facts.evaluated, self._prepared.metrics)
        timetable = self._prepared.timetable
        clock = None if timetable is None else VirtualClock(timetable, number - 1)
        virtual, clients = timed(clock, facts.clients)
        values = round_values(facts.row) | metrics_of(facts, measured, self._prepared, self._epsilon) | virtual
        found = list(self._row(number, values, whole=whole))
        if not found and whole and of_row(values)[0] != rows.row:
            found.append(Deviation("its row is another one when computed again", self._run.chain.name, number))
        others = list(self._of_clients(number, clients))
        if not others and of_clients(clients)[0] != rows.clients:
            others.append(Deviation("its clients are others when computed again", self._run.chain.name, number))
        yield from (*found, *others)

    def _row(self, number: int, values: Mapping[str, Any], *, whole: bool) -> Iterator[Deviation]:
        if (row := self._rows.get(number)) is None:
            return
        metrics = [name for name in row if name not in _FIXED]
        for name in (*EXACT, *metrics):
            now, was = values.get(name), row.get(name)
            if name in metrics and not whole and (None in (now, was) or name.startswith("privacy/")):
                continue
            if not _same(now, was):
                what = f"{name} is {_brief(was)}, and {_brief(now)} when computed again"
                yield Deviation(what, self._run.rounds.name, number, column=name)

    def _of_clients(self, number: int, now: pa.RecordBatch) -> Iterator[Deviation]:
        """The first client whose value differs, of each column."""
        file = self._run.clients.name
        if (was := self._clients.get(number)) is None:
            return
        if missing := [name for name in EXACT_OF_CLIENTS if name not in was.schema.names]:
            yield Deviation(f"has no column {missing[0]}", file, number, column=missing[0])
            return
        ids, right = was["client"].to_pylist(), now["client"].to_pylist()
        if ids != right:
            odd = next(iter(sorted(set(ids) ^ set(right))), None)
            what = "is in the cohort once more than it should be, or in another order" if odd is None else (
                "is no client of the round" if odd in ids else "has no row"
            )  # fmt: skip
            yield Deviation(what, file, number, ids[0] if odd is None else odd, "client")
            return
        for name in (*EXACT_OF_CLIENTS[1:], *(name for name in VIRTUAL_SCHEMA.names if name in now.schema.names)):
            for client, one, other in zip(ids, was[name].to_pylist(), now[name].to_pylist(), strict=True):
                if not _same(one, other):
                    what = f"{name} is {_brief(one)}, and {_brief(other)} when computed again"
                    yield Deviation(what, file, number, client, name)
                    break


def other_tensor(expected: Path, path: Path) -> str:
    """What differs in a model's file, as a phrase; empty where nothing does."""
    if expected.read_bytes() == path.read_bytes():
        return ""
    try:
        found, right = load_file(path), load_file(expected)
    except Exception as error:  # damaged bytes make the library raise several kinds
        return f"cannot be read as safetensors ({error})"
    for name in (*right, *found):
        one, other = right.get(name), found.get(name)
        if one is None or other is None or one.shape != other.shape or not torch.equal(one, other):
            return f"{name} is not that of the last round"
    return "its header is not as it was written"


def _same(one: Any, other: Any) -> bool:
    return bool(one == other or (one is not None and other is not None and one != one and other != other))


def _brief(value: Any) -> str:
    return "empty" if value is None else repr(value)
