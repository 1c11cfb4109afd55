"""Reading YAML and applying dotted overrides."""

from __future__ import annotations

import copy
import re
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from raysim.errors import ConfigError


def read_yaml(path: str | Path) -> dict[str, Any]:
    """Read a YAML mapping with the safe loader.

    Raises:
        ConfigError: the file is missing, is not YAML, or is not a mapping.
    """
    file = Path(path)
    try:
        text = file.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(f"{file}: no such file") from None
    except IsADirectoryError:
        raise ConfigError(f"{file}: cannot be read, it is a folder; name the YAML file in it") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{file}: cannot be read, byte {error.start} is not UTF-8; save it as UTF-8 text") from None
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read ({error.strerror or error}); check its permissions") from None
    try:
        values = _parsed(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f"{file}:{mark.line + 1}" if mark is not None else str(file)
        raise ConfigError(f"{place}: not valid YAML ({getattr(error, 'problem', error)})") from None
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
        ConfigError: an override has no `=`, an empty key, a bad value, or a path through something that is no section.
    """
    result: dict[str, Any] = copy.deepcopy(dict(values))
    for override in overrides:
        path, separator, text = override.partition("=")
        keys = path.strip().split(".")
        if not separator or not all(keys):
            raise ConfigError(f"override {override!r}: write key.sub=value")
        try:
            value = _parsed(text)
        except yaml.YAMLError:
            raise ConfigError(f"override {override!r}: the value is not valid YAML") from None
        section = result
        for depth, key in enumerate(keys[:-1]):
            below = section.setdefault(key, {})
            if isinstance(below, str):  # the shorthand `model: mlp`
                below = section[key] = {"name": below}
            if below is None:  # a section that is left out, such as `evaluation.fine_tune`
                below = section[key] = {}
            if not isinstance(below, dict):
                raise ConfigError(f"override {override!r}: {'.'.join(keys[: depth + 1])} is not a section")
            section = below
        section[keys[-1]] = value
    return result


def _parsed(text: str) -> Any:
    loader = _Loader(text)
    try:
        return loader.get_single_data()
    finally:
        loader.dispose()


class _Loader(yaml.SafeLoader):
    """The safe loader, which also refuses a key given twice and reads `1e-3` as a number."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, Hashable):
                raise yaml.constructor.ConstructorError(None, None, "a key must be a word", key_node.start_mark)
            if key in seen:
                raise yaml.constructor.ConstructorError(None, None, f"key {key!r} is given twice", key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep=deep)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?[0-9]+(?:\.[0-9]*)?[eE][-+]?[0-9]+$"), list("-+0123456789")
)
