"""The actors: thin shells around the worker, the server and the sum, which do not know Ray."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Sequence
from typing import Any

import torch

from raysim.aggregation import Buffers, Question, Record, SumOpening, combine
from raysim.arrays import Int64
from raysim.cluster.faults import building
from raysim.cluster.inspection import without_cuda
from raysim.cluster.memory import keep_freed_memory
from raysim.cluster.references import Reference
from raysim.cluster.runtime import import_ray
from raysim.errors import PlacementError
from raysim.execution.clients.state import CarriedStates, StateRows
from raysim.execution.clients.worker import ClientWorker
from raysim.execution.inprocess.whole_round import evaluated_rounds, whole_rounds
from raysim.execution.placement.memory import gpu_fraction
from raysim.execution.server.server import Server
from raysim.rounds.digests import ServerDigest
from raysim.rounds.environment import bits_fingerprint
from raysim.rounds.facts import PackedFacts
from raysim.rounds.job import Job
from raysim.rounds.lease import Lease, LeaseReport
from raysim.rounds.ranges import Evaluated, EvaluationRange
from raysim.rounds.results import ServerHandle
from raysim.rounds.task import RoundWork
from raysim.user_code import user_code


class ClientActor:
    """Hosts clients on its share of a CPU or GPU.

    The worker is built at the first call, not in the constructor: what is wrong with it arrives as that call's own
    error, and an actor that Ray restarts is as good as new.
    """

    def __init__(self, job: Reference[Job], index: int, gpu_share: float) -> None:
        keep_freed_memory()
        user_code.interruptible = False
        self._reference, self._index, self._gpu_share = job, index, gpu_share
        self._built: ClientWorker | None = None
        self._built_server: Server | None = None

    def bits(self) -> dict[str, Any]:
        """Build the worker; what its bits depend on."""
        return bits_fingerprint(self._worker().job)

    def train(
        self, lease: Lease, model: Any, shared: Any, *kept: StateRows
    ) -> tuple[*tuple[Record, ...], StateRows | None, list[LeaseReport]]:
        """What stays in the object store: a record for each step that takes in some of the clients, ascending, and what
        the clients keep; and a report for each record, last, so that none arrives where a record found no room."""
        states = self._states(kept)
        found = self._worker().train_into(lease, model, shared, states)
        written = None if states is None else states.written()
        return *(record for record, _ in found), written, [report for _, report in found]

    def answer(self, question: Question) -> list[bytes]:
        """What clients answer to a question of the rule's protocol."""
        return self._worker().answer(question)

    def prefetch(self, clients: Int64) -> None:
        """Read what the next lease needs, while its model is not there yet."""
        self._worker().prefetch(clients)

    def evaluate(
        self, ranges: Sequence[EvaluationRange], model: Any, shared: Any, *kept: StateRows
    ) -> tuple[list[Evaluated], float]:
        """Sums of metrics over ranges, and the seconds that it took."""
        began = time.perf_counter()
        return self._worker().evaluate(ranges, model, self._states(kept), shared), time.perf_counter() - began

    def train_rounds(
        self, works: Sequence[RoundWork], state: Any, model: Any
    ) -> tuple[tuple[PackedFacts, list[ServerDigest | None]], list[tuple[Any, Any]], Any, Any]:
        """Whole rounds, one after the other, from the server's state and model; fewer where a later one fails.

        Four objects: the rounds' facts and the digests of the servers after them; state and model after each of them;
        and those after the last one once more, so that the next call need not read the others.
        """
        if self._built_server is None:
            with building(f"actor {self._index}"):
                self._built_server = Server(self._worker().job)
        server = self._built_server
        start = ServerHandle(state, model, server.shared(state), digest=server.digest(state, model))
        facts, handles = whole_rounds(self._worker(), server, works, start)
        digests = [None if one.digest is None else one.digest.result() for one in handles]
        history = [(one.state, one.model) for one in handles]
        return (PackedFacts.of(facts), digests), history, handles[-1].state, handles[-1].model

    def evaluate_rounds(
        self, rounds: Sequence[tuple[int, Sequence[EvaluationRange]]], history: Sequence[tuple[Any, Any]]
    ) -> list[tuple[tuple[Evaluated, ...], float]]:
        """What the models that `train_rounds` left behind measure over each round's ranges, and the seconds of each;
        fewer where that failed early, or where a later one fails here."""
        return evaluated_rounds(self._worker(), rounds, [model for _, model in history])

    def _states(self, kept: Sequence[StateRows]) -> CarriedStates | None:
        width = self._worker().states.width
        return CarriedStates(width, kept) if width else None

    def _worker(self) -> ClientWorker:
        if self._built is None:
            with building(f"actor {self._index}"):
                job = self._reference.fetch()
                self._take_device(job)
                self._built = ClientWorker(job, self._index)
                job.blueprint.release()
        return self._built

    def _take_device(self, job: Job) -> None:
        """Compute on as many threads, and as much of a GPU, as this actor was given.

        Raises:
            PlacementError: Ray gives away a GPU that torch does not see.
        """
        torch.set_num_threads(job.engine.threads)
        if job.engine.device != "cuda":
            return
        if (why := without_cuda()) is not None:
            node = import_ray().get_runtime_context().get_node_id()[:8]
            raise PlacementError(f"actor {self._index} on node {node} cannot start work: {why}")
        if 0 < self._gpu_share < 1:
            memory = torch.cuda.get_device_properties(0).total_memory
            torch.cuda.set_per_process_memory_fraction(gpu_fraction(self._gpu_share, memory), 0)


class Aggregator:
    """The server beside the driver. It keeps nothing: state and model are arguments and results."""

    def __init__(self, job: Reference[Job]) -> None:
        # Ray does not hide GPUs from an actor that asked for none.
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
        user_code.interruptible = False
        self._reference, self._life = job, uuid.uuid4().hex
        self._built: Server | None = None

    def first(self) -> Any:
        """State, model and what clients may read of the state, before the first round; this actor's present life."""
        return *self._whole(*self._server().first()), self._life

    def apply(
        self,
        round_number: int,
        expected: Any,
        state: Any,
        model: Any,
        opening: SumOpening | None,
        version: int | None,
        begun: Any,
        *records: Record,
    ) -> Any:
        """The next state, model and what clients may read, facts about the step, this actor's present life, and the
        bytes of each record."""
        start = None if version is None else (version, begun)
        state, model, step = self._server().apply(
            round_number, expected, state, model, *records, opening=opening, begun=start
        )
        return *self._whole(state, model), (step, self._life, [one.nbytes for one in records])

    def combine(self, *records: Record) -> Record:
        """One record for many."""
        return combine(records)

    def open(self, opening: SumOpening, total: Record) -> Record:
        """A sum that was encrypted, by the keys that this actor is given."""
        return self._server().opened(opening, total)

    def alive(self) -> str:
        """The name of this actor's present life, once it could take a step."""
        self._server()
        return self._life

    def pick(self, history: Sequence[tuple[Any, Any]], index: int) -> tuple[Any, Any, Any]:
        """State, model and what clients may read after one of several rounds, as objects of their own."""
        return self._whole(*history[index])

    def digest(self, state: Any, model: Any) -> ServerDigest:
        """The digest of a server."""
        return ServerDigest.of(state, model)

    def shared(self, state: Any) -> Any:
        """What clients may read of the server's state."""
        return self._server().shared(state)

    def save(self, folder: str, state: Any, model: Any, versions: Sequence[int] = (), *older: Any) -> None:
        """Write a checkpoint's vectors, older versions of the model among them."""
        self._server().save(folder, state, model, dict(zip(versions, older, strict=True)))

    def load(self, folder: str) -> Any:
        """State, model and what clients may read, from a checkpoint; and the numbers of the older versions there."""
        return *self._whole(*self._server().load(folder)), sorted(self._server().load_older(folder))

    def load_older(self, folder: str, version: int) -> Any:
        """An older version of the model, from a checkpoint."""
        return self._server().load_older(folder)[version]

    def export(self, path: str, model: Any) -> None:
        """Write the model as `.safetensors`."""
        self._server().export(path, model)

    def _whole(self, state: Any, model: Any) -> tuple[Any, Any, Any]:
        return state, model, self._server().shared(state)

    def _server(self) -> Server:
        if self._built is None:
            with building("the aggregator"):
                self._built = Server(self._reference.fetch())
        return self._built


class NodeReducer:
    """Combines the records of its node before they travel. Keeps nothing but memory to use again."""

    def __init__(self) -> None:
        self._buffers, self._life = Buffers(), uuid.uuid4().hex

    def combine(self, *records: Record) -> tuple[Record, tuple[str, list[int]]]:
        """One record for many; beside it this actor's present life, and the bytes of each."""
        return combine(records, self._buffers), (self._life, [one.nbytes for one in records])
