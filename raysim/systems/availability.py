"""When devices are there: windows of time, keyed by the device and the day, or recorded."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np

from raysim import keyed
from raysim.arrays import Bools, Float64, Int64
from raysim.config.systems import AvailabilityConfig, AvailabilityTraceConfig, ChargingConfig, DiurnalConfig
from raysim.systems.traces import RecordedWindows, read_windows

DAY = 86_400.0
_HOUR = 3_600.0
_DAYS_TRIED = 2_000
"""Days in a row on which a device may fail to charge; with the smallest chance one in 10^8 devices does."""


class AvailabilityWindows(ABC):
    """The times at which each device is there.

    Attributes:
        loses: whether a trip is lost that has not ended when its window does.
    """

    loses: bool = False

    @abstractmethod
    def at(self, clients: Int64, when: Float64) -> tuple[Float64, Float64]:
        """Opening and end of the window that each client is in at its time, or enters next, `[n]` each, in seconds."""

    def there(self, clients: Int64, when: Float64) -> Bools:
        """Whether each client is there at its time, `[n]`."""
        opens, _ = self.at(clients, when)
        found: Bools = opens <= when
        return found


@dataclass(frozen=True, slots=True)
class DailyWindows(AvailabilityWindows):
    """One window a day, drawn anew every day, within a day of the device's own that begins at a drawn hour.

    Attributes:
        shortest, longest: of a window, in seconds.
        spread: share of the day over which the devices' days begin.
        chance: of a window on a day.
    """

    seed: int
    shortest: float
    longest: float
    spread: float
    chance: float
    loses: bool = False

    def at(self, clients: Int64, when: Float64) -> tuple[Float64, Float64]:
        """See `AvailabilityWindows.at`; a window lies in its device's own day: no two overlap."""
        phase = DAY * self.spread * keyed.uniform(self.seed, keyed.Purpose.AVAILABILITY, clients, 0, 0)
        local = np.asarray(when, dtype=np.float64) - phase + DAY
        day = np.floor(local / DAY).astype(np.int64)
        opens, ends = self._window(clients, day)
        missing = ends <= local
        for _ in range(_DAYS_TRIED):
            if not missing.any():
                break
            day = day + missing
            later = self._window(clients[missing], day[missing])
            opens[missing], ends[missing] = later
            missing = ends <= local
        return opens + phase - DAY, ends + phase - DAY

    def _window(self, clients: Int64, day: Int64) -> tuple[Float64, Float64]:
        if self.shortest == self.longest:
            opens: Float64 = day.astype(np.float64) * DAY
            ends: Float64 = opens + self.longest
        else:
            length = self.shortest + (self.longest - self.shortest) * self._drawn(clients, day, 0)
            opens = day * DAY + (DAY - length) * self._drawn(clients, day, 1)
            ends = opens + length
        if self.chance < 1:
            ends = np.where(self._drawn(clients, day, 2) < self.chance, ends, -np.inf)
        return opens, ends

    def _drawn(self, clients: Int64, day: Int64, part: int) -> Float64:
        return keyed.uniform(self.seed, keyed.Purpose.AVAILABILITY, clients, day + 1, part)


@dataclass(frozen=True, slots=True, eq=False)
class TraceWindows(AvailabilityWindows):
    """Recorded windows that begin again after a period.

    Attributes:
        recorded: of each device of the record.
        device: of each client, `[population]`.
    """

    recorded: RecordedWindows
    device: Int64
    loses: bool = False

    def at(self, clients: Int64, when: Float64) -> tuple[Float64, Float64]:
        """See `AvailabilityWindows.at`."""
        trace, period = self.recorded, self.recorded.period
        turns = np.floor(np.asarray(when, dtype=np.float64) / period)
        local, device = when - turns * period, self.device[clients]
        first, after = trace.first[device], trace.first[device + 1]
        # Windows of a device are sorted and do not overlap: halve until the first one that ends later is found.
        low, high = first.copy(), after.copy()
        while (open_ := low < high).any():
            middle = (low + high) // 2
            later = trace.end[np.minimum(middle, len(trace.end) - 1)] > local
            high, low = np.where(open_ & later, middle, high), np.where(open_ & ~later, middle + 1, low)
        wraps = low == after
        index, start = np.where(wraps, first, low), (turns + wraps) * period
        return trace.start[index] + start, trace.end[index] + start


def build_windows(config: AvailabilityConfig, seed: int, population: int) -> AvailabilityWindows | None:
    """The windows that the configuration names; None where devices are always there.

    Raises:
        ConfigError: a record is missing or damaged.
    """
    if isinstance(config, DiurnalConfig):
        hours = config.hours * _HOUR
        return DailyWindows(seed, hours, hours, config.spread, 1.0, config.unfinished == "lost")
    if isinstance(config, ChargingConfig):
        lengths = config.shortest * _HOUR, config.longest * _HOUR
        return DailyWindows(seed, *lengths, config.spread, config.chance, config.unfinished == "lost")
    if isinstance(config, AvailabilityTraceConfig):
        recorded = read_windows(config.path, config.period)
        every = np.arange(population)
        device = (keyed.bits(seed, keyed.Purpose.DEVICE_KIND, every, 1) % np.uint64(recorded.devices)).astype(np.int64)
        return TraceWindows(recorded, device, config.unfinished == "lost")
    return None
