"""Calls of a program in this process, one after the other: the same interface as the actors have."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Any

import torch

from raysim.adapters.flower.client import ClientProgram


class InProcessCalls:
    """Answers a call when it is made, on the thread that makes it.

    Attributes:
        workers: 1.
        faults: none ever.
    """

    workers = 1

    def __init__(self, program: ClientProgram, threads: int) -> None:
        """Open the program; clients compute with this many threads of torch, the server with as many as before."""
        self._answer, self._threads = program.open(), threads
        self._lock = threading.Lock()
        self.faults: SimpleQueue[str] = SimpleQueue()

    def keep(self, value: Any) -> Any:
        """The value itself: clients get copies of it."""
        return value

    def submit(self, name: str, work: Any, parts: Sequence[Any] = ()) -> Future[Any]:
        """The answer, which is there already."""
        done: Future[Any] = Future()
        with self._lock:
            before = torch.get_num_threads()
            torch.set_num_threads(self._threads)
            try:
                done.set_result(self._answer(work, *parts))
            finally:
                torch.set_num_threads(before)
        return done

    def close(self) -> None:
        """Nothing is open."""
