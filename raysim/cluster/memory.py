"""How an actor's process holds memory: what training frees, it takes again at the next step.

A step of a large model allocates its activations and gradients anew. By default the C library hands freed memory back
to the system, which must then find and clear every page again, step after step; and it does so in huge pages only where
they are asked for.
"""

from __future__ import annotations

import ctypes
import os

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
"""glibc's names of what is set, from `malloc.h`."""
_NEVER = 2**31 - 1
_LARGEST = 32 << 20
"""Bytes up to which an allocation may come from the heap: more glibc does not allow."""


def keep_freed_memory() -> None:
    """Have this process use its freed memory again; to be called before torch allocates anything large.

    Only where the C library is glibc, and only what the environment has not set already.
    """
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")  # read at torch's first allocation: large tensors in huge pages
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return
    if "MALLOC_TRIM_THRESHOLD_" not in os.environ:
        mallopt(_TRIM_THRESHOLD, _NEVER)
    if "MALLOC_MMAP_THRESHOLD_" not in os.environ:
        mallopt(_MMAP_THRESHOLD, _LARGEST)
