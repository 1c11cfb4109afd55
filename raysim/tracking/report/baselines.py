"""Runs without a federation beside this one: all samples in one place, and each client alone."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from raysim.config import Experiment
from raysim.errors import ConfigError, RunError
from raysim.tracking.configuration import flatten
from raysim.tracking.metric_names import parts_of
from raysim.tracking.report.markup import Content, Html, element, section, table
from raysim.tracking.report.recorded import RecordedRun, read_run
from raysim.tracking.units import figure, quantity

LOOKED_AT = 300
"""Folders beside the run that are looked into, the newest first."""
KINDS = {"centralised": "all samples in one place", "local": "each client alone"}
_MENTIONED = re.compile(rf"\b({'|'.join(KINDS)})\b")


def baselines(run: RecordedRun) -> Html:
    """The section; nothing where no run of the same data without a federation lies beside this one."""
    found = dict(_newest(run))
    if not found:
        return Html("")
    shown = _shown(run)
    named = {"this run": run, **{KINDS[kind]: one for kind, one in found.items()}}
    rows: list[list[Content]] = [
        [what, one.label, *(_last(one, name) for name in shown), quantity(one.rounds)] for what, one in named.items()
    ]
    text = "Runs beside this one with the same data and model, each at its last evaluation."
    head: list[Content] = ["baseline", "run", *shown, "rounds"]
    return section("Baselines", element("p", text, kind="faint"), table(head, rows, text_columns=2))


def _shown(run: RecordedRun) -> list[str]:
    """Metrics that runs are compared by: the one that the run is judged by, and it over the clients."""
    if run.headline is None:
        return []
    over = [f"clients/{parts_of(run.headline).family}/{summary}" for summary in ("mean", "worst10")]
    return [name for name in dict.fromkeys([run.headline, *over]) if name in run.metrics]


def _newest(run: RecordedRun) -> Iterator[tuple[str, RecordedRun]]:
    """The newest run of each kind; of the same seed where there is one."""
    if run.config.get("algorithm.name") in KINDS:
        return
    kept: dict[str, list[tuple[bool, Path]]] = {kind: [] for kind in KINDS}
    for path in _candidates(run):
        with suppress(ConfigError):  # of another version of raysim
            config = flatten(Experiment.from_yaml(path / "config.yaml").to_dict())
            kind = config.get("algorithm.name")
            if kind in kept and _compared(config) == _compared(run.config):
                kept[kind].append((config.get("seed") != run.config.get("seed"), path))
    for kind, found in kept.items():
        for _, path in sorted(found, key=lambda one: one[0]):
            with suppress(RunError):  # damaged
                if (other := read_run(path)).rounds:
                    yield kind, other
                    break


def _candidates(run: RecordedRun) -> list[Path]:
    """Folders of runs that may be one: beside the run, and the one that it names."""
    own = run.path.resolve()
    named = run.config.get("evaluation.local_baseline")
    try:
        beside = [path for path in own.parent.iterdir() if (path / "config.yaml").is_file()]
        beside.sort(key=lambda path: path.stat().st_mtime, reverse=True)
        texts = ((path, (path / "config.yaml").read_text(encoding="utf-8", errors="replace"))
                 for path in beside[:LOOKED_AT] if path != own)  # fmt: skip
        found = [path for path, text in texts if _MENTIONED.search(text)]
    except OSError:
        found = []
    extra = [Path(named).expanduser()] if isinstance(named, str) and (Path(named) / "config.yaml").is_file() else []
    return list(dict.fromkeys([*extra, *found]))


def _compared(config: dict[str, Any]) -> dict[str, Any]:
    """What a baseline has in common with a run: its data and model."""
    return {key: value for key, value in config.items() if key.startswith(("data.", "model."))}


def _last(run: RecordedRun, name: str) -> str:
    """The last measured value of a metric."""
    values = run.curve(name).values
    return figure(float(values[-1]) if len(values) else None)
