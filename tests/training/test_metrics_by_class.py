"""Precision, recall and F1 of each class, calibration, and which class they are of, against scikit-learn."""

from __future__ import annotations

import math

import numpy as np
import pytest
import sklearn.metrics as reference
import torch
from torch import Tensor

from raysim.config.training import TrainingConfig
from raysim.data import DataInfo
from raysim.errors import ConfigError
from raysim.training import check_metrics, resolve_loss
from raysim.training.metrics import Metric, resolve_metrics, total_of, values_of

CLASSES = DataInfo("classification", (4,), "real", classes=5)
BINARY = DataInfo("classification", (4,), "real", classes=2)
NAMED = DataInfo("classification", (4,), "real", classes=2, class_names=("died", "lived on"))
TEXT = DataInfo("classification", (3,), "tokens", target_shape=(3,), classes=5, vocabulary=5)
NUMBER = DataInfo("regression", (4,), "real")
NAMES = ("precision", "recall", "f1")


def skewed(info: DataInfo, n: int, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Outputs with some of the truth in them, targets of which few are of the last classes, weights."""
    generator = torch.Generator().manual_seed(seed)
    classes = info.classes or 0
    target = (torch.rand((n, *info.target_shape), generator=generator) ** 2 * classes).long()
    output = 2 * torch.randn((*target.shape, classes), generator=generator)
    output.scatter_add_(-1, target.unsqueeze(-1), torch.full((*target.shape, 1), 2.5))
    return output, target, torch.randint(4, target.shape, generator=generator) / 2


def measured(metrics: tuple[Metric, ...], output: Tensor, target: Tensor, weight: Tensor | None) -> dict[str, float]:
    return values_of(metrics, total_of(metrics, output, target, torch.zeros(target.shape), weight).numpy())


@pytest.mark.parametrize("info", [CLASSES, TEXT])
@pytest.mark.parametrize("weighted", [False, True])
def test_precision_recall_and_f1_of_each_class_equal_scikit_learns(info: DataInfo, weighted: bool) -> None:
    output, target, weight = skewed(info, 300)
    found = measured(resolve_metrics(NAMES, info), output, target, weight if weighted else None)
    y, predicted = target.flatten().numpy(), output.reshape(-1, 5).argmax(1).numpy()
    w = weight.flatten().numpy() if weighted else None
    expected = reference.precision_recall_fscore_support(y, predicted, sample_weight=w)
    for name, values in zip(NAMES, expected[:3], strict=True):
        assert [found[f"{name}/{c}"] for c in range(5)] == pytest.approx(values.tolist())


def test_the_positive_class_is_looked_for_by_name_or_number() -> None:
    output, target, _ = skewed(NAMED, 200)
    died = (target == 0).numpy(), (output.argmax(1) == 0).numpy()
    expected = [float(v) for v in reference.precision_recall_fscore_support(*died, average="binary")[:3]]
    for positive in ("died", 0):
        found = measured(resolve_metrics(NAMES, NAMED, positive=positive), output, target, None)
        assert [found[name] for name in NAMES] == pytest.approx(expected)


def test_columns_have_the_classes_names_however_they_are_asked_for() -> None:
    assert [m.name for m in resolve_metrics(("recall",), NAMED)] == ["loss", "recall/died", "recall/lived_on"]
    for asked in ("f1/lived on", "f1/lived_on", "f1/1"):
        assert [m.name for m in resolve_metrics((asked,), NAMED)] == ["loss", "f1/lived_on"]
    assert [m.name for m in resolve_metrics(("recall", "recall/1"), NAMED)] == [
        "loss", "recall/died", "recall/lived_on"
    ]  # fmt: skip


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("single", [False, True])
def test_of_two_classes_the_brier_score_is_scikit_learns(weighted: bool, single: bool) -> None:
    output, target, weight = skewed(BINARY, 200)
    loss, given = ("binary_cross_entropy", output[:, 1] - output[:, 0]) if single else ("auto", output)
    found = measured(resolve_metrics(("brier",), BINARY, loss), given, target, weight if weighted else None)
    expected = reference.brier_score_loss(
        target, output.double().softmax(1)[:, 1], sample_weight=weight if weighted else None
    )
    assert found["brier"] == pytest.approx(expected)


def test_of_more_classes_the_brier_score_is_the_squared_distance_from_the_truth() -> None:
    output, target, weight = skewed(TEXT, 100)
    found = measured(resolve_metrics(("brier",), TEXT), output, target, weight)
    distance = ((output.double().softmax(-1) - torch.eye(5)[target]) ** 2).sum(-1)
    assert found["brier"] == pytest.approx(float((weight * distance).sum() / weight.sum()))


@pytest.mark.parametrize("weighted", [False, True])
def test_the_calibration_error_is_that_of_a_plain_loop_over_its_bins(weighted: bool) -> None:
    output, target, weight = skewed(CLASSES, 400)
    found = measured(resolve_metrics(("ece",), CLASSES), output, target, weight if weighted else None)
    confidence, predicted = output.double().softmax(1).max(1)
    w = weight.double() if weighted else torch.ones(400, dtype=torch.float64)
    expected = 0.0
    for b in range(15):
        inside = (confidence > b / 15) & (confidence <= (b + 1) / 15)
        if w[inside].sum() > 0:
            right = (w[inside] * (predicted == target)[inside]).sum() / w[inside].sum()
            sure = (w[inside] * confidence[inside]).sum() / w[inside].sum()
            expected += float(w[inside].sum() / w.sum() * (right - sure).abs())
    assert found["ece"] == pytest.approx(expected)
    sure = measured(resolve_metrics(("ece", "brier"), CLASSES), 1e4 * torch.eye(5), torch.arange(5), None)
    assert (sure["ece"], sure["brier"]) == (0.0, 0.0)


def test_what_a_set_has_nothing_of_is_nan() -> None:
    output, target, _ = skewed(CLASSES, 50)
    target[target == 3] = 0
    output[:, 4] = -50
    found = measured(resolve_metrics(NAMES, CLASSES), output, target, None)
    assert math.isnan(found["recall/3"])
    assert math.isnan(found["precision/4"])
    every = resolve_metrics((*NAMES, "brier", "ece"), CLASSES)
    nothing = measured(every, output[:0], target[:0], None)
    assert all(math.isnan(value) for value in nothing.values())
    check_metrics(every, resolve_loss(TrainingConfig(), CLASSES), (5,), CLASSES)
    np.testing.assert_equal(measured(every, output, target, torch.zeros(50)), nothing)


@pytest.mark.parametrize(
    ("names", "info", "positive", "line"),
    [
        (("recall/5",), CLASSES, None, "evaluation.metrics: recall/5: there is no class 5; classes are 0 to 4"),
        (("f1/alive",), NAMED, None, "evaluation.metrics: f1/alive: there is no class alive; classes are died, lived"),
        (("recall",), NUMBER, None, "evaluation.metrics: recall is for classes, but the targets are numbers"),
        (("ece",), NUMBER, None, "evaluation.metrics: ece is for classes, but the targets are numbers"),
        (("f1",), NAMED, "dead", "evaluation.positive: there is no class dead; classes are died, lived on"),
        (("f1",), NAMED, 2, "evaluation.positive: there is no class 2; classes are died, lived on"),
        (("rmse",), NUMBER, "died", "evaluation.positive: names a class, but the targets are numbers; remove it"),
        (("accuracy",), NAMED, "died", "evaluation.positive: no metric looks at it; add one of precision, recall, f1"),
    ],
)
def test_what_cannot_be_measured_is_one_line(
    names: tuple[str, ...], info: DataInfo, positive: str | int | None, line: str
) -> None:
    with pytest.raises(ConfigError, match=line) as caught:
        resolve_metrics(names, info, positive=positive)
    assert "\n" not in str(caught.value)
