"""The `systems` section: what devices clients have, and how the server waits for them, in virtual time."""

from __future__ import annotations

from abc import abstractmethod
from typing import Annotated, Literal

from pydantic import Field, Tag, model_validator

from raysim.config.base import BY_NAME, SHORTHAND, Section
from raysim.config.bounds import SECONDS
from raysim.config.edges import BackhaulConfig
from raysim.config.staleness import PolynomialStalenessConfig, StalenessConfig

Seconds = Annotated[float, Field(ge=0, le=SECONDS)]
Rate = Annotated[float, Field(gt=0, le=1e15)]
Price = Annotated[float, Field(ge=0, le=1e9)]
_DAY = 24.0


class AlwaysConfig(Section):
    """Devices are always there."""

    name: Literal["always"] = "always"


class WindowsConfig(Section):
    """What all windows of availability take: a device is there from the opening of a window to its end."""

    unfinished: Literal["kept", "lost"] = "kept"
    """What happens to a trip that has not ended when its window does: it goes on, or its work is lost."""


class DiurnalConfig(WindowsConfig):
    """A device is there for the same hours of every day."""

    name: Literal["diurnal"] = "diurnal"
    hours: float = Field(8.0, gt=0, lt=_DAY)
    """Hours of a window."""
    spread: float = Field(1.0, ge=0, le=1)
    """Share of the day over which the devices' windows begin: 1 is around the globe, 0 is all at once."""


class ChargingConfig(WindowsConfig):
    """A device is there while it charges: once a day, for a time that is drawn anew every day."""

    name: Literal["charging"] = "charging"
    shortest: float = Field(2.0, gt=0, lt=_DAY)
    """Fewest hours of a window."""
    longest: float = Field(10.0, gt=0, lt=_DAY)
    """Most hours of a window."""
    spread: float = Field(0.25, ge=0, le=1)
    """Share of the day over which the devices' days begin."""
    chance: float = Field(0.9, ge=0.01, le=1)
    """Of a device to charge on a day at all."""

    @model_validator(mode="after")
    def _ordered(self) -> ChargingConfig:
        if self.shortest > self.longest:
            raise ValueError(f"shortest ({self.shortest:g}) must not be above longest ({self.longest:g})")
        return self


class AvailabilityTraceConfig(WindowsConfig):
    """Recorded windows: a CSV or Parquet file with a row for each, `device`, `start`, `end` in seconds."""

    name: Literal["trace"] = "trace"
    path: str
    """The file; docs/systems.md has its schema."""
    period: float | None = Field(None, gt=0, le=SECONDS)
    """Seconds after which the record begins again; by default its last end."""


AvailabilityConfig = Annotated[
    Annotated[AlwaysConfig, Tag("always")]
    | Annotated[DiurnalConfig, Tag("diurnal")]
    | Annotated[ChargingConfig, Tag("charging")]
    | Annotated[AvailabilityTraceConfig, Tag("trace")],
    BY_NAME,
    SHORTHAND,
]


class CostsConfig(Section):
    """What a trip costs beside time."""

    joules_per_second: Price = 0.0
    """Energy of a second of computing."""
    joules_per_byte: Price = 0.0
    """Energy of a byte, up or down."""
    money_per_second: Price = 0.0
    """Money for a second of computing, in any currency."""
    money_per_byte: Price = 0.0
    """Money for a byte, up or down."""


class NoFleetConfig(Section):
    """No devices: there is no virtual time."""

    name: Literal["none"] = "none"


class LogNormalFleetConfig(Section):
    """Every device by itself, around a median device, by log-normal factors."""

    name: Literal["log_normal"] = "log_normal"
    speed: Rate
    """Steps (or samples) that the median device computes in a second."""
    sigma: float = Field(0.5, ge=0, le=5)
    """Standard deviation of the logarithm of the speeds; 0 makes all alike."""
    upload: Rate | None = None
    """Bytes that the median device sends in a second; by default sending takes no time."""
    download: Rate | None = None
    """Bytes that the median device receives in a second; by default receiving takes no time."""
    network_sigma: float = Field(0.0, ge=0, le=5)
    """Standard deviation of the logarithm of the bandwidths, of which a device has one factor."""
    latency: Seconds = 0.0
    """Seconds that a message takes beside its bytes, each way."""
    deviation: Seconds = 0.0
    """Standard deviation of the seconds that a trip computes, from one trip of a device to the next."""

    @model_validator(mode="after")
    def _has_a_network(self) -> LogNormalFleetConfig:
        if self.network_sigma and self.upload is None and self.download is None:
            raise ValueError("network_sigma spreads upload and download, and neither is given; set them or remove it")
        return self


class TierConfig(Section):
    """One kind of devices."""

    share: float = Field(gt=0, le=1)
    """Chance of a client to have such a device; shares add up to 1."""
    speed: Rate
    """Steps (or samples) that it computes in a second."""
    upload: Rate | None = None
    """Bytes that it sends in a second; by default sending takes no time."""
    download: Rate | None = None
    """Bytes that it receives in a second; by default receiving takes no time."""
    latency: Seconds = 0.0
    """Seconds that a message takes beside its bytes, each way."""
    deviation: Seconds = 0.0
    """Standard deviation of the seconds that a trip computes, from one trip of a device to the next."""


class TiersFleetConfig(Section):
    """A few kinds of devices, of which each client has one."""

    name: Literal["tiers"] = "tiers"
    tiers: Annotated[tuple[TierConfig, ...], Field(min_length=1)]
    """The kinds."""

    @model_validator(mode="after")
    def _add_up(self) -> TiersFleetConfig:
        if abs((total := sum(one.share for one in self.tiers)) - 1) > 1e-3:
            raise ValueError(f"the shares of tiers add up to {total:g}; they must add up to 1")
        return self


class TraceFleetConfig(Section):
    """Recorded devices: a CSV or Parquet file with a row for each, `device`, `speed` and what else is known."""

    name: Literal["trace"] = "trace"
    path: str
    """The file; docs/systems.md has its schema."""
    assign: Literal["drawn", "in_order"] = "drawn"
    """Which device a client has: one that is drawn for it, or the one with its number, from the start again where
    clients are more."""


FleetConfig = Annotated[
    Annotated[NoFleetConfig, Tag("none")]
    | Annotated[LogNormalFleetConfig, Tag("log_normal")]
    | Annotated[TiersFleetConfig, Tag("tiers")]
    | Annotated[TraceFleetConfig, Tag("trace")],
    BY_NAME,
    SHORTHAND,
]


class SynchronousConfig(Section):
    """A round ends when the last client of its cohort has returned."""

    name: Literal["synchronous"] = "synchronous"


class DeadlineConfig(Section):
    """A round ends at a deadline, or earlier when the whole cohort has returned."""

    name: Literal["deadline"] = "deadline"
    seconds: float = Field(gt=0, le=SECONDS)
    """Virtual seconds of a round, at most."""
    keep_partial: bool = False
    """Keep what late clients can do until then: they take fewer local steps, at least one. False loses their work."""


class OverSelectionConfig(Section):
    """More clients are drawn than are needed, and a round ends when enough have returned (Bonawitz et al. 2019)."""

    name: Literal["over_selection"] = "over_selection"
    factor: float = Field(1.3, gt=1, le=100)
    """Clients that are drawn for each one that is needed. `cohort` are needed."""


class BaseAsynchronousConfig(Section):
    """What every asynchronous timetable takes."""

    name: str
    staleness: StalenessConfig = PolynomialStalenessConfig()
    """How much updates of models that are s server steps old count: `constant`, `polynomial` ((1 + s)^-`exponent`, by
    default 1/√(1 + s)) or `hinge` (in full until `b` steps, then 1 / (`a`·(s - b) + 1))."""
    in_flight: int = Field(30, ge=1)
    """Clients M that train at the same time; when one returns the next one is sent out."""
    max_staleness: int = Field(100, ge=0, le=100_000)
    """Updates from models more than this many server steps old are lost, so at most this many old versions are kept."""

    @property
    @abstractmethod
    def updates(self) -> int:
        """Updates of a step."""


class FedBuffConfig(BaseAsynchronousConfig):
    """The server takes a step with every K updates that arrive (Nguyen et al. 2022)."""

    name: Literal["fedbuff"] = "fedbuff"
    buffer: int = Field(10, ge=1)
    """Updates K of a step; in place of `cohort`."""

    @property
    def updates(self) -> int:
        return self.buffer

    @model_validator(mode="after")
    def _fills(self) -> FedBuffConfig:
        if self.buffer > self.in_flight:
            raise ValueError(
                f"buffer ({self.buffer}) is above in_flight ({self.in_flight}): a step would wait for more updates "
                "than are under way; lower buffer or raise in_flight"
            )
        return self


class FedAsyncConfig(BaseAsynchronousConfig):
    """The server mixes its model with every one that arrives (Xie, Koyejo & Gupta 2019)."""

    name: Literal["fedasync"] = "fedasync"
    mixing: float = Field(0.6, gt=0, le=1)
    """Share of a client's model in the next one, before the discount of an old one."""

    @property
    def updates(self) -> int:
        return 1


TimetableConfig = Annotated[
    Annotated[SynchronousConfig, Tag("synchronous")]
    | Annotated[DeadlineConfig, Tag("deadline")]
    | Annotated[OverSelectionConfig, Tag("over_selection")]
    | Annotated[FedBuffConfig, Tag("fedbuff")]
    | Annotated[FedAsyncConfig, Tag("fedasync")],
    BY_NAME,
    SHORTHAND,
]


class SystemsConfig(Section):
    """Devices and their timetable, in virtual time: no clock is read, and a run is as exact as any other."""

    fleet: FleetConfig = NoFleetConfig()
    """What devices clients have."""
    unit: Literal["steps", "samples"] = "steps"
    """What a device's `speed` counts: local steps, or samples that they see."""
    availability: AvailabilityConfig = AlwaysConfig()
    """When devices are there."""
    dropout: float = Field(0.0, ge=0, lt=1)
    """Chance of a trip that its work is lost on the way."""
    costs: CostsConfig = CostsConfig()
    """Energy and money of seconds and bytes."""
    timetable: TimetableConfig = SynchronousConfig()
    """How the server waits for its clients."""
    backhaul: BackhaulConfig = BackhaulConfig()
    """How fast edges and their cloud reach each other, where `algorithm` is a hierarchy."""

    @property
    def asynchronous(self) -> bool:
        """Whether clients of a step may start from different versions of the model."""
        return isinstance(self.timetable, BaseAsynchronousConfig)

    @property
    def without_devices(self) -> str | None:
        """A key that is for devices, where there are none; None where nothing is wrong."""
        if not isinstance(self.fleet, NoFleetConfig):
            return None
        return next(
            (key for key, field in type(self).model_fields.items() if getattr(self, key) != field.default), None
        )
