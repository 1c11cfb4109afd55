"""Images that are rotated and shifted: bilinear interpolation, many images at once."""

from __future__ import annotations

import numpy as np

from raysim.arrays import Array


def rotated_and_shifted(images: Array, angle: Array, shift: Array) -> Array:
    """Each image rotated about its centre, then shifted; beyond an edge its outermost values go on.

    Args:
        images: `[n, channels, height, width]` float64.
        angle: of each, in radians, counter-clockwise as the image is seen, `[n]`.
        shift: of each, in pixels downwards and to the right, `[2, n]`.

    Returns:
        float64, of the images' shape.
    """
    n, channels, height, width = images.shape
    centre_y, centre_x = (height - 1) / 2, (width - 1) / 2
    y = np.arange(height)[None, :, None] - centre_y - shift[0][:, None, None]
    x = np.arange(width)[None, None, :] - centre_x - shift[1][:, None, None]
    cosine, sine = np.cos(angle)[:, None, None], np.sin(angle)[:, None, None]
    from_y = np.clip(cosine * y + sine * x + centre_y, 0, height - 1)
    from_x = np.clip(cosine * x - sine * y + centre_x, 0, width - 1)
    top, left = np.floor(from_y).astype(np.int64), np.floor(from_x).astype(np.int64)
    bottom, right = np.minimum(top + 1, height - 1), np.minimum(left + 1, width - 1)
    down, across = (from_y - top)[:, None], (from_x - left)[:, None]
    image, channel = np.arange(n)[:, None, None, None], np.arange(channels)[None, :, None, None]

    def at(rows: Array, columns: Array) -> Array:
        return np.asarray(images[image, channel, rows[:, None], columns[:, None]])

    upper = (1 - across) * at(top, left) + across * at(top, right)
    lower = (1 - across) * at(bottom, left) + across * at(bottom, right)
    return np.asarray((1 - down) * upper + down * lower)
