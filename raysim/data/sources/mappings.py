"""Several inputs a sample, handed over by name: `x = {"input_ids": …, "attention_mask": …, "image": …}`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from raysim.arrays import Array
from raysim.data.inputs import InputField, InputFieldKind, pack_inputs
from raysim.errors import DataError

TOKENS = "input_ids"
"""The input whose values are ids of the vocabulary."""
INTEGERS = (TOKENS, "segments", "position_ids", "token_type_ids")
"""Inputs that are integers also where a byte holds them."""
FLAGS = ("attention_mask",)
"""Inputs of integers 0 and 1 that are flags."""


def records(
    train: Mapping[str, Array],
    test: Mapping[str, Array] | None,
    origin: str,
    counts: Mapping[str, int] | None = None,
) -> tuple[Array, Array | None, tuple[InputField, ...]]:
    """Mappings of arrays `[n, …]` as records `[n, words]`, those of a test set alike.

    Kinds by type: bool is flags, uint8 pixels, other integers ids, floats real. `counts` says how many ids an input
    has; by default those of training and test samples.

    Raises:
        DataError: an input is empty, of another length or type, or the test set has other inputs.
    """
    if not train:
        raise DataError(f"{origin}: x has no inputs; give arrays by name, e.g. {{'input_ids': …}}")
    if test is not None and set(test) != set(train):
        raise DataError(f"{origin}: x has the inputs {sorted(train)}, x_test {sorted(test)}; give both the same")
    fields = [_field(name, values, None if test is None else test[name], origin) for name, values in train.items()]
    for i, field in enumerate(fields):
        if (count := (counts or {}).get(field.name)) is not None:
            if field.count is None or count < field.count:
                found = f"ids up to {field.count - 1}" if field.count else f"no ids but {field.kind}"
                raise DataError(f"{origin}: 'vocabulary' says {count} of the input {field.name!r}, which has {found}")
            fields[i] = replace(field, count=count)
    lengths = {name: len(values) for name, values in train.items()}
    if len(set(lengths.values())) > 1:
        raise DataError(f"{origin}: the inputs of x have {lengths} samples; give all the same number")
    try:
        packed, placed = pack_inputs(train, fields)
        return packed, None if test is None else pack_inputs(test, fields)[0], placed
    except DataError as error:
        raise DataError(f"{origin}: {error}") from None


def vocabulary_of(fields: tuple[InputField, ...]) -> int | None:
    """Number of token ids of a record; None where it has no tokens."""
    return next((field.count for field in fields if field.kind == "tokens"), None)


def vocabularies(arrays: Any, origin: str) -> tuple[Any, dict[str, int]]:
    """The arrays without `vocabulary`, and how many ids it says there are: of x, or of each input by name."""
    if not isinstance(arrays, Mapping) or arrays.get("vocabulary") is None:
        return arrays, {}
    rest = {key: value for key, value in arrays.items() if key != "vocabulary"}
    given = arrays["vocabulary"]
    several = dict(given) if isinstance(given, Mapping) else {"": given}
    inputs: Any = rest.get("x")
    for name, count in several.items():
        if isinstance(count, bool) or not isinstance(count, int | np.integer) or count < 1:
            raise DataError(f"{origin}: 'vocabulary' is {count!r}; expected how many ids there are: 0, 1, …, count - 1")
        if isinstance(inputs, Mapping) != (name != "") or (name and name not in inputs):
            where = f"the inputs of x, {', '.join(map(str, inputs))}" if isinstance(inputs, Mapping) else "x, an array"
            raise DataError(f"{origin}: 'vocabulary' does not fit {where}; give a count, or counts by name of inputs")
    return rest, {name: int(count) for name, count in several.items()}


def _field(name: str, values: Array, test: Array | None, origin: str) -> InputField:
    if not isinstance(name, str) or not name.isidentifier():
        raise DataError(f"{origin}: the input {name!r} of x is no name that a forward pass could take")
    if values.ndim < 1 or values.size == 0:
        raise DataError(f"{origin}: the input {name!r} of x is empty (shape {list(values.shape)})")
    kind, both = _kind(name, values), (values,) if test is None else (values, test)
    count = None
    if kind in ("tokens", "integers"):
        if (lowest := min(int(one.min()) for one in both)) < 0:
            raise DataError(f"{origin}: the input {name!r} of x has {lowest}; integers are 0, 1, …; features, float32")
        count = max(int(one.max()) for one in both) + 1
    return InputField(name, kind, values.shape[1:], count=count)


def _kind(name: str, values: Any) -> InputFieldKind:
    if name in FLAGS or values.dtype == np.bool_:
        return "flags"
    if values.dtype == np.uint8 and name not in INTEGERS:
        return "pixels"
    if values.dtype.kind in "iu":
        return "tokens" if name == TOKENS else "integers"
    return "real"
