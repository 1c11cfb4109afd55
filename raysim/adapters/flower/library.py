"""The names of Flower that are used here, looked up when they are needed, whichever version has them where."""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from types import SimpleNamespace
from typing import Any, NoReturn

from raysim.errors import ConfigError

LEAST, BELOW = (1, 21), (1, 43)
"""The first version of flwr that works, and the first that was not tried. As in pyproject.toml."""

_NAMES = {
    "Array": ("flwr.app", "flwr.common"),
    "ArrayRecord": ("flwr.app", "flwr.common"),
    "ConfigRecord": ("flwr.app", "flwr.common"),
    "Context": ("flwr.app", "flwr.common"),
    "Error": ("flwr.app", "flwr.common"),
    "Message": ("flwr.app", "flwr.common"),
    "MetricRecord": ("flwr.app", "flwr.common"),
    "RecordDict": ("flwr.app", "flwr.common"),
    "ClientApp": ("flwr.clientapp", "flwr.client"),
    "ServerApp": ("flwr.serverapp", "flwr.server"),
    "Grid": ("flwr.serverapp", "flwr.server"),
    "ErrorCode": ("flwr.common.constant",),
    "ClientAppException": ("flwr.clientapp.client_app", "flwr.client.client_app"),
    "Run": ("flwr.supercore.run", "flwr.common.typing"),
    "Strategy": ("flwr.serverapp.strategy",),
    "FedAvg": ("flwr.serverapp.strategy",),
    "ClassicFedAvg": ("flwr.server.strategy",),
    "ServerAppComponents": ("flwr.server",),
}
"""Where each name is, the newest place first."""

_OWN_FEDERATIONS = (
    ("flwr.simulation", "run_simulation"),
    ("flwr.simulation", "start_simulation"),
    ("flwr.server", "start_server"),
    ("flwr.client", "start_client"),
    ("flwr.client", "start_numpy_client"),
)
"""Calls that start a simulation or a network of their own."""


@cache
def library() -> Any:
    """The names above as attributes, and `version`.

    Raises:
        ConfigError: flwr is missing, too old, or has one of the names nowhere.
    """
    os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")
    try:
        version = importlib.import_module("flwr").__version__
    except ModuleNotFoundError as error:
        if error.name != "flwr":
            raise ConfigError(f"flwr needs {error.name!r}, which is missing; pip install 'raysim-fl[flower]'") from None
        raise ConfigError("an app of Flower needs flwr, which is missing; pip install 'raysim-fl[flower]'") from None
    wanted = f"raysim runs apps of flwr {_dotted(LEAST)} to {BELOW[0]}.{BELOW[1] - 1}"
    if _numbers(version) < LEAST:
        raise ConfigError(f"flwr {version} has no Message API as of {_dotted(LEAST)}; {wanted}; upgrade flwr")
    found = SimpleNamespace(version=version)
    for name, places in _NAMES.items():
        attribute = "FedAvg" if name == "ClassicFedAvg" else name
        value = next((one for one in (_look_up(place, attribute) for place in places) if one is not None), None)
        if value is None:
            raise ConfigError(f"flwr {version} has no {places[0]}.{attribute}; {wanted}; install one of them")
        setattr(found, name, value)
    return found


def untried() -> bool:
    """Whether this version of flwr is newer than all that were tried."""
    return _numbers(library().version) >= BELOW


def identify(run_id: int) -> None:
    """Say whose messages this process makes, to versions of Flower that ask for it."""
    identity = _look_up("flwr.supercore.task_identity", "TaskIdentity")
    if identity is not None:
        identity.task_id, identity.run_id, identity.node_id = 1, run_id, SERVER_NODE


SERVER_NODE = 1
"""The node id of the server, as Flower has it."""


@contextmanager
def no_other_federation() -> Iterator[None]:
    """Refuse calls that start a simulation or a network of their own, instead of using the grid."""
    replaced: list[tuple[Any, str, Any]] = []
    for place, name in _OWN_FEDERATIONS:
        value = _look_up(place, name)
        if value is not None:
            module = importlib.import_module(place)
            replaced.append((module, name, value))
            setattr(module, name, _refusing(f"{place}.{name}"))
    try:
        yield
    finally:
        for module, name, value in replaced:
            setattr(module, name, value)


def _refusing(call: str) -> Any:
    def refuse(*args: Any, **kwargs: Any) -> NoReturn:
        raise ConfigError(
            f"flwr {library().version}: {call}() starts a federation of its own, which does not run here; move the "
            "call below `if __name__ == '__main__':` and leave a ClientApp (or client_fn) and a ServerApp (or "
            "server_fn, or strategy and config) in the module"
        )

    return refuse


def _look_up(place: str, name: str) -> Any:
    try:
        return getattr(importlib.import_module(place), name, None)
    except ImportError:
        return None


def _numbers(version: str) -> tuple[int, ...]:
    parts = version.split(".")[:2]
    return tuple(int("".join(c for c in part if c.isdigit()) or 0) for part in parts)


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))
