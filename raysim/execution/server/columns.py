"""The server's step over ranges of columns: partial sums in, the next model out, and nothing of its size between.

A range is added up, divided, and given to `Algorithm.apply` while it is in the cache. Each element goes through the
same operations as in one call over all columns, so the bits are the same.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from raysim.aggregation import Aggregation, Buffers, Field, FieldMeans, MeanContext
from raysim.algorithms import Algorithm
from raysim.arrays import Float32, Float64
from raysim.errors import RunError
from raysim.training import ParameterLayout

RANGE = 1 << 15
"""Columns of a range: what the step holds of them, in float64, fits the second-level cache."""

State = Mapping[str, Float64]

UPDATE = "update"
"""The field of an algorithm that holds what a client adds to the model that it started from."""


class ServerStep:
    """Calls the server halves of stages and an algorithm's `apply` range by range, where all of them allow that, else
    once.

    Args:
        build: the algorithm on a layout.
        columns: of a range.
        stages: those around the rule; by default none.
    """

    def __init__(
        self,
        build: Callable[[ParameterLayout], Algorithm],
        layout: ParameterLayout,
        columns: int = RANGE,
        *,
        stages: Aggregation | None = None,
    ) -> None:
        self.algorithm, self.layout = build(layout), layout
        self._stages = stages if stages is not None and stages.stages else None
        apart = self.algorithm.columnwise and (self._stages is None or self._stages.columnwise)
        self._build, self._columns = build, columns if apart else layout.size
        self._parts: dict[tuple[int, int], Algorithm] = {(layout.size, layout.trainable): self.algorithm}
        self._buffers = Buffers()
        self._part(slice(0, min(self._columns, layout.size)))  # an algorithm that cannot do with a part fails at once

    def __call__(
        self,
        mean: FieldMeans,
        fields: Sequence[Field],
        state: State,
        model: Float32,
        context: MeanContext,
        mixed: tuple[Float32, float] | None = None,
    ) -> tuple[State, Float32, Mapping[str, float]]:
        """The next state and model, in memory of their own, and the stages' metrics; the arguments are only read.

        Args:
            mean: of the fields, each in the format that it was summed in.
            context: of the step; stages get it with the columns of a range.
            mixed: where the model is mixed with a client's, the version `[P]` that the client started from and the
                share of its model: the step is then from this model towards the client's, and not along its update.

        Raises:
            RunError: the algorithm or a stage returns a state of other names or sizes than it was given.
        """
        metrics: Mapping[str, float] = {}
        next_model = self._buffers.take(len(model), np.float32)
        next_state: dict[str, Float64] = {}

        for start in range(0, self.layout.size, self._columns):
            columns = slice(start, min(start + self._columns, self.layout.size))
            # A field that is no vector over the columns goes into every call whole.
            found: Mapping[str, Float64] = {f.name: mean.mean(f, self._cut(f.size, columns)) for f in fields}
            given = {name: vector[self._cut(len(vector), columns)] for name, vector in state.items()}
            if self._stages is not None:
                found, kept, metrics = self._stages.server(found, given, replace(context, columns=columns))
                self._keep(state, kept, columns, next_state)
                given = self._stages.without_own(given)
            if mixed is not None:
                begun, share = mixed[0][columns].astype(np.float64), mixed[1]
                found = {**found, UPDATE: found[UPDATE] + share * (begun - model[columns])}
            next_model[columns], part = self._part(columns).apply(model[columns], given, found)
            self._keep(state, part, columns, next_state)
        return next_state, next_model, metrics

    def _keep(self, state: State, part: State, columns: slice, into: dict[str, Float64]) -> None:
        """Put the state of a range into its place."""
        for name, vector in part.items():
            if columns == slice(0, self.layout.size):
                into[name] = vector
                continue
            place = self._cut(len(state[name]), columns) if name in state else slice(0)
            if name not in state or len(vector) != len(state[name][place]):
                raise RunError(
                    f"the algorithm, or a stage, returns a state {name!r} of another size than it was given; set "
                    "columnwise = False in its class to have it called once, on whole vectors"
                )
            if columns.start == 0:
                into[name] = self._buffers.take(len(state[name]), vector.dtype)
            into[name][place] = vector

    def _cut(self, size: int, columns: slice) -> slice:
        if size not in (self.layout.size, self.layout.trainable):
            return slice(0, size)
        return slice(min(columns.start, size), min(columns.stop, size))

    def _part(self, columns: slice) -> Algorithm:
        part = self.layout.part(columns.start, columns.stop)
        key = (part.size, part.trainable)
        if key not in self._parts:
            self._parts[key] = self._build(part)
        return self._parts[key]
