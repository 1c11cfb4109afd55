"""Which class each client is in: those named in `execution.classes`, and the default for the rest."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from raysim.arrays import Int64
from raysim.config.classes import DEFAULT, ClientClassConfig
from raysim.config.running import ExecutionConfig
from raysim.errors import ConfigError

_CHUNK = 1 << 20


class ClientClasses:
    """The classes of a run, by index: 0 is the default, then those of the configuration in their order.

    Nothing here grows with the population: ranges stay ranges, thresholds are looked up for the clients in question.

    Attributes:
        names: of the classes.
    """

    def __init__(self, execution: ExecutionConfig) -> None:
        """Raises:
        ConfigError: a client is named in two classes.
        """
        self.names = (DEFAULT, *execution.classes)
        listed: list[tuple[int, int, int]] = []
        self._thresholds: dict[str, list[tuple[int, int]]] = {"min_samples": [], "min_steps": []}
        for index, (name, one) in enumerate(execution.classes.items(), start=1):
            listed += [(start, stop, index) for start, stop in _ranges(name, one)]
            for key, levels in self._thresholds.items():
                if (level := getattr(one, key)) is not None:
                    levels.append((level, index))
        listed.sort()
        for (_, stop, one_class), (start, _, other) in pairwise(listed):
            if start < stop:
                names = " and ".join(dict.fromkeys((self.names[one_class], self.names[other])))
                raise ConfigError(f"execution.classes: client {start} is named twice, in {names}")
        for key, levels in self._thresholds.items():
            levels.sort()
            for (level, one_class), (same, other) in pairwise(levels):
                if level == same:
                    names = f"{self.names[one_class]} and {self.names[other]}"
                    raise ConfigError(f"execution.classes: {names} have the same {key}, {level}")
        self._starts, self._stops, self._owners = np.array(listed, dtype=np.int64).reshape(-1, 3).T

    @property
    def several(self) -> bool:
        """Whether there is any but the default."""
        return len(self.names) > 1

    def of(self, clients: Int64, samples: Int64, steps: Int64) -> Int64:
        """The class of each of these clients, by their training samples and local steps; `[n]` each.

        Raises:
            ConfigError: a client is in two classes.
        """
        found = np.zeros(len(clients), dtype=np.int64)
        if not self.several:
            return found
        if len(self._starts):
            nearest = np.searchsorted(self._starts, clients, side="right") - 1
            inside = (nearest >= 0) & (clients < self._stops[nearest])
            found[inside] = self._owners[nearest[inside]]
        for key, values in (("min_samples", samples), ("min_steps", steps)):
            levels = self._thresholds[key]
            reached = np.searchsorted([level for level, _ in levels], values, side="right")
            one = np.array([0, *(index for _, index in levels)], dtype=np.int64)[reached]
            both = (found > 0) & (one > 0)
            if both.any():
                who = int(np.argmax(both))
                names = f"{self.names[found[who]]} and {self.names[one[who]]}"
                raise ConfigError(f"execution.classes: client {clients[who]} is in two of them, {names}")
            found = np.maximum(found, one)
        return found

    def census(self, sizes: Int64, steps: Int64) -> tuple[Int64, Int64]:
        """Clients of each class and their local steps a round, over a whole population; `[classes]` each.

        Args:
            sizes, steps: training samples and local steps of every client, `[population]`.

        Raises:
            ConfigError: a class is empty, names a client that does not exist, or shares one with another class.
        """
        population = len(sizes)
        count, work = (np.zeros(len(self.names), dtype=np.int64) for _ in range(2))
        beyond = np.flatnonzero(self._stops > population)
        if len(beyond):
            who, name = self._stops[beyond[0]] - 1, self.names[self._owners[beyond[0]]]
            raise ConfigError(
                f"execution.classes.{name}.clients: there is no client {who}; the last of {population} "
                f"is {population - 1}"
            )
        for start in range(0, population, _CHUNK):
            part = slice(start, start + _CHUNK)
            ids = np.arange(start, min(start + _CHUNK, population))
            owner = self.of(ids, sizes[part], steps[part])
            count += np.bincount(owner, minlength=len(self.names))
            work += np.bincount(owner, weights=steps[part], minlength=len(self.names)).astype(np.int64)
        for name, clients in zip(self.names[1:], count[1:].tolist(), strict=True):
            if not clients:
                raise ConfigError(f"execution.classes.{name}: no client is in it; lower its minimum or remove it")
        return count, work


def _ranges(name: str, one: ClientClassConfig) -> Sequence[tuple[int, int]]:
    """Half-open ranges of ids."""
    found = []
    for entry in one.clients or ():
        first, _, last = str(entry).partition("-")
        start, stop = int(first), int(last or first) + 1
        if stop <= start:
            raise ConfigError(f"execution.classes.{name}.clients: {entry!r} ends before it starts")
        found.append((start, stop))
    if one.clients is not None and not found:
        raise ConfigError(f"execution.classes.{name}.clients: an empty list names no client")
    return found
