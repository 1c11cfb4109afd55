"""Output of `raysim verify`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from raysim.verifying import Verified, VerifiedRound


@dataclass(frozen=True, slots=True)
class DifferenceOutput:
    """Something that is not as the chain says.

    Attributes:
        text: one line for people.
        file: of the run directory.
        what: is wrong, as a phrase.
        round: that it is in; null where it is in none.
        client: likewise.
        column: of a table, or a key of a configuration; likewise.
    """

    text: str
    file: str
    what: str
    round: int | None
    client: int | None
    column: str | None


@dataclass(frozen=True, slots=True)
class VerifyOutput:
    """A run beside its chain.

    Attributes:
        run: its directory.
        same: whether nothing differs.
        first: round of the chain.
        last: likewise.
        link: the last one, which says all that was computed up to the last round.
        rounds: that were asked for, and computed again.
        replayed: rounds in front of them that were computed again to get there.
        seconds_per_round: mean over `rounds`; null where none was computed.
        differences: in the order in which they were found.
        notes: what was not compared, and why.
    """

    run: Path
    same: bool
    first: int
    last: int
    link: str
    rounds: tuple[VerifiedRound, ...]
    replayed: int
    seconds_per_round: float | None
    differences: tuple[DifferenceOutput, ...]
    notes: tuple[str, ...]

    @classmethod
    def of(cls, found: Verified) -> VerifyOutput:
        """The output of what was found."""
        differences = tuple(
            DifferenceOutput(one.text, one.file, one.what, one.round, one.client, one.column)
            for one in found.differences
        )
        of = found.run, found.same, found.first, found.last, found.link, found.rounds, found.replayed
        return cls(*of, found.seconds_per_round, differences, found.notes)
