"""Ray's authentication token. A user who can read it can run code in the cluster, so only its owner may.

Ray writes `~/.ray/auth_token` when it first starts on a machine, readable by all users who may read the home. So
a token is made here, before Ray looks for one, and one that is there is tightened.
"""

from __future__ import annotations

import os
import secrets
import stat
import threading
from contextlib import suppress
from pathlib import Path

from raysim.errors import PlacementError

_OTHERS = stat.S_IRWXG | stat.S_IRWXO


def token_file() -> Path:
    """Where Ray looks for a token, unless it is in the environment."""
    named = os.environ.get("RAY_AUTH_TOKEN_PATH")
    return Path(named).expanduser() if named else Path.home() / ".ray" / "auth_token"


def exposed(file: Path) -> bool:
    """Whether others than the owner can read or write the file; False if there is none."""
    try:
        return bool(file.stat().st_mode & _OTHERS)
    except OSError:
        return False


def guard_token() -> None:
    """Make sure that a Ray about to start here finds a token that only its owner can read.

    Raises:
        PlacementError: it cannot be written.
    """
    if os.environ.get("RAY_AUTH_MODE", "token").lower() != "token" or os.environ.get("RAY_AUTH_TOKEN"):
        return
    file = token_file()
    if not file.exists() and "RAY_AUTH_TOKEN_PATH" not in os.environ:
        try:
            _make(file)
        except OSError as error:
            raise PlacementError(
                f"{file}: Ray's token cannot be written ({error.strerror or error}); set HOME to a folder that can, or "
                "give the token in RAY_AUTH_TOKEN"
            ) from None
    if exposed(file):
        with suppress(OSError):  # a file of another user; `raysim doctor` names it
            file.chmod(stat.S_IRUSR | stat.S_IWUSR)


def _make(file: Path) -> None:
    """A new token, whole or not at all; one that another process made in the meantime stays."""
    file.parent.mkdir(mode=stat.S_IRWXU, parents=True, exist_ok=True)
    temporary = file.with_name(f".{file.name}.{os.getpid()}-{threading.get_ident()}.tmp")
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, stat.S_IRUSR | stat.S_IWUSR)
    try:
        with os.fdopen(handle, "w") as stream:
            stream.write(secrets.token_hex(32))  # 256 bits, as Ray makes them
        with suppress(FileExistsError):
            os.link(temporary, file)
    finally:
        temporary.unlink()
