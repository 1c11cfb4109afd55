"""Which classes the last evaluation took for which: `confusion.json`."""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np

from raysim.arrays import Int64
from raysim.config.parsing import parse_json
from raysim.errors import RunError
from raysim.files import storing, write_text
from raysim.tracking.directory import RunDirectory

MOST = 4096
"""Pairs of classes that are recorded: all of 64 classes, else the most frequent ones."""


@dataclass(frozen=True, slots=True)
class Confusion:
    """How often samples of one class were taken for another, on one of the server's sets.

    Attributes:
        part: the set.
        classes: number of classes.
        target, predicted: pairs of classes that occurred, in the order of (target, predicted), `[k]`.
        count: samples of each pair, `[k]`.
        samples: of the set; more than the counts add up to where only the most frequent pairs were kept.
    """

    part: str
    classes: int
    target: Int64
    predicted: Int64
    count: Int64
    samples: int

    def matrix(self) -> Int64:
        """`[classes, classes]` samples by target and prediction."""
        found: Int64 = np.zeros((self.classes, self.classes), dtype=np.int64)
        found[self.target, self.predicted] = self.count
        return found

    def largest(self, most: int) -> list[tuple[int, int, int]]:
        """(target, predicted, samples) of the pairs of different classes that occur most often."""
        wrong = np.flatnonzero(self.target != self.predicted)
        order = wrong[np.argsort(-self.count[wrong], kind="stable")][:most]
        return [(int(self.target[i]), int(self.predicted[i]), int(self.count[i])) for i in order]

    def kept(self) -> Confusion:
        """What is recorded of it."""
        if len(self.count) <= MOST:
            return self
        chosen = np.sort(np.argsort(-self.count, kind="stable")[:MOST])
        return Confusion(
            self.part, self.classes, self.target[chosen], self.predicted[chosen], self.count[chosen], self.samples
        )


def write_confusion(run: RunDirectory, round: int, found: Confusion) -> None:
    """Record the last evaluation's, in place of the one before.

    Raises:
        StorageError: the disk refuses; the file that was there is untouched.
    """
    kept = found.kept()
    pairs = np.stack([kept.target, kept.predicted, kept.count], axis=1).tolist()
    values = {"round": round, "part": kept.part, "classes": kept.classes, "samples": kept.samples, "pairs": pairs}
    with storing(run.confusion):
        write_text(run.confusion, json.dumps(values) + "\n")


def read_confusion(run: RunDirectory) -> tuple[int, Confusion] | None:
    """Round of the last evaluation, and what it took for what; None where the run has none.

    Raises:
        RunError: the file is damaged.
    """
    try:
        values = parse_json(run.confusion.read_bytes())
        target, predicted, count = np.array(values["pairs"], dtype=np.int64).reshape(-1, 3).T
        classes, round = int(values["classes"]), int(values["round"])
        if len(count) and not (0 <= min(target.min(), predicted.min()) <= max(target.max(), predicted.max()) < classes):
            raise ValueError(f"a class is not between 0 and {classes - 1}")
        return round, Confusion(str(values["part"]), classes, target, predicted, count, int(values["samples"]))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError, OverflowError) as error:
        raise RunError(f"{run.confusion}: damaged ({type(error).__name__}: {error}); remove it") from None


def drop_later_confusion(run: RunDirectory, after_round: int) -> None:
    """Remove that of a round after `after_round`, which the run will do again.

    Raises:
        RunError: the file is damaged.
        StorageError: the disk refuses.
    """
    found = read_confusion(run)
    if found is not None and found[0] > after_round:
        with storing(run.confusion):
            run.confusion.unlink()
