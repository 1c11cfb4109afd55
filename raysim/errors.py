"""The errors a user can cause. Each is one line that names the place and the remedy; the CLI exits with code 2."""

from __future__ import annotations


class RaysimError(Exception):
    """Base class of every error that raysim raises on purpose.

    Attributes:
        client: the client that it is about, where there is one.
        round: the round, likewise.
    """

    client: int | None = None
    round: int | None = None


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
    """The plan can never be placed on the machines at hand."""


class ClientError(RaysimError):
    """A client's own code failed: names the client, the round and the error.

    Attributes:
        reason: the error alone.
        memory: whether it is that memory ran out.
    """

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
