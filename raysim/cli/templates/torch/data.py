"""The data of the federation: arrays of samples, labels and owners. Replace the body by what reads your files."""

from __future__ import annotations

import numpy as np


def signals(stations: int = 20, samples: int = 60, seed: int = 7) -> dict[str, np.ndarray]:
    """Noisy waves of three frequencies, each station with an amplitude of its own.

    Returns:
        `x` float32 `[n, 1, 32]`, `y` int64 `[n]`, and `client`, the owner of each sample, `[n]`.
    """
    random = np.random.default_rng(seed)
    client = np.repeat(np.arange(stations), samples)
    y = random.integers(0, 3, len(client))
    phase = random.uniform(0, 2 * np.pi, (len(client), 1))
    amplitude = random.uniform(0.5, 1.5, stations)[client, None]
    waves = amplitude * np.sin(np.linspace(0, 2 * np.pi, 32) * (y[:, None] + 1) + phase)
    x = (waves + random.normal(scale=0.5, size=waves.shape)).astype(np.float32)[:, None]
    return {"x": x, "y": y, "client": client}
