"""The apps of `apps`, run in this process, and what they leave."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from raysim.adapters.flower import FlowerResult, FlowerSimulation

APPS = Path(__file__).parent / "apps"


def settings(**config: Any) -> dict[str, Any]:
    """A configuration that runs in this process and writes no report."""
    given = {"execution": {"executor": "inprocess"}, "tracking": {"report": False}}
    return {**given, **config}


def run_app(app: Any, folder: Path, progress: Any = None, **config: Any) -> FlowerResult:
    """Run an app by the name of its folder, or a pair of apps."""
    place = str(APPS / app) if isinstance(app, str) else app
    return FlowerSimulation(place, settings(**config), directory=folder, progress=progress).run()
