"""The run directory: everything that a run leaves behind, at fixed places."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from raysim.config import Experiment
from raysim.config.parsing import parse_json
from raysim.errors import ConfigError, RunError, StorageError
from raysim.files import looked_up, remove, storing, sweep, write_text
from raysim.locks import FolderLock
from raysim.tracking.configuration import differences, in_words
from raysim.tracking.headline import ClientSet
from raysim.tracking.vacancy import BYSTANDERS, is_vacant


@dataclass(frozen=True, slots=True)
class RunDirectory:
    """A run on disk. Made by `create` or `create_at`, found again by `open`.

    Attributes:
        path: the folder; it may be a mount or a link to a folder.
        found: it was there before the run, empty: what discards the run leaves the folder itself.
    """

    path: Path
    found: bool = field(default=False, compare=False)

    @classmethod
    def create(
        cls, parent: str | Path, name: str, experiment: Experiment, *, taken: Callable[[str], bool] = lambda name: False
    ) -> RunDirectory:
        """Make `<parent>/<name>-<YYYYmmdd-HHMMSS>`, with `-2`, `-3`, … where that, or the name elsewhere, is taken.

        Raises:
            StorageError: the folder cannot be made.
        """
        stem = f"{name}-{time.strftime('%Y%m%d-%H%M%S')}"
        attempt = 1
        while True:
            path = Path(parent).expanduser() / (stem if attempt == 1 else f"{stem}-{attempt}")
            if not path.exists() and not taken(path.name):
                try:
                    return cls.create_at(path, experiment)
                except StorageError:
                    raise
                except RunError:  # another process was faster
                    pass
            attempt += 1

    @classmethod
    def create_at(cls, path: str | Path, experiment: Experiment) -> RunDirectory:
        """Make a run directory at exactly this path, which must not exist or be empty.

        Nothing is renamed but config.yaml, within the folder: an empty folder may be a mount, a link, or in a parent
        that cannot be written. Of two processes that want the same folder, the one that gets its lock gets it.

        Raises:
            RunError: there is something at `path` already.
            StorageError: the folder or its config.yaml cannot be written.
        """
        cls.refuse_taken(path)
        with storing(path, "cannot make the run directory"):
            run = cls(Path(path), found=not _made(Path(path)))
            try:
                with run.lock() as lock:
                    cls.refuse_taken(path)
                    run._begin(experiment, lock)
                    lock.release(remove=True)
            finally:
                run._remove_if_made()
        return run

    @staticmethod
    def refuse_taken(path: str | Path) -> None:
        """Refuse a path where something is already.

        Raises:
            RunError: it is neither missing nor an empty folder.
        """
        folder = looked_up(path)
        with storing(path, "cannot be read"):
            if (folder / "config.yaml").is_file():
                raise RunError(f"{path}: exists already; `raysim resume` continues it, or choose another directory")
            if not is_vacant(folder):
                raise RunError(f"{path}: exists already and is not empty; choose another directory")

    @classmethod
    def open(cls, path: str | Path) -> RunDirectory:
        """An existing run.

        Raises:
            RunError: the directory is missing, or is not a run.
        """
        run = cls(looked_up(path))
        if not run.path.exists():
            raise RunError(f"{path}: no such run directory")
        if run.app.is_file():
            raise RunError(
                f"{path}: is the run of an app of Flower, which `raysim runs`, `report` and `resume` take; this is for "
                "runs of a configuration"
            )
        if not run.config.is_file():
            raise RunError(f"{path}: not a run directory (no config.yaml in it); pass a folder that `raysim run` made")
        return run

    @property
    def app(self) -> Path:
        """Of the run of an app of Flower, in the place of a configuration: the app and how it was run."""
        return self.path / "flower.yaml"

    @property
    def config(self) -> Path:
        """The resolved configuration."""
        return self.path / "config.yaml"

    @property
    def environment(self) -> Path:
        """Versions, machine, engine: what the bits of the result may depend on."""
        return self.path / "environment.json"

    @property
    def rounds(self) -> Path:
        """A row for each round."""
        return self.path / "rounds.parquet"

    @property
    def clients(self) -> Path:
        """A row for each client of each round."""
        return self.path / "clients.parquet"

    @property
    def holdouts(self) -> Path:
        """A row for each client: the last evaluation on the clients' holdouts."""
        return self.path / "holdouts.parquet"

    @property
    def client_tests(self) -> Path:
        """A row for each client: the last evaluation on the test samples that are the clients' own."""
        return self.path / "client_tests.parquet"

    @property
    def generated(self) -> Path:
        """The text that models of the run wrote."""
        return self.path / "generated.json"

    @property
    def attacks(self) -> Path:
        """Folder of what attacks on the run found."""
        return self.path / "attacks"

    @property
    def confusion(self) -> Path:
        """Which classes the last evaluation took for which."""
        return self.path / "confusion.json"

    @property
    def holdings(self) -> Path:
        """Who holds what."""
        return self.path / "holdings.json"

    def own_table(self, of: ClientSet) -> Path:
        """The table of the last evaluation on these samples of the clients' own."""
        return self.holdouts if of == "holdout" else self.client_tests

    @property
    def checkpoints(self) -> Path:
        """Folder of the checkpoints."""
        return self.path / "checkpoints"

    @property
    def model(self) -> Path:
        """The final model."""
        return self.path / "model.safetensors"

    @property
    def chain(self) -> Path:
        """A line for each round with the digests of what it left, each line bound to the one before."""
        return self.path / "chain.jsonl"

    @property
    def log(self) -> Path:
        """One event a line."""
        return self.path / "log.jsonl"

    @property
    def report(self) -> Path:
        """The report."""
        return self.path / "report.html"

    def discard(self) -> None:
        """Remove the run and all that is in it; a folder that was there before stays, empty. Takes the run's lock."""
        with suppress(RunError, OSError), self.lock() as lock:
            self._clear(lock)
        self._remove_if_made()

    def _begin(self, experiment: Experiment, lock: FolderLock) -> None:
        """Write config.yaml and read it again, or leave the folder empty."""
        try:
            sweep(self.path)
            text = experiment.to_yaml(self.config)
            if self.config.read_text(encoding="utf-8") != text:
                raise StorageError(f"{self.config}: reads back differently than written; choose another directory")
        except BaseException:
            self._clear(lock)
            raise

    def _clear(self, lock: FolderLock) -> None:
        for entry in self.path.iterdir():
            if entry.name not in BYSTANDERS:
                remove(entry)
        lock.release(remove=True)

    def _remove_if_made(self) -> None:
        """Remove the folder where it was made for the run and nothing is in it."""
        if not self.found:
            with suppress(OSError):
                self.path.rmdir()

    def lock(self) -> FolderLock:
        """Take the right to write this run, until released or until this process ends.

        Raises:
            RunError: another process is writing it.
        """
        return FolderLock(self.path)

    def experiment(self) -> Experiment:
        """The resolved experiment.

        Raises:
            RunError: config.yaml is damaged, or of another version of raysim.
        """
        try:
            return Experiment.from_yaml(self.config)
        except ConfigError as error:
            raise RunError(f"{error}; the run cannot be continued by this version of raysim") from None

    def write_config(self, experiment: Experiment) -> None:
        """Replace the resolved configuration, e.g. when a resume asks for more rounds."""
        with storing(self.config):
            experiment.to_yaml(self.config)

    def check_same_config(self, experiment: Experiment, *, ignore: Sequence[str] = ()) -> None:
        """Refuse to continue this run with another configuration; keys at or below `ignore` may differ.

        A key that config.yaml does not have, as an earlier version of raysim did not know it, has its default there.

        Raises:
            RunError: one line that names the first keys that differ.
        """
        found = differences(self.experiment().to_dict(), experiment.to_dict(), ignore=ignore)
        if not found:
            return
        raise RunError(f"{self.path}: belongs to another configuration: {in_words(found)}; start a new run instead")

    def write_environment(self, values: Mapping[str, Any]) -> None:
        """Record what this run ran on."""
        text = json.dumps(values, indent=2, ensure_ascii=False, default=str) + "\n"
        with storing(self.environment):
            write_text(self.environment, text)

    def read_environment(self) -> dict[str, Any]:
        """What this run ran on; empty if it was not recorded.

        Raises:
            RunError: environment.json is damaged.
        """
        try:
            values = parse_json(self.environment.read_bytes())
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            raise RunError(f"{self.environment}: cannot be read ({error})") from None
        if not isinstance(values, dict):
            raise RunError(f"{self.environment}: expected a JSON object")
        return values


def _made(folder: Path) -> bool:
    """Make the folder; False if it was there."""
    if folder.is_dir():
        return False
    try:
        folder.mkdir(parents=True)
    except FileExistsError:
        if not folder.is_dir():
            raise
        return False
    return True
