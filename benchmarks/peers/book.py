"""The results file of a workload: every finished run is written at once, so that an interrupted script goes on."""

from __future__ import annotations

import datetime
import json
import os
import platform
from pathlib import Path
from typing import Any


class OtherSetting(Exception):
    """Results cannot be continued: they were measured otherwise."""


class Book:
    """Runs by label and repetition, with the setting that they share."""

    def __init__(self, path: Path, setting: dict[str, Any], *, fresh: bool = False) -> None:
        """Open a workload's results.

        Args:
            path: the JSON file.
            setting: what all runs have in common.
            fresh: forget what is there.

        Raises:
            OtherSetting: what is there was measured in another setting or on another machine.
        """
        self.path = path
        # Through JSON, so that it compares with what is read.
        common = json.loads(json.dumps({"setting": setting, "machine": machine()}))
        self.values: dict[str, Any] = {**common, "calibration": {}, "runs": {}}
        if path.exists() and not fresh:
            known = self.read(path)
            for part, value in common.items():
                if known[part] != value:
                    raise OtherSetting(f"{path}: measured with another {part}; pass --fresh, or another --results")
            self.values = known

    @staticmethod
    def read(path: Path) -> dict[str, Any]:
        """All that a results file holds."""
        values: dict[str, Any] = json.loads(path.read_text())
        return values

    def runs(self, label: str) -> list[dict[str, Any]]:
        """Runs under a label, the oldest first."""
        found: list[dict[str, Any]] = self.values["runs"].setdefault(label, [])
        return found

    def finished(self, label: str, variant: str, repetition: int) -> bool:
        """Whether this repetition was run, in this variant, and did not fail; forgets runs in other variants."""
        runs = self.runs(label)
        runs[:] = [run for run in runs if "error" in run or run["variant"] == variant]
        return repetition < len(runs) and "error" not in runs[repetition]

    def add(self, label: str, repetition: int, run: dict[str, Any]) -> None:
        """Keep a run."""
        self.runs(label)[repetition:] = [run]
        self.save()

    def save(self) -> None:
        """Write the file."""
        self.values["date"] = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")
        self.path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self.path.with_name(f".{self.path.name}.{os.getpid()}")
        temporary.write_text(_text(self.values))
        temporary.replace(self.path)


def _text(values: dict[str, Any]) -> str:
    """JSON with a line for each run."""
    runs = [
        f"  {json.dumps(label)}: [\n" + ",\n".join(f"   {json.dumps(run)}" for run in several) + "\n  ]"
        for label, several in values["runs"].items()
    ]
    rest = json.dumps({key: value for key, value in values.items() if key != "runs"}, indent=1)
    return rest.removesuffix("\n}") + ',\n "runs": {\n' + ",\n".join(runs) + "\n }\n}\n"


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0))


def machine() -> dict[str, Any]:
    """What the results depend on."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return {
        "cpu": names[0] if names else platform.machine(),
        "cores": cores(),
        "memory_gib": round(pages / 2**30),
        "system": f"{platform.system()} {platform.release()}",
    }
