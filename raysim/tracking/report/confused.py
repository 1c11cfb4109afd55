"""Which classes the last evaluation took for which: a matrix, or of many classes the largest confusions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from raysim.tracking.confusion import Confusion
from raysim.tracking.report.markup import Content, Html, element, join, section, table
from raysim.tracking.report.recorded import RecordedRun
from raysim.tracking.report.style import Picture, Theme, axes
from raysim.tracking.units import quantity

DRAWN, NUMBERED, LISTED = 30, 12, 12
"""Classes up to which there is a matrix, with numbers in it; and confusions that are listed."""


def confused(run: RecordedRun, place: Callable[[Iterable[Picture]], Html]) -> Html:
    """The section; nothing where no evaluation counted classes."""
    if run.confusion is None:
        return Html("")
    round, found = run.confusion
    names = class_names(found.classes, run.environment.get("classes"))
    worst = [[names[target], names[predicted], quantity(count), _share(found, target, count)]
             for target, predicted, count in found.largest(LISTED)]  # fmt: skip
    rows: list[list[Content]] = [list(row) for row in worst]
    head: list[Content] = ["class", "taken for", "samples", "of the class"]
    text = f"On the {found.part} set after round {round}, {quantity(found.samples)} samples."
    if found.samples > int(found.count.sum()):
        text += f" Of {found.classes:,} classes the most frequent pairs were recorded."
    listed = table(head, rows, text_columns=2) if rows else element("p", "No sample was taken for another class.")
    body: Content = listed
    if found.classes <= DRAWN:
        body = element("div", join([place([confusion_matrix(found, names)]), listed]), kind="side")
    return section("Confusions", element("p", text, kind="faint"), body)


def class_names(classes: int, known: Sequence[str] | None) -> list[str]:
    """The names, or numbers where there are none."""
    return [str(one) for one in known] if known and len(known) == classes else [str(one) for one in range(classes)]


def confusion_matrix(found: Confusion, names: Sequence[str]) -> Picture:
    """Rows are classes, columns what they were taken for; coloured by the share of the row."""
    counts = found.matrix()
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)

    def draw(theme: Theme) -> Figure:
        picture, ax = axes(theme, f"Confusion matrix ({found.part})", "taken for", height=4.4)
        colours = LinearSegmentedColormap.from_list("shares", [theme.background, theme.series[0]])
        ax.imshow(shares, cmap=colours, vmin=0, vmax=1, interpolation="nearest", aspect="auto")
        ax.grid(visible=False)
        ax.margins(0)
        short, small = [name[:14] for name in names], 9 if found.classes <= NUMBERED else 7
        turned = 90 if max(map(len, short)) > 3 and found.classes > 4 else 0
        ax.set_xticks(range(found.classes), short, fontsize=small, rotation=turned)
        ax.set_yticks(range(found.classes), short, fontsize=small)
        ax.set_ylabel("class")
        if found.classes <= NUMBERED:
            for row, column in zip(*np.nonzero(counts), strict=True):
                shade = theme.background if shares[row, column] > 0.5 else theme.text
                ax.text(column, row, f"{counts[row, column]:,}", ha="center", va="center", fontsize=8, color=shade)
        return picture

    return Picture("confusion", "How often samples of each class were taken for each class", draw)


def _share(found: Confusion, target: int, count: int) -> str:
    """Of the samples of the class, where all of its pairs are known."""
    if found.samples > int(found.count.sum()):
        return "–"
    return f"{100 * count / max(int(found.count[found.target == target].sum()), 1):.1f} %"
