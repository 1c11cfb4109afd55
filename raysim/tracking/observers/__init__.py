"""Who is told of a run while it goes on: displays, trackers, live pages, each an `Observer`."""

from raysim.tracking.observers.base import NoteLevel, Observer
from raysim.tracking.observers.build import OBSERVERS, Observing, open_observers
from raysim.tracking.observers.fanout import Failure, Fanout
from raysim.tracking.observers.lines import JsonObserver, PlainObserver, QuietObserver
from raysim.tracking.observers.notebook import NotebookObserver

__all__ = [
    "OBSERVERS",
    "Failure",
    "Fanout",
    "JsonObserver",
    "NoteLevel",
    "NotebookObserver",
    "Observer",
    "Observing",
    "PlainObserver",
    "QuietObserver",
    "open_observers",
]
