"""Files of named vectors: what the server, the selection and clients keep in a checkpoint, and the model."""

from __future__ import annotations

import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file
from safetensors.numpy import save_file as save_arrays
from safetensors.torch import save_file as save_torch
from torch import Tensor

from raysim.arrays import Array
from raysim.errors import RunError


def read_vectors(path: Path) -> dict[str, Array]:
    """The arrays of a safetensors file.

    Raises:
        RunError: it is missing, damaged, or has types that NumPy does not know.
    """
    try:
        found = load_file(path)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, SafetensorError) as error:
        raise RunError(f"{path}: cannot be read as safetensors ({str(error)[:200]})") from None
    return {name: np.asarray(value) for name, value in found.items()}


def save_vectors(path: str | Path, vectors: Mapping[str, Array]) -> None:
    """Write NumPy arrays by name.

    Raises:
        OSError: the disk refuses.
    """
    with _saving(Path(path)) as file:
        save_arrays(dict(vectors), file)


def save_tensors(path: str | Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write contiguous tensors by name, no two of which share memory.

    Args:
        metadata: what the file's header says beside them.

    Raises:
        OSError: the disk refuses.
    """
    with _saving(Path(path)) as file:
        save_torch(dict(tensors), file, dict(metadata) or None)


@contextmanager
def _saving(file: Path) -> Iterator[Path]:
    """Work around safetensors: raise OSError, keep the default file mode."""
    try:
        file.touch()
        mode = stat.S_IMODE(file.stat().st_mode)
        yield file
        file.chmod(mode)
    except SafetensorError as error:
        raise OSError(str(error)) from None
