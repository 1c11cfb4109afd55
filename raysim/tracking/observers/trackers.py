"""What observers that pass a run to another tool have in common."""

from __future__ import annotations

import importlib
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from raysim.config import Experiment
from raysim.errors import ConfigError
from raysim.rounds.rows import ROUND_FIELDS, RoundRow
from raysim.tracking.configuration import flatten

EVERY = 1.0
"""Seconds between two calls that may wait for a disk or a network: short rounds go out together."""

OVER_CLIENTS = "over clients/"
"""In front of the name of a quantity whose distribution over clients is shown."""

TRIALS = "trials"
"""The folder of a study that its trials are in; the runs that confirm its winner are in another."""

_OWN = tuple(field.name for field in ROUND_FIELDS if field.name != "round" and not field.name.startswith("seconds/"))


def needed(library: str, extra: str) -> Any:
    """The library of an observer.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        return importlib.import_module(library)
    except ImportError as error:
        raise ConfigError(
            f"tracking.observers: {extra} needs {library} ({error}); install it with `pip install 'raysim-fl[{extra}]'`"
        ) from None


def scalars(row: RoundRow) -> dict[str, float]:
    """All numbers of a round by the names of rounds.parquet; of the seconds those that were taken."""
    found = {name: float(getattr(row, name)) for name in _OWN}
    return found | {f"seconds/{phase}": taken for phase, taken in row.seconds.items()} | dict(row.metrics)


def configuration(experiment: Experiment) -> dict[str, Any]:
    """The resolved configuration by dotted keys."""
    return flatten(experiment.to_dict())


def run_path(facts: Mapping[str, object]) -> Path:
    """The run directory that `start` names."""
    return Path(str(facts["run"]))


def study_of(run: Path) -> Path | None:
    """The study whose trial a run is; None if it is none."""
    return next((folder for folder in run.resolve().parents if (folder / "study.yaml").is_file()), None)


class Pause:
    """Whether it is time to send again what has gathered."""

    def __init__(self) -> None:
        self._last = time.monotonic()

    def over(self) -> bool:
        """True at most once in `EVERY` seconds."""
        if time.monotonic() - self._last < EVERY:
            return False
        self._last = time.monotonic()
        return True
