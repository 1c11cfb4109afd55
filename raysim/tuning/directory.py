"""The study's folder: what was asked for, Optuna's journal, the trials' runs, the confirmation, the report."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from raysim.config import Experiment
from raysim.config.parsing import parse_json
from raysim.errors import ConfigError, RunError
from raysim.files import looked_up, storing, write_text
from raysim.locks import FolderLock
from raysim.tracking import is_vacant
from raysim.tracking.configuration import Difference, differences
from raysim.tracking.observers.trackers import TRIALS

MAY_CHANGE = (
    "name",
    "execution",
    "tracking",
    "data.cache",
    "tuning.trials",
    "tuning.parallel",
    "tuning.pruner",
    "tuning.sampler",
    "tuning.confirm",
    "tuning.storage",
)
"""Keys that a resumed study may change: they do not alter the meaning of finished trials."""


@dataclass(frozen=True, slots=True)
class StudyDirectory:
    """A study on disk."""

    path: Path

    @classmethod
    def new(cls, parent: str | Path, name: str) -> StudyDirectory:
        """`<parent>/<name>-tune-<YYYYmmdd-HHMMSS>`, with `-2`, `-3`, … where that is taken; nothing is made yet."""
        stem = f"{name}-tune-{time.strftime('%Y%m%d-%H%M%S')}"
        attempt = 1
        while (path := Path(parent).expanduser() / (stem if attempt == 1 else f"{stem}-{attempt}")).exists():
            attempt += 1
        return cls(path)

    @staticmethod
    def is_study(path: str | Path) -> bool:
        """Whether a study lies there."""
        return (looked_up(path) / "study.yaml").is_file()

    @property
    def config(self) -> Path:
        """The experiment with its `tuning` section, every default spelled out."""
        return self.path / "study.yaml"

    @property
    def journal(self) -> Path:
        """Optuna's journal."""
        return self.path / "journal.log"

    @property
    def confirmation(self) -> Path:
        """The results of the confirmation's runs."""
        return self.path / "confirmation.json"

    @property
    def best(self) -> Path:
        """The experiment with the winner's values."""
        return self.path / "best.yaml"

    @property
    def report(self) -> Path:
        """The report."""
        return self.path / "report.html"

    def trial(self, number: int) -> Path:
        """Run directory of a trial."""
        return self.path / TRIALS / f"{number:05d}"

    def experiment(self) -> Experiment:
        """What was asked for.

        Raises:
            RunError: it is not a study, or one of another version of raysim.
        """
        try:
            return Experiment.from_yaml(self.config)
        except ConfigError as error:
            raise RunError(f"{error}; this version of raysim cannot continue the study") from None

    def refuse_taken(self) -> None:
        """Refuse a folder with something else in it.

        Raises:
            RunError: it is neither missing, nor empty, nor a study.
        """
        if not self.is_study(self.path) and not is_vacant(self.path):
            raise RunError(f"{self.path}: exists already and is no study; choose another directory")

    def lock(self) -> FolderLock:
        """Take the right to write this study, until released or until this process ends.

        Raises:
            RunError: another process is writing it, or it cannot be made.
        """
        with storing(self.path, "cannot make the study's folder"):
            if not self.path.is_dir():
                self.path.mkdir(parents=True, exist_ok=True)
        return FolderLock(self.path)

    def record(self, experiment: Experiment) -> None:
        """Write down what was asked for."""
        with storing(self.config):
            experiment.to_yaml(self.config)

    def check_same(self, experiment: Experiment) -> None:
        """Refuse to continue the study with another search space, objective or experiment.

        Raises:
            RunError: one line with the first keys that differ.
        """
        refuse_difference(str(self.path), self.experiment(), experiment)

    def read_confirmation(self) -> dict[str, Any]:
        """What was confirmed so far; empty if nothing was.

        Raises:
            RunError: the file is damaged.
        """
        try:
            found = parse_json(self.confirmation.read_bytes())
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            raise RunError(f"{self.confirmation}: cannot be read ({error}); delete it to confirm again") from None
        if not isinstance(found, dict):
            raise RunError(f"{self.confirmation}: expected a JSON object; delete it to confirm again")
        return found

    def write_confirmation(self, values: Mapping[str, Any]) -> None:
        """Keep what was confirmed so far."""
        with storing(self.confirmation):
            write_text(self.confirmation, json.dumps(values, indent=2) + "\n")


def refuse_difference(where: str, recorded: Experiment, wanted: Experiment) -> None:
    """Refuse a study that was made for something else.

    Raises:
        RunError: one line with the first keys that differ.
    """
    found = differences(recorded.to_dict(), wanted.to_dict(), ignore=MAY_CHANGE)
    if not found:
        return
    more = f" and {len(found) - 3} more" if len(found) > 3 else ""
    space = any(one.key.startswith("tuning.") for one in found)
    what = "another search space" if space else "another experiment"
    raise RunError(
        f"{where}: belongs to {what}: {', '.join(_shown(one) for one in found[:3])}{more}; start a new study instead"
    )


def _shown(one: Difference) -> str:
    return f"{one.key} is {one.left} there and {one.right} here"
