"""What the last evaluation measured of each client, and which classes it took for which."""

from __future__ import annotations

from collections.abc import Mapping

from raysim.tracking.confusion import Confusion, drop_later_confusion, write_confusion
from raysim.tracking.directory import RunDirectory
from raysim.tracking.headline import ClientSet
from raysim.tracking.holdouts import ClientMetrics, drop_later_holdouts, write_holdouts


class LastEvaluation:
    """Keeps it in memory, and writes it with checkpoints and at the end."""

    def __init__(self, run: RunDirectory, after_round: int, *, clients: bool) -> None:
        """Drop what an earlier sitting wrote of rounds after `after_round`.

        Args:
            clients: whether to keep what was measured of each client.

        Raises:
            RunError: a file is damaged.
            StorageError: the disk refuses.
        """
        drop_later_holdouts(run, after_round)
        drop_later_confusion(run, after_round)
        self._run, self._clients = run, clients
        self._measured: dict[ClientSet, tuple[int, ClientMetrics]] = {}
        self._confusion: tuple[int, Confusion] | None = None

    def see(self, round: int, measured: Mapping[ClientSet, ClientMetrics], confusion: Confusion | None) -> None:
        """Take what a round measured in place of what was there."""
        if self._clients:
            self._measured |= {of: (round, one) for of, one in measured.items()}
        if confusion is not None:
            self._confusion = round, confusion

    def save(self) -> None:
        """Write what has not been written yet.

        Raises:
            StorageError: the disk refuses.
        """
        if self._confusion is not None:
            write_confusion(self._run, *self._confusion)
            self._confusion = None
        while self._measured:
            of = next(iter(self._measured))
            write_holdouts(self._run, *self._measured[of], of)
            del self._measured[of]
