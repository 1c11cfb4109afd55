"""The file in a checkpoint that holds the state of a selection."""

from __future__ import annotations

from pathlib import Path

from raysim.errors import RunError
from raysim.rounds.vectors import read_vectors, save_vectors
from raysim.selection.base import Selection, State

FILE = "selection.safetensors"


def save_state(folder: str | Path, state: State) -> None:
    """Write a state into a checkpoint's folder; an empty one has no file.

    Raises:
        OSError: the disk refuses.
    """
    if state:
        save_vectors(Path(folder) / FILE, state)


def load_state(folder: str | Path, selection: Selection) -> State:
    """The state in a checkpoint's folder.

    Raises:
        RunError: it is not there, or damaged.
    """
    first = selection.first()
    if not first:
        return first
    path = Path(folder) / FILE
    found = read_vectors(path)
    kinds, expected = ({name: (value.ndim, value.dtype) for name, value in of.items()} for of in (found, first))
    if kinds != expected:
        raise RunError(f"{path}: is of another selection than {selection.experiment.selection.name}")
    for value in found.values():
        value.setflags(write=False)
    return found
