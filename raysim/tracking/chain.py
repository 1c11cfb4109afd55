"""The chain of a run: a line for each round with digests of all that the round left, bound to the line before it.

`chain.jsonl` has two kinds of lines. One opens a sitting of the run, with the configuration and the bits that it ran
with: `{"format": 2, "after": 0, "config": {…}, "bits": {…}}`. One closes a round: the digests of the server
(`ServerDigest`), those of the rows that were recorded (`RowDigests`), and its `link`,

    link = SHA-256(link before ␊ round ␊ model ␊ state ␊ row ␊ clients),

which starts from `genesis`, the digest of everything in the configuration that the bits depend on and of the data, and
a line of the server before the first round. So a link says all that was computed so far, wherever it was computed: two
runs whose last links are equal went through the same models.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import pyarrow as pa

from raysim.config import Experiment
from raysim.config.parsing import parse_json
from raysim.errors import RunError
from raysim.files import replacing, storing
from raysim.rounds.digests import Digesting, ServerDigest
from raysim.tracking.configuration import flatten
from raysim.tracking.resuming import may_change
from raysim.tracking.row_digests import RowDigests

FORMAT = 2
"""Of the digests. A chain of another is not compared, and a resume begins its own."""
LAG, HELD = 32, 10_000
"""Rounds, and rows of their clients, that may be held before their lines are written: several in a row take a third of
the time, as the code is in the cache, and digests have long been made."""
_ROWS = tuple(field.name for field in fields(RowDigests))


@dataclass(frozen=True, slots=True)
class Sitting:
    """A start or a resume of the run.

    Attributes:
        after: the round that it goes on after; 0 for a start.
        config: the whole configuration that it ran with.
        bits: what its bits depend on, as in `environment.json`.
    """

    after: int
    config: dict[str, Any]
    bits: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Link:
    """A round's line.

    Attributes:
        rows: None of the server that the chain begins with.
        link: of this line and, by the one before, of all in front of it.
    """

    round: int
    server: ServerDigest
    rows: RowDigests | None
    link: str

    @classmethod
    def behind(cls, previous: str, round: int, server: ServerDigest, rows: RowDigests | None) -> Link:
        """The line behind one with this link."""
        recorded = ("", "") if rows is None else (rows.row, rows.clients)
        parts = (previous, str(round), server.model, server.state, *recorded)
        return cls(round, server, rows, hashlib.sha256("\n".join(parts).encode()).hexdigest())

    def line(self) -> str:
        """As it is written."""
        digests = {"model": self.server.model, "state": self.server.state}
        if self.rows is not None:
            digests |= {name: getattr(self.rows, name) for name in _ROWS}
        named = "".join(f', "{name}": "{digest}"' for name, digest in digests.items())
        return f'{{"round": {self.round}{named}, "link": "{self.link}"}}\n'


@dataclass(frozen=True, slots=True)
class Chain:
    """A chain that was read. Nothing has been compared yet.

    Attributes:
        sittings: in order, at least one.
        links: of the server that it begins with, then of each round, in order, at least one.
    """

    sittings: tuple[Sitting, ...]
    links: tuple[Link, ...]

    @property
    def genesis(self) -> str:
        """What the first link must be behind."""
        first = self.sittings[0]
        return genesis(Experiment.parse(first.config), first.bits)


def genesis(experiment: Experiment, bits: Mapping[str, Any]) -> str:
    """The digest of the configuration, without what changes no bit, and of the data."""
    ignored = ("name", *may_change(experiment))
    values = flatten(experiment.to_dict())
    kept = {key: value for key, value in values.items() if not any(f"{key}.".startswith(f"{one}.") for one in ignored)}
    text = json.dumps({"format": FORMAT, "config": kept, "data": bits.get("data")}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def read_chain(path: Path) -> Chain:
    """Read a chain; a last line that a kill tore does not count.

    Raises:
        RunError: there is none, it is of another format, or a line is damaged.
    """
    sittings, links = list[Sitting](), list[Link]()
    for number, line in enumerate(_lines(path), start=1):
        try:
            values = parse_json(line)
            if "after" in values:
                if (found := values.get("format", 1)) != FORMAT:
                    raise RunError(
                        f"{path}: a chain of format {found}, and this version of raysim compares format {FORMAT}; "
                        "verify the run with the version that wrote it"
                    )
                sittings.append(Sitting(int(values["after"]), dict(values["config"]), dict(values["bits"])))
            else:
                links.append(_link(values))
        except (ValueError, KeyError, TypeError):
            raise RunError(f"{path}: line {number} is damaged") from None
    if not sittings or not links:
        raise RunError(f"{path}: there is no chain of this run; it is written where tracking.chain is true")
    return Chain(tuple(sittings), tuple(links))


@dataclass(frozen=True, slots=True)
class _Waiting:
    """A round whose line is to be written, or the server that the chain begins with."""

    round: int
    server: Digesting
    row: Mapping[str, Any] | None = None
    clients: pa.RecordBatch | None = None

    def link(self, previous: str) -> Link:
        """Its line behind the one with this link."""
        rows = None if self.row is None else RowDigests.of(self.row, self.clients)
        return Link.behind(previous, self.round, self.server.result(), rows)


class ChainWriter:
    """Appends to a run's chain. What is not saved when the run ends badly is written again by a resume."""

    def __init__(self, path: Path, *, after_round: int = 0) -> None:
        """Go on after a round of the chain that is there, and drop what comes behind it.

        Raises:
            StorageError: the disk refuses.
        """
        self._path, self._after = path, after_round
        self._previous = cut(path, after_round) if after_round else None
        with storing(path):
            self._file = path.open("ab" if self._previous is not None else "wb", buffering=0)
        self._waiting: list[_Waiting] = []
        self._held = 0

    def begin(self, experiment: Experiment, bits: Mapping[str, Any], server: Digesting) -> None:
        """A sitting begins, from this server."""
        sitting = Sitting(self._after, experiment.to_dict(), dict(bits))
        self._append(json.dumps({"format": FORMAT, **asdict(sitting)}, default=str) + "\n")
        if self._previous is None:
            self._previous = genesis(experiment, bits)
            self._waiting.append(_Waiting(self._after, server))

    def append(self, row: Mapping[str, Any], clients: pa.RecordBatch, server: Digesting) -> None:
        """A round was committed, with this row by column."""
        self._waiting.append(_Waiting(row["round"], server, row, clients))
        self._held += len(clients)
        if len(self._waiting) > LAG or self._held > HELD:
            self._write()

    def save(self) -> None:
        """Make every line durable, once its digest is there.

        Raises:
            StorageError: the disk refuses.
        """
        self._write()
        with storing(self._path):
            os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file; what was not saved is dropped."""
        self._file.close()

    def _write(self) -> None:
        previous, text = self._previous, ""
        for waiting in self._waiting:
            assert previous is not None, "a sitting begins before its rounds"
            one = waiting.link(previous)
            previous, text = one.link, text + one.line()
        self._append(text)
        self._previous, self._waiting, self._held = previous, [], 0

    def _append(self, text: str) -> None:
        """All of it, or none."""
        with storing(self._path):
            end = self._file.seek(0, os.SEEK_END)
            left = text.encode()
            try:
                while left:
                    left = left[self._file.write(left) or 0 :]
            except OSError:
                self._file.truncate(end)
                raise


def cut(path: Path, after_round: int) -> str | None:
    """Drop the lines of later rounds, and those of sittings that began later; the link of this round, if it is there.

    Where it is not, or in another format, the chain is dropped as a whole: what follows could not be bound to it.

    Raises:
        StorageError: the disk refuses.
    """
    kept, link = list[bytes](), None
    for line in _lines(path):
        try:
            values = parse_json(line)
            begins = "after" in values  # a sitting behind the round had no round that is kept
            if values["after" if begins else "round"] > after_round or (begins and link is not None):
                break
            if begins and values.get("format", 1) != FORMAT:
                break
            link = values["link"] if values.get("round") == after_round else link
        except (ValueError, KeyError, TypeError, AttributeError):
            break
        kept.append(line)
    with storing(path):
        if link is None:
            path.unlink(missing_ok=True)
        else:
            with replacing(path) as temporary:
                temporary.write_bytes(b"".join(kept))
    return link


def _lines(path: Path) -> Iterable[bytes]:
    """Whole lines of a file; none if it is not there."""
    try:
        with path.open("rb") as stream:
            yield from (line for line in stream if line.endswith(b"\n"))
    except FileNotFoundError:
        return


def _link(values: Mapping[str, Any]) -> Link:
    rows = RowDigests(*(str(values[name]) for name in _ROWS)) if _ROWS[0] in values else None
    server = ServerDigest(str(values["model"]), str(values["state"]))
    return Link(int(values["round"]), server, rows, str(values["link"]))
