"""Calls of one program on equal actors: each on whichever actor is idle, again on another where its actor died.

The training of federations has its own pool, which knows models, leases and nodes. This one knows nothing of what it
calls: programs of other libraries run on it.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from typing import Any, Literal, Protocol

from raysim.cluster.faults import failure_of, first_line, unwrapped
from raysim.cluster.health import CHECK_SECONDS
from raysim.cluster.memory import keep_freed_memory
from raysim.cluster.references import Reference
from raysim.cluster.roster import start_seconds
from raysim.cluster.runtime import Runtime
from raysim.config.running import ExecutionConfig
from raysim.errors import LostError, PlacementError, RunError
from raysim.execution.placement.slots import Share, slots_on
from raysim.user_code import user_code


class Program(Protocol):
    """What actors run. It is pickled; `open` is called once in each of them."""

    def open(self) -> Callable[..., Any]:
        """What answers a call: a function of the call's work and its parts."""
        ...


class CallActor:
    """Runs a program on its share of a machine."""

    def __init__(self, program: Reference[Program], *, gpu: bool) -> None:
        """`gpu`: whether it was given a share of one; Ray does not hide GPUs from an actor that was not."""
        if not gpu:
            os.environ["CUDA_VISIBLE_DEVICES"] = ""
        keep_freed_memory()
        user_code.interruptible = False
        self._reference = program
        self._opened: Callable[..., Any] | None = None

    def ready(self) -> None:
        """Open the program; what is wrong with it is this call's error."""
        if self._opened is None:
            self._opened = self._reference.fetch().open()

    def call(self, work: Any, *parts: Any) -> Any:
        """The program's answer."""
        self.ready()
        assert self._opened is not None
        return self._opened(work, *parts)


@dataclass(slots=True, eq=False)
class _Call:
    name: str
    work: Any
    parts: Sequence[Any]
    answer: Future[Any] = field(default_factory=Future)
    failures: int = 0


_Event = tuple[Literal["call", "done", "close"], Any, Any]


class CallPool:
    """Actors that answer calls. A thread of its own gives calls out, so that several threads may make them.

    Attributes:
        workers: actors.
        faults: a line for every actor that died, until the caller takes them out.
    """

    def __init__(
        self,
        program: Program,
        execution: ExecutionConfig,
        *,
        actors: int | None,
        most: int,
        num_cpus: float | None,
        num_gpus: float,
        max_retries: int,
    ) -> None:
        """Start or attach to Ray, and start the actors.

        Args:
            program: what they run.
            execution: `address` and `object_store_memory`.
            actors: how many; None for as many as fit, up to `most`.
            most: calls that there can be at a time.
            num_cpus: cores of each; None is one, or an equal share of all cores where more actors are asked for.
            num_gpus: GPUs of each.
            max_retries: times that a call is made again whose actor died.

        Raises:
            PlacementError: they do not fit, or other work uses the cluster.
            RaysimError: the program cannot be opened.
        """
        self._runtime = Runtime.start(execution)
        self._ray, self._max_retries = self._runtime.ray, max_retries
        self.faults: SimpleQueue[str] = SimpleQueue()
        self._events: SimpleQueue[_Event] = SimpleQueue()
        self._waiting: deque[_Call] = deque()
        self._flying: dict[int, _Call] = {}
        self._actors: dict[int, Any] = {}
        self._lost: Exception | None = None
        try:
            self.workers, self._share = self._fit(actors, most, num_cpus, num_gpus)
            self._program = Reference.put(program)
            for worker in range(self.workers):
                self._start(worker)
            self._await_all()
        except BaseException:
            self._stop()
            raise
        self._idle = list(reversed(range(self.workers)))
        self._thread = threading.Thread(target=self._serve, name="raysim-calls", daemon=True)
        self._thread.start()

    def keep(self, value: Any) -> Any:
        """A part of many calls, stored once; what is returned is given to `submit` as a part."""
        return self._ray.put(value)

    def submit(self, name: str, work: Any, parts: Sequence[Any] = ()) -> Future[Any]:
        """Have a call made, whose name stands in errors; its answer arrives in the future.

        The future's error is a `RunError` where its actors died too often, and `LostError` where Ray is gone.
        """
        call = _Call(name, work, parts)
        self._events.put(("call", call, None))
        return call.answer

    def close(self) -> None:
        """Stop the actors, and a Ray of our own; calls without an answer get none."""
        self._events.put(("close", None, None))
        self._thread.join()
        self._stop()

    def _fit(self, actors: int | None, most: int, num_cpus: float | None, num_gpus: float) -> tuple[int, Share]:
        nodes = self._runtime.nodes()
        cores = sum(node.cpus for node in nodes)
        if num_cpus is None:
            num_cpus = 1.0 if actors is None or actors <= cores else int(1000 * cores / actors) / 1000
        share = Share(num_cpus, num_gpus)
        room = sum(slots_on(node, share) for node in nodes) if num_cpus else 0
        wanted = min(most, room) if actors is None else min(actors, most)
        if room < max(1, wanted):
            have = f"{cores:g} CPUs and {sum(node.gpus for node in nodes):g} GPUs"
            raise PlacementError(
                f"execution.actors: {max(1, wanted)} actors of {num_cpus:g} CPUs and {num_gpus:g} GPUs do not fit on "
                f"{have} ({room} do); lower execution.actors, execution.num_cpus or execution.num_gpus"
            )
        return wanted, share

    def _start(self, worker: int) -> None:
        options = self._ray.remote(CallActor).options(
            num_cpus=self._share.num_cpus, num_gpus=self._share.num_gpus, max_restarts=0, max_task_retries=0
        )
        self._actors[worker] = options.remote(self._program, gpu=self._share.num_gpus > 0)

    def _await_all(self) -> None:
        calls = [actor.ready.remote() for actor in self._actors.values()]
        limit = start_seconds(len(calls))
        with unwrapped(self._ray):
            try:
                self._runtime.get(calls, timeout=limit)
            except self._ray.exceptions.GetTimeoutError:
                raise PlacementError(
                    f"{len(calls)} actors did not start within {limit:g} s: other work uses the cluster; wait for it, "
                    "or lower execution.actors"
                ) from None

    def _stop(self) -> None:
        with suppress(Exception):
            for actor in self._actors.values():
                self._ray.kill(actor)
        self._runtime.close()

    def _serve(self) -> None:
        """What the thread does: one event after the other."""
        while True:
            try:
                kind, first, second = self._events.get(timeout=CHECK_SECONDS)
            except Empty:
                self._check()
                continue
            if kind == "close":
                return
            try:
                if kind == "call":
                    self._take(first)
                else:
                    self._finish(first, second)
                self._give_out()
            except Exception as error:
                self._fail_all(error)

    def _take(self, call: _Call) -> None:
        if self._lost is not None:
            call.answer.set_exception(self._lost)
        else:
            self._waiting.append(call)

    def _give_out(self) -> None:
        while self._idle and self._waiting:
            worker, call = self._idle.pop(), self._waiting.popleft()
            self._flying[worker] = call
            answer = self._actors[worker].call.remote(call.work, *call.parts)
            answer.future().add_done_callback(lambda done, worker=worker: self._events.put(("done", worker, done)))

    def _finish(self, worker: int, done: Future[Any]) -> None:
        call = self._flying.pop(worker, None)
        if call is None:  # all calls were given up
            return
        error = done.exception()
        if error is None:
            call.answer.set_result(done.result())
        else:
            try:
                self._failed(worker, call, error)
            except Exception as fatal:
                call.answer.set_exception(fatal)
                raise
        self._idle.append(worker)

    def _failed(self, worker: int, call: _Call, error: BaseException) -> None:
        if not isinstance(error, Exception):
            raise RunError(f"{call.name}: its call was given up ({type(error).__name__}); run again")
        failure = failure_of(self._ray, error)
        if failure.gone:
            self._runtime.health.check()
            self._ray.kill(self._actors[worker])
            self._start(worker)
        if failure.kind not in ("died", "memory"):
            call.answer.set_exception(failure.error)
            return
        call.failures += 1
        if call.failures > self._max_retries:
            lost = RunError(
                f"{call.name}: lost {call.failures} times, the last time because {failure.reason} "
                f"({first_line(failure.error)}); raise execution.max_retries, or see what kills its actor"
            )
            call.answer.set_exception(lost)
            return
        self.faults.put(f"actor {worker}: {failure.reason} with {call.name}; another one runs it again")
        self._waiting.appendleft(call)

    def _check(self) -> None:
        if self._flying and self._lost is None:
            try:
                self._runtime.health.look()
            except LostError as error:
                self._fail_all(error)

    def _fail_all(self, error: Exception) -> None:
        self._lost = error
        for call in [*self._flying.values(), *self._waiting]:
            if not call.answer.done():
                call.answer.set_exception(error)
        self._waiting.clear()
        self._flying.clear()
