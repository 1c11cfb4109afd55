"""Putting the report together and writing it, whole or not at all."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from importlib import resources
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING

from raysim.errors import RunError
from raysim.files import replacing, storing, write_text
from raysim.outputs import PICTURE, REPORT
from raysim.tracking.directory import RunDirectory
from raysim.version import __version__

if TYPE_CHECKING:
    from raysim.tracking.report.markup import Html
    from raysim.tracking.report.style import Picture


def write_report(runs: Sequence[str | Path], out: str | Path | None = None) -> Path:
    """Write the report of one run, or of several side by side.

    Args:
        runs: run directories, finished or not.
        out: the HTML file, or a folder for `report.html`; by default in the run's directory, or for several runs in
            the folder that they share, else in the working directory. The pictures are also written as PNG into a
            folder beside it: `figures` in a run's directory, `<name>-figures` elsewhere.

    Returns:
        The HTML file.

    Raises:
        RunError: a directory is not a run or is damaged.
        StorageError: the report cannot be written, or something else than a report is where it would go.
    """
    paths = list({path.resolve(): path for path in (RunDirectory.open(run).path for run in runs)}.values())
    if not paths:
        raise RunError("no run to report on; pass a run directory")
    file = REPORT.check(_file(paths, Path(out) if out is not None else None))
    # Here and not above: matplotlib takes a second to import, which no other use of this package should pay.
    from raysim.tracking.report.comparison import comparison
    from raysim.tracking.report.recorded import labels, read_run
    from raysim.tracking.report.sections import single_run

    recorded = [read_run(path, label) for path, label in zip(paths, labels(paths), strict=True)]
    own = any(file.parent.resolve() == path.resolve() for path in paths)
    studio = Studio(file.parent / ("figures" if own else f"{file.stem}-figures"))
    with storing(file, "cannot write the report"):
        if len(recorded) == 1:
            content, title = single_run(recorded[0], studio.place), recorded[0].label
        else:
            content, title = comparison(recorded, studio.place), f"{len(recorded)} runs"
        write_text(file, page(title, content))
    return file


class Studio:
    """Draws pictures for both themes, and keeps the light one as a file."""

    def __init__(self, folder: Path) -> None:
        """Keep them in this folder."""
        self._folder = folder

    def place(self, pictures: Iterable[Picture]) -> Html:
        """The pictures as markup."""
        from raysim.tracking.report import markup
        from raysim.tracking.report.style import DARK, LIGHT

        drawn = [(picture, picture.png(LIGHT), picture.png(DARK)) for picture in pictures]
        for picture, light, _ in drawn:
            with replacing(PICTURE.check(self._folder / f"{picture.name}.png")) as temporary:
                temporary.write_bytes(light)
        return markup.pictures((one, markup.inline(light), markup.inline(dark)) for one, light, dark in drawn)


def _file(runs: Sequence[Path], out: Path | None) -> Path:
    if out is not None:
        return out / "report.html" if out.is_dir() else out
    if len(runs) == 1:
        return RunDirectory(runs[0]).report
    parents = {run.resolve().parent for run in runs}
    return runs[0].parent / "report.html" if len(parents) == 1 else Path("report.html")


def page(title: str, content: Html) -> str:
    """A whole HTML page."""
    from raysim.tracking.report.markup import escape, theme_colors

    here = resources.files("raysim.tracking.report")
    page = Template(here.joinpath("page.html").read_text(encoding="utf-8"))
    return page.substitute(
        title=escape(f"{title} · raysim"),
        colors=theme_colors(),
        style=here.joinpath("page.css").read_text(encoding="utf-8"),
        content=content.text,
        footer=escape(f"Written by raysim {__version__} on {time.strftime('%Y-%m-%d at %H:%M')}."),
    )
