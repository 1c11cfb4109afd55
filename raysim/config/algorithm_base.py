"""What the sections of all federated algorithms have in common."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Self

from pydantic import Field

from raysim.config.base import Section


@dataclass(frozen=True, slots=True)
class DataFacts:
    """What an algorithm's section may want to know of the data.

    Attributes:
        population: clients.
        cohort: clients of a round.
        loss: the training loss, by name.
        samples: counts all training samples.
        largest: counts those of the largest client.
        targets: of a sample.
        seed: of the experiment.
        changed: whether stages change what clients send.
        learned: whether clients are weighed by what a model of theirs is worth.
    """

    population: int
    cohort: int
    loss: str
    samples: Callable[[], int]
    largest: Callable[[], int]
    targets: int = 1
    seed: int = 0
    changed: bool = False
    learned: bool = False


class BaseAlgorithmConfig(Section):
    """What every algorithm takes."""

    versions: ClassVar[bool] = False
    """Whether it writes versions of a frozen base (`raysim.models.versioned`)."""
    apart: ClassVar[bool] = False
    """Whether every client is a node with a model of its own, which is evaluated on the server's sets as well."""

    server_lr: float = Field(1.0, gt=0)
    """Server learning rate: the factor on the averaged update."""

    def fitted(self, facts: DataFacts) -> Self:
        """With what depends on the data made concrete.

        Raises:
            ValueError: a knob does not suit the data; names it and the remedy.
        """
        return self


class AveragingConfig(BaseAlgorithmConfig):
    """What every algorithm takes whose server moves along the averaged update."""

    server_momentum: float = Field(0.0, ge=0, lt=1)
    """Server momentum on the averaged update (FedAvgM, Hsu, Qi & Brown 2019)."""
