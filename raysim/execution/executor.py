"""The executor's contract: where a round's work runs. It changes how long a round takes, never what comes out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

from raysim.execution.work import (
    Applied,
    Evaluated,
    EvaluationRange,
    Float32,
    Int32,
    RoundTask,
    ServerHandle,
    Trained,
)


class Executor(ABC):
    """Runs the parts of a round. Use as a context manager: leaving it releases everything that it started.

    Contract: `train` returns partial sums over disjoint positions that together are the cohort minus the clients whose
    row in the reports says `dropped`. Errors of a client's own code are raised as `ClientError`. A handle stays usable
    until the executor is closed, so that the same handle can be trained from, evaluated, saved and applied to.
    """

    name: str
    workers: int
    """Workers that clients are spread over."""

    @abstractmethod
    def environment(self) -> dict[str, Any]:
        """What the workers compute with; raises RunError where two of them differ in what the bits depend on."""

    @abstractmethod
    def first(self) -> ServerHandle:
        """The server before the first round."""

    @abstractmethod
    def train(self, task: RoundTask, server: ServerHandle) -> Trained:
        """Train the cohort from the server's model."""

    @abstractmethod
    def apply(self, task: RoundTask, expected: Int32, server: ServerHandle, trained: Trained) -> Applied:
        """The server's step over the partial sums; `expected` are the positions that they must hold."""

    @abstractmethod
    def evaluate(self, ranges: Sequence[EvaluationRange], server: ServerHandle) -> list[Evaluated]:
        """Evaluate the server's model over ranges; results in any order."""

    @abstractmethod
    def save(self, folder: str, server: ServerHandle) -> None:
        """Write the server into a checkpoint's folder."""

    @abstractmethod
    def load(self, folder: str) -> ServerHandle:
        """The server from a checkpoint's folder."""

    @abstractmethod
    def export(self, path: str, server: ServerHandle) -> None:
        """Write the model as a `.safetensors` file."""

    @abstractmethod
    def fetch(self, server: ServerHandle) -> Float32:
        """The model `[P]` itself, for whoever asks for it."""

    @abstractmethod
    def close(self) -> None:
        """Release everything that this executor started."""

    def __enter__(self) -> Executor:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
