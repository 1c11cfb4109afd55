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
from raysim.tuning.report.told import ToldStudy, read_told, value_of
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
    told = read_told(Path(study))
    file = StudyDirectory(Path(study)).report if out is None else Path(out)
    file = REPORT.check(file / "report.html" if file.is_dir() else file)
    own = file.parent.resolve() == Path(study).resolve()
    studio = Studio(file.parent / ("figures" if own else f"{file.stem}-figures"))
    with storing(file, "cannot write the report"):
        write_text(file, page(f"{told.experiment.name}: study", _content(told, studio.place)))
    return file


def _content(told: ToldStudy, place: Place) -> Html:
    parts: list[Content] = [
        element("h1", f"{told.experiment.name}: a study"),
        element("p", f"{len(told.trials)} trials in {told.path}", kind="lead"),
        _tiles(told),
    ]
    if told.confirmed is not None:
        shown = [one for one in (pictures.confirmation(told),) if one is not None]
        parts.append(section("Confirmation", element("p", told.confirmed.sentence()), place(shown)))
    if told.complete:
        search = [pictures.history(told), pictures.stopped(told), pictures.pareto(told)]
        parts.append(section("The search", place([one for one in search if one is not None])))
        bars, numbers = weight_bars(told), weight_table(told)
        if bars is not None and numbers is not None:
            parts.append(section("Weights", place([bars]), folded("As numbers", numbers)))
        if told.varied:
            found = [pictures.importances(told), pictures.slices(told), pictures.parallel_coordinates(told)]
            parts.append(section("Parameters", place([one for one in found if one is not None])))
        parts.append(section("The best trials", _best(told)))
    parts += [_failures(told), _asked(told), _again(told)]
    return join(parts)


def _tiles(told: ToldStudy) -> Html:
    counts = {state: len(told.in_state(state)) for state in TrialState}
    named = {TrialState.COMPLETE: "complete", TrialState.PRUNED: "pruned", TrialState.FAIL: "failed"}
    states = [f"{counts[state]} {word}" for state, word in named.items() if counts[state]]
    items = [tile("trials", quantity(len(told.trials)), ", ".join(states))]
    if told.best is not None:
        for index, name in enumerate(told.names):
            items.append(tile(name, figure(told.best.values[index]), f"trial {told.best.number}"))
    first = next((trial for trial in told.complete if trial.user_attrs.get("default")), None)
    if first is not None:
        items.append(tile("as it stands", figure(value_of(first)), f"trial {first.number}"))
    items.append(tile("local steps", quantity(sum(told.attribute("steps"))), size(sum(told.attribute("bytes")))))
    return tiles(items)


def _best(told: ToldStudy) -> Html:
    if len(told.names) > 1:
        chosen = sorted(told.study.best_trials, key=value_of, reverse=told.upwards[0])
    else:
        chosen = sorted(told.complete, key=value_of, reverse=told.upwards[0])[:BEST]
    keys = [name for name in told.varied if not name.startswith("weight of ")]
    rows = [_row(told, trial, keys) for trial in chosen]
    return table(["trial", *keys, *told.names, "rounds", "steps"], rows, text_columns=1 + len(keys))


def _row(told: ToldStudy, trial: FrozenTrial, keys: list[str]) -> list[Content]:
    picked = [spoken(trial.params[key]) if key in trial.params else "–" for key in keys]
    costs = [quantity(float(trial.user_attrs.get(name, 0))) for name in ("rounds", "steps")]
    return [str(trial.number), *picked, *(figure(value) for value in trial.values), *costs]


def _failures(told: ToldStudy) -> Html:
    failed = told.in_state(TrialState.FAIL)
    if not failed:
        return Html("")
    rows: list[list[Content]] = []
    for trial in failed:
        lost = trial.user_attrs.get("lost")
        reason = f"lost, and tried again: {lost}" if lost else str(trial.user_attrs.get("error", ""))
        rows.append([str(trial.number), reason])
    return section("Failed trials", table(["trial", "why"], rows, text_columns=2))


def _asked(told: ToldStudy) -> Html:
    rows: list[list[Content]] = [[key(name), text] for name, text in asked(told.experiment.tuning)]
    return section("What was asked for", table([], rows, text_columns=2))


def _again(told: ToldStudy) -> Html:
    lines = [
        shlex.join(["raysim", "tune", str(told.path), f"tuning.trials={told.experiment.tuning.trials + 50}"]),
        shlex.join(["raysim", "run", str(told.path / "best.yaml")]),
    ]
    return section("Go on", *(element("pre", line) for line in lines))
