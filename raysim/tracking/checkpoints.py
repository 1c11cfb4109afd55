"""Checkpoints on disk: a folder for a round, complete or not there. What it holds is its writer's affair."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from raysim.errors import RunError
from raysim.tracking.directory import RunDirectory
from raysim.tracking.files import sweep, sync, temporary_for

FORMAT = 1
MANIFEST = "manifest.json"
_NAME = re.compile(r"round-(\d{6,})")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A checkpoint whose files have the sizes and SHA-256 sums that its manifest says."""

    round: int
    path: Path


@dataclass(frozen=True, slots=True)
class Damaged:
    """A checkpoint that cannot be used, and why."""

    round: int
    path: Path
    reason: str


class CheckpointFolder:
    """The checkpoints of one run."""

    def __init__(self, run: RunDirectory) -> None:
        """The folder is made when the first checkpoint is written."""
        self._folder = run.checkpoints

    def path(self, round: int) -> Path:
        """Where the checkpoint of this round is, or would be: `checkpoints/round-000010`."""
        return self._folder / f"round-{round:06d}"

    def rounds(self) -> list[int]:
        """Rounds that have a checkpoint, ascending, damaged or not."""
        if not self._folder.is_dir():
            return []
        found = (_NAME.fullmatch(entry.name) for entry in self._folder.iterdir())
        return sorted(int(match.group(1)) for match in found if match)

    def write(self, round: int, fill: Callable[[Path], object], *, keep: int) -> Path:
        """Write a checkpoint, then remove all but the last `keep`.

        Args:
            round: the last committed round.
            fill: writes the contents into the empty folder it is given.
            keep: checkpoints to keep, at least 1.

        Raises:
            RunError: the disk refuses; the checkpoints that were there are untouched.
        """
        final = self.path(round)
        temporary = temporary_for(final)
        try:
            self._folder.mkdir(exist_ok=True)
            sweep(self._folder)
            temporary.mkdir()
            fill(temporary)
            _seal(temporary, round)
            self.discard_after(round)
            self._remove(round)  # the same round written again, e.g. by an interrupt right after a checkpoint
            temporary.rename(final)
            sync(self._folder)
        except OSError as error:
            raise RunError(f"{final}: cannot write the checkpoint ({error.strerror or error})") from error
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        for old in self.rounds()[:-keep]:
            self._remove(old)
        return final

    def latest(self) -> tuple[Checkpoint, tuple[Damaged, ...]]:
        """The newest usable checkpoint, and the newer ones that had to be passed over.

        Raises:
            RunError: there is none, or none is usable.
        """
        damaged: list[Damaged] = []
        for round in reversed(self.rounds()):
            reason = self._problem(round)
            if reason is None:
                return Checkpoint(round, self.path(round)), tuple(damaged)
            damaged.append(Damaged(round, self.path(round), reason))
        if not damaged:
            raise RunError(f"{self._folder.parent}: has no checkpoint to continue from; start it again")
        reasons = "; ".join(f"{one.path.name}: {one.reason}" for one in damaged)
        raise RunError(f"{self._folder}: no checkpoint is usable ({reasons}); start the run again")

    def open(self, round: int) -> Checkpoint:
        """The checkpoint of this round.

        Raises:
            RunError: it is missing or damaged.
        """
        reason = self._problem(round)
        if reason is not None:
            known = ", ".join(map(str, self.rounds())) or "none"
            raise RunError(f"{self.path(round)}: {reason}; rounds with a checkpoint: {known}")
        return Checkpoint(round, self.path(round))

    def discard_after(self, round: int) -> None:
        """Remove later checkpoints: a run that continues from `round` has yet to reach them."""
        for later in self.rounds():
            if later > round:
                self._remove(later)

    def _remove(self, round: int) -> None:
        path = self.path(round)
        if path.exists():
            # Without its manifest a half-removed checkpoint is not mistaken for a whole one.
            (path / MANIFEST).unlink(missing_ok=True)
            shutil.rmtree(path)

    def _problem(self, round: int) -> str | None:
        """Why the checkpoint of this round cannot be used; None if it can."""
        folder = self.path(round)
        if not folder.is_dir():
            return "no such checkpoint"
        try:
            manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
            if manifest["format"] != FORMAT:
                return f"format {manifest['format']}, this version of raysim reads {FORMAT}"
            if manifest["round"] != round:
                return f"belongs to round {manifest['round']}"
            for name, entry in manifest["files"].items():
                file = folder / name
                if not file.is_file():
                    return f"{name} is missing"
                if file.stat().st_size != entry["bytes"] or _sha256(file) != entry["sha256"]:
                    return f"{name} is damaged"
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return f"{MANIFEST} cannot be read"
        return None


def _seal(folder: Path, round: int) -> None:
    """Write the manifest of what is in the folder, and wait until all of it is on the disk."""
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    entries = {
        file.relative_to(folder).as_posix(): {"bytes": file.stat().st_size, "sha256": _sha256(file)} for file in files
    }
    manifest = folder / MANIFEST
    manifest.write_text(json.dumps({"format": FORMAT, "round": round, "files": entries}, indent=2) + "\n")
    for path in (*files, manifest, *(entry for entry in folder.rglob("*") if entry.is_dir()), folder):
        sync(path)


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
