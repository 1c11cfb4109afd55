"""Import strings: the only way that a configuration names a user's code."""

from __future__ import annotations

import importlib
import re
import sys
from pathlib import Path
from typing import Any

from raysim.config.base import IMPORT_STRING
from raysim.errors import ConfigError
from raysim.user_code import user_code

_FOLDERS: list[str] = []
_WHERE = "run from the folder that it is in, name that folder in PYTHONPATH, or install it"
"""What to do about a module that is not found."""


def importable(folder: str | Path) -> None:
    """Have import strings find modules of this folder, too, behind all others: that of a configuration's file."""
    place = str(Path(folder).resolve())
    if place not in _FOLDERS:
        _FOLDERS.append(place)
    if place not in sys.path:
        sys.path.append(place)


def import_folders() -> tuple[str, ...]:
    """Folders that were made importable in this process."""
    return tuple(_FOLDERS)


def load(target: str, *, key: str) -> Any:
    """Return the object that `package.module:name` names. The working directory is importable, as for a script.

    Raises:
        ConfigError: the string is malformed, the module cannot be imported (whatever it raises), or it has no such
            name.
    """
    if not re.match(IMPORT_STRING, target):
        raise ConfigError(f"{key}: {target!r} is not an import string; write `package.module:name`")
    module_name, _, path = target.partition(":")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        with user_code(f"{key}: {target}: importing {module_name} fails", ConfigError):
            value: Any = importlib.import_module(module_name)
    except ConfigError as failed:
        raise _missing(failed, target, module_name, key) from failed.__cause__
    for name in path.split("."):
        with user_code(f"{key}: {target}: looking up {name!r} fails", ConfigError):
            found = hasattr(value, name)
            value = getattr(value, name, None)
        if not found:
            raise ConfigError(f"{key}: module {module_name!r} has no {path!r}")
    return value


def _missing(failed: ConfigError, target: str, module_name: str, key: str) -> ConfigError:
    """The error of a module that is not there, or that needs one that is not there; any other stays as it is."""
    cause = failed.__cause__
    if not isinstance(cause, ModuleNotFoundError) or cause.name is None:
        return failed
    if f"{module_name}.".startswith(f"{cause.name}."):
        return ConfigError(f"{key}: no module {cause.name!r} (from {target!r}); {_WHERE}")
    error = ConfigError(f"{key}: {target}: its module needs {cause.name!r}, which is not installed; install it")
    error.users = True
    return error
