"""Torch's process-wide state, for one thread at a time.

Modules draw from one generator a process, and torch changes `nn.Module` for all threads while it captures a graph. So
simulations in several threads of a process take turns at computing, and each has the bits that it has alone. The number
of torch's threads is each thread's own.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import RLock

import torch

_TURN = RLock()


@contextmanager
def exclusive_torch(device: torch.device | None = None) -> Iterator[None]:
    """Whatever is drawn or captured inside the block meets no other thread's; the caller's generators come back.

    Args:
        device: where the generator may be moved besides the CPU's.
    """
    devices = [device] if device is not None and device.type == "cuda" else []
    with _TURN, torch.random.fork_rng(devices):
        yield
