"""The picture of a comparison: a mean curve and its interval for each group of runs."""

from __future__ import annotations

import io
from functools import partial
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from raysim.arrays import Float64
from raysim.files import replacing, storing
from raysim.outputs import PICTURES
from raysim.tracking.metric_names import parts_of, words
from raysim.tracking.report.curves import file_name
from raysim.tracking.report.groups import Compared, interval
from raysim.tracking.report.style import LIGHT, Picture, Theme, axes, color, legend, settings, whole_numbers

_SHARES = ("accuracy", "f1", "auc", "precision", "recall")
"""How names of metrics end that are never above one."""


def write_bands(found: Compared, path: Path) -> Path:
    """Write the picture, in the format that the ending of the file says, .png, .svg or .pdf, and return the file.

    Raises:
        StorageError: the disk refuses, the ending is another one, or something else than a picture is there.
    """
    file = PICTURES.get(path.suffix.lower(), PICTURES[".png"]).check(path)
    buffer = io.BytesIO()
    with matplotlib.rc_context({**settings(LIGHT), "svg.hashsalt": "raysim"}):
        kind = file.suffix[1:].lower()
        dates = {"svg": {"Date": None}, "pdf": {"CreationDate": None}, "png": {"Software": None}}
        bands(found).draw(LIGHT).savefig(buffer, format=kind, metadata=dates[kind])
    with storing(file), replacing(file) as temporary:
        temporary.write_bytes(buffer.getvalue())
    return file


def bands(found: Compared) -> Picture:
    """The picture, for a page."""
    alt = f"{_title(found.metric)} over the rounds: a mean and its interval for each group"
    return Picture(f"bands-{file_name(found.metric)}", alt, partial(_drawn, found))


def _drawn(found: Compared, theme: Theme) -> Figure:
    picture, ax = axes(theme, _title(found.metric), "round")
    for index, group in enumerate(found.groups):
        rounds, values = group.curves
        shade = color(theme, index)
        many = f" ({len(group.seeds)} seeds)" if len(group.seeds) > 1 else ""
        ax.plot(rounds, values.mean(axis=0), color=shade, label=group.label + many)
        if len(values) > 1:
            half = np.array([interval(column) for column in values.T])
            middle = values.mean(axis=0)
            low, high = _range(found.metric, values)
            band = np.clip(middle - half, low, high), np.clip(middle + half, low, high)
            ax.fill_between(rounds, *band, color=shade, alpha=0.15, linewidth=0)
    whole_numbers(ax)
    legend(picture, ax, columns=1)
    return picture


def _range(metric: str, values: Float64) -> tuple[float, float]:
    """Where values of a metric can be: a band goes no further."""
    share = parts_of(metric).family.endswith(_SHARES)
    return (-np.inf if np.nanmin(values) < 0 else 0.0), (1.0 if share and np.nanmax(values) <= 1 else np.inf)


def _title(metric: str) -> str:
    """`test/accuracy` as `Accuracy, test`."""
    parts = parts_of(metric)
    return ", ".join(filter(None, (words(parts.what), parts.where, parts.summary)))
