"""`raysim doctor`: is this machine ready, and if not, what to do about it."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Annotated

import typer

from raysim.cli import printing
from raysim.cli.app import app, examples
from raysim.cli.exit_codes import FOUND
from raysim.cli.findings import GIB, Finding, enough, gib
from raysim.cli.json_outputs import emit
from raysim.cli.options import Json
from raysim.config.running import TrackingConfig
from raysim.machine import available_memory, cores

Address = Annotated[
    str | None, typer.Option(show_default=False, help="A running Ray cluster (auto or host:port): check its nodes too.")
]


@app.command(epilog=examples("raysim doctor", "raysim doctor --address auto"))
def doctor(address: Address = None, json: Json = False) -> None:
    """Check Python, torch, Ray, memory, disks and data folders. Exit code 1 if something is bad.

    Every line says ok, warn (slower or smaller than it could be) or bad (runs will fail), and what to do.

    With an address, every node of that cluster is asked as well: versions, processors, GPUs, shared memory, open files,
    disk, clock, and whether it sees the shards.
    """
    findings = [finding for check in CHECKS for finding in check()]
    if not json:
        _show(findings)
    asked = [] if address is None else list(nodes(address))
    ok = all(one.level != "bad" for one in (*findings, *asked))
    if json:
        from raysim.cli.json_outputs.catalogue import DoctorOutput

        emit(DoctorOutput(ok, tuple(findings), tuple(asked)))
    elif asked:
        printing.gap()
        _show(asked)
    if not ok:
        raise typer.Exit(FOUND)


def nodes(address: str) -> Iterator[Finding]:
    """The nodes of a cluster."""
    from raysim.cli.nodes import node_findings
    from raysim.cluster.inspection import NoAnswer, inspect_nodes
    from raysim.data.store.cache import cache_folder

    found = inspect_nodes(address, cache_folder(None))
    for node in found:
        if isinstance(node, NoAnswer):
            remedy = "install raysim there as on the driver, or look into the node's Ray logs"
            yield Finding("bad", "node", f"{node.name}: {node.reason}", remedy)
    answered = [node for node in found if not isinstance(node, NoAnswer)]
    if answered:
        yield from node_findings(answered)


def _show(findings: Sequence[Finding]) -> None:
    printing.table(
        {"": "left", "check": "left", "found": "left"},
        [(one.level, one.what, one.found + (f"; {one.remedy}" if one.remedy else "")) for one in findings],
    )


def python() -> Iterator[Finding]:
    """The interpreter."""
    yield Finding("ok", "python", sys.version.split()[0])


def torch() -> Iterator[Finding]:
    """Torch, the processor and the GPUs."""
    try:
        import torch
    except (ImportError, OSError) as error:
        yield Finding("bad", "torch", f"cannot be imported ({error})", "install it: pip install torch")
        return
    capability = torch.backends.cpu.get_cpu_capability()
    yield Finding("ok", "torch", f"{torch.__version__}, {torch.get_num_threads()} threads, {capability}")
    if torch.cuda.is_available():
        names = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
        yield Finding("ok", "cuda", f"{torch.version.cuda}, {', '.join(names)}")
    elif shutil.which("nvidia-smi") is not None:
        why = "is built without CUDA" if torch.version.cuda is None else "cannot use it"
        yield Finding(
            "warn", "cuda", f"there is a GPU driver, but torch {why}", "install torch for the driver's CUDA version"
        )
    else:
        yield Finding("ok", "cuda", "no GPU: clients train on the CPU")


def ray() -> Iterator[Finding]:
    """Ray, and environment variables that change its behaviour."""
    try:
        from raysim.cluster.runtime import import_ray

        found = import_ray()
    except (ImportError, OSError) as error:
        yield Finding(
            "bad", "ray", f"cannot be imported ({error})", "pip install ray, or set execution.executor=inprocess"
        )
        return
    yield Finding("ok", "ray", found.__version__)
    if os.environ.get("RAY_ADDRESS"):
        yield Finding(
            "warn",
            "RAY_ADDRESS",
            f"{os.environ['RAY_ADDRESS']}: Ray attaches there instead of starting its own",
            "unset it, or say so in execution.address",
        )
    if os.environ.get("RAY_ENABLE_ZERO_COPY_TORCH_TENSORS", "0") not in ("", "0"):
        yield Finding(
            "bad", "zero copy", "RAY_ENABLE_ZERO_COPY_TORCH_TENSORS lets actors write shared memory", "unset it"
        )


def token() -> Iterator[Finding]:
    """Ray's authentication token: readable by its owner alone."""
    from raysim.cluster.token import exposed, token_file

    file = token_file()
    if exposed(file):
        remedy = f"a user who reads it can run code in the cluster: chmod 600 {file}"
        yield Finding("bad", "token", f"others can read {file}", remedy)
    else:
        yield Finding("ok", "token", f"{file}, its owner's alone" if file.exists() else "none yet")


def processor() -> Iterator[Finding]:
    """CPU cores, and how many of them may be used."""
    usable, all_cores = cores(), os.cpu_count() or 1
    if usable < all_cores:
        yield Finding(
            "warn",
            "cores",
            f"{usable:g} of {all_cores} may be used",
            f"set execution.actors={max(1, int(usable))}, or actors compete for them",
        )
    else:
        yield Finding("ok", "cores", f"{all_cores}")


def memory() -> Iterator[Finding]:
    """Memory, and the part of it that processes can share."""
    free = available_memory()
    low = "close other programs, or set execution.actors=1"
    yield enough("memory", f"{gib(free)} available", free, warn=2 * GIB, bad=GIB // 2, remedy=low)
    shared = Path("/dev/shm")  # noqa: S108 - looked at, not written
    if shared.is_dir():
        usage = shutil.disk_usage(shared)
        remedy = "Ray falls back to slow files; in Docker use --shm-size=4g, else set execution.object_store_memory"
        found = f"{gib(usage.free)} free of {gib(usage.total)} in {shared}"
        yield enough("shared memory", found, usage.free, warn=GIB, bad=0, remedy=remedy)


def open_files() -> Iterator[Finding]:
    """How many files and sockets a process may have open."""
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    found = "unlimited" if limit == resource.RLIM_INFINITY else f"{limit:,}"
    plenty = sys.maxsize if limit == resource.RLIM_INFINITY else limit
    yield enough("open files", found, plenty, warn=1024, bad=128, remedy="raise the limit: ulimit -n 65536")


def folders() -> Iterator[Finding]:
    """Where shards, runs and Ray's own files go."""
    from raysim.data.store.cache import cache_folder

    places = (
        ("cache", cache_folder(None), "set data.cache or RAYSIM_CACHE to another folder"),
        ("runs", Path(TrackingConfig().directory).absolute(), "set tracking.directory to another folder"),
        ("temporary files", Path(tempfile.gettempdir()), "set RAY_TMPDIR to another folder"),
    )
    for what, folder, remedy in places:
        there = next(parent for parent in (folder, *folder.parents) if parent.exists())
        if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
            yield Finding("bad", what, f"{folder} cannot be written", remedy)
            continue
        free = shutil.disk_usage(there).free
        yield enough(what, f"{gib(free)} free in {folder}", free, warn=2 * GIB, bad=GIB // 8, remedy=remedy)


def data_sets() -> Iterator[Finding]:
    """Where data files are looked for."""
    from raysim.data.sources.files import data_home

    home = data_home()
    imported = sorted(entry.name for entry in home.iterdir() if entry.is_dir()) if home.is_dir() else []
    yield Finding("ok", "data home", f"{home}: {', '.join(imported) or 'nothing imported yet'}")
    configured = os.environ.get("RAYSIM_DATA")
    if configured is None:
        yield Finding("ok", "RAYSIM_DATA", "not set")
    elif Path(configured).expanduser().is_dir():
        yield Finding("ok", "RAYSIM_DATA", configured)
    else:
        yield Finding("warn", "RAYSIM_DATA", f"{configured} is no folder", "correct it, or unset it")


CHECKS: tuple[Callable[[], Iterator[Finding]], ...] = (
    python,
    torch,
    ray,
    token,
    processor,
    memory,
    open_files,
    folders,
    data_sets,
)
