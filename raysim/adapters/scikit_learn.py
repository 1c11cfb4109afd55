"""Estimators of scikit-learn as baselines of a federation: each client alone, and linear models averaged."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import numpy as np

from raysim.arrays import Array, Float64
from raysim.config import Experiment
from raysim.config.sources import InMemoryConfig
from raysim.data import DataInfo, Federation, prepare
from raysim.data.sources import load_source
from raysim.errors import ConfigError, DataError
from raysim.user_code import user_code


@dataclass(frozen=True, slots=True)
class Baseline:
    """What an estimator comes to, as its own `score` measures it: accuracy of classes, R² of numbers.

    Attributes:
        local: `[clients]`, on the test set, of the models that each client fits alone; NaN without samples.
        averaged: on the test set, of the average of all clients' linear models after the last round; None where the
            estimator has no `coef_`.
        weights: coefficients and intercept of that average, where there is one.
    """

    local: Float64
    averaged: float | None
    weights: tuple[Float64, Float64] | None


def sklearn_baseline(estimator: Any, experiment: Any, *, data: Any = None) -> Baseline:
    """Fit an estimator by `partial_fit` on the clients of an experiment: alone, and averaged round by round.

    In each of `rounds` every client passes `client.epochs` times over its samples, in the order in which they are
    stored, in one call of `partial_fit` each time; then coefficients and intercepts are averaged with the clients'
    numbers of training samples (McMahan et al. 2017, algorithm 1). Local models never see the average.

    Args:
        estimator: with `partial_fit` and `score`, such as `SGDClassifier()`; it is not changed.
        experiment: what `Simulation` takes; of it `data`, `rounds`, `client.epochs` and the seeds count.
        data: your own, as for `Simulation`.

    Raises:
        ConfigError: the estimator has no `partial_fit`.
        DataError: the data is wrong, has no test set, or samples are no single tensors with one target.

    Example:
        >>> from sklearn.linear_model import SGDClassifier
        >>> found = sklearn_baseline(SGDClassifier(), {"rounds": 5, "data": {"source": "wine"}})
        >>> found.averaged > 0.3
        True
    """
    if isinstance(estimator, type) or not callable(getattr(estimator, "partial_fit", None)):
        name = estimator.__name__ if isinstance(estimator, type) else type(estimator).__name__
        raise ConfigError(f"{name}: a baseline needs an instance with partial_fit, such as SGDClassifier()")
    experiment = Experiment.of(experiment)
    section = experiment.data
    if data is not None:
        data = load_source(InMemoryConfig(), seed=experiment.data_seed, arrays=data, task=experiment.training.task)
        section = section.model_copy(update={"source": InMemoryConfig()})
    spec = prepare(section, experiment.data_seed, arrays=data, task=experiment.training.task)
    federation = spec.open()
    x, y = _samples(federation)
    sizes = federation.sizes()
    clients = np.flatnonzero(sizes).tolist()
    first = copy.deepcopy(estimator)
    alone = {client: copy.deepcopy(first) for client in clients}
    shared = {client: copy.deepcopy(first) for client in clients}
    linear, weights = True, None
    with user_code(type(estimator).__name__, DataError):
        for _ in range(experiment.rounds):
            for client in clients:
                _pass(alone[client], federation, client, experiment.client.epochs)
                if linear:
                    if weights is not None:
                        shared[client].coef_, shared[client].intercept_ = (one.copy() for one in weights)
                    _pass(shared[client], federation, client, experiment.client.epochs)
            linear = linear and all(hasattr(one, "coef_") for one in shared.values())
            if linear:
                weights = _average([shared[client] for client in clients], sizes[clients])
        local = np.full(federation.population, np.nan)
        for client in clients:
            local[client] = alone[client].score(x, y)
        if weights is None:
            return Baseline(local, None, None)
        judge = shared[clients[0]]
        judge.coef_, judge.intercept_ = (one.copy() for one in weights)
        return Baseline(local, float(judge.score(x, y)), weights)


def _samples(federation: Federation) -> tuple[Array, Array]:
    info, test = federation.info, federation.server("test")
    if test is None:
        raise DataError("data.test: a baseline is scored on the test set, and there is none; raise it")
    if info.input_kind not in ("real", "pixels") or info.target_shape:
        raise DataError(
            "a baseline of scikit-learn takes numbers or pixels, and one target a sample; use a model of torch"
        )
    return _features(test.x, info), np.asarray(test.y)


def _features(x: Array, info: DataInfo) -> Array:
    """`[n, features]` float64, as averaged coefficients are; pixels between 0 and 1."""
    flat = np.asarray(x).reshape(len(x), -1).astype(np.float64)
    return flat / 255 if info.input_kind == "pixels" else flat


def _pass(model: Any, federation: Federation, client: int, epochs: int) -> None:
    shard, info = federation.shard(client), federation.info
    known = {"classes": np.arange(info.classes)} if info.classes is not None else {}
    given = known if shard.weight is None else {**known, "sample_weight": shard.weight}
    for _ in range(epochs):
        model.partial_fit(_features(shard.x, info), np.asarray(shard.y), **given)


def _average(models: list[Any], sizes: Array) -> tuple[Float64, Float64]:
    shares = sizes / sizes.sum()
    coefficients = [share * np.asarray(one.coef_, np.float64) for share, one in zip(shares, models, strict=True)]
    intercepts = [share * np.asarray(one.intercept_, np.float64) for share, one in zip(shares, models, strict=True)]
    return np.sum(coefficients, axis=0), np.sum(intercepts, axis=0)
