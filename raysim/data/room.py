"""Is there memory for what a file or a configuration promises? Asked before anything is allocated."""

from __future__ import annotations

from raysim.errors import DataError
from raysim.machine import available_memory


def check_room(nbytes: float, where: str, what: str, remedy: str) -> None:
    """Refuse what takes more memory than there is.

    Args:
        nbytes: estimate; too small rather than too large.
        where: file or key.
        what: what needs it, as the subject of a sentence in the singular.
        remedy: what to do about it.

    Raises:
        DataError: one line with both numbers.
    """
    available = available_memory()
    if nbytes > available:
        raise DataError(f"{where}: {what} takes {gib(nbytes)}, and {gib(available)} of memory is available; {remedy}")


def gib(nbytes: float) -> str:
    """Bytes for people."""
    size = nbytes / (1 << 30)
    return f"{size:,.1f} GiB" if size < 1e6 else f"{size:.3g} GiB"
