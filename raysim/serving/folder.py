"""The runs and studies of a folder: found by name, and read again only when their files have changed."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

from raysim.errors import RunError
from raysim.files import is_temporary, looked_up, storing
from raysim.locks import FolderLock
from raysim.tracking import PastRun, RunDirectory
from raysim.tracking.past import newest_first, past_run

Signature = tuple[object, ...]
"""Equal as long as what is shown of a run is the same."""


class RunsFolder:
    """A folder of runs, or one run.

    A name is a path below the folder. It is looked up among what was found there and never made into a path, and what
    leads out of the folder by a link is not found: nothing else can be read through this class.
    """

    def __init__(self, folder: str | Path) -> None:
        """Look into the folder.

        Raises:
            RunError: there is none, or neither a run nor a study is in it.
            StorageError: it cannot be read.
        """
        self.path = looked_up(folder)
        if not self.path.is_dir():
            raise RunError(f"{folder}: no such folder; `raysim run` makes runs in tracking.directory, by default runs")
        self._one = _is_run(self.path)
        self._root = Path(os.path.realpath(self.path))
        self._known: dict[str, tuple[Signature, PastRun]] = {}
        self._lock = threading.Lock()
        if not self.names() and not self.studies():
            raise RunError(f"{folder}: no run is in it; make one with `raysim run quickstart`")

    def names(self) -> list[str]:
        """Runs of the folder, and of those of its folders that are neither runs nor studies."""
        if self._one:
            return [self._root.name]
        found = []
        for entry in self._folders(self.path):
            if _is_run(entry):
                found.append(entry.name)
            elif not _is_study(entry):
                found += [f"{entry.name}/{below.name}" for below in self._folders(entry) if _is_run(below)]
        return found

    def studies(self) -> list[str]:
        """Studies of the folder, by name."""
        if self._one:
            return []
        return sorted(entry.name for entry in self._folders(self.path) if _is_study(entry))

    def trials(self, study: str) -> list[str]:
        """Runs of a study's trials, by name."""
        if study not in self.studies():
            return []
        below = self.path / study / "trials"
        return [f"{study}/trials/{entry.name}" for entry in sorted(self._folders(below)) if _is_run(entry)]

    def run(self, name: str) -> RunDirectory:
        """A run by its name.

        Raises:
            RunError: there is none of this name, or one of its files is a link that leads out of the folder.
        """
        study = name.partition("/trials/")[0]
        if name not in self.names() and name not in self.trials(study):
            raise RunError(f"{name}: no such run here")
        return self._found(name)

    def study(self, name: str) -> Path:
        """A study by its name.

        Raises:
            RunError: there is none of this name, or one of its files is a link that leads out of the folder.
        """
        if name not in self.studies():
            raise RunError(f"{name}: no such study here")
        self._refuse_links(name, _entries(self.path / name))
        return self.path / name

    def past(self, names: Sequence[str], filters: Sequence[str] = ()) -> list[tuple[str, PastRun]]:
        """These runs, whose names were found here, at a glance, newest first (see `past_runs`).

        Raises:
            ConfigError: a filter names a key that no run has.
        """
        glances = {id(glance): (name, glance) for name, glance in ((name, self._glance(name)) for name in names)}
        ordered = newest_first([glance for _, glance in glances.values()], filters)
        return [glances[id(glance)] for glance in ordered]

    def _found(self, name: str) -> RunDirectory:
        """A run whose name was found in the folder."""
        run = RunDirectory(self.path if self._one else self.path / name)
        self._refuse_links(name, _files(run))
        return run

    def _refuse_links(self, name: str, files: Sequence[Path]) -> None:
        for file in files:
            if file.is_symlink() and not self._inside(file):
                raise RunError(f"{name}: {file.name} is a link that leads out of the folder; it is not shown")

    def _glance(self, name: str) -> PastRun:
        try:
            run = self._found(name)
        except RunError as error:
            return PastRun(self.path / name, None, "damaged", str(error))
        signature = signature_of(run)
        with self._lock:
            known = self._known.get(name)
        if known is not None and known[0] == signature:
            return known[1]
        glance = past_run(run.path)
        with self._lock:
            self._known[name] = (signature, glance)
        return glance

    def _folders(self, below: Path) -> Iterator[Path]:
        if not below.is_dir() or not self._inside(below):
            return
        with storing(below, "cannot be read"):
            entries = list(below.iterdir())
        for entry in entries:
            if not entry.name.startswith(".") and entry.is_dir() and (not entry.is_symlink() or self._inside(entry)):
                yield entry

    def _inside(self, path: Path) -> bool:
        return Path(os.path.realpath(path)).is_relative_to(self._root)


def signature_of(run: RunDirectory) -> Signature:
    """What a run's files looked like, and whether a process writes them."""
    return (FolderLock.writer(run.path) is not None, *((file.name, _look(file)) for file in _files(run)))


def _look(file: Path) -> tuple[int, int] | None:
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_size, found.st_mtime_ns


def _files(run: RunDirectory) -> list[Path]:
    """All that a page may read: what is in the run, its model and checkpoints aside, and in its attacks."""
    found = [*_entries(run.path), *_entries(run.attacks)]
    return [file for file in found if file not in (run.checkpoints, run.model)]


def _entries(folder: Path) -> list[Path]:
    """What is in a folder, in order, less what is half-written; nothing if there is none."""
    try:
        return sorted(entry for entry in folder.iterdir() if not is_temporary(entry.name))
    except OSError:
        return []


def _is_run(path: Path) -> bool:
    return (path / "config.yaml").is_file()


def _is_study(path: Path) -> bool:
    return (path / "study.yaml").is_file()
