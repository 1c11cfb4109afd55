"""Clients that need another share of a machine than the rest: `execution.classes`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from raysim.config.base import Section

DEFAULT = "default"
"""The class of all clients that are in no other."""

MOST_ACTORS = 100_000
MOST_CORES = 1024
"""CPU cores, or GPUs, of one actor."""

ClassName = Annotated[str, Field(pattern=r"^[A-Za-z_][\w-]*$")]

ClientId = Annotated[int, Field(ge=0)] | Annotated[str, Field(pattern=r"^\d{1,9}-\d{1,9}$")]


class ClientClassConfig(Section):
    """Some clients, and what an actor that trains them has. They are chosen by one of the first three keys."""

    clients: tuple[ClientId, ...] | None = None
    """Their ids, and ranges of ids with both ends: `[3, "10-19"]`."""
    min_samples: int | None = Field(None, ge=1)
    """All clients with at least this number of training samples; of several classes, the highest that applies."""
    min_steps: int | None = Field(None, ge=1)
    """All clients with at least this number of local steps a round; of several classes, the highest that applies."""
    actors: Annotated[int, Field(ge=1, le=MOST_ACTORS)] | Literal["auto"] = "auto"
    """Actors of the class; `auto` shares the machines out by the work of each class."""
    num_cpus: Annotated[float, Field(gt=0, le=MOST_CORES)] | Literal["auto"] = "auto"
    """CPU cores of an actor; `auto` is one, or an equal share of the cores where more actors are asked for."""
    num_gpus: float = Field(0.0, ge=0, le=MOST_CORES)
    """GPUs of an actor: 0.25 puts four actors on each; above 1 only whole numbers."""

    @model_validator(mode="after")
    def _chosen_in_one_way(self) -> ClientClassConfig:
        chosen = [key for key in ("clients", "min_samples", "min_steps") if getattr(self, key) is not None]
        if len(chosen) != 1:
            found = " and ".join(chosen) or "none of them"
            raise ValueError(f"choose its clients by one of clients, min_samples and min_steps, not by {found}")
        return self
