"""Reconstructed images as bytes, and drawn into a file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from torch import Tensor

from raysim.attacking.inversion import InvertedUpdate
from raysim.errors import RunError
from raysim.tracking.evidence import Images


def shown_images(found: InvertedUpdate) -> dict[str, Images]:
    """The originals and what was made of them as bytes (`raysim.tracking.evidence.ROWS`); none where samples are no
    images."""
    shape = found.originals.shape[1:]
    if len(shape) not in (2, 3) or (len(shape) == 3 and shape[0] not in (1, 3)):
        return {}
    rows = {"original": found.originals, "unprotected": found.unprotected, "found": found.found}
    low, high = min(0.0, float(found.originals.min())), max(1.0, float(found.originals.max()))
    return {name: _bytes(one, low, high) for name, one in rows.items() if one is not None}


def draw_inversion(found: InvertedUpdate, path: str | Path) -> None:
    """Draw reconstructed images below the originals.

    Raises:
        RunError: samples are no images, or the file cannot be written.
    """
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    from raysim.tracking.report.reconstructed import reconstructed
    from raysim.tracking.report.style import LIGHT, settings

    images = shown_images(found)
    if not images:
        raise RunError("samples are no images that could be drawn")
    with matplotlib.rc_context(settings(LIGHT)):
        figure = reconstructed(LIGHT, f"Client {found.client}, round {found.round}", images, found.psnr)
        FigureCanvasAgg(figure)
        try:
            figure.savefig(path)
        except (OSError, ValueError) as error:
            raise RunError(f"{path}: {error}") from None


def _bytes(images: Tensor, low: float, high: float) -> Images:
    """`[n, height, width]` or `[n, height, width, 3]`, from the lowest value as black to the highest as white."""
    if images.ndim == 4:
        images = images.movedim(1, -1).squeeze(-1)
    scaled = ((images - low) / (high - low)).clamp(0, 1) * 255
    found: Images = scaled.round().numpy().astype(np.uint8)
    return found
