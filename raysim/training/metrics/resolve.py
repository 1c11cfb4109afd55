"""From the configuration's `evaluation.metrics` to metrics."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from raysim.config import Experiment, load
from raysim.data import DataInfo
from raysim.data.class_names import class_columns, class_number
from raysim.errors import ConfigError
from raysim.models import OutputShape
from raysim.training.handed import NOTHING, HandedOver, one_a_sample
from raysim.training.losses import Loss, blank_batch
from raysim.training.metrics.by_class import F1, Precision, Recall
from raysim.training.metrics.calibration import Brier, CalibrationError
from raysim.training.metrics.classes import Accuracy, BalancedAccuracy, DiscountedGain, HitRate, MacroF1, TopAccuracy
from raysim.training.metrics.language import Perplexity
from raysim.training.metrics.metric import LossMetric, Metric, value_of
from raysim.training.metrics.own import own_metric
from raysim.training.metrics.preferences import RewardAccuracy, RewardMargin
from raysim.training.metrics.ranking import PrAuc, RankMetric, RocAuc
from raysim.training.metrics.regression import MeanAbsoluteError, RootMeanSquaredError
from raysim.training.metrics.units import InUnits
from raysim.training.model_loss import ModelLoss
from raysim.user_code import guarded, user_code

CLASSIFICATION: dict[str, type[Metric]] = {
    "accuracy": Accuracy,
    "macro_f1": MacroF1,
    "balanced_accuracy": BalancedAccuracy,
    "brier": Brier,
    "ece": CalibrationError,
    "perplexity": Perplexity,
}
BY_CLASS: dict[str, Callable[[DataInfo, int, str], Metric]] = {"precision": Precision, "recall": Recall, "f1": F1}
"""Of one class: `recall/<class>`; without a class, of `evaluation.positive`, else of each class, a metric each."""
RANKED: dict[str, type[RankMetric]] = {"pr_auc": PrAuc, "roc_auc": RocAuc}
REGRESSION: dict[str, type[Metric]] = {"mae": MeanAbsoluteError, "rmse": RootMeanSquaredError}
PAIRS: dict[str, type[Metric]] = {"reward_accuracy": RewardAccuracy, "reward_margin": RewardMargin}
METRICS: dict[str, type[Metric]] = {"loss": LossMetric, **CLASSIFICATION, **REGRESSION, **PAIRS}
"""Metrics that a name and the data's info suffice for."""


def list_metrics() -> dict[str, str]:
    """Name and one-line description of every metric; `topK`, `hit_rateK` and `ndcgK` stand for any k."""
    named: dict[str, Any] = {**METRICS, **RANKED, **BY_CLASS, "topK": TopAccuracy}
    named |= {"hit_rateK": HitRate, "ndcgK": DiscountedGain}
    return {name: (metric.__doc__ or "").splitlines()[0] for name, metric in named.items()}


def evaluated_metrics(experiment: Experiment, info: DataInfo, handed: HandedOver = NOTHING) -> tuple[Metric, ...]:
    """The metrics that an experiment measures, and those that were handed over; errors as of `resolve_metrics`."""
    evaluation, training = experiment.evaluation, experiment.training
    named = resolve_metrics(evaluation.metrics, info, training.loss, evaluation.positive, training.dpo_beta)
    given = tuple(_handed_over(one, info) for one in handed.metrics)
    names = [metric.name for metric in (*named, *given)]
    for metric in given:
        if names.count(metric.name) > 1:
            raise ConfigError(f"metrics: two metrics are called {metric.name!r}; give each its own `name`")
    return tuple(_as_measured(metric, info) for metric in (*named, *given))


def _as_measured(metric: Metric, info: DataInfo) -> Metric:
    """The metric in the units of the data, but for the loss, which is what is trained."""
    return metric if info.scaling is None or isinstance(metric, LossMetric) else InUnits(metric, info.scaling)


def _handed_over(one: Any, info: DataInfo) -> Metric:
    if isinstance(one, type) and issubclass(one, Metric):
        return _checked(one, info, f"metrics: {one.__name__}")
    return own_metric(one, info, str(getattr(one, "__name__", type(one).__name__)))


def resolve_metrics(
    names: Sequence[str] | None,
    info: DataInfo,
    loss: str = "auto",
    positive: str | int | None = None,
    beta: float = 1.0,
) -> tuple[Metric, ...]:
    """The metrics to measure: the loss, then the named ones (None: accuracy for classes, RMSE for numbers, both of
    rewards for pairs of answers).

    Args:
        names: the configuration's `evaluation.metrics`.
        info: what a sample looks like.
        loss: the configuration's `training.loss`.
        positive: the configuration's `evaluation.positive`.
        beta: the configuration's `training.dpo_beta`.

    Raises:
        ConfigError: there is no such class; a metric does not suit the data's task, is unknown, is no `Metric`, or two
            have the same name.
    """
    if names is None and (loss == "model" or info.targets):
        names = ()
    if names is None:
        names = ("accuracy",) if info.task == "classification" else ("rmse",)
        names = tuple(PAIRS) if info.preferences else names
    looked_for = None if positive is None else _positive(positive, names, info)
    found: dict[str, Metric] = {}
    for name in dict.fromkeys(("loss", *names)):
        for metric in _resolve(name, info, loss, looked_for, beta):
            if metric.name not in found:
                found[metric.name] = metric
            elif name.partition("/")[0] not in BY_CLASS:  # a class may well be asked for twice, by name and by number
                raise ConfigError(
                    f"evaluation.metrics: two metrics are called {metric.name!r}; give each its own `name`"
                )
    return tuple(found.values())


def check_metrics(metrics: Sequence[Metric], loss: Loss, output_shape: OutputShape, info: DataInfo) -> None:
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
    if isinstance(loss, ModelLoss):
        losses = torch.zeros(len(target))
    else:
        with user_code("training.loss", ConfigError):
            losses = one_a_sample(loss(output, target), len(target))
    for metric in metrics:
        with user_code(f"evaluation.metrics: {metric.name} cannot measure this model", ConfigError):
            rows = metric.contributions(output, target, losses, None)
            value_of(metric, np.zeros(metric.width))
            if isinstance(metric, RankMetric):
                metric.scores(output, target)
        expected = (len(target), metric.width)
        if not isinstance(rows, torch.Tensor) or rows.shape != expected or rows.dtype != torch.float64:
            found = f"{list(rows.shape)} {rows.dtype}" if isinstance(rows, torch.Tensor) else type(rows).__name__
            raise ConfigError(
                f"evaluation.metrics: {metric.name}.contributions returned {found}; it must return "
                f"{list(expected)} torch.float64, one row a sample"
            )


def _resolve(name: str, info: DataInfo, loss: str, positive: int | None, beta: float) -> list[Metric]:
    """The metrics of a name: several where it stands for one of each class."""
    family = name.partition("/")[0]
    if ":" in name and family not in BY_CLASS:
        return [_custom(name, info)]
    top = re.fullmatch(r"(top|hit_rate|ndcg)(\d+)", name)
    for_classes = top is not None or family in BY_CLASS or name in RANKED or name in CLASSIFICATION
    if not for_classes and name not in METRICS:
        raise ConfigError(f"evaluation.metrics: unknown metric {name!r}; valid are {', '.join(list_metrics())}")
    if for_classes and info.task != "classification":
        raise ConfigError(f"evaluation.metrics: {name} is for classes, but the targets are numbers; use mae or rmse")
    if name in REGRESSION and info.targets:
        raise ConfigError(f"evaluation.metrics: {name} takes one target, the data has several by name; use a function")
    if name in REGRESSION and info.task != "regression":
        raise ConfigError(f"evaluation.metrics: {name} is for numbers, but the targets are classes; use accuracy")
    if (name in PAIRS) != info.preferences and name != LossMetric.name:
        other = "reward_accuracy or reward_margin" if info.preferences else "accuracy"
        found = "pairs of answers" if info.preferences else "no pairs of answers"
        raise ConfigError(f"evaluation.metrics: {name} does not suit data that is {found}; use {other}")
    if name == RewardMargin.name:
        return [RewardMargin(info, beta)]
    if name in RANKED:
        return [RANKED[name](info, positive)]
    if family in BY_CLASS:
        return _by_class(name, info, positive)
    if name == Perplexity.name:
        return [Perplexity(info, of_losses=loss in ("auto", "cross_entropy"))]
    return [_top(name, int(top[2]), info, loss) if top else METRICS[name](info)]


def _by_class(name: str, info: DataInfo, positive: int | None) -> list[Metric]:
    family, _, of_class = name.partition("/")
    make, columns = BY_CLASS[family], class_columns(info)
    if of_class:
        number = class_number(info, of_class, f"evaluation.metrics: {name}")
        return [make(info, number, f"{family}/{columns[number]}")]
    if positive is not None:
        return [make(info, positive, family)]
    return [make(info, number, f"{family}/{column}") for number, column in enumerate(columns)]


def _positive(wanted: str | int, names: Sequence[str], info: DataInfo) -> int:
    if info.task != "classification":
        raise ConfigError("evaluation.positive: names a class, but the targets are numbers; remove it")
    number = class_number(info, wanted, "evaluation.positive")
    looking = (*BY_CLASS, *RANKED)
    if not any(name in looking for name in names):
        valid = ", ".join(looking)
        raise ConfigError(f"evaluation.positive: no metric looks at it; add one of {valid} to evaluation.metrics")
    return number


def _top(name: str, k: int, info: DataInfo, loss: str) -> Metric:
    if loss == "binary_cross_entropy":
        raise ConfigError(f"evaluation.metrics: {name} needs a logit a class, {loss} gives one a target; use accuracy")
    if not 1 <= k < (info.classes or 0):
        raise ConfigError(
            f"evaluation.metrics: {name} of {info.classes} classes measures nothing; use k from 1 to "
            f"{(info.classes or 0) - 1}"
        )
    if name.startswith("ndcg"):
        return DiscountedGain(info, k)
    return HitRate(info, k) if name.startswith("hit_rate") else TopAccuracy(info, k)


def _custom(name: str, info: DataInfo) -> Metric:
    custom = load(name, key="evaluation.metrics")
    if not (isinstance(custom, type) and issubclass(custom, Metric)):
        return own_metric(custom, info, repr(name))
    return _checked(custom, info, f"evaluation.metrics: {name!r}")


def _checked(custom: type[Metric], info: DataInfo, place: str) -> Metric:
    """An instance of a class of the user's own."""
    with user_code(f"{place} cannot be made from the data's info alone", ConfigError):
        name = place.rpartition(": ")[2].strip("'")
        metric = guarded(custom, RankMetric if issubclass(custom, RankMetric) else Metric, f"metric {name}")(info)
    missing = [key for key in ("name", "higher_is_better", "width") if not hasattr(metric, key)]
    if missing:
        raise ConfigError(f"{place} does not set `{missing[0]}`")
    if not isinstance(metric.name, str) or not metric.name.strip() or not metric.name.isprintable():
        raise ConfigError(f"{place} has the name {metric.name!r}; expected printable text")
    if not isinstance(metric.width, int) or metric.width < 1 or not isinstance(metric.higher_is_better, bool):
        raise ConfigError(
            f"{place} has width {metric.width!r} and higher_is_better "
            f"{metric.higher_is_better!r}; expected a whole number of at least 1, and True or False"
        )
    return metric
