"""Recall of each class and the area under precision-recall curves, against scikit-learn, over shards, with weights."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import sklearn.metrics as reference
import torch
from torch import Tensor, nn

from raysim.config.client import TrainingConfig
from raysim.data import DataInfo, Samples
from raysim.errors import ConfigError
from raysim.training import Evaluator, ParameterLayout, check_metrics, merge_exact, resolve_loss
from raysim.training.metrics import Metric, resolve_metrics, total_of, values_of
from raysim.training.metrics.by_class import BINS, REACH

CLASSES = DataInfo("classification", (4,), "real", classes=5)
BINARY = DataInfo("classification", (4,), "real", classes=2)
TEXT = DataInfo("classification", (3,), "tokens", target_shape=(3,), classes=5, vocabulary=5)
NUMBER = DataInfo("regression", (4,), "real")
NAMES = ("recall", "pr_auc")
CPU = torch.device("cpu")


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


def in_bins(log_odds: np.ndarray) -> np.ndarray:
    return np.clip(np.floor((log_odds + REACH) * BINS / (2 * REACH)), 0, BINS - 1)


@pytest.mark.parametrize("info", [CLASSES, TEXT])
@pytest.mark.parametrize("weighted", [False, True])
def test_recall_and_average_precision_equal_scikit_learns(info: DataInfo, weighted: bool) -> None:
    output, target, weight = skewed(info, 300)
    found = measured(resolve_metrics(NAMES, info), output, target, weight if weighted else None)
    logits, y = output.reshape(-1, 5).double(), target.reshape(-1).numpy()
    w = weight.reshape(-1).numpy() if weighted else None
    recalls = reference.recall_score(y, logits.argmax(1), average=None, sample_weight=w)
    assert [found[f"recall/{c}"] for c in range(5)] == pytest.approx(recalls.tolist())
    exact, binned = [], []
    for c in range(5):
        others = torch.cat([logits[:, :c], logits[:, c + 1 :]], 1).logsumexp(1)
        scores = (logits[:, c] - others).numpy()
        exact.append(reference.average_precision_score(y == c, torch.softmax(logits, 1)[:, c], sample_weight=w))
        binned.append(reference.average_precision_score(y == c, in_bins(scores), sample_weight=w))
    assert found["pr_auc"] == pytest.approx(np.mean(binned), rel=1e-9)  # of scores as fine as the bins: no difference
    assert found["pr_auc"] == pytest.approx(np.mean(exact), abs=5e-3)  # of all scores: what the bins cost


def test_of_two_classes_the_second_is_looked_for_whether_by_one_logit_or_two() -> None:
    output, target, _ = skewed(BINARY, 200)
    logit = output[:, 1] - output[:, 0]
    expected = reference.average_precision_score(target, in_bins(logit.numpy()))
    for given, loss in (
        (output, "auto"),
        (logit, "binary_cross_entropy"),
        (logit.unsqueeze(1), "binary_cross_entropy"),
    ):
        metrics = resolve_metrics(("pr_auc", "recall/1"), BINARY, loss)
        found = measured(metrics, given, target, None)
        assert found["pr_auc"] == pytest.approx(expected, rel=1e-9)
        assert found["recall/1"] == pytest.approx(reference.recall_score(target, logit > 0))


@pytest.mark.parametrize("info", [CLASSES, TEXT])
def test_shards_add_up_to_exactly_the_metric_of_all(info: DataInfo) -> None:
    output, target, weight = skewed(info, 60)
    metrics = resolve_metrics(NAMES, info)
    total = total_of(metrics, output, target, torch.zeros(target.shape), weight).numpy()
    parts = [slice(a, b) for a, b in itertools.pairwise([0, 1, 17, 17, 42, 60])]
    sums = sum(total_of(metrics, output[p], target[p], torch.zeros(target[p].shape), weight[p]).numpy() for p in parts)
    np.testing.assert_array_equal(sums, total)
    rows = metrics[-1].contributions(output, target, torch.zeros(target.shape), weight)
    np.testing.assert_array_equal(rows.sum(0).numpy(), total[-metrics[-1].width :])


def test_a_class_without_targets_has_no_recall_and_no_part_in_the_mean() -> None:
    output, target, _ = skewed(CLASSES, 50)
    target[target == 3] = 0
    found = measured(resolve_metrics(NAMES, CLASSES), output, target, None)
    assert math.isnan(found["recall/3"])
    assert not math.isnan(found["pr_auc"])
    nothing = measured(resolve_metrics(NAMES, CLASSES), output[:0], target[:0], None)
    assert all(math.isnan(value) for value in nothing.values())


def test_an_evaluation_in_pieces_measures_them_like_a_whole_one() -> None:
    module, random = nn.Linear(4, 5), np.random.default_rng(0)
    samples = Samples(random.normal(size=(70, 4)).astype(np.float32), random.integers(0, 5, 70))
    metrics = resolve_metrics(("accuracy", *NAMES), CLASSES)
    layout = ParameterLayout(module)
    evaluator = Evaluator(module, layout, resolve_loss(TrainingConfig(), CLASSES), metrics, CLASSES, CPU, 1000)
    evaluator.load(layout.pack(module))
    whole = values_of(metrics, merge_exact([evaluator.exact_sums(samples)]))
    parts = [evaluator.exact_sums(samples.slice(a, b)) for a, b in ((0, 30), (30, 31), (31, 70))]
    found = values_of(metrics, merge_exact(parts))
    assert found.pop("loss") == pytest.approx(whole.pop("loss"))
    assert found == whole
    check_metrics(metrics, resolve_loss(TrainingConfig(), CLASSES), (5,), CLASSES)


@pytest.mark.parametrize(
    ("name", "info", "line"),
    [
        ("recall/5", CLASSES, "recall/5: there is no class 5; classes are 0 to 4"),
        ("recall", NUMBER, "recall is for classes, but the targets are numbers"),
        ("pr_auc", NUMBER, "pr_auc is for classes, but the targets are numbers"),
    ],
)
def test_what_cannot_be_measured_is_one_line(name: str, info: DataInfo, line: str) -> None:
    with pytest.raises(ConfigError, match=f"evaluation.metrics: {line}"):
        resolve_metrics((name,), info)
