"""Map-style datasets, such as a `torch.utils.data.Dataset`, as arrays: read once, sample by sample, checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from raysim.arrays import Array
from raysim.data.sources.arrays import to_numpy
from raysim.data.sources.targets import Place
from raysim.errors import DataError
from raysim.user_code import user_code

EXPECTED = (
    "expected a map-style dataset: len(dataset) samples, dataset[i] a pair (x, y), or a mapping of inputs and a target"
)
TARGETS = ("label", "labels", "target", "targets", "y")
"""Entries of a sample that are taken for its target where none is named."""
_OWNER = "client"

Sample = Mapping[Any, Any]
"""What a sample has: `x`, or `("x", name)` for each of several inputs, `y` likewise; perhaps `client` and `weight`."""


@dataclass(frozen=True, slots=True)
class SampleFields:
    """Which entries of samples that are mappings are what."""

    label: str | None = None
    """The target; by default the only one of `TARGETS`."""
    inputs: tuple[str, ...] | None = None
    """What a model is given; by default all that is left."""
    client: str | None = None
    """Whose sample it is."""
    weight: str | None = None
    """What it weighs."""

    @property
    def named(self) -> bool:
        """Whether one of them is named, which only samples that are mappings can follow."""
        return self != SampleFields()


def is_indexed(data: Any) -> bool:
    """Whether it is a data set that is read by index, told without importing torch: neither arrays nor their holder."""
    return hasattr(data, "__getitem__") and not (
        isinstance(data, Mapping | tuple | list | str | bytes) or hasattr(data, "__array__")
    )


def is_pair(data: Any) -> bool:
    """Whether it is a pair (x, y) of arrays."""
    return isinstance(data, tuple | list) and len(data) == 2 and all(hasattr(one, "__array__") for one in data)


def read_parts(
    parts: Sequence[tuple[Any, str]], fields: SampleFields, *, ragged: bool
) -> tuple[dict[str, Any], list[int]]:
    """The samples of data sets, one after another.

    Args:
        parts: data sets or pairs of arrays, each with the name by which errors call it.
        fields: what the entries of samples that are mappings are.
        ragged: whether samples may differ in their first dimension; such values are lists of arrays.

    Returns:
        What `from_arrays` takes: `x`, `y`, and perhaps `client` and `weight`; and how many samples each part has.

    Raises:
        DataError: a part has no length or no samples, or a sample cannot be read, or has other entries, another type or
            another shape than the first.
    """
    plain = [_as_pair(data, origin) for data, origin in parts]
    if not fields.named and all(pair is not None for pair in plain):
        pairs = [pair for pair in plain if pair is not None]
        if len(pairs) == 1:
            return dict(zip("xy", pairs[0], strict=True)), [len(pairs[0][1])]
        columns = ([pair[i] for pair in pairs] for i in range(2))
        joined = {key: _joined(key, values, parts) for key, values in zip("xy", columns, strict=True)}
        return joined, [len(pair[1]) for pair in pairs]
    sources = [data if pair is None else _Zipped(*pair) for (data, _), pair in zip(parts, plain, strict=True)]
    counts = [_length(data, origin) for data, (_, origin) in zip(sources, parts, strict=True)]
    collected = _Collected(sum(counts), ragged)
    number = 0
    for data, count, (_, origin) in zip(sources, counts, parts, strict=True):
        for i in range(count):
            collected.put(number, _sample(data, i, origin, fields), f"{origin}: sample {i}")
            number += 1
    return collected.arrays(), counts


class _Zipped:
    """A pair of arrays, sample by sample."""

    def __init__(self, x: Any, y: Any) -> None:
        self._x, self._y = x, y

    def __len__(self) -> int:
        return len(self._y)

    def __getitem__(self, i: int) -> tuple[Any, Any]:
        return self._x[i], self._y[i]


class _Collected:
    """The values of a number of samples, in arrays that are made when the first one is put in."""

    def __init__(self, count: int, ragged: bool) -> None:
        self._count, self._ragged = count, ragged
        self._values: dict[Any, Any] = {}

    def put(self, number: int, sample: Sample, where: str) -> None:
        if not self._values:
            for key, value in sample.items():
                lists = key == _OWNER or self._ragged
                self._values[key] = [None] * self._count if lists else np.empty(
                    (self._count, *value.shape), value.dtype
                )  # fmt: skip
        if sample.keys() != self._values.keys():
            raise DataError(f"{where} has {_listed(sample)}, sample 0 has {_listed(self._values)}; give all the same")
        for key, value in sample.items():
            whole = self._values[key]
            if isinstance(whole, np.ndarray) and (value.shape != whole.shape[1:] or value.dtype != whole.dtype):
                longer = value.shape[1:] == whole.shape[2:] and value.ndim == whole.ndim - 1 and value.ndim > 0
                remedy = "; sequences of different lengths need 'padding' beside 'train' (e.g. 0)" if longer else ""
                raise DataError(
                    f"{where}: {_name(key)} is {value.dtype} {value.shape}, of sample 0 {whole.dtype} "
                    f"{whole.shape[1:]}; all samples must have the same type and shape{remedy}"
                )
            whole[number] = value

    def arrays(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, values in self._values.items():
            if key == _OWNER:
                found[key] = np.array([value.item() for value in values])
                continue
            even = isinstance(values, list) and len({(value.shape, value.dtype) for value in values}) == 1
            whole: Any = np.stack(values) if even else values
            if isinstance(key, tuple):
                found.setdefault(key[0], {})[key[1]] = whole
            else:
                found[key] = whole
        return found


def _listed(sample: Mapping[Any, Any]) -> str:
    return ", ".join(_name(key) for key in sample)


def _name(key: str | tuple[str, str]) -> str:
    return key if isinstance(key, str) else f"{key[0]}[{key[1]!r}]"


def _as_pair(data: Any, origin: str) -> tuple[Any, Any] | None:
    """A pair of whole arrays, where there is one without reading sample by sample."""
    if isinstance(data, tuple | list) and len(data) == 2:
        return data[0], data[1]
    if hasattr(data, "columns") and hasattr(data, "__array__"):
        raise DataError(f"{origin}: a {type(data).__name__} is given by raysim.adapters.from_frame(frame, label='…')")
    if not is_indexed(data):
        raise DataError(f"{origin}: {EXPECTED}; or a pair (x, y) of arrays; got {type(data).__name__}")
    if type(data).__name__ == "TensorDataset" and len(data.tensors) == 2:
        x, y = data.tensors
        return x, y
    return None


def _joined(key: str, values: list[Any], parts: Sequence[tuple[Any, str]]) -> Array:
    arrays = [to_numpy(one, Place(origin, key)) for one, (_, origin) in zip(values, parts, strict=True)]
    for array, (_, origin) in zip(arrays, parts, strict=True):
        if array.ndim == 0 or array.shape[1:] != arrays[0].shape[1:] or array.dtype != arrays[0].dtype:
            raise DataError(
                f"{origin}: {key} is {array.dtype} {array.shape[1:]} a sample, in the first part {arrays[0].dtype} "
                f"{arrays[0].shape[1:]}; all samples must have the same type and shape"
            )
        if len(array) == 0:
            raise DataError(f"{origin}: has no samples; leave it out")
    return np.concatenate(arrays)


def _length(data: Any, origin: str) -> int:
    try:
        count = len(data)
    except (TypeError, NotImplementedError):
        raise DataError(f"{origin}: {type(data).__name__} has no length; {EXPECTED}") from None
    if count == 0:
        raise DataError(f"{origin}: {type(data).__name__} has no samples")
    return count


def _sample(data: Any, i: int, origin: str, fields: SampleFields) -> Sample:
    with user_code(f"{origin}: sample {i} cannot be read", DataError):
        sample = data[i]
        if isinstance(sample, Mapping):
            sample = dict(sample)
    where = f"{origin}: sample {i}"
    if isinstance(sample, dict):
        return _of_mapping(sample, where, fields)
    if not isinstance(sample, tuple | list) or len(sample) != 2:
        found = f"{type(sample).__name__} of {len(sample)}" if hasattr(sample, "__len__") else type(sample).__name__
        more = "; give several inputs as a mapping, ({'a': …, 'b': …}, y)" if isinstance(sample, tuple | list) else ""
        raise DataError(f"{where} is a {found}; {EXPECTED}{more}")
    if fields.named:
        raise DataError(f"{where} is a pair, whose entries have no names; leave out 'label', 'inputs' and the like")
    return _converted(dict(zip("xy", sample, strict=True)), where)


def _of_mapping(sample: dict[Any, Any], where: str, fields: SampleFields) -> Sample:
    rest = dict(sample)
    label = fields.label
    if label is None:
        candidates = [name for name in TARGETS if name in rest]
        if len(candidates) != 1:
            several = f"both {candidates[0]!r} and {candidates[1]!r}" if candidates else _entries(rest)
            raise DataError(f"{where} has {several}; name its target by 'label' beside 'train'")
        label = candidates[0]
    found: dict[Any, Any] = {}
    named = {"y": label, "client": fields.client, "weight": fields.weight}
    for key, name in named.items():
        if name is not None:
            if name not in rest:
                raise DataError(f"{where} has no {name!r}, which {key} is; it has {_entries(sample)}")
            found[key] = rest.pop(name)
    for name in fields.inputs or ():
        if name not in rest:
            raise DataError(f"{where} has no {name!r}, which 'inputs' names; it has {_entries(sample)}")
    if fields.inputs is not None:
        rest = {name: rest[name] for name in fields.inputs}
    if not rest:
        raise DataError(f"{where} has a target and no inputs; it has {_entries(sample)}")
    if len(rest) == 1:
        (found["x"],) = rest.values()
    else:
        found |= {("x", str(name)): value for name, value in rest.items()}
    return _converted(found, where)


def _entries(sample: Mapping[Any, Any]) -> str:
    return "the entries " + ", ".join(map(repr, sample)) if sample else "no entries"


def _converted(sample: Mapping[Any, Any], where: str) -> Sample:
    flat: dict[Any, Any] = {}
    for key, value in sample.items():
        several = key in ("x", "y") and isinstance(value, Mapping)
        flat |= {(key, str(name)): one for name, one in value.items()} if several else {key: value}
    return {key: to_numpy(value, Place(where, _name(key))) for key, value in flat.items()}
