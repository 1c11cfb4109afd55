"""Pictures of samples that an attack made of an update, below the client's own."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure

from raysim.arrays import Float64
from raysim.tracking.evidence import Images
from raysim.tracking.report.style import DPI, WIDTH, Theme

MOST = 8
"""Samples drawn."""
NAMES = {"original": "original", "unprotected": "without\nprotection", "found": "reconstructed"}
_FEW = 5
"""Images of fewer samples are no larger than those of this many."""
_LABEL, _MARGIN, _GAP = 0.95, 0.06, 0.06
"""Inches: the names of the rows, the border, and between images."""


def reconstructed(theme: Theme, title: str, images: Mapping[str, Images], psnr: Float64) -> Figure:
    """A row of originals, and below them one of reconstructions for each way that they were made.

    Args:
        title: above them.
        images: by name, `[n, height, width]` or `[n, height, width, 3]` each.
        psnr: of the last row, `[n]` decibels.
    """
    names = [name for name in NAMES if name in images]
    count = min(MOST, len(images[names[0]]))
    height, width = images[names[0]].shape[1:3]
    columns = max(count, _FEW)
    cell = (WIDTH - _LABEL - 2 * _MARGIN - _GAP * (columns - 1)) / columns
    tall = cell * height / width
    top = 0.42
    inches = top + len(names) * (tall + _GAP) + 0.2 + _MARGIN
    figure = Figure(figsize=(WIDTH, inches), dpi=DPI)
    figure.text(0.01, 1 - 0.1 / inches, title, fontsize=11, fontweight="bold", color=theme.text, va="top")
    for row, name in enumerate(names):
        bottom = inches - top - (row + 1) * tall - row * _GAP
        middle = (bottom + tall / 2) / inches
        label = NAMES[name] if name != "found" or "unprotected" not in images else "with\nprotection"
        figure.text(_MARGIN / WIDTH, middle, label, fontsize=8.5, color=theme.faint, va="center")
        for place in range(count):
            left = _LABEL + _MARGIN + place * (cell + _GAP)
            ax = figure.add_axes((left / WIDTH, bottom / inches, cell / WIDTH, tall / inches))
            ax.imshow(images[name][place], cmap="gray", vmin=0, vmax=255, interpolation="nearest", aspect="auto")
            ax.set_axis_off()
            if name == names[-1] and np.isfinite(psnr[place]):
                below = (bottom - 0.05) / inches
                text = f"{psnr[place]:.0f} dB"
                figure.text(
                    (left + cell / 2) / WIDTH, below, text, fontsize=8, color=theme.faint, ha="center", va="top"
                )
    return figure
