"""A data set from plain arrays: the one place where shapes, types and labels are checked.

Features by type: float and bool are `real` (float32), uint8 is `pixels`, any other integer is token ids for an
embedding. Targets by type: integers are labels 0..C-1, floats are numbers to regress on.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

import numpy as np

from raysim.arrays import Array
from raysim.data.class_names import named
from raysim.data.dataset import Dataset, InputKind, Pool
from raysim.data.federation import DataInfo
from raysim.data.inputs import InputField
from raysim.data.named_targets import TargetField, pack_targets
from raysim.data.owners import owner_name
from raysim.data.sources.mappings import records, vocabularies, vocabulary_of
from raysim.data.sources.targets import Place, Task, count_classes, index_text, labels, targets, task_of
from raysim.errors import DataError

KEYS = ("x", "y", "x_test", "y_test", "client", "client_test", "weight", "weight_test", "classes")


def from_arrays(
    arrays: Any,
    *,
    origin: str,
    task: Task | None = None,
    kind: InputKind | None = None,
    class_names: tuple[str, ...] | None = None,
    floats: bool = False,
) -> Dataset:
    """Check arrays and make them a data set.

    Args:
        arrays: a pair `(x, y)`, or a mapping of `KEYS`; NumPy arrays, torch tensors, or what `np.asarray` takes.
            x `[n, …]`, or a mapping of several inputs by name, each `[n, …]`; y `[n]`, or `[n, …]` for a label per
            token, time step, pixel or question, or numbers to regress on a vector, or a mapping of several targets;
            client `[n]`; weight `[n]` or the shape of y, non-negative; classes, the names of labels 0, 1, ….
            `client_test` may leave samples without an owner (`raysim.data.owners`). `vocabulary` is how many token ids
            there are, also of those that no training sample has: a number, or a mapping of inputs to numbers.
        origin: file or source, for error messages.
        task: see `task_of`.
        kind: what x is, where its type does not tell.
        class_names: names of the labels, if known and not among the arrays.
        floats: take floats that are whole numbers for class labels.

    Raises:
        DataError: a key is missing or unknown, lengths or shapes differ, a type is wrong, a label is outside the
            classes, or a target is not finite.
    """
    arrays, ids = vocabularies(arrays, origin)
    values = _by_key(arrays, origin)
    inputs: tuple[InputField, ...] = ()
    if isinstance(values["x"], Mapping):
        values["x"], test_x, inputs = records(values["x"], values.get("x_test"), origin, ids)
        kind, values = "record", values if test_x is None else {**values, "x_test": test_x}
    fields: tuple[TargetField, ...] = ()
    if isinstance(values["y"], Mapping):
        y, test_y, fields = pack_targets(values["y"], values.get("y_test"), origin)
        values |= {"y": y} if test_y is None else {"y": y, "y_test": test_y}
    chosen = "regression" if fields else task_of(values["y"], task, origin)
    train = _pool(values, "", chosen, kind, origin, floats)
    if "x_test" in values or "y_test" in values:
        test = _pool(values, "_test", chosen, kind, origin, floats)
    elif alone := sorted(key for key in values if key.endswith("_test")):
        raise DataError(f"{origin}: {alone[0]} says something of a test set, but there is no x_test and no y_test")
    else:
        test = None
    if test is not None:
        _check_alike(train, test)
    classes = count_classes(train, test) if chosen == "classification" else None
    if ids and train.kind != "tokens" and not inputs:
        raise DataError(f"{origin}: 'vocabulary' is for token ids, and x holds {train.kind}; leave it out")
    vocabulary = _vocabulary(train, test, ids.get("")) if train.kind == "tokens" else vocabulary_of(inputs)
    shapes = train.sample_shape, train.kind, train.y.shape[1:]
    info = DataInfo(chosen, *shapes, classes, vocabulary, inputs=inputs, targets=fields)
    if "classes" in values:
        class_names = _class_names(values["classes"], info, origin)
    return Dataset(train, test, info, class_names)


def _class_names(names: Array, info: DataInfo, origin: str) -> tuple[str, ...]:
    if names.ndim != 1:
        raise Place(origin, "classes").error(f" has shape {names.shape}; expected a name for each class")
    found = tuple(str(name) for name in names.tolist())
    named(info, found, f"{origin}: classes")
    return found


def compact(ids: Array) -> Array:
    """Non-negative integers in the smallest of uint8, int16, int32 and int64 that holds them."""
    largest = int(ids.max(initial=0))
    kinds: tuple[type[np.integer[Any]], ...] = (np.uint8, np.int16, np.int32)
    for kind in kinds:
        if largest <= np.iinfo(kind).max:
            return ids.astype(kind)
    return ids.astype(np.int64)


def _by_key(arrays: Any, origin: str) -> dict[str, Any]:
    if isinstance(arrays, tuple | list) and len(arrays) == 2:
        arrays = dict(zip(("x", "y"), arrays, strict=True))
    if not isinstance(arrays, Mapping):
        if hasattr(arrays, "columns"):
            raise DataError(
                f"{origin}: a {_type(arrays)} does not say what its columns are; give "
                "raysim.adapters.from_frame(frame, label='…', client='…')"
            )
        raise DataError(
            f"{origin}: expected a pair (x, y) or a mapping of {', '.join(KEYS)}, or a map-style dataset, "
            f"got {_type(arrays)}"
        )
    for key in arrays:
        if key not in KEYS:
            close = difflib.get_close_matches(str(key), KEYS, n=1)
            raise DataError(
                f"{origin}: unknown array {key!r}; " + (f"did you mean {close[0]!r}?" if close else _keys())
            )
    for key in ("x", "y"):
        if arrays.get(key) is None:
            raise DataError(f"{origin}: array {key!r} is missing; {_keys()}")
    found = {key: _values(value, Place(origin, key)) for key, value in arrays.items() if value is not None}
    for key, what in (("x", "inputs"), ("y", "targets")):
        test = found.get(f"{key}_test")
        if test is not None and isinstance(test, Mapping) != isinstance(found[key], Mapping):
            raise DataError(f"{origin}: {key} and {key}_test are both arrays, or both {what} by name")
    return found


def _values(value: Any, place: Place) -> Any:
    """The values as an array, or several inputs or targets as arrays by name."""
    if place.key in ("x", "x_test", "y", "y_test") and isinstance(value, Mapping):
        return {name: to_numpy(one, Place(place.origin, f"{place.key}[{name!r}]")) for name, one in value.items()}
    return to_numpy(value, place)


def _keys() -> str:
    return f"valid are {', '.join(KEYS)}"


def _type(value: Any) -> str:
    return f"{type(value).__name__} of {len(value)}" if isinstance(value, tuple | list) else type(value).__name__


def to_numpy(value: Any, place: Place) -> Array:
    """The values as a NumPy array, wherever they are.

    Raises:
        DataError: they are ragged, or no numbers.
    """
    if isinstance(value, np.ma.MaskedArray) and np.ma.is_masked(value):
        filled = "np.nan) makes holes of them" if place.key.startswith("x") else "…) says what they are"
        raise place.error(f" has {int(np.ma.getmaskarray(value).sum())} masked values; {place.key}.filled({filled}")
    if hasattr(value, "detach"):  # a torch tensor, perhaps on a GPU, told without importing torch
        value = value.detach().cpu().numpy()
    try:
        array = image_array(value) if hasattr(value, "getbands") else np.asarray(value)
    except ValueError:
        raise place.error(
            " is ragged: every sample must have the same shape; sequences are filled up by 'padding' beside the arrays"
        ) from None
    numeric = array.dtype.kind in "biuf"
    if not numeric and not (place.key.startswith(("client", "classes")) and array.dtype.kind in "UO"):
        remedy = "; number classes by np.unique(y, return_inverse=True)" if place.key.startswith("y") else ""
        what = "numbers or text" if place.key.startswith(("client", "classes")) else "numbers"
        raise place.error(f" has type {array.dtype}; expected {what}{remedy}")
    return array


def image_array(image: Any) -> Array:
    """An image of Pillow, channels first as torch has them: uint8 `[bands, h, w]` of pixels, float32 of other numbers.

    Palettes and images of one bit are converted to colours and greys.
    """
    if image.mode in ("1", "P", "CMYK", "YCbCr", "HSV", "LAB"):
        image = image.convert("L" if image.mode == "1" else "RGB")
    values = np.asarray(image)
    values = values[None] if values.ndim == 2 else np.moveaxis(values, -1, 0)
    return values if values.dtype == np.uint8 else values.astype(np.float32)


def _pool(values: dict[str, Any], suffix: str, task: Task, kind: InputKind | None, origin: str, floats: bool) -> Pool:
    for key in ("x", "y"):
        if key + suffix not in values:
            raise DataError(f"{origin}: array {key + suffix!r} is missing; x_test and y_test come together")
    x, found = _features(values["x" + suffix], kind, Place(origin, "x" + suffix))
    place = Place(origin, "y" + suffix)
    y = values["y" + suffix]
    if y.ndim == 0 or len(y) != len(x):
        raise place.error(f" has shape {y.shape} for {len(x)} samples of x{suffix}; give one target a sample")
    if task == "classification":
        y = labels(y, origin=origin, key=place.key, floats=floats)
    else:
        y = targets(y, place.origin, place.key)
    if task == "classification" and y.ndim > 1:
        # A column vector is one label a sample.
        column = y.shape == (len(x), 1) and not (found == "tokens" and x.shape == y.shape)
        y = y[:, 0] if column else compact(y)
    client = values.get("client" + suffix)
    if client is not None:
        if client.shape != (len(x),):
            raise DataError(f"{origin}: client{suffix} has shape {client.shape}; expected ({len(x)},)")
        client = _owners(client, Place(origin, "client")) if not suffix else client
    weight = values.get("weight" + suffix)
    if weight is not None:
        weight = _weight(weight, y, Place(origin, "weight" + suffix))
    return Pool(x, y, found, origin, client, weight)


def _owners(client: Array, place: Place) -> Array:
    """Owners of training samples: of any type that sorts; none may be missing."""
    values = client.tolist() if client.dtype.kind in "Of" else ()
    if missing := [i for i, owner in enumerate(values) if owner_name(owner) is None]:
        raise place.error(
            f"[{missing[0]}] is {client[missing[0]]}; every training sample needs an owner, or none has one"
        )
    return client.astype(str) if client.dtype.kind == "O" else client


def _features(x: Array, kind: InputKind | None, place: Place) -> tuple[Array, InputKind]:
    if x.ndim < 2:
        raise place.error(f" has shape {x.shape}; expected [samples, features, …], e.g. x.reshape(-1, 1)")
    if x.size == 0:
        raise place.error(f" is empty (shape {x.shape})")
    if kind == "record":
        return x, kind
    if kind is None:
        kind = "pixels" if x.dtype == np.uint8 else "tokens" if x.dtype.kind in "iu" else "real"
    if kind == "tokens":
        if x.min() < 0:
            raise place.error(
                f" has integer type {x.dtype} and negative values; token ids are 0, 1, …; features, float32"
            )
        return compact(x), kind
    if kind == "real":
        with np.errstate(over="ignore"):  # what becomes infinite is reported by its row after the transforms
            x = x.astype(np.float32, copy=False)
    return np.ascontiguousarray(x), kind


def _weight(weight: Array, y: Array, place: Place) -> Array:
    with np.errstate(over="ignore"):
        weight, given = weight.astype(np.float32), weight
    if np.any((weight == 0) & (given != 0)):
        raise place.error(" has values below 1e-45, which are 0 in float32; scale all weights")
    if weight.shape == (len(y),):
        weight = np.broadcast_to(weight.reshape((-1,) + (1,) * (y.ndim - 1)), y.shape)
    if weight.shape != y.shape:
        raise place.error(f" has shape {weight.shape}; expected ({len(y)},) or {y.shape}")
    bad = np.argwhere(~(np.isfinite(weight) & (weight >= 0)))
    if len(bad):
        raise place.error(f"[{index_text(bad[0])}] is {weight[tuple(bad[0])]}; weights are finite and not negative")
    if not weight.any():
        raise place.error(" is 0 everywhere, so that nothing counts; leave the weights out")
    return np.ascontiguousarray(weight)


def _check_alike(train: Pool, test: Pool) -> None:
    shapes = (("x", train.sample_shape, test.sample_shape), ("y", train.y.shape[1:], test.y.shape[1:]))
    for key, ours, theirs in shapes:
        if ours != theirs:
            raise DataError(
                f"{train.origin}: a sample of {key}_test has shape {theirs}, of {key} {ours}; they must be the same"
            )
    if train.kind != test.kind:
        raise DataError(f"{train.origin}: x holds {train.kind}, x_test {test.kind}; give both the same type")


def _vocabulary(train: Pool, test: Pool | None, given: int | None) -> int:
    found = int(np.asarray(train.x).max()) + 1
    size = found if given is None else given
    if found > size:
        raise DataError(f"{train.origin}: x has the token id {found - 1}, but 'vocabulary' is {size}; raise it")
    largest = 0 if test is None else int(np.asarray(test.x).max())
    if largest >= size:
        remedy = "say by 'vocabulary' how many ids there are, seen or not" if given is None else "raise 'vocabulary'"
        raise DataError(
            f"{train.origin}: x_test has the token id {largest}, outside the training ids 0..{size - 1}; {remedy}"
        )
    return size
