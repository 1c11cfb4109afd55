"""The report of a run of an app: curves of what was measured, the last round, and who failed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow.compute as pc
import pyarrow.parquet as pq

from raysim.config.loading import read_yaml
from raysim.errors import RunError
from raysim.files import storing, write_text
from raysim.outputs import REPORT
from raysim.tracking.report.writing import Studio, page
from raysim.tracking.units import duration, figure, size

if TYPE_CHECKING:
    from raysim.tracking.report.markup import Html
    from raysim.tracking.report.style import Picture

_COLUMNS = ("round", "clients", "failed", "samples", "wire_up", "wire_down", "seconds")
_SHOWN = 20
"""Failed messages that are listed."""


def write_flower_report(run: Path, out: Path | None = None) -> Path:
    """Write the report of a run of an app, finished or not.

    Args:
        run: the run directory.
        out: the HTML file, or a folder for `report.html`; by default the run's own.

    Raises:
        RunError: no round is recorded yet.
        StorageError: the report cannot be written, or something else than a report is where it would go.
    """
    from raysim.tracking.report.markup import element, join, section, table, tile, tiles

    if not (run / "rounds.parquet").is_file():
        raise RunError(f"{run}: no round is recorded yet; there is nothing to report on")
    file = REPORT.check(run / "report.html" if out is None else out / "report.html" if out.is_dir() else out)
    own = file.parent.resolve() == run.resolve()
    studio = Studio(file.parent / ("figures" if own else f"{file.stem}-figures"))
    settings = read_yaml(run / "flower.yaml")
    rounds, clients = pq.read_table(run / "rounds.parquet"), pq.read_table(run / "clients.parquet")
    metrics = [name for name in rounds.column_names if name not in _COLUMNS]
    total = float(pc.sum(rounds["seconds"]).as_py() or 0.0)
    failed = clients.filter(pc.is_valid(clients["error"]))
    sent = int(pc.sum(rounds["wire_up"]).as_py() or 0) + int(pc.sum(rounds["wire_down"]).as_py() or 0)
    trained = sum(number > 0 for number in rounds["round"].to_pylist())
    shown = [
        tile("Rounds", str(trained), f"{duration(total / max(1, trained))} a round"),
        tile("Nodes", str(settings["nodes"]), f"flwr {settings['flwr']}"),
        tile("Messages", str(clients.num_rows), f"{failed.num_rows} answered with an error"),
        tile("In messages", size(sent), "models and other records, both ways"),
    ]
    with storing(file, "cannot write the report"):
        content = join(
            [
                element("h1", str(settings["config"]["name"] or settings["app"])),
                element("p", f"An app of Flower, {settings['app']}, on raysim.", kind="lead"),
                tiles(shown),
                section("Learning", studio.place(_curves(rounds, metrics))) if metrics else "",
                section("Last round", table(["metric", "value"], _last(rounds, metrics))) if metrics else "",
                _failures(failed, section, table),
                section("The app's configuration", table(["key", "value"], _rows(settings["run_config"]))),
                section("How it was run", table(["key", "value"], _rows(_leaves(settings["config"])))),
            ]
        )
        write_text(file, page(file.parent.name, content))
    return file


def _last(rounds: Any, metrics: list[str]) -> list[list[str]]:
    """The last value of each metric."""
    rows = []
    for name in metrics:
        values = [value for value in rounds[name].to_pylist() if value is not None]
        rows.append([name, figure(values[-1]) if values else ""])
    return rows


def _failures(failed: Any, section: Any, table: Any) -> Html | str:
    if not failed.num_rows:
        return ""
    rows = [
        [row["error"], str(row["round"]), row["type"], str(row["partition"])]
        for row in failed.slice(0, _SHOWN).to_pylist()
    ]
    title = "Failed messages" if failed.num_rows <= _SHOWN else f"The first {_SHOWN} of {failed.num_rows} failures"
    made: Html = section(title, table(["error", "round", "type", "partition"], rows))
    return made


def _curves(rounds: Any, metrics: list[str]) -> list[Picture]:
    """A picture for each quantity, with a curve for each side that measured it: train, evaluate, test."""
    from raysim.tracking.report.curves import file_name
    from raysim.tracking.report.style import Picture

    families: dict[str, dict[str, str]] = {}
    for name in metrics:
        where, _, what = name.partition("/")
        families.setdefault(what, {})[where] = name
    return [
        Picture(f"curve-{file_name(what)}", f"{what} over the rounds", _drawing(rounds, what, series))
        for what, series in families.items()
    ]


def _drawing(rounds: Any, what: str, series: Mapping[str, str]) -> Any:
    from raysim.tracking.report.style import axes, color, legend, whole_numbers

    def draw(theme: Any) -> Any:
        picture, ax = axes(theme, what, "round")
        for index, (where, name) in enumerate(series.items()):
            points = [(x, y) for x, y in zip(rounds["round"].to_pylist(), rounds[name].to_pylist(), strict=True)]
            known = [(x, y) for x, y in points if y is not None]
            ax.plot(*zip(*known, strict=True), color=color(theme, index), label=where, marker="o", markersize=3.5)
        whole_numbers(ax)
        legend(picture, ax, columns=5)
        return picture

    return draw


def _leaves(values: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in values.items():
        found |= _leaves(value, f"{above}{key}.") if isinstance(value, Mapping) else {f"{above}{key}": value}
    return found


def _rows(values: Mapping[str, Any]) -> list[list[str]]:
    return [[str(key), "none" if value is None else str(value)] for key, value in values.items()]
