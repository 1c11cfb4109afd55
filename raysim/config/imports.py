"""Import strings: the only way that a configuration names a user's code."""

from __future__ import annotations

import importlib
import re
import sys
from pathlib import Path
from typing import Any

from raysim.config.base import IMPORT_STRING
from raysim.errors import ConfigError


def load(target: str, *, key: str) -> Any:
    """Return the object that `package.module:name` names. The working directory is importable, as for a script.

    Raises:
        ConfigError: the string is malformed, the module cannot be imported, or it has no such name.
    """
    if not re.match(IMPORT_STRING, target):
        raise ConfigError(f"{key}: {target!r} is not an import string; write `package.module:name`")
    module_name, _, path = target.partition(":")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        value: Any = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise
        raise ConfigError(f"{key}: no module {error.name!r} (from {target!r}); is it on the path?") from None
    for name in path.split("."):
        if not hasattr(value, name):
            raise ConfigError(f"{key}: module {module_name!r} has no {path!r}")
        value = getattr(value, name)
    return value
