"""A fleet: what every client's device can do, as arrays, and how long its trips take in virtual time.

A trip is: receive the model, compute, send the update. Its times are added in one order,
latency + down / download + work / speed + up / upload + latency, so that they have the same bits everywhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from raysim import keyed
from raysim.arrays import Bools, Float64, Int64
from raysim.config.systems import (
    CostsConfig,
    FleetConfig,
    LogNormalFleetConfig,
    SystemsConfig,
    TiersFleetConfig,
    TraceFleetConfig,
)
from raysim.systems.availability import AvailabilityWindows, build_windows
from raysim.systems.draws import log_normal, normal
from raysim.systems.load import Load
from raysim.systems.traces import DEVICE_COLUMNS, read_devices

FREE = CostsConfig()


@dataclass(frozen=True, slots=True, eq=False)
class Trips:
    """Trips of several clients, `[n]` each, in seconds.

    Attributes:
        begins: when each begins: at once, or when its device is next there.
        computes: of each that its device computes.
        ends: when the server has its update, or would have it.
        lost: whether the update never arrives: the device dropped out, or was gone too early.
    """

    begins: Float64
    computes: Float64
    ends: Float64
    lost: Bools


@dataclass(frozen=True, slots=True, eq=False)
class Fleet:
    """The devices of a population.

    Attributes:
        seed: of the experiment.
        speed: work that each device computes in a second, `[population]`.
        upload, download: bytes a second of each, infinite where they take no time.
        latency: seconds of a message beside its bytes.
        deviation: standard deviation of the seconds that a trip computes.
        dropout: chance of a trip to be lost.
        windows: when devices are there; None is always.
        costs: of seconds and bytes.
    """

    seed: int
    speed: Float64
    upload: Float64
    download: Float64
    latency: Float64
    deviation: Float64
    dropout: float = 0.0
    windows: AvailabilityWindows | None = None
    costs: CostsConfig = FREE

    @property
    def population(self) -> int:
        """Number of devices."""
        return len(self.speed)

    def computes(self, clients: Int64, work: npt.ArrayLike, turn: npt.ArrayLike) -> Float64:
        """Seconds that each of these trips computes, `[n]`.

        Args:
            clients: ids, `[n]`.
            work: in the unit of `speed`, `[n]`.
            turn: which trip of the client it is; keys what varies from trip to trip.
        """
        seconds: Float64 = np.asarray(work) / self.speed[clients]
        deviation = self.deviation[clients]
        if deviation.any():
            drawn = normal(self.seed, keyed.Purpose.TRIP_SECONDS, clients, turn)
            seconds = np.maximum(seconds + deviation * drawn, 0.0)
        return seconds

    def seconds(self, clients: Int64, computes: Float64, down: float | Int64, up: float | Int64) -> Float64:
        """Seconds of whole trips that compute for this long, from the model's departure to the update's arrival, `[n]`.

        Args:
            down: bytes that each receives.
            up: bytes that each sends.
        """
        latency = self.latency[clients]
        found: Float64 = latency + down / self.download[clients] + computes + up / self.upload[clients] + latency
        return found

    def drops(self, clients: Int64, turn: npt.ArrayLike) -> Bools:
        """Whether each of these trips is lost on the way, `[n]`."""
        if not self.dropout:
            return np.zeros(len(clients), dtype=bool)
        found: Bools = keyed.uniform(self.seed, keyed.Purpose.TRIP_LOST, clients, turn) < self.dropout
        return found

    def trips(self, clients: Int64, load: Load, turn: npt.ArrayLike, when: npt.ArrayLike) -> Trips:
        """Trips on which the clients are sent at these times.

        Example:
            >>> trips = fleet.trips(np.array([3, 5]), Load(np.full(6, 10)), turn=1, when=0.0)
            >>> trips.ends  # seconds
        """
        computes = self.computes(clients, load.work[clients], turn)
        seconds = self.seconds(clients, computes, load.down_of(clients), load.up_of(clients))
        return self.timed(clients, computes, seconds, self.drops(clients, turn), when)

    def timed(self, clients: Int64, computes: Float64, seconds: Float64, lost: Bools, when: npt.ArrayLike) -> Trips:
        """Trips of known length on which the clients are sent at these times."""
        begins = np.broadcast_to(np.asarray(when, dtype=np.float64), (len(clients),))
        if self.windows is None:
            return Trips(begins, computes, begins + seconds, lost)
        opens, closes = self.windows.at(clients, begins)
        begins = np.maximum(begins, opens)
        ends = begins + seconds
        return Trips(begins, computes, ends, lost | (ends > closes) if self.windows.loses else lost)

    def energy(self, computes: npt.ArrayLike, bytes: npt.ArrayLike) -> Float64:
        """Joules of these seconds of computing and these bytes."""
        return _linear(computes, bytes, self.costs.joules_per_second, self.costs.joules_per_byte)

    def money(self, computes: npt.ArrayLike, bytes: npt.ArrayLike) -> Float64:
        """Money for these seconds of computing and these bytes."""
        return _linear(computes, bytes, self.costs.money_per_second, self.costs.money_per_byte)


def build_fleet(config: SystemsConfig, seed: int, population: int) -> Fleet:
    """The fleet that the configuration names: a few arrays with a value for each client.

    Raises:
        ConfigError: a record is missing or damaged.
    """
    found = _columns(config.fleet, seed, population)
    columns = {
        name: np.broadcast_to(np.asarray(found[name], dtype=np.float64), (population,)) for name in DEVICE_COLUMNS
    }
    windows = build_windows(config.availability, seed, population)
    return Fleet(seed, **columns, dropout=config.dropout, windows=windows, costs=config.costs)


def _columns(config: FleetConfig, seed: int, population: int) -> Mapping[str, npt.ArrayLike]:
    """What the configuration says of each client's device: for each of `DEVICE_COLUMNS` a number or `[population]`."""
    if isinstance(config, LogNormalFleetConfig):

        def factor(purpose: keyed.Purpose, sigma: float) -> Float64:
            return log_normal(seed, purpose, sigma, np.arange(population)) if sigma else np.ones(1)

        network = factor(keyed.Purpose.DEVICE_NETWORK, config.network_sigma)
        faster = factor(keyed.Purpose.DEVICE_SPEED, config.sigma)
        return {
            "speed": config.speed * faster,
            "upload": _rate(config.upload) * network,
            "download": _rate(config.download) * network,
            "latency": config.latency,
            "deviation": config.deviation,
        }
    every = np.arange(population)
    if isinstance(config, TiersFleetConfig):
        edges = np.cumsum([tier.share for tier in config.tiers])
        drawn = keyed.uniform(seed, keyed.Purpose.DEVICE_KIND, every, 0) * edges[-1]
        kind = np.minimum(np.searchsorted(edges, drawn, side="right"), len(edges) - 1)
        tiers = {name: [getattr(tier, name) for tier in config.tiers] for name in DEVICE_COLUMNS}
        return {name: np.array([_rate(one) for one in values])[kind] for name, values in tiers.items()}
    assert isinstance(config, TraceFleetConfig)
    recorded = read_devices(config.path)
    devices = len(recorded["speed"])
    device = every % devices
    if config.assign == "drawn":
        device = (keyed.bits(seed, keyed.Purpose.DEVICE_KIND, every, 0) % np.uint64(devices)).astype(np.int64)
    absent = {"upload": np.inf, "download": np.inf, "latency": 0.0, "deviation": 0.0}
    return {name: recorded[name][device] if name in recorded else absent[name] for name in DEVICE_COLUMNS}


def _rate(rate: float | None) -> float:
    return np.inf if rate is None else rate


def _linear(seconds: npt.ArrayLike, bytes: npt.ArrayLike, of_second: float, of_byte: float) -> Float64:
    found: Float64 = np.asarray(seconds) * of_second + np.asarray(bytes) * of_byte
    return found
