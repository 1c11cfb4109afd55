"""The files of a run against its chain, without computing anything again."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa

from raysim.errors import ConfigError, RunError
from raysim.tracking.chain import Chain, Link
from raysim.tracking.configuration import differences
from raysim.tracking.directory import RunDirectory
from raysim.tracking.reading import read_batches, read_rounds
from raysim.tracking.row_digests import of_clients, of_row


@dataclass(frozen=True, slots=True)
class Deviation:
    """Something that is not as the chain says.

    Attributes:
        what: is wrong, as a phrase.
        file: of the run directory.
        column: of a table, or a key of a configuration.
        named: whether it says which value; a digest alone does not.
    """

    what: str
    file: str
    round: int | None = None
    client: int | None = None
    column: str | None = None
    named: bool = True

    @property
    def text(self) -> str:
        """One line for people."""
        places = [self.file]
        places += [] if self.round is None else [f"round {self.round}"]
        places += [] if self.client is None else [f"client {self.client}"]
        return f"{', '.join(places)}: {self.what}"


def check_files(run: RunDirectory, chain: Chain) -> list[Deviation]:
    """Differences in the chain itself, the configuration, the environment and the tables, in this order."""
    return [*_links(run, chain), *_configuration(run, chain), *_environment(run, chain), *_tables(run, chain)]


def clients_by_round(run: RunDirectory) -> Iterator[tuple[int, pa.RecordBatch]]:
    """The clients table, round by round.

    Raises:
        RunError: clients.parquet is damaged.
    """
    held, number = list[pa.RecordBatch](), 0
    for batch in read_batches(run.clients):
        rounds = batch["round"].to_numpy()
        cuts = [0, *(np.flatnonzero(np.diff(rounds)) + 1).tolist(), len(rounds)]
        for start, end in pairwise(cuts):
            if held and rounds[start] != number:
                yield number, _one(held)
                held = []
            number = int(rounds[start])
            held.append(batch.slice(start, end - start))
    if held:
        yield number, _one(held)


def _one(pieces: list[pa.RecordBatch]) -> pa.RecordBatch:
    if len(pieces) == 1:
        return pieces[0]
    (found,) = pa.Table.from_batches(pieces).combine_chunks().to_batches()
    return found


def _links(run: RunDirectory, chain: Chain) -> Iterator[Deviation]:
    """The first link that is not that of its line."""
    file, begins = run.chain.name, chain.links[0].round
    try:
        previous = chain.genesis
    except ConfigError as error:
        yield Deviation(f"the configuration in its first line is damaged ({error})", file)
        return
    for expected, one in enumerate(chain.links, start=begins):
        if one.round != expected:
            yield Deviation(f"the line of round {expected} is missing", file)
            return
        if Link.behind(previous, one.round, one.server, one.rows).link != one.link:
            what = "the configuration and the data" if one.round == begins else "the link before it"
            yield Deviation(f"its link is not that of its line and of {what}", file, one.round)
            return
        previous = one.link


def _configuration(run: RunDirectory, chain: Chain) -> Iterator[Deviation]:
    try:
        now = run.experiment().to_dict()
    except RunError as error:
        yield Deviation(f"cannot be read ({error})", run.config.name)
        return
    for key, was, now_is in differences(chain.sittings[-1].config, now):
        yield Deviation(f"{key} is {now_is!r}, and was {was!r} when the run was worked on", run.config.name, column=key)


def _environment(run: RunDirectory, chain: Chain) -> Iterator[Deviation]:
    try:
        now = run.read_environment().get("bits", {})
    except RunError as error:
        yield Deviation(str(error), run.environment.name)
        return
    for key, was, now_is in differences(chain.sittings[-1].bits, now):
        what = f"bits.{key} is {now_is!r}, and was {was!r} when the run was worked on"
        yield Deviation(what, run.environment.name, column=key)


def _tables(run: RunDirectory, chain: Chain) -> Iterator[Deviation]:
    links = {one.round: one for one in chain.links if one.rows is not None}
    last = chain.links[-1].round
    try:
        found = read_rounds(run).to_pylist()
        yield from _rows(run, links, found)
    except RunError as error:
        yield Deviation(str(error), run.rounds.name)
        return
    except (KeyError, struct.error) as error:
        yield Deviation(f"its columns are not those that were recorded ({error.args[0]})", run.rounds.name)
        return
    if run.model.is_file() and found and found[-1]["round"] > last:
        yield Deviation(f"rounds {last + 1} to {found[-1]['round']} are not in the chain", run.rounds.name)
    try:
        yield from _clients(run, links, {row["round"] for row in found if row["cohort"]})
    except RunError as error:
        yield Deviation(str(error), run.clients.name)
    except KeyError as error:
        yield Deviation(f"its columns are not those that were recorded ({error.args[0]})", run.clients.name)


def _rows(run: RunDirectory, links: dict[int, Link], found: list[dict[str, Any]]) -> Iterator[Deviation]:
    missing = links.keys() - {row["round"] for row in found}
    if missing:
        yield Deviation("has no row", run.rounds.name, min(missing))
    for row in found:
        rows = None if (link := links.get(row["round"])) is None else link.rows
        if rows is not None:
            exact, rest = of_row(row)
            yield from _mismatches(run.rounds.name, row["round"], (exact, rest), (rows.row, rows.rest))


def _clients(run: RunDirectory, links: dict[int, Link], expected: set[int]) -> Iterator[Deviation]:
    seen = set[int]()
    for number, clients in clients_by_round(run):
        seen.add(number)
        rows = None if (link := links.get(number)) is None else link.rows
        if rows is not None:
            yield from _mismatches(run.clients.name, number, of_clients(clients), (rows.clients, rows.clients_rest))
    missing = (expected & links.keys()) - seen
    if missing and run.experiment().tracking.clients:
        yield Deviation("has no rows", run.clients.name, min(missing))


def _mismatches(file: str, round: int, found: tuple[str, str], said: tuple[str, str]) -> Iterator[Deviation]:
    if found[0] != said[0]:
        yield Deviation("is not as it was recorded", file, round, named=False)
    elif found[1] != said[1]:
        what = "a column that says how the round was done, such as seconds or workers, is not as it was recorded"
        yield Deviation(what, file, round)
