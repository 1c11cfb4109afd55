"""The weighted mean, and beside it what every client sent, for algorithms that look at clients one by one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from raysim.aggregation.buffers import Buffers
from raysim.aggregation.records import ColumnSums, Field, Record, combine
from raysim.aggregation.rows import ClientRows, KeptRows, weighed
from raysim.aggregation.rules import Accumulator, Finished, Rule, ServerView
from raysim.aggregation.running_sum import Named
from raysim.arrays import Float64

ROWS, WEIGHTS = ".rows", "rows.weights"


class MeanAndRows(Rule):
    """The weighted mean of all fields, with the bits of `WeightedMean`, and the clients' rows of some of them."""

    road = "rows"

    def accumulator(
        self, round_number: int, device: torch.device, buffers: Buffers | None = None, named: Named | None = None
    ) -> Accumulator:
        return KeptRows(round_number, self.fields, named)

    def finish(self, records: Sequence[Record], server: ServerView) -> Finished:
        rows = combine([one for one in records if isinstance(one, ClientRows)])
        each: dict[str, Any] = {WEIGHTS: rows.weights / rows.weights.sum()}
        each |= {field.name + ROWS: rows.rows[field.name].ravel() for field in self.fields if field.kept}
        sums = ColumnSums([weighed(rows, rows.weights, self.fields)])
        fields = (*self.fields, *(Field(name, len(values)) for name, values in each.items()))
        return Finished(_MeansAndRows(sums, each), fields=fields)

    def worker_bytes(self, clients: int) -> int:
        return clients * sum(4 * field.size for field in self.fields)

    def record_bytes(self, records: int, clients: int) -> int:
        return clients * 12 + self.worker_bytes(clients)


class _MeansAndRows:
    """Means by ranges of columns, and what there is of each client."""

    def __init__(self, means: ColumnSums, each: Mapping[str, Any]) -> None:
        self._means, self._each = means, each

    def mean(self, field: Field, columns: slice) -> Float64:
        """The mean of a field in these columns; of what is kept the rows, as they were sent."""
        if field.name in self._each:
            kept: Float64 = self._each[field.name][columns]  # float32, as they came: there are many
            return kept
        return self._means.mean(field, columns)
