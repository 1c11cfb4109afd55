"""The whole experiment: one schema, one class per section."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, Field, ValidationError, model_validator

from raysim.config.algorithms import AlgorithmConfig, FedAvgConfig
from raysim.config.base import Section
from raysim.config.bounds import SEED
from raysim.config.bundled import find_config
from raysim.config.client import ClientConfig
from raysim.config.data import DataConfig
from raysim.config.errors import explain
from raysim.config.loading import apply_overrides, read_yaml
from raysim.config.model import ModelConfig, SoftmaxConfig
from raysim.config.parsing import MOST_BYTES, as_yaml
from raysim.config.partition import NaturalPartitionConfig
from raysim.config.privacy import PrivacyConfig
from raysim.config.running import EvaluationConfig, ExecutionConfig, StopConfig, TrackingConfig
from raysim.config.server import AggregationConfig, LawWeightsConfig, SelectionConfig, UniformConfig
from raysim.config.sources import SyntheticVirtualConfig
from raysim.config.systems import BaseAsynchronousConfig, NoFleetConfig, SystemsConfig
from raysim.config.training import TrainingConfig
from raysim.config.tuning import TuningConfig
from raysim.errors import ConfigError
from raysim.files import write_text

_NAME = 200
"""Bytes of a name: a file system takes 255, and a run directory adds a date and a number, a study a word."""


def _name(name: str) -> str:
    if (size := len(name.encode())) > _NAME:
        raise ValueError(f"a name of {size} bytes; a folder is named after it, so use at most {_NAME}")
    return name


class Experiment(Section):
    """A federated experiment. Every key has a default: `Experiment()` runs FedAvg on digits."""

    name: Annotated[str, AfterValidator(_name)] = Field("experiment", pattern=r"^[\w.-]+$")
    """Names the run directory."""
    seed: int = Field(0, ge=0, le=SEED)
    """Every random choice is a function of this."""
    rounds: int = Field(100, ge=1)
    """Rounds of training."""
    cohort: Annotated[int, Field(ge=1, strict=True)] | Annotated[float, Field(gt=0, le=1)] = 10
    """Clients of a round: a count, or a fraction of the population written with a point (`1.0` is all of them)."""
    selection: SelectionConfig = UniformConfig()
    """How the cohort is drawn."""
    data: DataConfig = DataConfig()
    """Where samples come from, how they are cleaned, and how they are dealt to clients."""
    model: ModelConfig = SoftmaxConfig()
    """The model, by name or import string."""
    client: ClientConfig = ClientConfig()
    """What a client does in a round."""
    training: TrainingConfig = TrainingConfig()
    """How a client's work is computed."""
    algorithm: AlgorithmConfig = FedAvgConfig()
    """The federated algorithm, by name or import string."""
    aggregation: AggregationConfig = AggregationConfig()
    """How the clients' updates are combined."""
    privacy: PrivacyConfig = PrivacyConfig()
    """What the noise of stages is worth, and how much may be spent."""
    systems: SystemsConfig = SystemsConfig()
    """What devices clients have, and how the server waits for them, in virtual time."""
    evaluation: EvaluationConfig = EvaluationConfig()
    """What is measured, and when."""
    stop: StopConfig = StopConfig()
    """When to stop before the last round."""
    execution: ExecutionConfig = ExecutionConfig()
    """Where the work runs."""
    tracking: TrackingConfig = TrackingConfig()
    """What a run leaves behind."""
    tuning: TuningConfig = TuningConfig()
    """What `raysim tune` varies; a run does not look at it."""

    @model_validator(mode="after")
    def _cohort_fits_population(self) -> Experiment:
        population = self._declared_population()
        if population is not None and isinstance(self.cohort, int) and self.cohort > population:
            raise ValueError(self.cohort_too_large(population))
        return self

    @model_validator(mode="after")
    def _one_model_of_time(self) -> Experiment:
        if isinstance(self.systems.fleet, NoFleetConfig):
            if self.stop.virtual_seconds is not None:
                raise ValueError("stop.virtual_seconds: there is no virtual time without devices; set systems.fleet")
        elif self.client.stragglers.share:
            raise ValueError(
                "systems.fleet: client.stragglers makes clients late as well, by another model; remove it (a deadline "
                "of systems.timetable has its effect)"
            )
        return self

    @model_validator(mode="after")
    def _something_is_stale(self) -> Experiment:
        weights, timetable = self.aggregation.weights, self.systems.timetable
        if not isinstance(weights, LawWeightsConfig) or not weights.staleness:
            return self
        what = f"aggregation.weights.staleness: {weights.staleness:g} discounts old models, but"
        if not isinstance(timetable, BaseAsynchronousConfig):
            raise ValueError(f"{what} rounds wait for all their clients; remove it")
        if timetable.updates == 1:
            raise ValueError(f"{what} a step's one update weighs 1; use systems.timetable.staleness")
        return self

    def cohort_too_large(self, population: int) -> str:
        """What is wrong with a cohort of more clients than there are, and what to do about it."""
        found = f"{population} client{'' if population == 1 else 's'}"
        if isinstance(self.data.source, SyntheticVirtualConfig):
            remedy = "lower cohort, or raise data.source.clients"
        elif isinstance(getattr(self.data.partition, "clients", None), int):
            remedy = "lower cohort, or raise data.partition.clients"
        else:
            owners = isinstance(self.data.partition, NaturalPartitionConfig)
            dealt = "the owners in" if owners else f"dealt by {self.data.partition.name} from"
            found += f", {dealt} data.source {self.data.source.name}"
            remedy = "lower cohort, or write it as a fraction, such as 0.5"
        return f"cohort ({self.cohort}) is larger than the population ({found}); {remedy}"

    def _declared_population(self) -> int | None:
        if isinstance(self.data.source, SyntheticVirtualConfig):
            return self.data.source.clients
        clients = getattr(self.data.partition, "clients", None)
        return clients if isinstance(clients, int) else None

    @property
    def data_seed(self) -> int:
        """Seed of the splits and the partition."""
        return self.seed if self.data.seed is None else self.data.seed

    @classmethod
    def parse(cls, values: Mapping[str, Any], *, where: str = "experiment") -> Experiment:
        """Validate a nested mapping.

        Raises:
            ConfigError: one line for each problem, naming the key and what was expected.
        """
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            raise explain(error, cls, where) from None

    @classmethod
    def of(cls, given: Experiment | str | os.PathLike[str] | Mapping[str, Any]) -> Experiment:
        """The experiment that was given: as it is, by the path of its YAML file or the name of a bundled one, or as a
        nested mapping.

        Raises:
            ConfigError: it is none of these, or the schema refuses a value.
        """
        if isinstance(given, Experiment):
            return given
        if isinstance(given, Mapping):
            return cls.parse(given)
        if isinstance(given, str | os.PathLike):
            return cls.from_yaml(Path(given))
        what = f"the class {given.__name__}" if isinstance(given, type) else type(given).__name__
        raise ConfigError(f"experiment: expected an Experiment, the path of a YAML file, or a mapping; got {what}")

    @classmethod
    def from_yaml(cls, path: str | Path, overrides: Sequence[str] = ()) -> Experiment:
        """Read a YAML file, apply `key.sub=value` overrides (values are YAML), and validate.

        Args:
            path: the file, or the name of a bundled configuration: `quickstart`.
            overrides: applied in order.

        Raises:
            ConfigError: the file is missing or not YAML, an override is malformed, or the schema refuses a value.
        """
        return cls.parse(apply_overrides(read_yaml(find_config(path)), overrides), where=str(path))

    def updated(self, overrides: Sequence[str]) -> Experiment:
        """This experiment with `key.sub=value` overrides."""
        return Experiment.parse(apply_overrides(self.to_dict(), overrides), where="overrides")

    def _repr_html_(self) -> str:
        chosen = escape(as_yaml(_differing(self.to_dict(), Experiment().to_dict())))
        every = f"<details><summary>every key</summary><pre>{escape(self.to_yaml())}</pre></details>"
        return f"<strong>{escape(self.name)}</strong><pre>{chosen}</pre>{every}"

    def to_yaml(self, path: str | Path | None = None) -> str:
        """The resolved configuration as YAML, written to `path` if given.

        Raises:
            ConfigError: the file would be larger than one that is read.
        """
        text = as_yaml(self.to_dict())
        if path is not None:
            if (size := len(text.encode())) > MOST_BYTES:
                raise ConfigError(
                    f"{path}: the configuration takes {size / 2**20:.1f} MiB of YAML, and no more than "
                    f"{MOST_BYTES >> 20} MiB are read again; shorten its tables and lists"
                )
            write_text(path, text)
        return text


def _differing(values: Mapping[str, Any], others: Mapping[str, Any]) -> dict[str, Any]:
    """What of nested values differs from others; a section that is chosen by another name as a whole."""
    found = {}
    for key, value in values.items():
        other = others.get(key)
        if value == other:
            continue
        alike = isinstance(value, Mapping) and isinstance(other, Mapping) and value.get("name") == other.get("name")
        found[key] = _differing(value, other or {}) if alike else value
    return found
