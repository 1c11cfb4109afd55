"""The live display of a terminal: a bar, the last rounds, the metric that counts."""

from __future__ import annotations

from collections.abc import Mapping

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.measure import Measurement
from rich.progress_bar import ProgressBar
from rich.table import Column, Table
from rich.text import Text

from raysim.config import Experiment
from raysim.rounds.rows import TOTAL, RoundRow, RunSummary
from raysim.tracking.closing import closing_lines
from raysim.tracking.observers.base import NoteLevel, Observer
from raysim.tracking.observers.display import Best, Pace, Shown
from raysim.tracking.units import duration, figure, time_left

SHOWN_ROUNDS = 6
SHOWN_METRICS = 5
BAR, LEAST_BAR = 30, 10
"""Columns of the bar, where there is room, and at least."""
_ENDLESS = 10_000
"""Columns of a terminal in which everything has room."""
_PATHS = ("run ", "report ")
"""How lines begin that end in a path, so that they are not broken."""
_NOTE_STYLE: Mapping[NoteLevel, str] = {"info": "dim", "warning": "yellow", "error": "bold red"}


class TerminalObserver(Observer):
    """Redraws a few lines at the foot of the terminal; notes scroll by above them."""

    def __init__(self, console: Console | None = None) -> None:
        """Draw on `console`, by default the standard error."""
        self._console = console or Console(stderr=True, highlight=False)
        self._live: Live | None = None
        self._pace = Pace(0, 0)
        self._best = Best(Experiment())
        self._shown = Shown(Experiment())
        # The live part is drawn by a thread of its own: these are replaced, never changed.
        self._last: tuple[RoundRow, ...] = ()
        self._metrics: tuple[str, ...] = ()

    def preparing(self, what: str) -> None:
        """A dim line; the live part begins with the run."""
        self._console.print(Text(f"{what} …", style="dim"))

    def start(self, experiment: Experiment, facts: Mapping[str, object], *, after_round: int = 0) -> None:
        """The experiment's name and the facts, then the live part."""
        self._pace = Pace(experiment.rounds, after_round)
        self._best, self._shown = Best(experiment), Shown(experiment)
        self._last, self._metrics = (), ()
        self._console.print(Text(experiment.name, style="bold"))
        grid = Table.grid(padding=(0, 2))
        for name, value in facts.items():
            grid.add_row(Text(f"  {name}", style="dim"), Text(str(value)))
        self._console.print(grid)
        self._live = Live(get_renderable=self._draw, console=self._console, refresh_per_second=8, transient=True)
        self._live.start()

    def round(self, row: RoundRow) -> None:
        """Take it in; the next redraw shows it."""
        self._pace.see(row)
        self._best.see(row)
        self._last = (*self._last, row)[-SHOWN_ROUNDS:]
        self._metrics = tuple(dict.fromkeys((*self._metrics, *row.metrics)))

    def note(self, text: str, level: NoteLevel = "info") -> None:
        """A line above the live part."""
        mark = "" if level == "info" else f"{level}: "
        self._console.print(Text(f"{mark}{text}", style=_NOTE_STYLE[level]))

    def finish(self, summary: RunSummary) -> None:
        """Leave the last rounds on the screen, and say how it ended and where everything is."""
        if self._live is not None:
            self._live.stop()
            self._live = None
            if self._last:
                self._console.print(self._rounds())
        first, *rest = closing_lines(summary)
        self._console.print(Text(first, style="bold"))
        for line in rest:
            self._console.print(Text(line), soft_wrap=line.startswith(_PATHS))

    def _draw(self) -> RenderableType:
        rows = [self._rounds(), Text(), self._headline()] if self._last else [Text()]
        return Group(*rows, self._bar())

    def _bar(self) -> RenderableType:
        """The bar with how far and how fast beside it; below it in a terminal where that would leave it no room."""
        said = self._speed()
        room = self._console.width - said.cell_len - 2
        bar = ProgressBar(
            total=self._pace.rounds,
            completed=self._pace.done,
            width=min(BAR, room if room >= LEAST_BAR else self._console.width),
            complete_style="cyan",
        )
        grid = Table.grid(padding=(0, 2, 0, 0), pad_edge=False)
        if room < LEAST_BAR:
            grid.add_row(bar)
            grid.add_row(said)
        else:
            grid.add_row(bar, said)
        return grid

    def _headline(self) -> Text:
        text = Text(no_wrap=True, overflow="ellipsis")
        if self._best.metric is not None:
            text.append(f"{self._best.metric} ", style="dim").append(figure(self._best.last), style="bold cyan")
            text.append("  best ", style="dim").append(figure(self._best.best))
            text.append(f" in round {self._best.round}" if self._best.round else "", style="dim")
        return text

    def _speed(self) -> Text:
        text = Text(f"{self._pace.done}/{self._pace.rounds}", style="bold")
        text.append("  " + "  ".join(self._pace.speeds), style="not bold")
        if self._pace.left is not None:
            text.append(f"  {time_left(self._pace.left)} left", style="not bold dim")
        return text

    def _rounds(self) -> Table:
        """The last rounds, with as many metrics as there is room for; names are broken before any is left out."""
        names = self._shown_metrics()
        table = self._table({name: name for name in names})
        while not self._fits(table):
            table = self._table({name: name.replace("/", "/\n") for name in names})
            if not names:
                break
            names = names[:-1]
        return table

    def _fits(self, table: Table) -> bool:
        endless = self._console.options.update_width(_ENDLESS)
        return Measurement.get(self._console, endless, table).maximum <= self._console.width

    def _table(self, metrics: Mapping[str, str]) -> Table:
        """With a column for each of these metrics, by what it is called."""
        table = Table(
            Column("round", justify="right", no_wrap=True),
            *(Column(title, justify="right", no_wrap=True) for title in metrics.values()),
            Column("clients", justify="right", no_wrap=True),
            Column("dropped", justify="right", no_wrap=True),
            Column("time", justify="right", no_wrap=True),
            box=None,
            header_style="dim",
            padding=(0, 2, 0, 0),
            pad_edge=False,
        )
        newest = self._last[-1].round
        for row in self._last:
            table.add_row(
                str(row.round),
                *(figure(row.metrics.get(name)) for name in metrics),
                str(row.trained),
                Text(str(row.dropped), style="yellow" if row.dropped else "dim"),
                duration(row.seconds.get(TOTAL, 0.0)),
                style=None if row.round == newest else "dim",
            )
        return table

    def _shown_metrics(self) -> list[str]:
        """The headline metric first, then epsilon or virtual time; what does not fit a line is in the report."""
        first = [self._best.metric] if self._best.metric else []
        first += [name for name in self._metrics if name.startswith("privacy/") or name == "virtual/seconds"]
        return (first + [name for name in self._metrics if name in self._shown and name not in first])[:SHOWN_METRICS]
