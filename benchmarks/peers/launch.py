"""Runs one side once, in a process of its own, and returns what it printed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from peers.processes import MARK, marked, memory, new_mark
from peers.side import LAUNCHED, Task

_ROOT = Path(__file__).resolve().parents[1]
_LOOK = 0.5
"""Seconds between two looks at the memory of a run that is watched."""


@dataclass(frozen=True, slots=True)
class Case:
    """What is run, again and again, under one name of the results.

    Attributes:
        label: the name.
        side: whose environment it runs in.
        module: what is run there.
        task: what it is told to do.
        watch: whether to note the most memory that it and its processes hold; looking costs a little time.
    """

    label: str
    side: str
    module: str
    task: Task
    watch: bool = False


def launch(case: Case, python: Path, cache: Path, seconds: float) -> dict[str, Any]:
    """Run a case; its result, or `{"error": …}` with the last line that it wrote.

    Args:
        python: interpreter to run it with.
        cache: where libraries may keep what they must.
        seconds: stop it after this time.
    """
    mark = new_mark()
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as folder:
        task_file, out, err = (Path(folder) / name for name in ("task.json", "out", "err"))
        task_file.write_text(case.task.to_json())
        with out.open("w") as stdout, err.open("w") as stderr:
            process = subprocess.Popen(
                [str(python), "-m", case.module, str(task_file)],
                env=_environment(mark, cache),
                cwd=folder,
                stdout=stdout,
                stderr=stderr,
                start_new_session=True,
            )
            try:
                peak = _wait(process, mark, seconds, watch=case.watch)
            finally:
                _end(mark)  # also what a side has left behind
                process.wait()
        lines = out.read_text().strip().splitlines()
        if process.returncode or not lines:
            said = [*err.read_text().strip().splitlines(), *lines, f"exit code {process.returncode}"]
            late = f"stopped after {seconds:g} s; " if peak is None else ""
            print("\n".join(said[-30:]), file=sys.stderr)
            return {"error": late + next(line for line in reversed(said[:-1] or said) if line.strip()).strip()[:300]}
        result: dict[str, Any] = json.loads(lines[-1])
    result["load"] = load
    if case.watch and peak:
        result["peak_private_bytes"], result["peak_shared_bytes"] = peak
    return result


def _environment(mark: str, cache: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name not in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
    return {
        **kept,
        MARK: mark,
        LAUNCHED: repr(time.monotonic()),
        "PYTHONPATH": str(_ROOT),
        "PYTHONWARNINGS": "ignore",
        "OMP_WAIT_POLICY": "PASSIVE",  # threads that wait by spinning are ruinous where cores are few
        "RAY_AUTH_MODE": "disabled",  # or a local Ray leaves a token in the user's home
        "RAYSIM_CACHE": str(cache / "raysim"),
        "FLWR_HOME": str(cache / "flwr"),
    }


def _wait(process: subprocess.Popen[bytes], mark: str, seconds: float, *, watch: bool) -> tuple[int, int] | None:
    """Wait for the end; the most private and shared bytes seen, or None if the time was up."""
    deadline = time.monotonic() + seconds
    private = shared = 0
    while True:
        left = deadline - time.monotonic()
        if left <= 0:
            return None
        with suppress(subprocess.TimeoutExpired):
            process.wait(min(left, _LOOK) if watch else left)
            return private, shared
        if watch:
            now = memory(marked(mark))
            private, shared = max(private, now[0]), max(shared, now[1])


def _end(mark: str) -> None:
    for pid in marked(mark):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
