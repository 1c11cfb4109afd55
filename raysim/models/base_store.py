"""Frozen tensors in one file a node: in the cache, named by the fingerprint of its contents, mapped by every process.

A plain safetensors file whose tensors begin on 64-byte boundaries, as the memory does that torch allocates: elsewhere
some kernels give other last bits. Entries named `~…` fill the gaps, for the format allows none.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from raysim.config.parsing import parse_json
from raysim.data.store.cache import build_once
from raysim.errors import DataError
from raysim.files import replacing, storing

BASES, FILE = "bases", "base.safetensors"
"""Folder of a cache in which the bases are, and the file in each of them."""
ALIGNMENT = 64
_FILLING = "~"
_CHUNK = 16 << 20
_DTYPES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
_BY_NAME = {name: dtype for dtype, name in _DTYPES.items()}


def storable(tensor: Tensor, name: str = "") -> bool:
    """Whether a tensor comes back from a file as it is: plain, on the CPU, its values one after the other."""
    if name.startswith(_FILLING):
        return False
    plain = type(tensor) in (Tensor, torch.nn.Parameter) and tensor.layout == torch.strided
    dense = tensor.is_contiguous() and not tensor.is_conj() and not tensor.is_neg()
    return plain and dense and tensor.device.type == "cpu" and tensor.dtype in _DTYPES and tensor.numel() > 0


@dataclass(frozen=True, slots=True)
class BaseFile:
    """A file of frozen tensors.

    Attributes:
        path: `CACHE/bases/FINGERPRINT/base.safetensors`; the fingerprint is the SHA-256 of the file, shortened.
        bytes: its size.
    """

    path: str
    bytes: int

    @classmethod
    def keep(cls, tensors: Mapping[str, Tensor], cache: Path) -> BaseFile:
        """Write tensors into a file of the cache, unless it is there. Several processes may do so at once.

        Args:
            tensors: `storable` ones by name.

        Raises:
            DataError, StorageError: the cache cannot be written.
        """
        digest, size = hashlib.sha256(), 0
        for piece in _pieces(tensors):
            digest.update(piece)
            size += len(piece)
        path = cache / BASES / digest.hexdigest()[:32] / FILE
        if not path.exists():
            build_once(path.parent, lambda folder: _write(tensors, folder / FILE))
        elif not _holds(path, tensors, size):  # damaged; a process that maps it keeps what it has
            with storing(path), replacing(path) as temporary:
                _write(tensors, temporary)
        return cls(str(path), size)

    def map(self) -> dict[str, Tensor]:
        """The tensors by name, in a map that is copied where it is written to, so that nothing reaches the file.

        Raises:
            DataError: the file is not there, or another one.
        """
        path, mapped = Path(self.path), dict[str, Tensor]()
        try:
            with path.open("rb") as file:
                length = int.from_bytes(file.read(8), "little")
                header = parse_json(file.read(length))
            if path.stat().st_size != self.bytes:
                raise ValueError(f"it has {path.stat().st_size} bytes, {self.bytes} were written")
            storage: Any = torch.UntypedStorage.from_file(self.path, False, self.bytes)
            for name, entry in header.items():
                if not name.startswith(_FILLING):
                    # Not views of one tensor: a write to one would count as a write to all.
                    dtype, start = _BY_NAME[entry["dtype"]], 8 + length + entry["data_offsets"][0]
                    shape, strides = entry["shape"], _strides(entry["shape"])
                    empty = torch.empty(0, dtype=dtype)
                    mapped[name] = empty.set_(storage, start // dtype.itemsize, shape, strides)
        except FileNotFoundError:
            raise DataError(
                f"{path}: the model's frozen base is not there; on a cluster, data.cache must be a folder that every "
                "node sees"
            ) from None
        except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
            raise DataError(
                f"{path}: cannot be read as the model's frozen base ({str(error).splitlines()[0][:200]}); delete the "
                f"folder {path.parent}, it is written again when needed"
            ) from None
        return mapped


def _strides(shape: list[int]) -> list[int]:
    return [prod(shape[i + 1 :]) for i in range(len(shape))]


def _write(tensors: Mapping[str, Tensor], path: Path) -> None:
    with path.open("wb") as file:
        for piece in _pieces(tensors):
            file.write(piece)


def _holds(path: Path, tensors: Mapping[str, Tensor], size: int) -> bool:
    """Whether a file is the one that would be written."""
    try:
        if path.stat().st_size != size:
            return False
        with path.open("rb") as file:
            return all(file.read(len(piece)) == piece for piece in _pieces(tensors))
    except OSError:
        return False


def _pieces(tensors: Mapping[str, Tensor]) -> Iterator[bytes | memoryview]:
    """The file, piece by piece: a header whose end is on a boundary, and each tensor filled up to one."""
    header, end = dict[str, dict[str, Any]](), 0
    for name, tensor in tensors.items():
        header[name] = {"dtype": _DTYPES[tensor.dtype], "shape": list(tensor.shape)}
        header[name]["data_offsets"] = [end, end := end + tensor.nbytes]
        if gap := -end % ALIGNMENT:
            filling = {"dtype": "U8", "shape": [gap], "data_offsets": [end, end := end + gap]}
            header[f"{_FILLING}{name}"] = filling
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-(8 + len(text)) % ALIGNMENT)
    yield len(text).to_bytes(8, "little") + text
    for tensor in tensors.values():
        data = tensor.detach().reshape(-1).view(torch.uint8).numpy().data
        yield from (data[start : start + _CHUNK] for start in range(0, len(data), _CHUNK))
        yield b"\0" * (-len(data) % ALIGNMENT)
