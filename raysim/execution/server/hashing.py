"""Hashing servers where that keeps no round waiting: large ones in a thread, small ones several in a row."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from raysim.arrays import Array
from raysim.rounds.digests import Digesting, ServerDigest

SMALL = 128 * 1024
"""Bytes up to which a server is copied and hashed when its digest is asked for: a thread would take longer to start."""


@dataclass(frozen=True, slots=True)
class _Copied:
    """A small server that is hashed when its digest is asked for, several in a row, the code for which is cached."""

    state: Mapping[str, Array]
    model: Array

    def result(self) -> ServerDigest:
        """The digest."""
        return ServerDigest.of(self.state, self.model)


class Hashing:
    """Makes digests, those of large servers in a thread of its own.

    A server that waits for its digest is held in memory: there is at most one beside the one that is being hashed.
    """

    def __init__(self) -> None:
        self._thread: ThreadPoolExecutor | None = None
        self._last: Future[ServerDigest] | None = None

    def of(self, state: Mapping[str, Array], model: Array) -> Digesting:
        """The digest of a server whose vectors stay as they are until it is there."""
        if model.nbytes + sum(vector.nbytes for vector in state.values()) <= SMALL:
            return _Copied({name: vector.copy() for name, vector in state.items()}, model.copy())
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, thread_name_prefix="raysim-digest")
        if self._last is not None:
            self._last.result()
        self._last = self._thread.submit(ServerDigest.of, state, model)
        return self._last
