"""The live display of a study in a notebook: the last trials, and the best so far."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from raysim.tracking.observers.trackers import needed
from raysim.tracking.report.markup import Content, element, join, table
from raysim.tracking.units import duration, figure
from raysim.tuning.progress import StudyResult, TrialLine
from raysim.tuning.words import spoken

SHOWN_TRIALS = 10


class NotebookStudy:
    """Shows a study below the cell that runs it, and updates it in place.

    Example:
        >>> tune("tune_lr", progress=NotebookStudy())
    """

    def __init__(self) -> None:
        """Nothing is shown yet.

        Raises:
            ConfigError: IPython is not installed.
        """
        self._ipython = needed("IPython.display", "notebook")
        self._handle: Any = None
        self._facts: Sequence[tuple[str, str]] = ()
        self._lines: list[TrialLine] = []
        self._closing: list[str] = []

    def start(self, facts: Mapping[str, object]) -> None:
        """The facts."""
        self._facts = [(name, str(value)) for name, value in facts.items()]
        self._show()

    def trial(self, line: TrialLine) -> None:
        """The trial with those before it."""
        self._lines = [*self._lines, line][-SHOWN_TRIALS:]
        self._show()

    def note(self, text: str) -> None:
        """Below everything."""
        self._closing.append(text)
        self._show()

    def finish(self, lines: Sequence[str], result: StudyResult) -> None:
        """The result in words."""
        self._closing += lines
        self._show()

    def _show(self) -> None:
        parts: list[Content] = [table((), self._facts, text_columns=2)]
        if self._lines:
            newest = self._lines[-1]
            best = "" if newest.best is None else f", best {figure(newest.best[0])} (trial {newest.best[1]})"
            parts += [element("div", f"{newest.done}/{newest.trials} trials{best}"), self._table()]
        parts += [element("div", line) for line in self._closing]
        content = self._ipython.HTML(element("div", join(parts)).text)
        if self._handle is None:
            self._handle = self._ipython.display(content, display_id=True)
        else:
            self._handle.update(content)

    def _table(self) -> Content:
        names = list(dict.fromkeys(name for line in self._lines for name in line.values))
        rows = [
            [
                str(line.number),
                line.state,
                ", ".join(f"{key}={spoken(value)}" for key, value in line.params.items()),
                *(figure(line.values.get(name)) for name in names),
                str(line.rounds),
                duration(line.seconds),
            ]
            for line in self._lines
        ]
        return table(["trial", "state", "values", *names, "rounds", "time"], rows, text_columns=3)
