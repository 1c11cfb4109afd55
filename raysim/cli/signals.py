"""Ctrl-C and SIGTERM end a command alike: it saves what is done, says how to go on, and exits as a shell expects it."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from raysim.cli.exit_codes import INTERRUPTED, TERMINATED


class Terminated(KeyboardInterrupt):
    """SIGTERM came: Slurm and Kubernetes send it some time before they kill."""


def exit_code(error: KeyboardInterrupt) -> int:
    """The exit code of the process."""
    return TERMINATED if isinstance(error, Terminated) else INTERRUPTED


@contextmanager
def terminable() -> Iterator[None]:
    """Raise `Terminated` at SIGTERM, as Python raises `KeyboardInterrupt` at Ctrl-C."""
    if not _may_handle():
        yield
        return
    before = signal.signal(signal.SIGTERM, _terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Hold Ctrl-C and SIGTERM back until the block is done."""
    if not _may_handle():
        yield
        return
    came: list[int] = []
    kinds = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(kind, lambda number, frame: came.append(number)) for kind in kinds]
    try:
        yield
    finally:
        for kind, handler in zip(kinds, before, strict=True):
            signal.signal(kind, handler)
    if came:
        raise Terminated if signal.SIGTERM in came else KeyboardInterrupt


def _terminate(number: int, frame: FrameType | None) -> None:
    raise Terminated


def _may_handle() -> bool:
    """Whether handlers can be set, which only the main thread may, and restored: only those of Python can be."""
    if threading.current_thread() is not threading.main_thread():
        return False
    return all(signal.getsignal(kind) is not None for kind in (signal.SIGINT, signal.SIGTERM))
