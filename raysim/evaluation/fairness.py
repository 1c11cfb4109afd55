"""How evenly a model serves its clients: indices over the clients' metrics, and which clients would do better alone."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from raysim.arrays import Float64, Int64
from raysim.config import Experiment
from raysim.data import Federation
from raysim.errors import ConfigError, RunError
from raysim.evaluation.client_sets import client_sets
from raysim.tracking import ClientMetrics, ClientSet, RunDirectory, read_holdouts

_KEY = "evaluation.local_baseline"


def gini(values: Float64) -> float:
    """Gini coefficient of non-negative values `[n]`: half their mean absolute difference, relative to their mean.

    Σ_i Σ_j |x_i - x_j| / (2 n² x̄), from 0 (all alike) to 1 - 1/n (one has everything). NaN where a value is negative
    or not finite; 0 where all are zero, and thus alike.
    """
    ordered = np.sort(values)
    if ordered[0] < 0 or not np.isfinite(ordered).all():
        return math.nan
    total, n = float(ordered.sum()), len(ordered)
    ranks = 2.0 * np.arange(1, n + 1) - n - 1
    return max(0.0, float((ranks * ordered).sum()) / (n * total)) if total else 0.0


def jain(values: Float64) -> float:
    """Jain's index of non-negative values `[n]` (Jain, Chiu & Hawe 1984): (Σx)² / (n Σx²).

    From 1/n (one has everything) to 1 (all alike). NaN where a value is negative or not finite; 1 where all are
    zero.
    """
    if values.min() < 0 or not np.isfinite(values).all():
        return math.nan
    top = float(values.max())
    if not top:
        return 1.0
    scaled = np.sort(values) / top  # squares of small numbers would vanish
    return min(1.0, float(scaled.sum() ** 2 / (len(scaled) * (scaled**2).sum())))


@dataclass(frozen=True, slots=True)
class LocalBaseline:
    """What each client reaches alone, as a finished run of `algorithm: local` measured it on the same sets."""

    measured: Mapping[ClientSet, ClientMetrics]

    @classmethod
    def of(cls, experiment: Experiment, federation: Federation) -> LocalBaseline | None:
        """The baseline that the configuration names; None where it names none.

        Args:
            experiment: what is to be compared.
            federation: its clients.

        Raises:
            ConfigError: there is no such run, it is not one of `algorithm: local`, its clients have other data, or the
                experiment evaluates no clients.
        """
        path = experiment.evaluation.local_baseline
        if path is None:
            return None
        clients_every = experiment.evaluation.clients_every
        if not (experiment.evaluation.every if clients_every is None else clients_every):
            raise ConfigError(f"{_KEY}: no client is evaluated; set evaluation.clients_every above 0")
        sets = client_sets(experiment, federation)
        if not sets:
            raise ConfigError(
                f"{_KEY}: clients are compared on their holdouts, or on test samples of their own; set data.holdout, "
                "e.g. to 0.2"
            )
        try:
            run = RunDirectory.open(path)
            algorithm = run.experiment().algorithm.name
            found = {of: read_holdouts(run, of) for of in sets}
            bits = run.read_environment().get("bits", {})
        except RunError as error:
            raise ConfigError(f"{_KEY}: {error}") from None
        if algorithm != "local":
            raise ConfigError(f"{_KEY}: {path} is a run of {algorithm}; pass one of algorithm=local")
        if bits.get("data") != federation.fingerprint:
            raise ConfigError(
                f"{_KEY}: the clients of {path} have other data; run algorithm=local with the same data, seed and "
                "data.holdout"
            )
        measured = {of: one for of, one in found.items() if one is not None}
        if missing := [run.own_table(of).name for of in sets if of not in measured]:
            raise ConfigError(
                f"{_KEY}: {path} has no {missing[0]}; let it finish, evaluating the same sets as this run, "
                "with tracking.clients true"
            )
        return cls(measured)

    def share_below(
        self,
        clients: Int64,
        name: str,
        values: Float64,
        of: ClientSet = "holdout",
        *,
        higher: bool,
    ) -> float:
        """Share of the clients whose value is worse than that of their own local model; NaN where none has both.

        Args:
            clients: ids `[n]`.
            name: of the metric.
            values: its values `[n]`.
            of: the set that they were measured on.
            higher: whether higher ones are better.
        """
        measured = self.measured.get(of)
        if measured is None or name not in measured.names:
            return math.nan
        _, mine, theirs = np.intersect1d(clients, measured.clients, assume_unique=True, return_indices=True)
        here, alone = values[mine], measured.column(name)[theirs]
        known = ~(np.isnan(here) | np.isnan(alone))
        worse = here < alone if higher else here > alone
        return float(worse[known].mean()) if known.any() else math.nan
