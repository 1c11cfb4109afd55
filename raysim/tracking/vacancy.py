"""Folders in which a run may begin: nothing is in them but what folders come with."""

from __future__ import annotations

from pathlib import Path

from raysim.files import is_temporary
from raysim.locks import LOCK

BYSTANDERS = frozenset({LOCK, "lost+found"})
"""What an empty folder may have in it: a lock, and what ext file systems put into the root of every volume."""


def is_vacant(path: Path) -> bool:
    """Whether there is nothing at this path, or an empty folder: leftovers of killed processes do not count."""
    if not path.exists():
        return True
    if not path.is_dir():
        return False
    return all(entry.name in BYSTANDERS or is_temporary(entry.name) for entry in path.iterdir())
