"""A run's checkpoints: a set of files for a round, complete or not there. The writer decides what they hold."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from raysim.errors import RunError, StorageError
from raysim.files import storing, temporary_for
from raysim.tracking.directory import RunDirectory
from raysim.tracking.places import CheckpointPlace
from raysim.tracking.sealing import Unusable, seal, unsealed

_NAME = re.compile(r"round-(\d{6,})")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A checkpoint whose files have the sizes and SHA-256 sums that its manifest says.

    Attributes:
        path: the folder with its files; a copy for as long as the `CheckpointFolder` is open, where they are elsewhere.
        where: where it is kept, for people.
    """

    round: int
    path: Path
    where: str


@dataclass(frozen=True, slots=True)
class Damaged:
    """A checkpoint that cannot be used, and why."""

    round: int
    where: str
    reason: str


class CheckpointFolder:
    """The checkpoints of one run, on whatever storage. Leaving it as a context manager removes copies made to read."""

    def __init__(self, run: RunDirectory, place: str | None = None) -> None:
        """Nothing is made before the first checkpoint is written.

        Args:
            run: the run.
            place: `tracking.checkpoints` of its configuration.

        Raises:
            ConfigError: there is no such place.
        """
        self._run = run
        self._storage = CheckpointPlace(place).of(run)
        self._copies: list[Path] = []

    def location(self, round: int) -> str:
        """Where the checkpoint of this round is, or would be, for people: `…/checkpoints/round-000010`."""
        return self._storage.location(_name(round))

    def path(self, round: int) -> Path:
        """The folder of this round's checkpoint; only where checkpoints are kept in folders."""
        folder = self._storage.folder(_name(round))
        assert folder is not None, "an object store has no folders"
        return folder

    def rounds(self) -> list[int]:
        """Rounds that have a checkpoint, ascending, damaged or not.

        Raises:
            StorageError: the storage cannot be reached.
        """
        with storing(self._storage.location(), "checkpoints cannot be listed"):
            found = (_NAME.fullmatch(name) for name in self._storage.names())
        return sorted(int(match.group(1)) for match in found if match)

    def write(self, round: int, fill: Callable[[Path], object], *, keep: int) -> None:
        """Write a checkpoint, then remove all but the last `keep`.

        Args:
            round: the last committed round.
            fill: writes the contents into the empty folder it is given.
            keep: checkpoints to keep, at least 1.

        Raises:
            StorageError: the disk or the store refuses; the checkpoints that were there are untouched.
        """
        name = _name(round)
        temporary = temporary_for(self._storage.staging / name)
        try:
            with storing(self._storage.location(name), "cannot write the checkpoint"):
                self._storage.prepare()
                temporary.mkdir()
                fill(temporary)
                seal(temporary, round)
                self._discard_after(round)
                self._storage.publish(temporary, name)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        with suppress(OSError, StorageError):  # the checkpoint is there; surplus ones are removed with the next one
            for old in self.rounds()[:-keep]:
                self._storage.remove(_name(old))

    @classmethod
    def found(cls, run: RunDirectory, *places: str | None) -> CheckpointFolder:
        """The run's checkpoints at the first of these places that has some; at the first place if none has.

        Raises:
            ConfigError: there is no such place.
            StorageError: one cannot be reached.
        """
        folders = [cls(run, place) for place in dict.fromkeys(places)]
        return next((folder for folder in folders if folder.rounds()), folders[0])

    def latest(self) -> tuple[Checkpoint, tuple[Damaged, ...]]:
        """The newest usable checkpoint, and the newer ones that had to be passed over.

        Raises:
            RunError: there is none, or none is usable.
            StorageError: the storage cannot be reached.
        """
        damaged: list[Damaged] = []
        for round in reversed(self.rounds()):
            found = self.examine(round)
            if isinstance(found, Checkpoint):
                return found, tuple(damaged)
            damaged.append(found)
        if not damaged:
            raise RunError(
                f"{self._run.path}: has no checkpoint to continue from in {self._storage.location()}; start it again"
            )
        reasons = "; ".join(f"{_name(one.round)}: {one.reason}" for one in damaged)
        raise RunError(f"{self._storage.location()}: no checkpoint is usable ({reasons}); start the run again")

    def open(self, round: int) -> Checkpoint:
        """The checkpoint of this round.

        Raises:
            RunError: it is missing or damaged.
        """
        found = self.examine(round)
        if isinstance(found, Checkpoint):
            return found
        known = ", ".join(map(str, self.rounds())) or "none"
        raise RunError(f"{found.where}: {found.reason}; rounds with a checkpoint: {known}")

    def discard_after(self, round: int) -> None:
        """Remove later checkpoints: a run that continues from `round` has yet to reach them.

        Raises:
            StorageError: they cannot be removed.
        """
        with storing(self._storage.location(), "later checkpoints cannot be removed"):
            self._discard_after(round)

    def close(self) -> None:
        """Remove the copies that were made to read checkpoints."""
        while self._copies:
            shutil.rmtree(self._copies.pop(), ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _discard_after(self, round: int) -> None:
        for later in self.rounds():
            if later > round:
                self._storage.remove(_name(later))

    def examine(self, round: int) -> Checkpoint | Damaged:
        """The checkpoint of this round, read whole, where it is usable; what has no folder is copied for that."""
        name, where = _name(round), self.location(round)
        if round not in self.rounds():
            return Damaged(round, where, "no such checkpoint")
        copy = None
        if self._storage.folder(name) is None:
            copy = Path(tempfile.mkdtemp(prefix="raysim-checkpoint-"))  # not in the run: its writer sweeps that
            self._copies.append(copy)
        try:
            return Checkpoint(round, unsealed(self._storage, name, round, copy), where)
        except Unusable as reason:
            return Damaged(round, where, str(reason))


def _name(round: int) -> str:
    return f"round-{round:06d}"
