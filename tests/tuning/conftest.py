"""Studies of a small federation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from studies import TUNABLE, Tunable

from raysim import Experiment


@pytest.fixture
def tunable(tmp_path: Path) -> Tunable:
    """The experiment with this `tuning` section and other sections changed."""

    def experiment(tuning: dict[str, Any] | None = None, **sections: Any) -> Experiment:
        section = {"trials": 4, "confirm": {"seeds": 0}, **(tuning or {})}
        tracking = {"directory": str(tmp_path / "runs"), "report": False}
        return Experiment.parse({**TUNABLE, "tracking": tracking, "tuning": section, **sections})

    return experiment
