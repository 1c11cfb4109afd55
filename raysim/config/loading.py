"""Reading YAML and applying dotted overrides."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from raysim.config.parsing import MOST_BYTES, MOST_DEPTH, Malformed, parse_yaml
from raysim.config.showing import one_line, shown
from raysim.errors import ConfigError


def read_yaml(path: str | Path) -> dict[str, Any]:
    """Read a YAML mapping of plain values.

    Raises:
        ConfigError: the file is missing, too large, is not YAML, or is not a mapping.
    """
    file = Path(path)
    try:
        with file.open("rb") as stream:
            content = stream.read(MOST_BYTES + 1)
        if len(content) > MOST_BYTES:
            raise ConfigError(
                f"{file}: larger than {MOST_BYTES >> 20} MiB, which no configuration is; name another file"
            )
        text = content.decode("utf-8")
    except FileNotFoundError:
        raise ConfigError(f"{file}: no such file") from None
    except IsADirectoryError:
        raise ConfigError(f"{file}: cannot be read, it is a folder; name the YAML file in it") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{file}: cannot be read, byte {error.start} is not UTF-8; save it as UTF-8 text") from None
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read ({error.strerror or error}); check its permissions") from None
    except ValueError as error:  # a NUL byte
        raise ConfigError(f"{str(file)!r}: no path ({error}); name another file") from None
    try:
        values = parse_yaml(text)
    except Malformed as error:
        place = f"{file}:{error.line}" if error.line is not None else str(file)
        raise ConfigError(f"{place}: not valid YAML ({one_line(error.reason)})") from None
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise ConfigError(
            f"{file}: expected a mapping of sections, got {type(values).__name__}; write `key: value`, a key a line"
        )
    return values


def apply_overrides(values: Mapping[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """Return a copy of `values` with `key.sub=value` assignments applied in order; values are parsed as YAML.

    `model=mlp` replaces the section; `model.hidden=[64]` sets one key of it.

    Raises:
        ConfigError: an override has no `=`, an empty key, a bad value, or a path through something that is no section;
            or they are no list of texts.
    """
    if isinstance(overrides, str | Mapping):  # a text would be taken for a list of letters
        raise ConfigError(f"overrides: expected a list such as ['rounds=10'], got {shown(overrides)}")
    result: dict[str, Any] = copy.deepcopy(dict(values))
    for override in overrides:
        if not isinstance(override, str):
            raise ConfigError(f"override {shown(override)}: write 'key.sub=value'")
        path, separator, text = override.partition("=")
        keys = path.strip().split(".")
        if not separator or not all(keys):
            raise ConfigError(f"override {shown(override)}: write key.sub=value")
        if len(keys) > MOST_DEPTH:
            raise ConfigError(f"override {shown(override)}: a key of {len(keys):,} parts; write key.sub=value")
        try:
            value = parse_yaml(text)
        except Malformed as error:
            raise ConfigError(
                f"override {shown(override)}: the value is not valid YAML ({one_line(error.reason)})"
            ) from None
        section = result
        for depth, key in enumerate(keys[:-1]):
            below = section.setdefault(key, {})
            if isinstance(below, str):  # the shorthand `model: mlp`
                below = section[key] = {"name": below}
            if below is None:  # a section that is left out, such as `evaluation.fine_tune`
                below = section[key] = {}
            if not isinstance(below, dict):
                raise ConfigError(f"override {shown(override)}: {'.'.join(keys[: depth + 1])} is not a section")
            section = below
        section[keys[-1]] = value
    return result
