"""The run directory: everything that a run leaves behind, at fixed places."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from raysim.config import Experiment, read_yaml, write_text
from raysim.errors import ConfigError, RunError, StorageError
from raysim.tracking.configuration import differences
from raysim.tracking.files import refusal, storing
from raysim.tracking.lock import RunLock

_SHOWN_DIFFERENCES = 3


@dataclass(frozen=True, slots=True)
class RunDirectory:
    """A run on disk. Made by `create` or `create_at`, found again by `open`."""

    path: Path

    @classmethod
    def create(
        cls, parent: str | Path, name: str, experiment: Experiment, *, taken: Callable[[str], bool] = lambda name: False
    ) -> RunDirectory:
        """Make `<parent>/<name>-<YYYYmmdd-HHMMSS>`, with `-2`, `-3`, … where that, or the name elsewhere, is taken.

        Raises:
            RunError: the folder cannot be made.
        """
        stem = f"{name}-{time.strftime('%Y%m%d-%H%M%S')}"
        attempt = 1
        while True:
            path = Path(parent).expanduser() / (stem if attempt == 1 else f"{stem}-{attempt}")
            if not path.exists() and not taken(path.name) and _make(path, experiment):
                return cls(path)
            attempt += 1

    @classmethod
    def create_at(cls, path: str | Path, experiment: Experiment) -> RunDirectory:
        """Make a run directory at exactly this path, which must not exist or be empty.

        Raises:
            RunError: there is something at `path` already, or the folder cannot be made.
        """
        if not _make(Path(path), experiment):
            cls.refuse_taken(path)
        return cls(Path(path))

    @staticmethod
    def refuse_taken(path: str | Path) -> None:
        """Refuse a path where something is already.

        Raises:
            RunError: it is neither missing nor an empty folder.
        """
        folder = Path(path)
        if (folder / "config.yaml").is_file():
            raise RunError(f"{path}: exists already; `raysim resume` continues it, or choose another directory")
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise RunError(f"{path}: exists already and is not empty; choose another directory")

    @classmethod
    def open(cls, path: str | Path) -> RunDirectory:
        """An existing run.

        Raises:
            RunError: the directory is missing, or is not a run.
        """
        run = cls(Path(path))
        if not run.path.exists():
            raise RunError(f"{path}: no such run directory")
        if not run.config.is_file():
            raise RunError(f"{path}: not a run directory (no config.yaml in it); pass a folder that `raysim run` made")
        return run

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
    def checkpoints(self) -> Path:
        """Folder of the checkpoints."""
        return self.path / "checkpoints"

    @property
    def model(self) -> Path:
        """The final model."""
        return self.path / "model.safetensors"

    @property
    def log(self) -> Path:
        """One event a line."""
        return self.path / "log.jsonl"

    @property
    def report(self) -> Path:
        """The report."""
        return self.path / "report.html"

    def discard(self) -> None:
        """Remove the run and all that is in it."""
        shutil.rmtree(self.path, ignore_errors=True)

    def lock(self) -> RunLock:
        """Take the right to write this run, until released or until this process ends.

        Raises:
            RunError: somebody else is writing it.
        """
        return RunLock(self.path / ".lock")

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

        Raises:
            RunError: one line that names the first keys that differ.
        """
        found = differences(read_yaml(self.config), experiment.to_dict(), ignore=ignore)
        if not found:
            return
        shown = ", ".join(f"{key} is {_brief(own)} there and {_brief(new)} here" for key, own, new in found[:3])
        more = f" and {len(found) - _SHOWN_DIFFERENCES} more" if len(found) > _SHOWN_DIFFERENCES else ""
        raise RunError(f"{self.path}: belongs to another configuration: {shown}{more}; start a new run instead")

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
            values = json.loads(self.environment.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            raise RunError(f"{self.environment}: cannot be read ({error})") from None
        if not isinstance(values, dict):
            raise RunError(f"{self.environment}: expected a JSON object")
        return values


def _make(path: Path, experiment: Experiment) -> bool:
    """Make the directory with its config.yaml at once; False if something is there already.

    Renaming a folder onto another replaces an empty one and fails otherwise, and a run directory is never empty: so of
    two processes that want the same name, one gets it.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{time.monotonic_ns()}.tmp")
    try:
        temporary.mkdir(parents=True)
        experiment.to_yaml(temporary / "config.yaml")
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            return False
        temporary.rename(path)
    except OSError as error:
        if path.exists():
            return False
        reason, remedy = refusal(error)
        raise StorageError(f"{path}: cannot make the run directory ({reason}); {remedy}") from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return True


def _brief(value: Any) -> str:
    text = yaml.safe_dump(value, default_flow_style=True).removesuffix("...\n").strip()
    return text if len(text) <= 40 else f"{text[:37]}…"
