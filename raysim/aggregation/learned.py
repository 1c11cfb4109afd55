"""Learned weights: a rule on rows that weighs the clients of a round by their worth on the server's validation set."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import torch

from raysim import keyed
from raysim.aggregation.buffers import Buffers
from raysim.aggregation.records import ColumnSums, Field, Record, combine
from raysim.aggregation.rows import ClientRows, KeptRows, weighed
from raysim.aggregation.rules import Accumulator, Finished, Rule, ServerView, WeightedMean
from raysim.aggregation.running_sum import Named
from raysim.arrays import Float64
from raysim.config import load
from raysim.config.server import LearnedWeightsConfig
from raysim.errors import ConfigError, RunError
from raysim.user_code import user_code

LOSS, GAIN = "weights/loss", "weights/gain"

_CHOOSER = "aggregation.weights.chooser"
_CALLED = "it is called as choose(default, scores, trials=…, seed=…) and returns the clients' weights"


class Scores(Protocol):
    """How good weights are: for `[c, k]` weights of k clients, each summing to 1, `[c]` losses."""

    def __call__(self, weights: Float64, /) -> Float64:
        """Losses, lower is better; NaN or infinity where a candidate is no model."""
        ...


class WeightChooser(Protocol):
    """Chooses the weights of a round's clients.

    Contract: a pure function of its arguments, `seed` for whatever it draws; what it returns is one of the candidates
    that it had scored, and never worse than `default`.
    """

    def __call__(self, default: Float64, scores: Scores, /, *, trials: int, seed: int) -> Float64:
        """Weights `[k]`, summing to 1.

        Args:
            default: the weights that the clients would have otherwise, `[k]`, summing to 1.
            scores: of any candidates; many at once are cheaper than one by one.
            trials: candidates to try.
            seed: keyed by the round.
        """
        ...


class LearnedMean(Rule):
    """The mean with weights that are chosen by validation loss, every few rounds; a weighted mean in the others.

    It records the validation loss of the weights that were chosen, and by how much it is below that of the default
    weights.
    """

    road = "rows"
    metrics = (LOSS, GAIN)

    def __init__(self, config: LearnedWeightsConfig, fields: Sequence[Field]) -> None:
        super().__init__(fields)
        self._config, self._between = config, WeightedMean(fields)
        self._chooser: WeightChooser | None = None

    def check(self, *, clients: int, validation: bool) -> None:
        load_chooser(self._config)
        if not validation:
            raise ConfigError(
                "aggregation.weights: learned needs a validation set to learn from; set data.validation, e.g. to 0.1"
            )
        row = self.worker_bytes(1)
        if clients * row > self._config.budget:
            raise ConfigError(
                f"aggregation.weights.budget: the updates of {clients} clients take {clients * row:,} bytes, the "
                f"budget is {self._config.budget:,}; raise it, or lower cohort to "
                f"{max(self._config.budget // row, 0):,}"
            )

    def in_round(self, number: int) -> Rule:
        return self if number % self._config.every == 0 else self._between

    def accumulator(
        self, round_number: int, device: torch.device, buffers: Buffers | None = None, named: Named | None = None
    ) -> Accumulator:
        return KeptRows(round_number, self.fields, named)

    def finish(self, records: Sequence[Record], server: ServerView) -> Finished:
        """The mean with learned weights.

        Raises:
            RunError: the chooser returns no weights.
            UserCodeError: the chooser fails.
        """
        rows = combine([one for one in records if isinstance(one, ClientRows)])
        default = rows.weights / rows.weights.sum()
        seed = keyed.integer(server.seed, keyed.Purpose.LEARNED_WEIGHTS, rows.round)
        chooser = self._chooser = self._chooser or load_chooser(self._config)

        def scores(weights: Float64) -> Float64:
            mixed = {
                name: (torch.from_numpy(weights) @ torch.from_numpy(one).double()).numpy()
                for name, one in rows.rows.items()
            }
            return server.losses([{name: one[i] for name, one in mixed.items()} for i in range(len(weights))])

        with server.computing():
            with user_code(f"{_CHOOSER} {self._config.chooser}"):
                found = chooser(default, scores, trials=self._config.trials, seed=seed)
            if (wrong := _no_weights(found, len(default))) is not None:
                raise RunError(
                    f"round {rows.round}: {_CHOOSER} {self._config.chooser} returned {wrong}; expected a NumPy array "
                    f"of {len(default)} finite weights of at least 0, not all of them 0"
                )
            found = found / found.sum()
            before, after = scores(np.stack([default, found])).tolist()
        mean = ColumnSums([weighed(rows, found, self.fields)])
        return Finished(mean, found, {LOSS: after, GAIN: before - after})

    def worker_bytes(self, clients: int) -> int:
        return clients * sum(4 * field.size for field in self.fields)

    def record_bytes(self, records: int, clients: int) -> int:
        return clients * 12 + self.worker_bytes(clients)


def load_chooser(config: LearnedWeightsConfig) -> WeightChooser:
    """The configured chooser.

    Raises:
        ConfigError: there is none of this name, or it cannot be called as one.
    """
    chooser: Any = load(config.chooser, key=_CHOOSER)
    if not callable(chooser) or isinstance(chooser, type):
        raise ConfigError(f"{_CHOOSER}: {config.chooser} is a {type(chooser).__name__}, not a function; {_CALLED}")
    try:
        inspect.signature(chooser).bind(None, None, trials=0, seed=0)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{_CHOOSER}: {config.chooser} cannot be called as a chooser ({error}); {_CALLED}") from None
    found: WeightChooser = chooser
    return found


def _no_weights(found: Any, count: int) -> str | None:
    """Why what a chooser returned are no weights of this many clients; None where they are."""
    if not isinstance(found, np.ndarray) or found.dtype.kind not in "fiu":
        return f"a {type(found).__name__}" + (f" of {found.dtype}" if isinstance(found, np.ndarray) else "")
    if found.shape != (count,):
        return f"shape {list(found.shape)}"
    if not np.isfinite(found).all():
        return "a weight that is not finite"
    if found.min() < 0:
        return f"a weight of {found.min():g}"
    return "only zeros" if found.sum() <= 0 else None
