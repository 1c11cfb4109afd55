"""Is there memory for what a file or a configuration promises? Asked before anything is allocated."""

from __future__ import annotations

from raysim.errors import DataError, RaysimError
from raysim.machine import available_memory

_GB = 1e9


def check_room(nbytes: float, where: str, what: str, remedy: str, *, error: type[RaysimError] = DataError) -> None:
    """Refuse what takes more memory than there is.

    Args:
        nbytes: estimate; too small rather than too large.
        where: file or key.
        what: what needs it, as the subject of a sentence in the singular.
        remedy: what to do about it.
        error: what is raised.

    Raises:
        DataError: or `error`, one line with both numbers.
    """
    available = available_memory()
    if nbytes > available:
        needed = nbytes / _GB
        found = f"{needed:,.1f}" if needed < 1e9 else f"{needed:.3g}"
        raise error(f"{where}: {what} takes {found} GB of memory, {available / _GB:,.1f} GB are free; {remedy}")
