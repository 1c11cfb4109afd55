"""What is said of a run of an app at its end."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from raysim.adapters.flower.library import library
from raysim.adapters.flower.recording import Recording
from raysim.adapters.flower.replies import ReplyLog


def note_end(observers: Any, driven: Any, replies: ReplyLog | None, recording: Recording, client: Any) -> None:
    """Tell observers what failed, came late or does not suffice for a resume, and whether the fast engine would do.

    Args:
        driven: the app's grid.
        client: its ClientApp.
    """
    for text in driven.take_faults():
        observers.note(text, "warning")
    if recording.failures:
        observers.note(f"{recording.failures} messages were answered with an error; log.jsonl has them", "warning")
    if driven.late:
        text = f"{driven.late} messages had no reply in the time that the app allows: the result depends on this "
        observers.note(text + "machine's speed", "warning")
    if replies is not None and replies.full:
        observers.note("the replies took more than tracking.reply_bytes: this run cannot be resumed", "warning")
    if _is_plain_fedavg(recording.strategy) and _uses_torch(client):
        observers.note(
            "this is FedAvg with a torch model: as a configuration of raysim it runs on the engine that trains "
            "many clients at once; docs/flower.md, 'The way to the fast engine', says how"
        )


def _is_plain_fedavg(strategy: Any) -> bool:
    return type(strategy) in (library().FedAvg, library().ClassicFedAvg)


def _uses_torch(client: Any) -> bool:
    """Whether a module of the functions that the ClientApp calls has torch, or a module of it, by name."""
    torch = sys.modules.get("torch")
    if torch is None:
        return False
    functions = [*getattr(client, "_registered_funcs", {}).values(), getattr(client, "_call", None)]
    names = {getattr(inner, "__module__", None) for one in functions for inner in _inner(one)}
    spaces = [vars(sys.modules[name]) for name in names if name in sys.modules]
    for space in spaces:
        for value in space.values():
            if value is torch or (isinstance(value, type) and issubclass(value, torch.nn.Module)):
                return True
    return False


def _inner(function: Any) -> Iterator[Any]:
    """A function and those that it closes over: Flower wraps what an app registers."""
    if callable(function):
        yield function
        for cell in getattr(function, "__closure__", None) or ():
            with suppress(ValueError):
                yield from _inner(cell.cell_contents)
