"""Whether what a transform is about to make fits this machine's memory: found out before, by arithmetic."""

from __future__ import annotations

from raysim.data.dataset import Pool
from raysim.errors import DataError
from raysim.machine import available_memory

_GB = 1e9


def check_room(pool: Pool, needed: int, what: str, remedy: str) -> None:
    """Raise a DataError if `needed` bytes are more than can be had; `what` takes them."""
    available = available_memory()
    if needed > available:
        sizes = f"{needed / _GB:,.1f} GB of memory, {available / _GB:,.1f} GB are free"
        raise DataError(f"{pool.origin}: {what} takes {sizes}; {remedy}")
