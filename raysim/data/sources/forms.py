"""The forms in which a user may hand over data, as the arrays that they stand for.

`docs/data.md` has them as a table: what is given, what it becomes, and what is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from raysim.data.sources.arrays import to_numpy
from raysim.data.sources.indexed import SampleFields, is_indexed, is_pair, read_parts
from raysim.data.sources.ragged import SequencePadding
from raysim.data.sources.targets import Place
from raysim.errors import DataError

_NAMES = ("label", "inputs", "client", "weight")
"""Beside data sets of mappings, which of their entries are what."""


def as_arrays(data: Any, origin: str) -> Any:
    """What `from_arrays` takes, of what a user gave; arrays stay as they are.

    Args:
        data: a map-style dataset; a tuple (training, test); or a mapping of `train` and perhaps `test`, each a dataset
            or a pair (x, y) of arrays, or of `clients` and perhaps `clients_test`, each a mapping of names to those, or
            a list of them. Beside them the arrays `client` and `weight`, or the names of entries of the samples in
            `label`, `inputs`, `client` and `weight`; and `padding` for sequences of different lengths.
        origin: for error messages.

    Raises:
        DataError: the form is not known, or may mean several things; a dataset has no length or no samples, one cannot
            be read, or has another shape than the first.
    """
    _refuse_batches(data, origin)
    if is_indexed(data):
        data = {"train": data}
    elif isinstance(data, tuple | list) and data and all(is_indexed(one) or is_pair(one) for one in data):
        if isinstance(data, list) or len(data) != 2:
            what = f"a {type(data).__name__} of {len(data)} data sets"
            raise DataError(
                f"{origin}: {what} is ambiguous; give (training, test) as a tuple, and data sets of clients as "
                "{'clients': [...]}, partition: natural"
            )
        data = dict(zip(("train", "test"), data, strict=True))
    if not isinstance(data, Mapping):
        return data
    _refuse_unnamed(data, origin)
    arrays = dict(data)
    padding = SequencePadding.taken_from(arrays, origin)
    if "train" in arrays or ("clients" in arrays and "x" not in arrays):  # beside x it is a wrong name of `client`
        arrays = _read(arrays, origin, ragged=padding is not None)
    return arrays if padding is None else padding.of(arrays, origin)


def _read(arrays: dict[str, Any], origin: str, *, ragged: bool) -> dict[str, Any]:
    by_client = "clients" in arrays
    if by_client and "train" in arrays:
        raise DataError(f"{origin}: 'train' and 'clients' are both training samples; give one of them")
    fields = _fields(arrays)
    owners = ("client", "client_test") if by_client else ()
    for key in owners:
        if key in arrays:
            raise DataError(f"{origin}: 'clients' says already whose samples are whose; leave {key!r} out")
    if by_client and fields.client is not None:
        raise DataError(f"{origin}: 'clients' says already whose samples are whose; leave 'client' out")
    if "clients_test" in arrays and (not by_client or "test" in arrays):
        raise DataError(f"{origin}: 'clients_test' goes with 'clients', and without 'test', which has no owners")
    for part, suffix in (("train", ""), ("test", "_test")):
        if (given := arrays.pop(part, None)) is not None:
            found, _ = read_parts([(given, f"{origin}: {part}")], fields, ragged=ragged)
            arrays |= {key + suffix: values for key, values in found.items()}
            if part == "train" and (names := _own_names(given, arrays["y"])) is not None:
                arrays.setdefault("classes", names)
    trained: list[Any] = []
    for part, suffix in (("clients", ""), ("clients_test", "_test")):
        if (given := arrays.pop(part, None)) is not None:
            sets = _named_sets(given, f"{origin}: {part}", trained)
            trained = trained or list(sets)
            parts = [(one, f"{origin}: {part}[{name!r}]") for name, one in sets.items()]
            found, counts = read_parts(parts, fields, ragged=ragged)
            arrays |= {key + suffix: values for key, values in found.items()}
            arrays["client" + suffix] = np.repeat(np.array(list(sets)), counts)
    return arrays


def _named_sets(given: Any, where: str, trained: list[Any]) -> dict[Any, Any]:
    """Data sets by the names of their clients; those of a list are 0, 1, …."""
    if isinstance(given, list | tuple):
        given = dict(enumerate(given))
    if not isinstance(given, Mapping) or not given:
        raise DataError(f"{where}: expected data sets by the names of clients, or a list of them, got {given!r:.60}")
    names = [str(name) for name in given]
    if len(set(names)) < len(names):
        raise DataError(f"{where}: two clients have one name when written as text; rename one")
    if trained and (unknown := [name for name in given if name not in trained]):
        raise DataError(
            f"{where}: {unknown[0]!r} is no client of 'clients'; correct the name, or give it samples there"
        )
    whole = all(isinstance(name, int | np.integer) for name in given)
    return dict(given) if whole else {str(name): one for name, one in given.items()}


def _fields(arrays: dict[str, Any]) -> SampleFields:
    """What the entries of samples are, where names of entries stand in the place of arrays."""
    named: dict[str, Any] = {}
    for key in _NAMES:
        value = arrays.get(key)
        if isinstance(value, str):
            named[key] = arrays.pop(key)
        elif key == "inputs" and value is not None:
            named[key] = tuple(arrays.pop(key))
    if isinstance(named.get("inputs"), str):
        named["inputs"] = (named["inputs"],)
    return SampleFields(**named)


def _refuse_batches(data: Any, origin: str) -> None:
    """Raise a DataError for what hands out batches in an order of its own, such as a DataLoader."""
    inside = list(data.values()) if isinstance(data, dict) else list(data) if isinstance(data, tuple | list) else []
    for one in (data, *inside[:1000]):
        if hasattr(one, "dataset") and hasattr(one, "batch_size") and not hasattr(one, "__getitem__"):
            raise DataError(
                f"{origin}: a {type(one).__name__} makes batches in an order of its own, but samples are dealt to "
                "clients first, and each batches its own (client.batch_size); give what it reads: loader.dataset"
            )


def _refuse_unnamed(data: Mapping[Any, Any], origin: str) -> None:
    """Raise a DataError for data sets by name that are said to be neither parts nor clients."""
    if "train" in data or "clients" in data or "x" in data:
        if "validation" in data and ("train" in data or "clients" in data):
            raise DataError(
                f"{origin}: 'validation' is no part that is taken; data.validation is a share of the training samples, "
                "or give it as 'test'"
            )
        return
    if data and all(is_indexed(one) or is_pair(one) for one in data.values()):
        names = ", ".join(repr(name) for name in list(data)[:3])
        raise DataError(
            f"{origin}: data sets called {names} may be parts or clients; give {{'clients': {{name: data set}}}} for "
            "one a client, or {'train': …, 'test': …}"
        )


def _own_names(data: Any, y: Any) -> list[str] | None:
    """Names in the attribute `classes`, as torchvision's datasets have them, where there is one for each label."""
    names = getattr(data, "classes", None)
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
        return None
    if isinstance(y, list | dict):  # sequences of different lengths, or targets by name
        return None
    labels = to_numpy(y, Place("", "y"))
    suits = labels.dtype.kind in "iu" and len(set(names)) == len(names) == int(labels.max(initial=-1)) + 1
    return list(names) if suits else None
