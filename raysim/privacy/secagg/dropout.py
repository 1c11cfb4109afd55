"""Clients that stop answering, drawn by key, and why they are left out."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from raysim import keyed
from raysim.arrays import Int64
from raysim.config.protection import DropoutConfig

STAGES = ("advertise", "share", "upload", "unmask")
"""Messages of a client, in order."""

REASONS: Mapping[str, str] = {
    "advertise": "it dropped out before it sent its keys",
    "share": "it dropped out before it sent shares of its secrets",
    "upload": "it dropped out before it sent its record",
}
"""Why the record of a client is not in the sum."""


class Dropout:
    """Who stops answering when."""

    def __init__(self, config: DropoutConfig) -> None:
        self._shares = {stage: float(getattr(config, stage)) for stage in STAGES}

    def lost(self, seed: int, round_number: int, stage: str, positions: Int64, clients: Int64) -> Int64:
        """Those of these positions that drop out before the message of this stage.

        Args:
            clients: of the cohort, `[m]`.
        """
        key = (round_number, clients[positions], STAGES.index(stage))
        drawn = keyed.uniform(seed, keyed.Purpose.DROPOUT, *key) < self._shares[stage]
        return np.asarray(positions)[drawn]
