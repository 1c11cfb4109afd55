"""Which classes an evaluation took for which."""

from __future__ import annotations

from collections.abc import Sequence

from raysim.rounds.ranges import Evaluated
from raysim.tracking import Confusion
from raysim.training.metrics import added_pairs


def confusion(results: Sequence[Evaluated], classes: int | None) -> Confusion | None:
    """Which classes were taken for which on the test set, else on the validation set; None where none was evaluated,
    or samples have no class each."""
    for part in ("test", "validation"):
        parts = [one.confused for one in results if one.part == part and one.confused is not None]
        if parts and classes:
            codes, counts = added_pairs(parts)
            return Confusion(part, classes, codes // classes, codes % classes, counts, int(counts.sum()))
    return None
