"""Where the two halves of an app are: in a project folder, in a module, in a package, or in memory."""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import re
import sys
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import ModuleType
from typing import Any

from raysim.adapters.flower.library import library, no_other_federation
from raysim.config.flower import Value
from raysim.config.imports import load
from raysim.errors import ConfigError
from raysim.user_code import user_code

_MODULE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*(:[A-Za-z_][\w.]*)?")
_FORMS = "a folder with pyproject.toml, `package.module`, or `package.module:name`"


@dataclass(frozen=True, slots=True)
class AppSource:
    """Where any process finds the halves of an app.

    Attributes:
        client: an import string, a module to look into, or the ClientApp itself.
        server: likewise.
        folder: that is importable first; None for the working directory alone.
    """

    client: Any
    server: Any
    folder: str | None = None

    def client_app(self) -> Any:
        """The ClientApp.

        Raises:
            ConfigError: it cannot be imported, or is none.
        """
        return self._half(self.client, "ClientApp")

    def server_app(self) -> Any:
        """The ServerApp.

        Raises:
            ConfigError: likewise.
        """
        return self._half(self.server, "ServerApp")

    def _half(self, place: Any, kind: str) -> Any:
        wanted = getattr(library(), kind)
        if not isinstance(place, str):
            found = place
        elif ":" not in place:
            found = _in_module(_imported(place, self.folder), kind)
        else:
            _imported(place.partition(":")[0], self.folder)
            with no_other_federation():
                found = load(place, key="flower")
        if not isinstance(found, wanted):
            raise ConfigError(f"flower: {place} is a {type(found).__name__}, not a {kind}; name the {kind} of the app")
        return found


@dataclass(frozen=True, slots=True)
class FlowerApp:
    """An app, and what its project file says of how it is run.

    Attributes:
        name: a word for the run directory.
        where: as the user wrote it.
        config: the app's own configuration by dotted keys (`context.run_config`).
        nodes: SuperNodes of its federation, where the project file has one.
        num_cpus: cores of a client, likewise.
        num_gpus: GPUs of a client, likewise.
        closed: whether `config` has all keys that there are.
    """

    name: str
    where: str
    source: AppSource
    config: Mapping[str, Value] = field(default_factory=dict)
    nodes: int | None = None
    num_cpus: float | None = None
    num_gpus: float | None = None
    closed: bool = False

    def configured(self, changes: Mapping[str, Any]) -> FlowerApp:
        """The app with values of its own configuration changed.

        Raises:
            ConfigError: its project file has no such key, or a value is no number, truth value or text.
        """
        flat = _flat(changes, "run")
        for key in flat:
            if self.closed and key not in self.config:
                close = difflib.get_close_matches(key, self.config, n=1, cutoff=0.5)
                valid = ", ".join(sorted(self.config)) or "no keys"
                remedy = f"did you mean {close[0]!r}?" if close else f"[tool.flwr.app.config] has {valid}"
                raise ConfigError(f"run: the app has no key {key!r}; {remedy}")
        return replace(self, config={**self.config, **flat})


def find_app(target: str) -> FlowerApp:
    """The app that the word behind `flower:` names.

    Raises:
        ConfigError: flwr is missing or of an unknown version, there is no app, or it is of a kind that does not run.
    """
    library()
    path = Path(target).expanduser()
    if path.name == "pyproject.toml":
        path = path.parent
    if path.is_dir() and ((path / "pyproject.toml").is_file() or not _MODULE.fullmatch(target)):
        return _project(path)
    if not _MODULE.fullmatch(target):
        raise ConfigError(f"flower:{target}: no such folder; name {_FORMS}")
    module_name, _, name = target.partition(":")
    word = module_name.replace(".", "-")
    if not name:
        return FlowerApp(word, target, AppSource(module_name, module_name))
    _imported(module_name, None)
    with no_other_federation():
        found = load(target, key="flower")
    return FlowerApp(word, target, _from_object(found, target, module_name))


def _from_object(found: Any, target: str, module: str) -> AppSource:
    """The halves that one name stands for."""
    flwr = library()
    if isinstance(found, flwr.ServerApp):
        return AppSource(module, target)
    if isinstance(found, flwr.ClientApp):
        return AppSource(target, module)
    halves = [getattr(found, half, None) for half in ("client_app", "server_app")]
    if isinstance(halves[0], flwr.ClientApp) and isinstance(halves[1], flwr.ServerApp):
        return AppSource(f"{target}.client_app", f"{target}.server_app")
    raise ConfigError(
        f"flower:{target} is a {type(found).__name__}; name a ServerApp, a ClientApp, or an object with the "
        "attributes server_app and client_app"
    )


def _project(folder: Path) -> FlowerApp:
    file = folder / "pyproject.toml"
    try:
        values = tomllib.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"flower:{folder}: no pyproject.toml in it; name {_FORMS}") from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{file}: cannot be read ({error})") from None
    flower = _section(values, "tool", "flwr")
    components = _section(flower, "app", "components")
    if "agentapp" in components:
        raise ConfigError(
            f"{file}: flwr {library().version}: an agentapp takes part in no rounds; raysim runs apps of a serverapp "
            "and a clientapp"
        )
    if missing := [half for half in ("serverapp", "clientapp") if not isinstance(components.get(half), str)]:
        raise ConfigError(
            f"{file}: [tool.flwr.app.components] has no {' and no '.join(missing)}; write "
            f'{missing[0]} = "package.module:app"'
        )
    federations = _section(flower, "federations")
    options = _section(federations, str(federations.get("default", "")), "options")
    resources = _section(options, "backend", "client-resources")
    nodes = options.get("num-supernodes")
    name = str(_section(values, "project").get("name", folder.resolve().name))
    return FlowerApp(
        name=re.sub(r"[^\w.-]+", "-", name) or "app",
        where=str(folder.resolve()),
        source=AppSource(components["clientapp"], components["serverapp"], str(folder.resolve())),
        config=_flat(_section(flower, "app", "config"), f"{file}: [tool.flwr.app.config]"),
        nodes=nodes if isinstance(nodes, int) else None,
        num_cpus=_number(resources.get("num-cpus")),
        num_gpus=_number(resources.get("num-gpus")),
        closed=True,
    )


def _section(values: Any, *path: str) -> Mapping[str, Any]:
    for key in path:
        values = values.get(key) if isinstance(values, Mapping) else None
    return values if isinstance(values, Mapping) else {}


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _flat(values: Mapping[str, Any], where: str, above: str = "") -> dict[str, Value]:
    """Nested values by dotted keys, as Flower has them."""
    found: dict[str, Value] = {}
    for key, value in values.items():
        name = f"{above}{key}"
        if isinstance(value, Mapping):
            found |= _flat(value, where, f"{name}.")
        elif isinstance(value, bool | int | float | str):
            found[name] = value
        else:
            raise ConfigError(f"{where}.{name}: expected a number, a truth value or a text, got {value!r}")
    return found


def _imported(name: str, folder: str | None) -> ModuleType:
    if folder is not None and folder not in sys.path:
        sys.path.insert(0, folder)
    with no_other_federation():
        load(f"{name}:__name__", key="flower")
    return sys.modules[name]


def _in_module(module: ModuleType, kind: str) -> Any:
    """The half of an app in a module, or in its package's module of Flower's template."""
    flwr = library()
    wanted, half = getattr(flwr, kind), "client" if kind == "ClientApp" else "server"
    found = {name: value for name, value in vars(module).items() if isinstance(value, wanted)}
    if len({id(value) for value in found.values()}) > 1:
        raise ConfigError(
            f"flower: module {module.__name__!r} has several of {kind}: {', '.join(sorted(found))}; name a folder "
            "whose pyproject.toml says which"
        )
    if found:
        return next(iter(found.values()))
    made = _classic(module, half)
    if made is not None:
        return made
    inner = f"{module.__name__}.{half}_app"
    if hasattr(module, "__path__") and importlib.util.find_spec(inner) is not None:
        return _in_module(_imported(inner, None), kind)
    ways = "client_fn(context)" if half == "client" else "server_fn(context), or a strategy"
    raise ConfigError(f"flower: module {module.__name__!r} has no {kind} and no {ways}; write one into it")


def _classic(module: ModuleType, half: str) -> Any:
    """The half of a program that was written for `start_simulation`: client_fn, server_fn, strategy and config."""
    flwr = library()
    function = getattr(module, f"{half}_fn", None)
    if callable(function):
        with user_code(f"flower: {module.__name__}:{half}_fn", ConfigError):
            return flwr.ClientApp(client_fn=function) if half == "client" else flwr.ServerApp(server_fn=function)
    classic = importlib.import_module("flwr.server.strategy").Strategy
    strategy = getattr(module, "strategy", None)
    if half == "server" and isinstance(strategy, classic):
        parts = flwr.ServerAppComponents(strategy=strategy, config=getattr(module, "config", None))
        return flwr.ServerApp(server_fn=lambda context: parts)
    return None
