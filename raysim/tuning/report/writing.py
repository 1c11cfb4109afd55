"""Putting a study's report together and writing it, whole or not at all."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable
from pathlib import Path

from optuna.trial import FrozenTrial, TrialState

from raysim.files import storing, write_text
from raysim.outputs import REPORT
from raysim.tracking.report.markup import Content, Html, element, folded, join, key, section, table, tile, tiles
from raysim.tracking.report.style import Picture
from raysim.tracking.report.writing import Studio, page
from raysim.tracking.units import figure, quantity, size
from raysim.tuning.directory import StudyDirectory
from raysim.tuning.report import pictures
from raysim.tuning.report.recorded import RecordedStudy, read_recorded, value_of
from raysim.tuning.report.weights import weight_bars, weight_table
from raysim.tuning.words import asked, spoken

BEST = 12
"""Trials in the table of the best."""

Place = Callable[[Iterable[Picture]], Html]


def write_study_report(study: str | Path, out: str | Path | None = None) -> Path:
    """Write the report of a study, finished or not.

    Args:
        study: its folder.
        out: the HTML file, or a folder for `report.html`; by default in the study's folder. The pictures are also
            written as PNG into a folder beside it.

    Returns:
        The HTML file.

    Raises:
        RunError: the folder is no study.
        StorageError: the report cannot be written, or something else than a report is where it would go.
    """
    recorded = read_recorded(Path(study))
    file = StudyDirectory(Path(study)).report if out is None else Path(out)
    file = REPORT.check(file / "report.html" if file.is_dir() else file)
    own = file.parent.resolve() == Path(study).resolve()
    studio = Studio(file.parent / ("figures" if own else f"{file.stem}-figures"))
    with storing(file, "cannot write the report"):
        write_text(file, page(f"{recorded.experiment.name}: study", study_content(recorded, studio.place)))
    return file


def study_content(recorded: RecordedStudy, place: Place) -> Html:
    """The whole page's content."""
    parts: list[Content] = [
        element("h1", f"{recorded.experiment.name}: a study"),
        element("p", f"{len(recorded.trials)} trials in {recorded.path}", kind="lead"),
        _tiles(recorded),
    ]
    if recorded.confirmed is not None:
        shown = [one for one in (pictures.confirmation(recorded),) if one is not None]
        parts.append(section("Confirmation", element("p", recorded.confirmed.sentence()), place(shown)))
    if recorded.complete:
        search = [pictures.history(recorded), pictures.stopped(recorded), pictures.pareto(recorded)]
        parts.append(section("The search", place([one for one in search if one is not None])))
        bars, numbers = weight_bars(recorded), weight_table(recorded)
        if bars is not None and numbers is not None:
            parts.append(section("Weights", place([bars]), folded("As numbers", numbers)))
        if recorded.varied:
            found = [pictures.importances(recorded), pictures.slices(recorded), pictures.parallel_coordinates(recorded)]
            parts.append(section("Parameters", place([one for one in found if one is not None])))
        parts.append(section("The best trials", _best(recorded)))
    parts += [_failures(recorded), _asked(recorded), _again(recorded)]
    return join(parts)


def _tiles(recorded: RecordedStudy) -> Html:
    counts = {state: len(recorded.in_state(state)) for state in TrialState}
    named = {TrialState.COMPLETE: "complete", TrialState.PRUNED: "pruned", TrialState.FAIL: "failed"}
    states = [f"{counts[state]} {word}" for state, word in named.items() if counts[state]]
    items = [tile("trials", quantity(len(recorded.trials)), ", ".join(states))]
    if recorded.best is not None:
        for index, name in enumerate(recorded.names):
            items.append(
                tile(name, _shown(recorded, recorded.best.values[index], index), f"trial {recorded.best.number}")
            )
    first = next((trial for trial in recorded.complete if trial.user_attrs.get("default")), None)
    if first is not None:
        items.append(tile("as it stands", _shown(recorded, value_of(first)), f"trial {first.number}"))
    items.append(
        tile("local steps", quantity(sum(recorded.attribute("steps"))), size(sum(recorded.attribute("bytes"))))
    )
    return tiles(items)


def _best(recorded: RecordedStudy) -> Html:
    if len(recorded.names) > 1:
        chosen = sorted(recorded.study.best_trials, key=value_of, reverse=recorded.upwards[0])
    else:
        chosen = sorted(recorded.complete, key=value_of, reverse=recorded.upwards[0])[:BEST]
    keys = [name for name in recorded.varied if not name.startswith("weight of ")]
    rows = [_row(recorded, trial, keys) for trial in chosen]
    return table(["trial", *keys, *recorded.names, "rounds", "steps"], rows, text_columns=1 + len(keys))


def _row(recorded: RecordedStudy, trial: FrozenTrial, keys: list[str]) -> list[Content]:
    picked = [spoken(trial.params[key]) if key in trial.params else "–" for key in keys]
    costs = [quantity(float(trial.user_attrs.get(name, 0))) for name in ("rounds", "steps")]
    return [str(trial.number), *picked, *(_shown(recorded, value, i) for i, value in enumerate(trial.values)), *costs]


def _shown(recorded: RecordedStudy, value: float, objective: int = 0) -> str:
    """A value of an objective; rounds, bytes and steps to a target are whole numbers."""
    whole = recorded.experiment.tuning.objective[objective].of.endswith("_to")
    return quantity(value) if whole else figure(value)


def _failures(recorded: RecordedStudy) -> Html:
    failed = recorded.in_state(TrialState.FAIL)
    if not failed:
        return Html("")
    rows: list[list[Content]] = []
    for trial in failed:
        lost = trial.user_attrs.get("lost")
        reason = f"lost, and tried again: {lost}" if lost else str(trial.user_attrs.get("error", ""))
        rows.append([str(trial.number), reason])
    return section("Failed trials", table(["trial", "why"], rows, text_columns=2))


def _asked(recorded: RecordedStudy) -> Html:
    rows: list[list[Content]] = [[key(name), text] for name, text in asked(recorded.experiment.tuning)]
    return section("What was asked for", table([], rows, text_columns=2))


def _again(recorded: RecordedStudy) -> Html:
    lines = [
        shlex.join(["raysim", "tune", str(recorded.path), f"tuning.trials={recorded.experiment.tuning.trials + 50}"]),
        shlex.join(["raysim", "run", str(recorded.path / "best.yaml")]),
    ]
    return section("Go on", *(element("pre", line) for line in lines))
