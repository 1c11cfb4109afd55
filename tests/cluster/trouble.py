"""Federated averaging that gets into trouble where it is told to: real signals and real errors in real processes."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from raysim.algorithms import FedAvg
from raysim.data import Federation
from raysim.data.federation import Samples
from raysim.data.store import ArrowFederation, StoreSpec
from raysim.errors import DataError
from raysim.training import Clients, Some


class Trouble(FedAvg):
    """Args: `folder`, for marks that survive a process, and `faults`, mappings with `what` and `round`.

    A fault happens as often as its `times` says, once by default, to whichever client comes first, or always, to its
    `client`. With `at: apply` it happens to the server, in the step of its round.
    """

    columnwise = False

    def __init__(self, config: Any, layout: Any, *, folder: str, faults: list[dict[str, Any]]) -> None:
        super().__init__(config, layout)
        self.folder, self.faults = Path(folder), faults

    def correct(self, grad: torch.Tensor, weights: torch.Tensor, b: Some) -> None:
        for number, fault in enumerate(self.faults):
            if fault["round"] != b.setting.round or fault.get("at") == "send":
                continue
            if fault.get("at") == "apply":
                (self.folder / f"{number}.armed").touch()
            elif "client" in fault:
                if fault["client"] in b.clients:
                    happen(fault["what"])
            elif self._is_due(number, b.clients):
                happen(fault["what"])

    def send(self, c: Clients) -> Mapping[str, torch.Tensor]:
        update = c.rows - c.broadcast
        for fault in self.faults:
            if fault.get("at") == "send" and fault["round"] == c.setting.round:
                update[[client == fault["client"] for client in c.clients.tolist()]] = float("nan")
        return {"update": update}

    def apply(self, model: Any, state: Any, mean: Any) -> Any:
        for number, fault in enumerate(self.faults):
            if (self.folder / f"{number}.armed").exists() and self._is_due(number):
                happen(fault["what"])
        return super().apply(model, state, mean)

    def _is_due(self, number: int, clients: Any = ()) -> bool:
        """Whether it has not happened often enough, in any process. The mark has the clients that it happens to."""
        for time_ in range(self.faults[number].get("times", 1)):
            try:
                mark = os.open(self.folder / f"{number}.{time_}", os.O_CREAT | os.O_EXCL | os.O_WRONLY)
            except FileExistsError:
                continue
            os.write(mark, json.dumps([int(client) for client in clients]).encode())
            os.close(mark)
            return True
        return False


def happen(what: str) -> None:
    """The trouble itself."""
    me = os.getpid()
    if what == "kill":
        os.kill(me, signal.SIGKILL)
    elif what == "stop":
        os.kill(me, signal.SIGSTOP)
    elif what == "stop for a while":
        subprocess.Popen(["sh", "-c", f"sleep 5; kill -CONT {me}"], start_new_session=True)
        os.kill(me, signal.SIGSTOP)
    elif what == "loop":
        while True:
            time.sleep(0.01)
    elif what == "hog":
        hog()
    elif what == "allocate":
        allocate()
    elif what == "data":
        raise DataError("shards: train.arrow is missing")
    else:
        raise ValueError(what)


def hog() -> None:
    """Ask for more memory than there is."""
    in_use = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (in_use + 100 * 2**20, before[1]))
    try:
        np.ones(2**27)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def allocate() -> None:
    """Take more and more memory until somebody stops it."""
    taken = []
    for _ in range(256):  # more than the test asks for: other processes may give memory back meanwhile
        taken.append(np.ones(2**23))
        time.sleep(0.05)
    raise AssertionError(f"{len(taken)} times 64 MiB and nobody minded")


@dataclass(frozen=True)
class PatchySpec:
    """A federation that one node has no store of, or of which it cannot read the shards of some clients."""

    inner: StoreSpec
    node: str
    clients: tuple[int, ...] = ()

    @property
    def fingerprint(self) -> str:
        return self.inner.fingerprint

    def open(self) -> Federation:
        import ray

        if not ray.is_initialized() or ray.get_runtime_context().get_node_id() != self.node:
            return self.inner.open()
        if not self.clients:
            raise DataError("shards: no such folder")
        return _Patchy(self.inner.path, self.clients)


class _Patchy(ArrowFederation):
    def __init__(self, path: str, missing: tuple[int, ...]) -> None:
        super().__init__(path)
        self._missing = missing

    def shard(self, client: int, part: Any = "train") -> Samples:
        if client in self._missing:
            raise DataError(f"shards: the shard of client {client} is missing")
        return super().shard(client, part)
