"""Classes by name: which names a data set has, what columns call them, and which class a name means."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from raysim.data.federation import DataInfo
from raysim.errors import ConfigError, DataError

_NOT_IN_COLUMNS = re.compile(r"[^\w.+<>=-]+")
SHOWN = 12
"""Names that a message lists."""


def named(info: DataInfo, names: Sequence[str], place: str) -> DataInfo:
    """The info with names for its classes.

    Raises:
        DataError: targets are numbers, two classes have one name, or there are more or fewer names than classes.
    """
    if info.classes is None:
        raise DataError(f"{place}: names classes, but the targets are numbers; remove it")
    if len(names) != info.classes:
        raise DataError(f"{place}: {_counted(len(names), 'name')} for {_counted(info.classes, 'class', 'classes')}")
    twice = next((name for name in names if list(names).count(name) > 1), None)
    if twice is not None:
        raise DataError(f"{place}: two classes are called {twice!r}; give each its own name")
    return replace(info, class_names=tuple(names))


def class_columns(info: DataInfo) -> tuple[str, ...]:
    """What each class is called within a column's name: its name, or its number where it has none.

    What is neither a letter, a digit nor one of `_ . + - < > =` becomes `_` (a `/` parts a column's name). Where that
    leaves nothing, or what another class is called, the class's number goes behind it.
    """
    names = _names(info)
    legal = [_NOT_IN_COLUMNS.sub("_", name).strip("_") for name in names]
    taken = {name for name, column in zip(names, legal, strict=True) if name == column}
    for number, name in enumerate(names):
        if legal[number] != name:
            while not legal[number] or legal[number] in taken:
                legal[number] = f"{legal[number] or 'class'}_{number}"
            taken.add(legal[number])
    return tuple(legal)


def class_number(info: DataInfo, wanted: str | int, place: str) -> int:
    """The class that a name, a column's spelling of it, or a number means.

    A number is the name of a class where one is called so; else it counts classes from 0, unless other classes are
    called by whole numbers, among which it would be mistaken for a name.

    Raises:
        ConfigError: there is no such class; the line lists those that there are.
    """
    names, text = _names(info), str(wanted)
    for known in (names, class_columns(info)):
        if text in known:
            return known.index(text)
    if text.isdecimal() and int(text) < len(names) and not any(name.lstrip("-").isdecimal() for name in names):
        return int(text)
    raise ConfigError(f"{place}: there is no class {text}; classes are {listed_names(info)}")


def listed_names(info: DataInfo) -> str:
    """All classes in a line, the middle of very many left out."""
    names = _names(info)
    if info.class_names is None and len(names) > 2:
        return f"0 to {len(names) - 1}"
    more = f", … and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def _names(info: DataInfo) -> tuple[str, ...]:
    return info.class_names or tuple(str(number) for number in range(info.classes or 0))


def _counted(count: int, one: str, several: str | None = None) -> str:
    return f"{count} {one if count == 1 else several or one + 's'}"
