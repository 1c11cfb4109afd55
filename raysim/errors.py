"""The errors a user can cause. Each is one line that names the place and the remedy; the CLI exits with code 2."""

from __future__ import annotations

import copy
import sys
from functools import reduce
from typing import Any

_CARRIED, _ENTRIES = 1 << 16, 64
"""Characters of each text, and entries of each list, in a cause that travels with its error."""


class RaysimError(Exception):
    """Base class of every error that raysim raises on purpose.

    Pickled, as on its way from an actor, it keeps its cause where that is known to come through.

    Attributes:
        client: the client that it is about, where there is one.
        round: the round, likewise.
        users: whether code of the user's own raised its cause, so that a traceback tells where.
        memory: whether it is that memory ran out.
    """

    client: int | None = None
    round: int | None = None
    users: bool = False
    memory: bool = False

    def __reduce__(self) -> tuple[Any, ...]:
        state = dict(self.__dict__)
        if self.__cause__ is not None and _can_travel(self.__cause__):
            state["__cause__"] = self.__cause__
        return type(self), self.args, state


def _can_travel(error: BaseException) -> bool:
    """Whether an error comes out of a pickle as it went in; one of the user's own may fail in any way."""
    kind = type(error)
    try:
        known: object = reduce(getattr, kind.__qualname__.split("."), sys.modules[kind.__module__])
        return known is kind and _plain((error.args, vars(error))) and type(copy.copy(error)) is kind
    except BaseException:
        return False


def _plain(value: object) -> bool:
    """Whether a value is small, and made of numbers and text alone."""
    if isinstance(value, str | bytes):
        return len(value) <= _CARRIED
    if isinstance(value, tuple | list | dict):
        inside = [*value, *value.values()] if isinstance(value, dict) else value
        return len(inside) <= _ENTRIES and all(map(_plain, inside))
    return value is None or type(value) in (bool, int, float)


class ConfigError(RaysimError):
    """The configuration is wrong: names the file or section, the key, and what was expected."""


class DataError(RaysimError):
    """The data is missing, damaged, or does not fit the configuration."""


class ModelError(RaysimError):
    """The model cannot be built, or does not fit the data."""


class RunError(RaysimError):
    """A run directory or checkpoint cannot be used as asked."""


class StorageError(RunError):
    """A disk or an object store refuses to take or to give something: it is full, out of reach, or not permitted."""


class LostError(RunError):
    """Ray itself is gone, and with it everything that was not saved; nothing can be saved any more."""


class PlacementError(RaysimError):
    """The plan can never be placed on the machines at hand, or an actor cannot work where it was placed."""


class UserCodeError(RaysimError):
    """Code of the user's own failed where no client is to blame: names the place and the error."""

    def name(self, place: str) -> None:
        """Name a place around the one that the error names already."""
        self.args = (f"{place}: {self}",)

    def again(self, kind: type[RaysimError]) -> RaysimError:
        """The same as an error of another kind, to be raised from the same cause."""
        other = kind(str(self))
        other.users, other.memory = self.users, self.memory
        return other


class ClientError(RaysimError):
    """A client's own code failed: names the client, the round and the error.

    Attributes:
        reason: the error alone.
    """

    users = True

    def __init__(
        self,
        message: str,
        *,
        client: int | None = None,
        round: int | None = None,
        reason: str | None = None,
        memory: bool = False,
    ) -> None:
        super().__init__(message)
        self.client, self.round = client, round
        self.reason, self.memory = message if reason is None else reason, memory
