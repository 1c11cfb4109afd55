"""The observers of a run: those that Python or the command line hands over, and those that the configuration names."""

from __future__ import annotations

import difflib
import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

from raysim.config import load
from raysim.config.base import CustomConfig
from raysim.config.observers import ObserverConfig
from raysim.config.showing import shown
from raysim.errors import ConfigError
from raysim.tracking.observers.base import METHODS, Observer
from raysim.tracking.observers.fanout import Fanout
from raysim.tracking.observers.lines import JsonObserver, PlainObserver, QuietObserver
from raysim.tracking.observers.mlflow import MlflowObserver
from raysim.tracking.observers.notebook import NotebookObserver, in_notebook
from raysim.tracking.observers.tensorboard import TensorBoardObserver
from raysim.tracking.observers.trackers import needed
from raysim.tracking.observers.wandb import WandbObserver
from raysim.user_code import user_code

Observing: TypeAlias = Observer | str | Sequence[Observer | str] | None
"""What `progress=` takes: an observer or the name of a built-in one, several of them, or None for `quiet`."""


def _terminal() -> Observer:
    if in_notebook():
        return NotebookObserver()
    from raysim.tracking.observers.terminal import TerminalObserver  # Rich is for those who see it

    return TerminalObserver()


DISPLAYS: Mapping[str, Callable[[], Observer]] = {
    "terminal": _terminal,
    "plain": PlainObserver,
    "json": JsonObserver,
    "quiet": QuietObserver,
}
"""Observers that print, of which each is made once."""
TRACKERS: Mapping[str, Callable[..., Observer]] = {
    "tensorboard": TensorBoardObserver,
    "mlflow": MlflowObserver,
    "wandb": WandbObserver,
}
"""Observers that pass the run to another tool; each takes the keys of its section."""
OBSERVERS: Mapping[str, Callable[..., Observer]] = {**DISPLAYS, **TRACKERS}
"""Every built-in observer by its name; the docstrings of their sections in `raysim.config.observers` describe them."""


def open_observers(progress: Observing, configured: Sequence[ObserverConfig] = ()) -> Fanout:
    """All observers of a run as one: the built-in ones first, then the caller's, then those of the configuration.

    A built-in observer that is named twice is made once, `terminal` is a `NotebookObserver` in a notebook and `plain`
    where the standard error is no terminal, and `quiet` is left out beside any of them, which show warnings, too.

    Args:
        progress: what the caller asks for.
        configured: `tracking.observers`.

    Raises:
        ConfigError: a name is unknown, or an object is no observer; a class of the user's own cannot be imported or
            called.
    """
    given = _as_list(progress)
    objects = [_checked(one, "progress") for one in given if not isinstance(one, str)]
    names = [_known(one) for one in given if isinstance(one, str)]
    objects += [TRACKERS[name]() for name in names if name in TRACKERS]
    for place, config in enumerate(configured):
        if isinstance(config, CustomConfig):
            objects.append(_custom(config, f"tracking.observers[{place}]"))
        elif config.name in TRACKERS:
            objects.append(TRACKERS[config.name](**config.model_dump(exclude={"name"})))
        else:
            names.append(config.name)
    return Fanout([*(DISPLAYS[name]() for name in _displays(names)), *objects])


def check_trackers(configured: Sequence[ObserverConfig]) -> None:
    """See that the libraries of the configured trackers are there, without opening anything.

    Raises:
        ConfigError: one is not installed.
    """
    for config in configured:
        if config.name in TRACKERS:
            needed(config.name, config.name)


def _as_list(progress: Observing) -> list[Observer | str]:
    if progress is None:
        return ["quiet"]
    if isinstance(progress, list | tuple):
        return list(progress)
    return [progress]  # type: ignore[list-item]  # no list or tuple, see above


def _displays(names: Sequence[str]) -> list[str]:
    """The displays to make, each once."""
    live = in_notebook() or sys.stderr.isatty()
    displays = [name for name in names if name in DISPLAYS]
    found = dict.fromkeys("plain" if name == "terminal" and not live else name for name in displays)
    if "plain" in found or "terminal" in found:
        found.pop("quiet", None)
    return list(found)


def _known(name: str) -> str:
    if name in OBSERVERS:
        return name
    close = difflib.get_close_matches(name, OBSERVERS, n=1, cutoff=0.5)
    remedy = f"did you mean {close[0]!r}?" if close else f"valid are {', '.join(OBSERVERS)}"
    raise ConfigError(f"progress: unknown observer {shown(name)}; {remedy}")


def _custom(config: CustomConfig, key: str) -> Observer:
    """An observer of the user's own, by its import string."""
    found = load(config.name, key=key)
    if not callable(found):
        raise ConfigError(f"{key}: {config.name} is a {type(found).__name__}, not a class of observers")
    with user_code(f"{key}: {config.name}", ConfigError):
        signature = inspect.signature(found)
    try:
        signature.bind(**config.args)
    except TypeError as error:
        raise ConfigError(f"{key}.args: {config.name} cannot be called with them: {error}") from None
    with user_code(f"{key}: {config.name}", ConfigError):
        made = found(**config.args)
    return _checked(made, f"{key}: {config.name}")


def _checked(value: Any, place: str) -> Observer:
    """The value, if it has the methods of an observer."""
    if isinstance(value, type):
        raise ConfigError(f"{place}: {value.__name__} is a class; give an observer, {value.__name__}(…)")
    missing = [name for name in METHODS if not callable(getattr(value, name, None))]
    if missing:
        raise ConfigError(
            f"{place}: expected an observer ({', '.join(OBSERVERS)}, or an object with the methods of "
            f"raysim.tracking.Observer), got {type(value).__name__} without {', '.join(missing)}"
        )
    observer: Observer = value
    return observer
