"""A picture of a partition: who holds how many samples of which label."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from raysim.arrays import Array, Int64
from raysim.data.federation import Federation
from raysim.data.summary import LabelCounts, Summary, count_labels, describe
from raysim.files import replacing, storing
from raysim.outputs import PICTURE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Colormap
    from matplotlib.figure import Figure

BUBBLES = 50
"""Up to this number of clients, each is a column of bubbles; more are a heat map."""
_INK, _MUTED, _FAINT, _ACCENT = "#1f2933", "#6b7785", "#e4e8ec", "#2a7f9e"
_SHADES = ("#f5f8fa", "#b5dbe2", "#5fb0c3", "#2a7f9e", "#1d5a85", "#14325c")
_INCHES, _DOTS_PER_INCH = (11.0, 6.2), 130


def partition_picture(
    federation: Federation,
    path: str | Path,
    *,
    title: str | None = None,
    class_names: Sequence[str] | None = None,
) -> Path:
    """Draw clients by labels, under a strip of the clients' sizes, as a PNG file written whole or not at all.

    With up to 50 clients the area of a bubble is the number of samples; with more, a heat map shows each client's label
    distribution, clients ordered by their most frequent label. Where samples have no class, sizes are all there is.
    Large populations are represented by 1000 clients spread evenly over them.

    Args:
        federation: what to draw.
        path: the PNG file.
        title: first line above the picture, by default "Partition".
        class_names: what the labels stand for, by default what the federation says.

    Returns:
        The path.

    Raises:
        DataError: a shard cannot be read.
        StorageError: the picture cannot be written, or something else than a picture is there.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    file = PICTURE.check(path)
    figure = Figure(figsize=_INCHES, dpi=_DOTS_PER_INCH, facecolor="white")
    FigureCanvasAgg(figure)
    class_names = class_names or federation.info.class_names
    labels = count_labels(federation)
    summary = describe(federation)
    _headline(figure, title or "Partition", summary)
    if labels is None:
        _sizes_alone(figure, federation)
    elif len(labels.clients) <= BUBBLES:
        _bubbles(figure, labels, class_names)
    else:
        _heat_map(figure, labels, class_names)
    with storing(file), replacing(file) as temporary:
        figure.savefig(temporary, format="png")
    return file


def _headline(figure: Figure, title: str, summary: Summary) -> None:
    facts = [f"{summary.clients:,} clients", f"{summary.samples:,} training samples"]
    spread = f"{summary.smallest:,} to {summary.largest:,} each (median {summary.median:,.0f})"
    facts.append(f"{summary.smallest:,} each" if summary.smallest == summary.largest else spread)
    if summary.skew is not None:
        facts += [f"label skew {summary.skew:.2f}", f"{summary.classes_per_client:.1f} effective labels a client"]
    if 0 < summary.inspected < summary.clients:
        facts.append(f"{summary.inspected:,} clients shown")
    figure.text(0.07, 0.955, title, fontsize=15, fontweight="bold", color=_INK, va="center")
    figure.text(0.07, 0.91, "   ·   ".join(facts), fontsize=9.5, color=_MUTED, va="center")


def _bubbles(figure: Figure, labels: LabelCounts, class_names: Sequence[str] | None) -> None:
    sizes, main = _panels(figure)
    counts, shares = labels.counts, labels.shares
    clients, classes = counts.shape
    columns = np.arange(clients)
    _bars(sizes, columns, counts.sum(axis=1), 0.72)
    # A bubble of the largest count just fills its cell, which is as wide or as high as the narrower of the two.
    box = main.get_position()
    cell = min(72 * _INCHES[0] * box.width / clients, 72 * _INCHES[1] * box.height / classes, 60)
    area = (0.92 * cell) ** 2 * counts.T / max(1, counts.max())
    x, y = np.meshgrid(columns, np.arange(classes))
    held = counts.T > 0
    points = main.scatter(
        x[held], y[held], s=area[held], c=shares.T[held], cmap=_colours(), vmin=-0.25, vmax=1, linewidths=0, zorder=3
    )
    main.set_xticks(columns[:: max(1, clients // 25)], labels.clients[:: max(1, clients // 25)])
    main.set_xlim(-0.6, clients - 0.4)
    main.set_xlabel("client", color=_INK)
    main.grid(True, color=_FAINT, linewidth=0.8, zorder=0)
    _label_axis(main, classes, class_names)
    _colour_bar(figure, points)


def _heat_map(figure: Figure, labels: LabelCounts, class_names: Sequence[str] | None) -> None:
    sizes, main = _panels(figure)
    shares = labels.shares
    ranked = np.argsort(-shares, axis=1, kind="stable")
    second = ranked[:, min(1, shares.shape[1] - 1)]
    order = np.lexsort((second, -shares.max(axis=1).round(1), ranked[:, 0]))
    _bars(sizes, np.arange(len(order)), labels.counts[order].sum(axis=1), 1.0)
    image = main.imshow(
        shares[order].T, aspect="auto", cmap=_colours(), vmin=0, vmax=1, interpolation="nearest", origin="lower"
    )
    main.set_xlim(-0.5, len(order) - 0.5)
    main.set_xticks([])
    main.set_xlabel("clients, ordered by their most frequent label", color=_INK)
    _label_axis(main, shares.shape[1], class_names)
    _colour_bar(figure, image)


def _sizes_alone(figure: Figure, federation: Federation) -> None:
    sizes = np.sort(federation.sizes("train"))[::-1]
    if len(sizes) > 1000:
        sizes = sizes[np.linspace(0, len(sizes) - 1, 1000).astype(np.int64)]
    axes = figure.add_axes((0.07, 0.1, 0.89, 0.74))
    _plain(axes)
    _bars(axes, np.arange(len(sizes)), sizes, 0.8 if len(sizes) <= BUBBLES else 1.0)
    axes.locator_params(axis="y", nbins=7, integer=True)
    axes.set_xticks([])
    axes.set_xlabel("clients, from the largest to the smallest", color=_INK)


def _panels(figure: Figure) -> tuple[Axes, Axes]:
    """The strip of sizes, and below it the clients by labels."""
    main = figure.add_axes((0.07, 0.1, 0.83, 0.58))
    sizes = figure.add_axes((0.07, 0.71, 0.83, 0.14), sharex=main)
    for axes in (main, sizes):
        _plain(axes)
        axes.yaxis.set_label_coords(-0.045, 0.5)
    sizes.tick_params(labelbottom=False)
    return sizes, main


def _plain(axes: Axes) -> None:
    axes.tick_params(length=0, colors=_MUTED, labelsize=8.5)
    for spine in axes.spines.values():
        spine.set_visible(False)


def _colours() -> Colormap:
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("shares", _SHADES)


def _bars(axes: Axes, columns: Int64, sizes: Array, width: float) -> None:
    if width < 1:
        axes.bar(columns, sizes, width=width, color=_ACCENT, linewidth=0)
    else:  # one outline of them all: a thousand bars take a second
        axes.stairs(sizes, np.append(columns, len(columns)) - 0.5, fill=True, color=_ACCENT, linewidth=0)
    axes.set_ylabel("samples", color=_INK)
    axes.set_ylim(0, max(1, sizes.max()) * 1.05)
    axes.set_xlim(-0.6, len(columns) - 0.4)
    axes.locator_params(axis="y", nbins=3, integer=True)
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axes.grid(True, axis="y", color=_FAINT, linewidth=0.8)
    axes.set_axisbelow(True)


def _label_axis(axes: Axes, classes: int, class_names: Sequence[str] | None) -> None:
    step = max(1, -(-classes // 25))
    names = [str(label) for label in range(classes)] if class_names is None else [name[:14] for name in class_names]
    axes.set_yticks(range(0, classes, step), names[::step])
    axes.set_ylim(-0.6, classes - 0.4)
    axes.set_ylabel("label", color=_INK)


def _colour_bar(figure: Figure, drawn: ScalarMappable) -> None:
    bar = figure.colorbar(drawn, cax=figure.add_axes((0.925, 0.1, 0.013, 0.58)))
    bar.set_label("share of the client's samples", color=_INK)
    bar.outline.set_visible(False)
    bar.ax.tick_params(length=0, colors=_MUTED, labelsize=8.5)
    bar.ax.set_ylim(0, 1)
