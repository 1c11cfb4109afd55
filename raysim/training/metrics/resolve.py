"""From the configuration's `evaluation.metrics` to metrics."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import torch

from raysim.config import load
from raysim.data import DataInfo
from raysim.errors import ConfigError
from raysim.training.losses import Loss, blank_batch, first_line
from raysim.training.metrics.by_class import PrAuc, Recall
from raysim.training.metrics.classes import Accuracy, BalancedAccuracy, MacroF1, TopAccuracy
from raysim.training.metrics.metric import LossMetric, Metric
from raysim.training.metrics.regression import MeanAbsoluteError, RootMeanSquaredError

CLASSIFICATION: dict[str, type[Metric]] = {
    "accuracy": Accuracy,
    "macro_f1": MacroF1,
    "balanced_accuracy": BalancedAccuracy,
    "pr_auc": PrAuc,
}
REGRESSION: dict[str, type[Metric]] = {"mae": MeanAbsoluteError, "rmse": RootMeanSquaredError}
METRICS: dict[str, type[Metric]] = {"loss": LossMetric, **CLASSIFICATION, **REGRESSION}


def list_metrics() -> dict[str, str]:
    """Name and one-line description of every metric; `topK` stands for any k, `recall` for one of each class."""
    named: dict[str, type[Metric]] = {**METRICS, "topK": TopAccuracy, "recall": Recall}
    return {name: (metric.__doc__ or "").splitlines()[0] for name, metric in named.items()}


def resolve_metrics(names: Sequence[str] | None, info: DataInfo, loss: str = "auto") -> tuple[Metric, ...]:
    """The metrics to measure: the loss, then the named ones (None: accuracy for classes, RMSE for numbers).

    Args:
        names: the configuration's `evaluation.metrics`.
        info: what a sample looks like.
        loss: the configuration's `training.loss`.

    Raises:
        ConfigError: a metric does not suit the data's task, is unknown, is no `Metric`, or two have the same name.
    """
    if names is None:
        names = ("accuracy",) if info.task == "classification" else ("rmse",)
    if "recall" in names and info.task == "classification":
        every = [f"recall/{one}" for one in range(info.classes or 0)]
        names = [one for name in names for one in (every if name == "recall" else [name])]
    metrics = [_resolve(name, info, loss) for name in dict.fromkeys(("loss", *names))]
    seen: set[str] = set()
    for metric in metrics:
        if metric.name in seen:
            raise ConfigError(f"evaluation.metrics: two metrics are called {metric.name!r}; give each its own `name`")
        seen.add(metric.name)
    return tuple(metrics)


def check_metrics(metrics: Sequence[Metric], loss: Loss, output_shape: tuple[int, ...], info: DataInfo) -> None:
    """Measure two blank samples.

    Args:
        metrics: the metrics.
        loss: the training loss.
        output_shape: of the model for one sample, as `raysim.models.check_fit` returns it.
        info: what a sample looks like.

    Raises:
        ConfigError: a metric fails, or breaks its contract.
    """
    output, target = blank_batch(output_shape, info)
    losses = loss(output, target)
    for metric in metrics:
        try:
            rows = metric.contributions(output, target, losses, None)
            metric.value(np.zeros(metric.width))
        except Exception as error:  # a user's metric may raise anything
            raise ConfigError(
                f"evaluation.metrics: {metric.name} cannot measure this model: {first_line(error)}"
            ) from error
        expected = (len(target), metric.width)
        if not isinstance(rows, torch.Tensor) or rows.shape != expected or rows.dtype != torch.float64:
            found = f"{list(rows.shape)} {rows.dtype}" if isinstance(rows, torch.Tensor) else type(rows).__name__
            raise ConfigError(
                f"evaluation.metrics: {metric.name}.contributions returned {found}; it must return "
                f"{list(expected)} torch.float64, one row a sample"
            )


def _resolve(name: str, info: DataInfo, loss: str) -> Metric:
    if ":" in name:
        return _custom(name, info)
    top = re.fullmatch(r"top(\d+)", name)
    recall = re.fullmatch(r"recall(?:/(\d+))?", name)
    if top is None and recall is None and name not in METRICS:
        raise ConfigError(f"evaluation.metrics: unknown metric {name!r}; valid are {', '.join(list_metrics())}")
    if (top or recall or name in CLASSIFICATION) and info.task != "classification":
        raise ConfigError(f"evaluation.metrics: {name} is for classes, but the targets are numbers; use mae or rmse")
    if name in REGRESSION and info.task != "regression":
        raise ConfigError(f"evaluation.metrics: {name} is for numbers, but the targets are classes; use accuracy")
    if recall:
        return _recall(int(recall[1]), info)
    return _top(name, int(top[1]), info, loss) if top else METRICS[name](info)


def _recall(wanted: int, info: DataInfo) -> Metric:
    last = (info.classes or 0) - 1
    if wanted > last:
        raise ConfigError(f"evaluation.metrics: recall/{wanted}: there is no class {wanted}; classes are 0 to {last}")
    return Recall(info, wanted)


def _top(name: str, k: int, info: DataInfo, loss: str) -> Metric:
    if loss == "binary_cross_entropy":
        raise ConfigError(f"evaluation.metrics: {name} needs a logit a class, {loss} gives one a target; use accuracy")
    if not 1 <= k < (info.classes or 0):
        raise ConfigError(
            f"evaluation.metrics: {name} of {info.classes} classes measures nothing; use k from 1 to "
            f"{(info.classes or 0) - 1}"
        )
    return TopAccuracy(info, k)


def _custom(name: str, info: DataInfo) -> Metric:
    custom = load(name, key="evaluation.metrics")
    if not (isinstance(custom, type) and issubclass(custom, Metric)):
        raise ConfigError(f"evaluation.metrics: {name!r} is no subclass of raysim.training.metrics.Metric")
    try:
        metric = custom(info)
    except TypeError as error:  # abstract methods left out, or another signature
        raise ConfigError(f"evaluation.metrics: {name!r} cannot be made from the data's info alone: {error}") from error
    missing = [key for key in ("name", "higher_is_better", "width") if not hasattr(metric, key)]
    if missing:
        raise ConfigError(f"evaluation.metrics: {name!r} does not set `{missing[0]}`")
    return metric
