"""The configurations that come with raysim: each is found by its name wherever raysim is installed."""

from __future__ import annotations

import difflib
import os
import re
import textwrap
from pathlib import Path

from raysim.errors import ConfigError

CONFIGS = Path(__file__).parents[1] / "configs"
"""In a checkout a link to the folder beside the package; in a wheel the files themselves."""
FAMILIES = ("llm", "privacy", "systems", "wire")
"""Folders of configurations that belong together."""
_SENTENCE_END = re.compile(r"(?<!\bal)\.\s")


def bundled_configs() -> dict[str, str]:
    """Name and one line on every bundled configuration: the first sentence of its first comment."""
    return {name: textwrap.shorten(described(name), 140, placeholder=" …") for name in sorted(_files())}


def described(name: str) -> str:
    """The first sentence of a bundled configuration's first comment, in full, without its full stop."""
    return _sentence(_files()[name])


def _files() -> dict[str, Path]:
    """Every bundled configuration by its name; those of a family begin with its folder, `llm/diloco`."""
    found = [*CONFIGS.glob("*.yaml"), *(file for family in FAMILIES for file in (CONFIGS / family).glob("*.yaml"))]
    return {file.relative_to(CONFIGS).with_suffix("").as_posix(): file for file in found}


def find_config(given: str | Path) -> Path:
    """The file that is meant: one that is there, else the bundled configuration of this name.

    Raises:
        ConfigError: it is no file, and names a bundled configuration only nearly.
    """
    path = Path(given)
    bundled = _files()
    if os.path.exists(path) or not bundled:  # of a name that is too long, `path.exists()` raises an OSError
        return path
    whole, name = path.as_posix().removesuffix(".yaml"), path.name.removesuffix(".yaml")
    if whole in bundled:
        return bundled[whole]
    name = next((one for one in bundled if one in (name, f"{path.parent.name}/{name}")), name)
    if name in bundled:
        raise ConfigError(f"{given}: no such file; to use the one that comes with raysim, write {name}")
    if len(path.parts) == 1 and not path.suffix:
        close = difflib.get_close_matches(path.name, bundled, n=1)
        remedy = f"did you mean {close[0]!r}?" if close else "`raysim list configs` names them"
        raise ConfigError(f"{given}: no such file, and no bundled configuration; {remedy}")
    return path


def _sentence(file: Path) -> str:
    lines = file.read_text(encoding="utf-8").splitlines()
    comment = []
    for line in lines:
        if not line.startswith("#"):
            break
        comment.append(line.lstrip("# ").strip())
    return _SENTENCE_END.split(" ".join(comment), maxsplit=1)[0].rstrip(".")
