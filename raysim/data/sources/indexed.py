"""Map-style datasets, such as a `torch.utils.data.Dataset`, as arrays: read once, sample by sample, checked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from raysim.arrays import Array
from raysim.data.sources.arrays import to_numpy
from raysim.data.sources.targets import Place
from raysim.errors import DataError
from raysim.user_code import user_code

_EXPECTED = "expected a map-style dataset: len(dataset) samples, dataset[i] a pair (x, y)"


def is_indexed(data: Any) -> bool:
    """Whether it is a data set that is read by index, told without importing torch: neither arrays nor their holder."""
    return hasattr(data, "__getitem__") and not (
        isinstance(data, Mapping | tuple | list | str | bytes) or hasattr(data, "__array__")
    )


def as_arrays(data: Any, origin: str) -> Any:
    """What `from_arrays` takes, of what a user gave; arrays stay as they are.

    Args:
        data: a map-style dataset, a tuple (training, test), or a mapping of `train` and perhaps `test`, each a dataset
            or a pair (x, y) of arrays, beside the arrays `client` and `weight`. A list of datasets is refused: it may
            as well be one a client.
        origin: for error messages.

    Raises:
        DataError: a dataset has no length or no samples, one cannot be read, is no pair (x, y), or has another shape
            than the first.
    """
    if is_indexed(data):
        data = {"train": data}
    elif isinstance(data, tuple | list) and data and all(is_indexed(one) or _is_pair(one) for one in data):
        if isinstance(data, list) or len(data) != 2:
            what = f"a {type(data).__name__} of {len(data)} data sets"
            raise DataError(
                f"{origin}: {what} is ambiguous; give (training, test) as a tuple, and data sets of clients "
                "joined, with an array of whose each sample is: {'train': joined, 'client': owners}, partition: natural"
            )
        data = dict(zip(("train", "test"), data, strict=True))
    if not isinstance(data, Mapping) or "train" not in data:
        return data
    arrays = dict(data)
    for part, suffix in (("train", ""), ("test", "_test")):
        if (given := arrays.pop(part, None)) is not None:
            arrays["x" + suffix], arrays["y" + suffix] = _pair(given, f"{origin}: {part}")
            if part == "train" and (names := _own_names(given, arrays["y"])) is not None:
                arrays.setdefault("classes", names)
    return arrays


def _is_pair(data: Any) -> bool:
    """Whether it is a pair (x, y) of arrays."""
    return isinstance(data, tuple | list) and len(data) == 2 and all(hasattr(one, "__array__") for one in data)


def _own_names(data: Any, y: Any) -> list[str] | None:
    """Names in the attribute `classes`, as torchvision's datasets have them, where there is one for each label."""
    names = getattr(data, "classes", None)
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
        return None
    labels = to_numpy(y, Place("", "y"))
    suits = labels.dtype.kind in "iu" and len(set(names)) == len(names) == int(labels.max(initial=-1)) + 1
    return list(names) if suits else None


def _pair(data: Any, origin: str) -> tuple[Any, Any]:
    if isinstance(data, tuple | list) and len(data) == 2:
        return data[0], data[1]
    if not is_indexed(data):
        raise DataError(f"{origin}: {_EXPECTED}; or a pair (x, y) of arrays; got {type(data).__name__}")
    if type(data).__name__ == "TensorDataset" and len(data.tensors) == 2:
        x, y = data.tensors
        return x, y
    return _read(data, origin)


def _read(data: Any, origin: str) -> tuple[Array, Array]:
    try:
        count = len(data)
    except (TypeError, NotImplementedError):
        raise DataError(f"{origin}: {type(data).__name__} has no length; {_EXPECTED}") from None
    if count == 0:
        raise DataError(f"{origin}: {type(data).__name__} has no samples")
    x, y = (np.empty((count, *part.shape), part.dtype) for part in _sample(data, 0, origin))
    for i in range(count):
        for key, whole, part in zip("xy", (x, y), _sample(data, i, origin), strict=True):
            if part.shape != whole.shape[1:] or part.dtype != whole.dtype:
                raise DataError(
                    f"{origin}: sample {i}: {key} is {part.dtype} {part.shape}, of sample 0 {whole.dtype} "
                    f"{whole.shape[1:]}; all samples must have the same type and shape"
                )
            whole[i] = part
    return x, y


def _sample(data: Any, i: int, origin: str) -> tuple[Array, Array]:
    with user_code(f"{origin}: sample {i} cannot be read", DataError):
        sample = data[i]
    if not isinstance(sample, tuple | list) or len(sample) != 2:
        found = f"{type(sample).__name__} of {len(sample)}" if hasattr(sample, "__len__") else type(sample).__name__
        raise DataError(f"{origin}: sample {i} is a {found}; {_EXPECTED}")
    x, y = (to_numpy(part, Place(f"{origin}: sample {i}", key)) for key, part in zip("xy", sample, strict=True))
    return x, y
