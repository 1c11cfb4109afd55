"""The data of a run: how much there is, how it was dealt out, who holds what, and what was left out."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Sequence

import numpy as np
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from raysim.data.summary import LabelCounts, Summary
from raysim.tracking.report.markup import Content, Html, element, join, section, table
from raysim.tracking.report.recorded import RecordedRun
from raysim.tracking.report.style import Picture, Theme, axes
from raysim.tracking.units import quantity

NAMED = 40
"""Clients up to which each is named; more are ordered by their most frequent label."""
_TICKS = 25


def data(run: RecordedRun, place: Callable[[Iterable[Picture]], Html]) -> Html:
    """The section; nothing where none of it was recorded."""
    parts: list[Content] = []
    if run.holdings is not None:
        numbers = table([], _numbers(run, run.holdings.summary), text_columns=2)
        labels = run.holdings.labels
        drawn = place([label_shares(labels, run.environment.get("classes"))]) if labels is not None else None
        parts.append(numbers if drawn is None else element("div", join([drawn, numbers]), kind="side"))
    if rows := _left_out(run):
        parts.append(element("p", "Left out before training, and why:", kind="faint"))
        parts.append(table(["what", "by", "why", "left out"], rows, text_columns=3))
    return section("Data", *parts)


def partition_words(run: RecordedRun) -> str | None:
    """How samples were dealt to clients: what the partitioner does, and the options that it was given."""
    if run.experiment is None:
        return None
    chosen = run.experiment.data.partition
    words = " ".join(inspect.cleandoc(type(chosen).__doc__ or "").partition("\n\n")[0].split())
    options = {key: value for key, value in run.config.items() if key.startswith("data.partition.")}
    given = [f"{key.rpartition('.')[2]} {value}" for key, value in options.items()
             if not key.endswith((".name", ".allow_empty")) and value is not None]  # fmt: skip
    return f"{words.rstrip('.')}: {chosen.name}{' with ' if given else ''}{', '.join(given)[:200]}"


def label_shares(labels: LabelCounts, names: Sequence[str] | None) -> Picture:
    """Who holds what: a column for each client, coloured by the share of each label among its samples."""
    shares, classes = np.asarray(labels.shares, dtype=np.float64), labels.counts.shape[1]
    named = len(labels.clients) <= NAMED
    order = np.arange(len(shares))
    if not named:
        ranked = np.argsort(-shares, axis=1, kind="stable")
        second = ranked[:, min(1, classes - 1)]
        order = np.lexsort((second, -shares.max(axis=1).round(1), ranked[:, 0]))

    def draw(theme: Theme) -> Figure:
        picture, ax = axes(theme, "Share of each label among a client's samples", "client")
        colours = LinearSegmentedColormap.from_list("shares", [theme.background, theme.series[0], theme.text])
        image = ax.imshow(
            shares[order].T, aspect="auto", cmap=colours, vmin=0, vmax=1, interpolation="nearest", origin="lower"
        )
        ax.grid(visible=False)
        ax.margins(x=0)
        if named:
            step = -(-len(order) // 20)
            ax.set_xticks(range(0, len(order), step), [str(one) for one in labels.clients[::step]])
        else:
            ax.set_xticks([])
            ax.set_xlabel("clients, ordered by their most frequent label")
        step = -(-classes // _TICKS)
        text = [str(one) for one in range(classes)] if names is None else [str(one)[:14] for one in names]
        ax.set_yticks(range(0, classes, step), text[::step])
        bar = picture.colorbar(image, ax=ax, pad=0.02, aspect=30)
        bar.outline.set_visible(False)
        bar.ax.tick_params(length=0, labelsize=8)
        return picture

    return Picture("labels", "The share of each label among the samples of each client, as colours", draw)


def _numbers(run: RecordedRun, found: Summary) -> list[list[Content]]:
    each = f"{found.smallest:,} each"
    if found.smallest != found.largest:
        each = f"{found.smallest:,} to {found.largest:,} each, median {found.median:,.0f}"
    rows: list[list[Content]] = [
        ["training samples", f"{quantity(found.samples)} of {quantity(found.clients)} clients"]
    ]
    rows.append(["a client", each])
    if (words := partition_words(run)) is not None:
        rows.append(["dealt out", words])
    if found.skew is not None:
        looked = "" if found.inspected == found.clients else f" ({found.inspected:,} clients)"
        rows.append(["label skew", f"{found.skew:.2f}, 0 is identical{looked}"])
        rows.append(["effective labels a client", f"{found.classes_per_client:.1f}{looked}"])
    sets = {"held out by clients": found.holdout, "validation": found.validation, "test": found.test,
            "of which clients' own": found.owned}  # fmt: skip
    rows += [[name, quantity(count)] for name, count in sets.items() if count]
    return rows


def _left_out(run: RecordedRun) -> list[list[Content]]:
    """What the source had and no client trains on, or no evaluation sees."""
    return [
        [f"{one['part']} {one['unit']}", one["step"], one["why"], f"{quantity(one['count'])} of {quantity(one['of'])}"]
        for one in run.environment.get("left_out") or []
    ]
