"""Initial weights from a `.safetensors` file."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from raysim.errors import ModelError
from raysim.files import looked_up
from raysim.models.frozen import BASE, base_fingerprint
from raysim.models.versioned import residual_names


def load_weights(model: nn.Module, path: str, *, name: str) -> None:
    """Copy the file's tensors into the model's parameters and buffers; floats of any width are converted.

    Raises:
        ModelError: see `check_weights`.
    """
    check_weights(model, path, name=name)
    expected = _expected(model)
    try:
        with torch.no_grad(), safe_open(path, framework="pt") as file:
            for key in file.keys():  # noqa: SIM118 - not a mapping
                expected[key].copy_(file.get_tensor(key))
    except (SafetensorError, OSError, RuntimeError, AttributeError) as error:  # a type that this torch does not have
        raise _unreadable(Path(path), error) from None


def check_weights(model: nn.Module, path: str, *, name: str) -> None:
    """Check that the file's tensors are the model's, by its header alone.

    Of parameters that are one and the same (tied), the file may give any. It may lack versions of the base, which stay
    zero. A file that a run wrote of a model with a frozen base has what trains, and names the base.

    Args:
        model: the model, on any device; not changed.
        path: the file.
        name: what errors call the model.

    Raises:
        ModelError: the file cannot be read; a tensor is missing, unexpected, of another shape or kind; the base is
            another one.
    """
    found, base = _header(Path(path))
    expected = _expected(model)
    if base is not None:
        expected = {key: one for key, one in expected.items() if not _frozen(one)}
        _check_base(model, base, path, name)
    given = {id(expected[key]) for key in found if key in expected}
    unexpected = [key for key in found if key not in expected]
    versions = residual_names(model)
    missing = [key for key, tensor in expected.items() if id(tensor) not in given and key not in versions]
    if missing:
        instead = f"; it has {_enumerate(unexpected)} instead" if unexpected else ""
        raise ModelError(f"{path}: lacks {_enumerate(missing)} of model {name}{instead}")
    if unexpected:
        raise ModelError(f"{path}: has {_enumerate(unexpected)}, which model {name} has not")
    for key, (shape, kind) in found.items():
        wanted = expected[key]
        if shape != list(wanted.shape):
            raise ModelError(f"{path}: tensor {key!r} has shape {shape}, but model {name} wants {list(wanted.shape)}")
        if kind.startswith(("F", "BF")) != wanted.is_floating_point():
            raise ModelError(f"{path}: tensor {key!r} is {kind}, but model {name} wants {wanted.dtype}")


def _frozen(tensor: Tensor) -> bool:
    return isinstance(tensor, nn.Parameter) and not tensor.requires_grad


def _check_base(model: nn.Module, base: str, path: str, name: str) -> None:
    if any(tensor.is_meta for tensor in model.parameters()):
        return  # which will be built with values, and checked then
    found = base_fingerprint(model)
    if found != base:
        here = "has no frozen base" if found is None else f"has the base {found[:12]}"
        raise ModelError(f"{path}: what was trained on the frozen base {base[:12]}, but model {name} {here}")


def _header(file: Path) -> tuple[dict[str, tuple[list[int], str]], str | None]:
    """Shape and type (`F32`, `I64`, …) of each tensor in the file; the base that it belongs to, if it says."""
    if not looked_up(file).is_file():
        raise ModelError(f"{file}: no such file (model.weights)")
    try:
        with safe_open(file, framework="pt") as opened:
            slices = {key: opened.get_slice(key) for key in opened.keys()}  # noqa: SIM118 - not a mapping
            shapes = {key: (list(part.get_shape()), str(part.get_dtype())) for key, part in slices.items()}
            return shapes, (opened.metadata() or {}).get(BASE)
    except (SafetensorError, OSError) as error:
        raise _unreadable(file, error) from None


def _unreadable(file: Path, error: Exception) -> ModelError:
    return ModelError(f"{file}: cannot be read as safetensors ({str(error)[:200]}) (model.weights)")


def _expected(model: nn.Module) -> dict[str, Tensor]:
    # Without a module's "extra state", which is no tensor.
    return {key: value for key, value in model.state_dict(keep_vars=True).items() if isinstance(value, Tensor)}


def _enumerate(keys: list[str]) -> str:
    more = f" and {len(keys) - 1} more" if len(keys) > 1 else ""
    return f"tensor {keys[0]!r}{more}"
