"""Reading files of named vectors: what the server, the selection and clients keep in a checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load_file

from raysim.errors import RunError


def read_vectors(path: Path) -> dict[str, npt.NDArray[Any]]:
    """The arrays of a safetensors file.

    Raises:
        RunError: it is missing, damaged, or has types that NumPy does not know.
    """
    try:
        found = load_file(path)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, SafetensorError) as error:
        raise RunError(f"{path}: cannot be read as safetensors ({str(error)[:200]})") from None
    return {name: np.asarray(value) for name, value in found.items()}
