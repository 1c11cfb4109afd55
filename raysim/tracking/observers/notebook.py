"""The live display of a notebook: a bar, the curve of the metric that counts, the last rounds."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from raysim.config import Experiment
from raysim.rounds.rows import TOTAL, RoundRow, RunSummary
from raysim.tracking.closing import closing_lines
from raysim.tracking.observers.base import NoteLevel, Observer
from raysim.tracking.observers.display import Best, Pace, Shown
from raysim.tracking.observers.trackers import needed
from raysim.tracking.report.markup import Content, Html, element, folded, join, table
from raysim.tracking.report.thumbnail import thumbnail
from raysim.tracking.units import duration, figure, time_left

EVERY = 0.25
"""Seconds between two updates: a browser redraws each of them."""
SHOWN_ROUNDS, SHOWN_METRICS, SHOWN_NOTES = 5, 4, 8


class NotebookObserver(Observer):
    """Shows a run below the cell that trains, and updates it in place; the last state stays in the notebook."""

    def __init__(self, every: float = EVERY) -> None:
        """Update at most once in this many seconds, and at the end.

        Raises:
            ConfigError: IPython is not installed.
        """
        self._ipython = needed("IPython.display", "notebook")
        self._every, self._last_update = every, 0.0
        self._handle: Any = None
        self._rows: list[RoundRow] = []
        self._curve: dict[str, list[tuple[int, float]]] = {}
        self._notes: list[str] = []
        self._closing: list[str] = []
        self._begin(Experiment(), {}, 0)

    def preparing(self, what: str) -> None:
        """What is being done, until the run begins."""
        self._show(element("em", f"{what} …"))

    def start(self, experiment: Experiment, facts: Mapping[str, object], *, after_round: int = 0) -> None:
        """The experiment's name and the facts."""
        self._begin(experiment, facts, after_round)
        self._show(self._page())

    def round(self, row: RoundRow) -> None:
        """Take it in, and show it if the last update is some time ago."""
        self._pace.see(row)
        self._best.see(row)
        self._rows = [*self._rows, row][-SHOWN_ROUNDS:]
        if self._best.metric is not None and self._best.metric in row.metrics:
            self._curve.setdefault(self._best.metric, []).append((row.round, row.metrics[self._best.metric]))
        if time.monotonic() - self._last_update >= self._every:
            self._show(self._page())

    def note(self, text: str, level: NoteLevel = "info") -> None:
        """Kept with the last ones below the rounds."""
        self._notes = [*self._notes, text if level == "info" else f"{level}: {text}"][-SHOWN_NOTES:]

    def finish(self, summary: RunSummary) -> None:
        """How it ended, and where everything is."""
        self._closing = closing_lines(summary)
        self._show(self._page())

    def _begin(self, experiment: Experiment, facts: Mapping[str, object], after_round: int) -> None:
        self._experiment, self._facts = experiment, facts
        self._pace, self._best, self._shown = Pace(experiment.rounds, after_round), Best(experiment), Shown(experiment)
        self._rows, self._curve, self._notes, self._closing = [], {}, [], []

    def _show(self, page: Html) -> None:
        self._last_update = time.monotonic()
        content = self._ipython.HTML(page.text)
        if self._handle is None:
            self._handle = self._ipython.display(content, display_id=True)
        else:
            self._handle.update(content)

    def _page(self) -> Html:
        done, rounds = self._pace.done, self._pace.rounds
        bar = Html(f'<progress max="{rounds}" value="{done}" style="width: 16em"></progress> ')
        parts: list[Content] = [element("div", join([element("strong", self._experiment.name), f" {done}/{rounds} "]))]
        if self._closing:
            parts += [element("div", line) for line in self._closing]
        else:
            left = [] if self._pace.left is None else [f"{time_left(self._pace.left)} left"]
            parts.append(element("div", join([bar, "  ".join([*self._pace.speeds, *left])])))
        if self._best.metric in self._curve:
            parts.append(self._picture(self._best.metric))
        if self._rows:
            parts.append(self._table())
        parts += [element("div", note) for note in self._notes]
        facts = [(name, str(value)) for name, value in self._facts.items()]
        return element("div", join([*parts, folded("facts", table((), facts, text_columns=2))]))

    def _picture(self, metric: str) -> Html:
        curve = np.array(self._curve[metric], dtype=np.float64)
        finite = curve[np.isfinite(curve[:, 1])]
        best = f", best {figure(self._best.best)} in round {self._best.round}" if self._best.round else ""
        return thumbnail(finite[:, 0], finite[:, 1], f"{metric} {figure(self._best.last)}{best}")

    def _table(self) -> Html:
        measured = dict.fromkeys(name for row in self._rows for name in row.metrics if name in self._shown)
        names = sorted(measured, key=lambda name: name != self._best.metric)[:SHOWN_METRICS]
        rows = [
            [
                str(row.round),
                *(figure(row.metrics.get(name)) for name in names),
                str(row.trained),
                str(row.dropped),
                duration(row.seconds.get(TOTAL, 0.0)),
            ]
            for row in self._rows
        ]
        return table(["round", *names, "clients", "dropped", "time"], rows)


def in_notebook() -> bool:
    """Whether this process is a notebook's kernel; imports nothing."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return getattr(shell, "kernel", None) is not None
