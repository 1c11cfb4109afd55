"""The entries of `tracking.observers`: what follows a run besides the terminal."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Tag

from raysim.config.base import BY_NAME, SHORTHAND, CustomConfig, Section


class TerminalObserverConfig(Section):
    """A live table in a terminal, a line a round elsewhere; on the standard error."""

    name: Literal["terminal"] = "terminal"


class PlainObserverConfig(Section):
    """A line a round on the standard error."""

    name: Literal["plain"] = "plain"


class JsonObserverConfig(Section):
    """A JSON object a line on the standard output: events `start`, `round`, `note` and `finish`."""

    name: Literal["json"] = "json"


class QuietObserverConfig(Section):
    """Warnings and errors alone, on the standard error."""

    name: Literal["quiet"] = "quiet"


ObserverConfig = Annotated[
    Annotated[TerminalObserverConfig, Tag("terminal")]
    | Annotated[PlainObserverConfig, Tag("plain")]
    | Annotated[JsonObserverConfig, Tag("json")]
    | Annotated[QuietObserverConfig, Tag("quiet")]
    | Annotated[CustomConfig, Tag("custom")],
    BY_NAME,
    SHORTHAND,
]
