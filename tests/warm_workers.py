"""Ray's workers as forks of one process that has imported torch and raysim: each would spend 3 s on that by itself.

Run by Ray in the place of its own `setup_worker.py`, this file hands the worker's command line over to that process.
"""

from __future__ import annotations

import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

ADDRESS = "RAYSIM_TESTS_WORKER_SERVER"
"""The environment variable with the socket's path."""
ALSO = (
    "google.protobuf.reflection",
    "jsonschema",
    "numpy.random",
    "pyarrow.json",
    "pydantic.v1",
    "requests",
    "torch._dynamo",
)
"""What Ray, or training in rows, imports into each worker."""
LENGTH = 8
"""Bytes before a message that say how long it is."""


@contextmanager
def warm_workers() -> Iterator[None]:
    """A Ray that this process starts meanwhile has its workers forked."""
    from ray._private import ray_constants

    with tempfile.TemporaryDirectory(prefix="raysim-") as folder:
        address = os.path.join(folder, "socket")
        threads = {"OMP_NUM_THREADS": "1"}  # what Ray gives an actor with one core
        server = subprocess.Popen(
            [sys.executable, __file__, "serve", address],
            stdin=subprocess.PIPE,  # it ends when this end is closed, by whatever
            stdout=subprocess.PIPE,
            env={**os.environ, **threads},
            start_new_session=True,
        )
        assert server.stdin is not None
        assert server.stdout is not None
        assert server.stdout.readline() == b"ready\n"
        cold = ray_constants.SETUP_WORKER_FILENAME
        ray_constants.SETUP_WORKER_FILENAME = __file__
        os.environ[ADDRESS] = address
        try:
            yield
        finally:
            del os.environ[ADDRESS]
            ray_constants.SETUP_WORKER_FILENAME = cold
            server.stdin.close()
            server.wait()
            server.stdout.close()


def hand_over(address: str) -> None:
    """Have this process's command line, environment and streams taken over by a fork of the server's."""
    process = {
        "arguments": sys.argv[1:],
        "environment": dict(os.environ),
        "directory": os.getcwd(),
        "niceness": os.getpriority(os.PRIO_PROCESS, 0),
    }
    message = json.dumps(process).encode()
    with socket.socket(socket.AF_UNIX) as server:
        server.connect(address)
        socket.send_fds(server, [len(message).to_bytes(LENGTH, "little")], [0, 1, 2])
        server.sendall(message)


def serve(address: str) -> None:
    """Fork for each process that is handed over, until standard input is closed. Only forks return from here."""
    import gc

    import raysim.cluster.actors
    import raysim.simulation  # noqa: F401

    for name in ALSO:
        if find_spec(name.partition(".")[0]):
            import_module(name)
    assert "ray" not in sys.modules, "it reads the environment when it is imported, and each worker has one of its own"
    gc.freeze()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for them
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(address)
        listener.listen(64)
        print("ready", flush=True)
        while listener in select.select([listener, 0], [], [])[0]:
            client, _ = listener.accept()
            with client, client.makefile("rb") as stream:
                header, streams, _, _ = socket.recv_fds(client, LENGTH, 3)
                process = json.loads(stream.read(int.from_bytes(header, "little")))
            if os.fork() == 0:
                listener.close()
                become(process, streams)
                return
            for descriptor in streams:
                os.close(descriptor)


def become(process: dict[str, Any], streams: list[int]) -> None:
    """Make this process the one that was handed over, up to the worker's own program."""
    import random

    import numpy as np
    import torch

    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.setpgid(0, 0)
    os.setpriority(os.PRIO_PROCESS, 0, process["niceness"])
    for number, descriptor in enumerate(streams):
        os.dup2(descriptor, number)
        os.close(descriptor)
    os.environ.clear()
    os.environ.update(process["environment"])
    os.chdir(process["directory"])
    random.seed()
    np.random.seed()  # noqa: NPY002
    torch.seed()
    sys.argv = worker_program(process["arguments"])
    sys.path[0] = os.path.dirname(sys.argv[0])


def worker_program(arguments: list[str]) -> list[str]:
    """The worker's program and its arguments, without those for `setup_worker.py`, which are applied."""
    options = {name: value for name, _, value in (one.partition("=") for one in arguments)}
    os.environ.update(json.loads(options.get("--serialized-runtime-env-context", "{}")).get("env_vars") or {})
    return [one for one in arguments if not one.startswith(("--serialized-runtime-env-context=", "--language="))]


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(sys.argv[2])
        if sys.argv[1] != "serve":
            runpy.run_path(sys.argv[0], run_name="__main__")
    elif address := os.environ.get(ADDRESS):
        hand_over(address)
    else:  # by Ray's own way, which is slower
        ray = find_spec("ray")
        assert ray is not None
        runpy.run_path(str(Path(str(ray.origin)).parent / "_private/workers/setup_worker.py"), run_name="__main__")
