"""Users, items and other categories as ids for embeddings, with one id for all that training never saw."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from raysim.arrays import Array
from raysim.config.transforms import IdsConfig
from raysim.data.dataset import Pool, holes
from raysim.data.inputs import InputField, pack_inputs
from raysim.data.transforms.features import is_numeric
from raysim.data.transforms.tables import categorical, column_of, table_of, text_of
from raysim.errors import DataError

UNSEEN = 0
"""Id of a category that training did not have, and of a hole."""


@dataclass(frozen=True, slots=True)
class Ids:
    """Make records of a table: an id for each of some columns by its name, and the others together as `features`."""

    columns: tuple[str, ...]
    vocabularies: tuple[tuple[str, ...], ...]
    """The categories of each column, sorted; the first has id 1."""
    rest: tuple[str, ...]
    """Columns that become `features`, in this order."""

    @property
    def inputs(self) -> tuple[InputField, ...]:
        """What a record holds."""
        one: dict[str, Array] = {name: np.zeros(1, np.int64) for name in self.columns}
        if self.rest:
            one["features"] = np.zeros((1, len(self.rest)), np.float32)
        return pack_inputs(one, self._fields)[1]

    @property
    def _fields(self) -> tuple[InputField, ...]:
        ids = [
            InputField(name, "integers", (), count=len(found) + 1)
            for name, found in zip(self.columns, self.vocabularies, strict=True)
        ]
        return (*ids, InputField("features", "real", (len(self.rest),))) if self.rest else tuple(ids)

    def apply(self, pool: Pool) -> Pool:
        """The same samples as records.

        Raises:
            DataError: a column does not exist, another one is not numeric, or has a hole.
        """
        inputs: dict[str, Array] = {}
        for name, vocabulary in zip(self.columns, self.vocabularies, strict=True):
            column, place = column_of(pool, name, "ids", filled=False), {one: i + 1 for i, one in enumerate(vocabulary)}
            missing = holes(column).tolist()
            pairs = zip(missing, column.tolist(), strict=True)
            ids = [UNSEEN if hole else place.get(text_of(one), UNSEEN) for hole, one in pairs]
            inputs[name] = np.array(ids, np.int64)
        if self.rest:
            numbers = []
            for name in self.rest:
                column = column_of(pool, name, "ids")
                if not is_numeric(column):
                    raise DataError(f"{pool.origin}: ids: column {name!r} is not numeric; name it in ids.columns")
                numbers.append(column)
            inputs["features"] = np.stack(numbers, axis=1).astype(np.float32)
        return replace(pool, x=pack_inputs(inputs, self._fields)[0], kind="record")


def fit_ids(config: IdsConfig, train: Pool) -> Ids:
    """The vocabularies of the training part.

    Raises:
        DataError: x is no table, a column does not exist, or its name is no name of an argument.
    """
    columns = categorical(train, "ids", config.columns)
    for name in columns:
        if not name.isidentifier() or name == "features":
            raise DataError(f"{train.origin}: ids: the column {name!r} is no name of an input; rename it, e.g. item_id")
    vocabularies = []
    for name in columns:
        values = column_of(train, name, "ids", filled=False)
        vocabularies.append(tuple(text_of(one) for one in np.unique(values[~holes(values)]).tolist()))
    rest = tuple(name for name in table_of(train, "ids").names if name not in columns)
    return Ids(columns, tuple(vocabularies), rest)
