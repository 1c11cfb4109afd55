"""What the rest of raysim sees of data: a federation of shards, opened from a small spec on any worker."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod
from typing import Literal, Protocol

from raysim.arrays import Array, Int64
from raysim.data.inputs import ANSWER, InputField
from raysim.data.left_out import LeftOut
from raysim.data.named_targets import TargetField
from raysim.data.scaling import TargetScaling

ClientPart = Literal["train", "holdout", "test"]
"""`holdout`: kept from the client's own training samples. `test`: what of the test set is its own."""
ServerPart = Literal["validation", "test"]


@dataclass(frozen=True, slots=True)
class DataInfo:
    """What a sample looks like; models, losses and metrics are chosen by it."""

    task: Literal["classification", "regression"]
    input_shape: tuple[int, ...]
    """Shape of one sample's features; `(length,)` for tokens."""
    input_kind: Literal["real", "pixels", "tokens", "record"]
    """`real`: float32. `pixels`: uint8, divided by 255 on the worker. `tokens`: integer ids for an embedding.
    `record`: int32 words that hold several inputs, those of `inputs`."""
    target_shape: tuple[int, ...] = ()
    """`()` for one target a sample, `(length,)` for one a position, `(d,)` for a vector to regress on."""
    classes: int | None = None
    """Number of classes, for classification."""
    vocabulary: int | None = None
    """Number of token ids, for `tokens`."""
    class_names: tuple[str, ...] | None = field(default=None, repr=False)
    """What classes 0, 1, … are called, where that is known. No part of the federation's fingerprint."""
    inputs: tuple[InputField, ...] = field(default=(), repr=False)
    """What a `record` holds, by name; empty where a sample is one tensor."""
    scaling: TargetScaling | None = field(default=None, repr=False)
    """How targets were transformed for learning; metrics are in the units of the data. None: they are as they came."""
    targets: tuple[TargetField, ...] = field(default=(), repr=False)
    """What a target `[width]` holds, by name; empty where it is one tensor. Losses and metrics get them by name."""

    @property
    def preferences(self) -> bool:
        """Whether a sample is a pair of answers, `[2, length]` ids, the first of them the better one."""
        return any(one.name == ANSWER for one in self.inputs)

    @property
    def tokens(self) -> int:
        """Token ids of a sample, padding among them; 0 where it has none."""
        if self.input_kind == "record":
            return sum(prod(one.shape) for one in self.inputs if one.kind == "tokens")
        return prod(self.input_shape) if self.input_kind == "tokens" else 0


@dataclass(frozen=True, slots=True)
class Samples:
    """Some samples as read-only arrays, often views of a memory map."""

    x: Array
    """`[n, *input_shape]` float32, uint8, integer ids or words of a record, as stored."""
    y: Array
    """`[n, *target_shape]` integer labels or float32 targets."""
    weight: Array | None = None
    """`[n, *target_shape]` float32 weight of each target in losses and metrics; None is 1 everywhere."""

    def __len__(self) -> int:
        return len(self.y)

    def slice(self, start: int, stop: int) -> Samples:
        """Samples `[start, stop)`, as views."""
        weight = None if self.weight is None else self.weight[start:stop]
        return Samples(self.x[start:stop], self.y[start:stop], weight)


class Federation(ABC):
    """Clients with shards of training samples, and the server's own validation and test sets.

    Implementations keep no Python object per client, and every method may be called on any worker.
    """

    info: DataInfo
    population: int
    fingerprint: str
    """Changes whenever any sample, or any client's share, does."""

    @abstractmethod
    def sizes(self, part: ClientPart = "train", clients: Int64 | None = None) -> Int64:
        """Number of samples of these clients (default: of all), int64 `[len(clients)]`."""

    @abstractmethod
    def shard(self, client: int, part: ClientPart = "train") -> Samples:
        """The samples of one client.

        Raises:
            DataError: the shard cannot be read.
        """

    @abstractmethod
    def server(self, part: ServerPart) -> Samples | None:
        """The server's validation or test set; None if there is none."""

    def histograms(self) -> Array | None:
        """Label histogram of each client's training samples, `[population, classes]`; None where not stored."""
        return None

    def left_out(self) -> tuple[LeftOut, ...]:
        """What the source had and the federation has not: samples, owners, classes."""
        return ()

    def counts(self) -> Mapping[str, int]:
        """What the source counted, by name: documents and tokens of a corpus."""
        return {}


class FederationSpec(Protocol):
    """A small picklable value from which any worker opens the same federation."""

    @property
    def fingerprint(self) -> str:
        """The federation's fingerprint, without opening it."""
        ...

    def open(self) -> Federation:
        """Open it; cheap, memory-mapped.

        Raises:
            DataError: the shards are missing, truncated or foreign.
        """
        ...
