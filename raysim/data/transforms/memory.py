"""Whether what a transform is about to make fits this machine's memory: found out before, by arithmetic."""

from __future__ import annotations

from raysim.data import room
from raysim.data.dataset import Pool


def check_room(pool: Pool, needed: int, what: str, remedy: str) -> None:
    """Raise a DataError if `needed` bytes are more than can be had; `what` takes them."""
    room.check_room(needed, pool.origin, what, remedy)
