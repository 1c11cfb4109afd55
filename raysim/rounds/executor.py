"""The executor's contract: where rounds are worked on. It changes how long they take, never what comes out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Any

from raysim.arrays import Float32
from raysim.rounds.faults import Fault
from raysim.rounds.ranges import Evaluated, EvaluationRange
from raysim.rounds.results import RoundDone, ServerHandle
from raysim.rounds.task import RoundWork


class Executor(ABC):
    """Works on rounds. Use as a context manager: leaving it releases everything that it started.

    Contract: `rounds` yields every work that it is given, in order, each as the pure function of the work and of the
    server after the one before: a cohort's partial sums cover its positions but for the clients whose row says
    `dropped`, and an empty cohort changes nothing. Errors of a client's own code are raised as `ClientError`, unless
    `execution.faults` says that such a client is dropped. A handle
    stays usable until the executor is closed, so that the same handle can be trained from, saved and fetched.
    """

    name: str
    workers: int
    """Workers that clients are spread over."""

    @abstractmethod
    def environment(self) -> dict[str, Any]:
        """What the workers compute with; raises RunError where two of them differ in what the bits depend on."""

    def on_fault(self, callback: Callable[[Fault], None]) -> None:
        """Call `callback` for every fault, including recovered ones."""
        return

    def on_note(self, callback: Callable[[str], None]) -> None:
        """Call `callback` with a line about each worker that joins or leaves."""
        return

    def call(self, run: str) -> None:  # noqa: B027 - only Ray has metrics
        """Set the name of the run, for metrics."""

    @abstractmethod
    def first(self) -> ServerHandle:
        """The server before the first round."""

    @abstractmethod
    def rounds(self, works: Iterator[RoundWork], server: ServerHandle) -> Generator[RoundDone]:
        """Finished rounds, in the order of their works, the first of them trained from `server`.

        Works may be taken, and worked on, before the rounds in front of them are yielded, at most
        `execution.rounds_ahead` of them, none where the selection is adaptive. Closing the iterator throws away what
        was not yielded. An error, also one of `works` itself, is raised once all rounds in front of it are yielded.

        Raises:
            ClientError: a client's own code failed; names the client, the round and the error.
            RunError: a round cannot be trained or applied.
        """

    @abstractmethod
    def evaluate(self, ranges: Sequence[EvaluationRange], server: ServerHandle) -> list[Evaluated]:
        """The server's model over these ranges, in any order; for works that depend on it, while they are drawn.

        Raises:
            RunError: no worker can evaluate it.
        """

    @abstractmethod
    def save(self, folder: str, server: ServerHandle) -> None:
        """Write the server into a checkpoint's folder; raises OSError where the disk refuses."""

    @abstractmethod
    def load(self, folder: str) -> ServerHandle:
        """The server from a checkpoint's folder."""

    @abstractmethod
    def export(self, path: str, server: ServerHandle) -> None:
        """Write the model as a `.safetensors` file; raises OSError where the disk refuses."""

    @abstractmethod
    def fetch(self, server: ServerHandle) -> Float32:
        """The model `[P]` itself."""

    @abstractmethod
    def close(self) -> None:
        """Release everything that this executor started."""

    def __enter__(self) -> Executor:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
