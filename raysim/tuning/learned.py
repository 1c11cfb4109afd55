"""Weights within a run: an Optuna study over the updates of one round, against the server's validation set.

`aggregation.weights: learned` names `choose` by its import string; the server loads it where the updates are.
"""

from __future__ import annotations

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, FloatDistribution
from optuna.samplers import TPESampler
from optuna.trial import create_trial

from raysim.aggregation.learned import Scores
from raysim.arrays import Float64
from raysim.tuning.simplex import BOUNDS, to_box, to_weights

AT_ONCE = 16
"""Candidates that are evaluated at once."""
EACH = 30
"""Largest number of clients that are searched one by one; with more, a law of their own losses is tuned."""
STEEPNESS = (0.5, 1.0, 2.0, 4.0, 8.0)


def choose(default: Float64, scores: Scores, /, *, trials: int, seed: int) -> Float64:
    """Best of: the default, equal weights, all clients but one, laws of the clients' own losses, the study's trials.

    See `WeightChooser`. The candidates that need no search come first, and the study learns from them.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    solo = _scored(scores, np.eye(len(default)))
    first = _first_candidates(default, solo)
    search = _Search(default, solo, seed % 2**31)
    candidates, losses = [first], [_scored(scores, first)]
    search.learn(first, losses[0])
    for start in range(0, trials, AT_ONCE):
        asked = search.ask(min(AT_ONCE, trials - start))
        candidates.append(asked)
        losses.append(_scored(scores, asked))
        search.tell(losses[-1])
    best: Float64 = np.concatenate(candidates)[int(np.argmin(np.concatenate(losses)))]
    return best


def _first_candidates(default: Float64, solo: Float64) -> Float64:
    count = len(default)
    others = default * (1.0 - np.eye(count))
    kept = others[others.sum(axis=1) > 0]
    laws = [_law(default, solo, 1.0, steepness) for steepness in STEEPNESS]
    found = np.stack([default, np.full(count, 1 / count), *kept, *laws])
    normalised: Float64 = found / found.sum(axis=1, keepdims=True)
    return normalised


def _law(default: Float64, solo: Float64, power: float, steepness: float) -> Float64:
    """w ∝ default^power · exp(-steepness · how much worse a client is by itself, in standard deviations)."""
    spread = float(solo.std()) or 1.0
    raw = np.where(default > 0, default, 0.0) ** power * np.exp(-steepness * (solo - solo.min()) / spread)
    law: Float64 = raw / raw.sum() if raw.sum() > 0 else default
    return law


class _Search:
    """A study over the weights of few clients, or over the law of many."""

    def __init__(self, default: Float64, solo: Float64, seed: int) -> None:
        self._default, self._solo = default, solo
        self._study = optuna.create_study(sampler=TPESampler(seed=seed, n_startup_trials=1, n_ei_candidates=24))
        low, high = BOUNDS["sticks"]
        self._space: dict[str, BaseDistribution]
        if self._each:
            self._space = {f"weights.{k}": FloatDistribution(low, high) for k in range(len(default) - 1)}
        else:
            self._space = {"power": FloatDistribution(0.0, 2.0), "steepness": FloatDistribution(0.0, 12.0)}
        self._asked: list[optuna.Trial] = []

    @property
    def _each(self) -> bool:
        return 1 < len(self._default) <= EACH

    def learn(self, candidates: Float64, losses: Float64) -> None:
        """Take candidates that were scored already for trials of the study."""
        if not self._each:
            return
        for weights, loss in zip(candidates, losses.tolist(), strict=True):
            box = to_box("sticks", weights).tolist()
            params = dict(zip(self._space, box, strict=True))
            self._study.add_trial(create_trial(params=params, distributions=self._space, value=loss))

    def ask(self, count: int) -> Float64:
        """Candidates `[count, k]`."""
        self._asked = [self._study.ask(self._space) for _ in range(count)]
        return np.stack([self._weights(trial) for trial in self._asked])

    def tell(self, losses: Float64) -> None:
        """The losses of what was asked for last."""
        for trial, loss in zip(self._asked, losses.tolist(), strict=True):
            self._study.tell(trial, loss)

    def _weights(self, trial: optuna.Trial) -> Float64:
        values = [trial.params[name] for name in self._space]
        if self._each:
            return to_weights("sticks", np.array(values), len(self._default))
        return _law(self._default, self._solo, *values)


def _scored(scores: Scores, candidates: Float64) -> Float64:
    """Losses of any number of candidates; what is no model is worse than all."""
    found = [scores(candidates[i : i + AT_ONCE]) for i in range(0, len(candidates), AT_ONCE)]
    losses: Float64 = np.nan_to_num(np.concatenate(found), nan=1e30, posinf=1e30)
    return losses
