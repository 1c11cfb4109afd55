"""The inputs of a data set of Hugging Face's `datasets`: what its columns are, and samples made of rows in batches."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from raysim.arrays import Array, Int64
from raysim.data.inputs import IDS, InputField, pack_inputs
from raysim.data.lazy import LazyArray
from raysim.data.sources.arrays import image_array
from raysim.data.sources.ragged import padded
from raysim.errors import DataError

ROWS = 1024
"""Rows that are read at a time."""
_TEXTS = 128
"""Texts that are tokenised at a time: what a tokenizer knows of a token takes some hundred bytes."""
_MASK = "attention_mask"


@dataclass(frozen=True, slots=True)
class HubColumns:
    """What the columns of a data set are."""

    label: str
    inputs: tuple[str, ...]
    client: str | None
    weight: str | None
    origin: str
    features: Mapping[str, Any]

    @classmethod
    def of(
        cls, part: Any, label: str, inputs: tuple[str, ...] | None, client: str | None, weight: str | None, origin: str
    ) -> HubColumns:
        features = dict(part.features)
        named = {"label": (label,), "client": (client,), "weight": (weight,), "inputs": inputs or ()}
        for key, names in named.items():
            for name in names:
                if name is not None and name not in features:
                    raise DataError(f"{origin}: {key}: no column {name!r}; there are {', '.join(map(repr, features))}")
        apart = {label, client, weight}
        chosen = inputs or tuple(name for name in features if name not in apart)
        for name in chosen:
            if name in apart:
                raise DataError(f"{origin}: inputs: {name!r} is also the label, the client or the weight")
        if not chosen:
            raise DataError(f"{origin}: no column is left to learn from")
        return cls(label, chosen, client, weight, origin, features)

    @property
    def all(self) -> list[str]:
        return [name for name in (*self.inputs, self.label, self.client, self.weight) if name is not None]

    def check_alike(self, part: Any) -> None:
        for name in (*self.inputs, self.label):
            if part.features.get(name) != self.features[name]:
                raise DataError(
                    f"{self.origin}: column {name!r} is {part.features.get(name)} in the test split, "
                    f"{self.features[name]} in training; make them alike"
                )


def is_image(feature: Any) -> bool:
    return type(feature).__name__ == "Image"


def is_text(feature: Any) -> bool:
    return getattr(feature, "dtype", None) in ("string", "large_string")


def _flat(column: Any) -> Any:
    """All values of lists within lists."""
    import pyarrow as pa

    kinds = pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list
    while isinstance(column, pa.ExtensionArray) or any(one(column.type) for one in kinds):
        column = column.storage if isinstance(column, pa.ExtensionArray) else column.flatten()
    return column


@dataclass(frozen=True, slots=True)
class HubReading:
    """How the inputs of samples are made of rows."""

    columns: HubColumns
    size: tuple[int, int] | None
    tokenizer: Any
    length: int | None
    fields: tuple[InputField, ...] = ()
    placed: tuple[InputField, ...] = ()
    """Of several inputs; empty where there is one."""

    def measured(self, parts: Sequence[Any]) -> HubReading:
        """With kinds and shapes of the inputs, found in the first row; ids are counted over all rows."""
        first = self.values(parts[0], np.zeros(1, np.int64))
        fields = []
        for name, values in first.items():
            kind: Any = "real"
            if values.dtype == np.bool_ or name == _MASK:
                kind = "flags"
            elif values.dtype == np.uint8:
                kind = "pixels"
            elif values.dtype.kind in "iu":
                kind = "tokens" if name == IDS or len(first) == 1 else "integers"
            count = self._count(parts, name) if kind in ("tokens", "integers") else None
            fields.append(InputField(name, kind, values.shape[1:], count=count))
        placed: tuple[InputField, ...] = ()
        if len(fields) > 1:
            empty = {one.name: first[one.name] for one in fields}
            placed = pack_inputs(empty, fields)[1]
        return replace(self, fields=tuple(fields), placed=placed)

    def _count(self, parts: Sequence[Any], name: str) -> int:
        from pyarrow import compute

        if self.tokenizer is not None and name not in self.columns.features:
            return len(self.tokenizer)
        largest = 0
        for part in parts:
            for table in part.with_format("arrow").select_columns([name]).iter(batch_size=ROWS):
                found = compute.min_max(_flat(table[name].combine_chunks())).as_py()
                if (found["min"] or 0) < 0:
                    raise DataError(f"{self.columns.origin}: column {name!r} has {found['min']}; ids are 0, 1, …")
                largest = max(largest, int(found["max"] or 0))
        return largest + 1

    @property
    def vocabulary(self) -> int | None:
        return next((one.count for one in self.fields if one.kind == "tokens"), None)

    @property
    def identity(self) -> str:
        """What samples are made with, beside the rows."""
        backend = getattr(self.tokenizer, "backend_tokenizer", None)
        code = "" if self.tokenizer is None else repr(self.tokenizer) if backend is None else backend.to_str()
        chosen = (self.columns.all, self.size, self.length, hashlib.sha256(code.encode()).hexdigest())
        return repr(chosen)

    def samples(self, part: Any) -> LazyArray:
        """What the model is given, made when it is read."""
        dataset = part.with_format(None).select_columns(list(self.columns.inputs))
        rows = np.arange(len(part))
        if not self.placed:
            (only,) = self.fields
            kind = {"pixels": np.uint8, "real": np.float32, "flags": np.float32}.get(only.kind, np.int32)

            def single(chosen: Int64) -> Array:
                found = self._checked(dataset, chosen)[only.name].astype(kind, copy=False)
                return np.ascontiguousarray(found)

            return LazyArray(single, rows, only.shape or (1,), np.dtype(kind), self.columns.origin)

        def record(chosen: Int64) -> Array:
            return pack_inputs(self._checked(dataset, chosen), self.fields)[0]

        words = sum(one.words for one in self.placed)
        return LazyArray(record, rows, (words,), np.dtype(np.int32), self.columns.origin)

    def _checked(self, part: Any, rows: Int64) -> dict[str, Array]:
        found = self.values(part, rows)
        for one in self.fields:
            shape = found[one.name].shape[1:]
            if shape != one.shape:
                raise DataError(
                    f"{self.columns.origin}: column {one.name!r} is {shape} a sample, in the first {one.shape}"
                )
            if len(self.fields) == 1 and not one.shape:
                found[one.name] = found[one.name].reshape(-1, 1)
        return found

    def values(self, part: Any, rows: Int64) -> dict[str, Array]:
        """The inputs of these rows, by name; text is two of them, ids and a mask."""
        found: dict[str, Array] = {}
        batch = part.with_format(None)[rows.tolist()]
        for name in self.columns.inputs:
            feature, values = self.columns.features[name], batch[name]
            if any(value is None for value in values):
                hole = int(rows[[value is None for value in values].index(True)])
                raise DataError(
                    f"{self.columns.origin}: row {hole + 1}, column {name!r} is empty; fill it or remove it"
                )
            if is_image(feature):
                found[name] = self._images(values, name, rows)
            elif is_text(feature):
                found |= self._tokens(values, name)
            else:
                found[name] = self._numbers(values, name, rows)
        return found

    def _images(self, images: Sequence[Any], name: str, rows: Int64) -> Array:
        if self.size is not None:
            images = [one.resize((self.size[1], self.size[0])) for one in images]
        arrays = [image_array(one) for one in images]
        for row, array in zip(rows.tolist(), arrays, strict=True):
            expected = next((one.shape for one in self.fields if one.name == name), arrays[0].shape)
            if array.shape != expected:
                raise DataError(
                    f"{self.columns.origin}: row {row + 1}, column {name!r}: an image of {list(array.shape)}, the "
                    f"first is {list(expected)}; size=(height, width) makes them alike, convert('RGB') their bands"
                )
        return np.stack(arrays)

    def _tokens(self, texts: Sequence[str], name: str) -> dict[str, Array]:
        where = f"{self.columns.origin}: column {name!r} is text"
        if self.tokenizer is None:
            raise DataError(f"{where}; give tokenizer=… and length=…, or name other columns by inputs=…")
        if self.length is None:
            raise DataError(f"{where}; say by length=… how many tokens a sample has")
        ids, mask = np.empty((len(texts), self.length), np.int32), np.empty((len(texts), self.length), np.bool_)
        for start in range(0, len(texts), _TEXTS):
            part = slice(start, start + _TEXTS)
            made = self.tokenizer(list(texts[part]), padding="max_length", truncation=True, max_length=self.length)
            ids[part], mask[part] = made["input_ids"], made[_MASK]
        return {IDS: ids, _MASK: mask}

    def _numbers(self, values: Sequence[Any], name: str, rows: Int64) -> Array:
        place = f"{self.columns.origin}: column {name!r}"
        try:
            array = np.asarray(values)
        except ValueError:
            array = np.empty(0, object)
        if self.length is not None and isinstance(values[0], list):
            array = padded(values, length=self.length)[0]
        if array.dtype == object:
            raise DataError(f"{place} has lists of different lengths; length=… fills them up with 0")
        if array.dtype.kind not in "biuf":
            raise DataError(
                f"{place} has type {self.columns.features[name]}, neither numbers, images nor text; leave it out by "
                "inputs=…"
            )
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            bad = int(np.flatnonzero(~np.isfinite(array.reshape(len(array), -1)).all(axis=1))[0])
            raise DataError(f"{place}: row {int(rows[bad]) + 1} is not finite; fill it or remove it")
        return array.astype(np.float32) if array.dtype.kind == "f" else array
