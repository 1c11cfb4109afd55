"""The works that come next, for an executor that works on rounds before those in front of them are finished."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence

from raysim.rounds.task import RoundWork


class Upcoming:
    """A stream of works that can be looked into, up to a number of works beyond those that are finished.

    An error of the stream itself waits until all works in front of it are finished.
    """

    def __init__(self, works: Iterator[RoundWork], ahead: int) -> None:
        self._works, self._ahead = works, ahead
        self._seen: deque[RoundWork] = deque()
        self._under_way = 0
        self._error: Exception | None = None
        self._ended = False

    def peek(self) -> RoundWork | None:
        """The next work; None at the end, and where it would be too far ahead.

        Raises:
            Exception: what `works` raised, once nothing is under way.
        """
        if not self._seen and not self._ended and self._under_way <= self._ahead:
            try:
                self._seen.append(next(self._works))
            except StopIteration:
                self._ended = True
            except Exception as error:
                self._ended, self._error = True, error
        if not self._seen and self._error is not None and not self._under_way:
            raise self._error
        return self._seen[0] if self._seen else None

    def take(self) -> RoundWork:
        """The work just looked at; it is under way now."""
        self._under_way += 1
        return self._seen.popleft()

    def put_back(self, works: Sequence[RoundWork]) -> None:
        """Works that were taken, and were not finished: they come next, in this order."""
        self._under_way -= len(works)
        self._seen.extendleft(reversed(works))

    def finished(self) -> None:
        """One of those under way is finished."""
        self._under_way -= 1
