"""Metrics against scikit-learn, over shards, with weights and masks."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import sklearn.metrics as reference
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from raysim.config.training import TrainingConfig
from raysim.data import DataInfo
from raysim.errors import ConfigError
from raysim.training.losses import resolve_loss
from raysim.training.metrics import (
    METRICS,
    MeanMetric,
    Metric,
    check_metrics,
    contributions_of,
    list_metrics,
    resolve_metrics,
    values_of,
)
from raysim.training.metrics.resolve import BY_CLASS, RANKED

CLASSES = DataInfo("classification", (4,), "real", classes=7)
BINARY = DataInfo("classification", (4,), "real", classes=2)
TEXT = DataInfo("classification", (5,), "tokens", target_shape=(5,), classes=7, vocabulary=7)
NUMBER = DataInfo("regression", (4,), "real")
VECTOR = DataInfo("regression", (4,), "real", target_shape=(3,))
ALL_OF_CLASSES = ("accuracy", "top3", "macro_f1", "balanced_accuracy")


def measure(
    info: DataInfo,
    names: tuple[str, ...] | None,
    output: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    loss: str = "auto",
) -> dict[str, float]:
    metrics = resolve_metrics(names, info, loss)
    losses = resolve_loss(TrainingConfig(loss=loss), info)(output, target)
    rows = contributions_of(metrics, output, target, losses, weight)
    assert rows.dtype == torch.float64
    assert rows.shape == (len(target), sum(m.width for m in metrics))
    return values_of(metrics, rows.sum(0).numpy())


def batch(info: DataInfo, n: int, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Outputs, targets and weights; class 6 does not occur and is never predicted, class 5 is never predicted."""
    generator = torch.Generator().manual_seed(seed)
    if info.task == "regression":
        output, target = torch.randn(2, n, *info.target_shape, generator=generator)
    else:
        output = torch.randn(n, *info.target_shape, 7, generator=generator)
        output[..., 5:] -= 20
        target = torch.randint(6, (n, *info.target_shape), generator=generator)
    return output, target, torch.randint(4, target.shape, generator=generator) / 2


@pytest.mark.parametrize("info", [CLASSES, TEXT])
@pytest.mark.parametrize("weighted", [False, True])
def test_metrics_of_classes_equal_scikit_learns(info: DataInfo, weighted: bool) -> None:
    output, target, weight = batch(info, 200)
    found = measure(info, ALL_OF_CLASSES, output, target, weight if weighted else None)
    logits, y = output.reshape(-1, 7).numpy(), target.reshape(-1).numpy()
    w = weight.reshape(-1).numpy() if weighted else None
    predicted, shares = logits.argmax(1), torch.softmax(torch.from_numpy(logits).double(), 1)
    expected = {
        "loss": reference.log_loss(y, shares, labels=range(7), sample_weight=w),
        "accuracy": reference.accuracy_score(y, predicted, sample_weight=w),
        "top3": reference.top_k_accuracy_score(y, logits, k=3, labels=range(7), sample_weight=w),
        "macro_f1": reference.f1_score(y, predicted, average="macro", sample_weight=w),
        "balanced_accuracy": reference.balanced_accuracy_score(y, predicted, sample_weight=w),
    }
    assert list(found) == list(expected)
    assert found == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("info", [NUMBER, VECTOR])
@pytest.mark.parametrize("weighted", [False, True])
def test_metrics_of_numbers_equal_scikit_learns(info: DataInfo, weighted: bool) -> None:
    output, target, weight = batch(info, 200)
    found = measure(info, ("mae", "rmse"), output, target, weight if weighted else None)
    x, y, w = output.reshape(-1), target.reshape(-1), weight.reshape(-1) if weighted else None
    assert found == pytest.approx(
        {
            "loss": reference.mean_squared_error(y, x, sample_weight=w),
            "mae": reference.mean_absolute_error(y, x, sample_weight=w),
            "rmse": reference.root_mean_squared_error(y, x, sample_weight=w),
        },
        rel=1e-6,
    )


def test_one_logit_is_a_class_by_its_sign() -> None:
    generator = torch.Generator().manual_seed(0)
    output, target = torch.randn(100, generator=generator), torch.randint(2, (100,), generator=generator)
    names = ("accuracy", "macro_f1", "balanced_accuracy")
    predicted = output > 0
    expected = {
        "loss": reference.log_loss(target, torch.sigmoid(output.double())),
        "accuracy": reference.accuracy_score(target, predicted),
        "macro_f1": reference.f1_score(target, predicted, average="macro"),
        "balanced_accuracy": reference.balanced_accuracy_score(target, predicted),
    }
    for shaped in (output, output.unsqueeze(1)):
        assert measure(BINARY, names, shaped, target, loss="binary_cross_entropy") == pytest.approx(expected, rel=1e-6)
    two = torch.stack([torch.zeros(100), output], 1)
    assert measure(BINARY, names, two, target) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    ("info", "names"),
    [
        (CLASSES, ALL_OF_CLASSES),
        (TEXT, ALL_OF_CLASSES),
        (NUMBER, ("mae", "rmse")),
        (VECTOR, ("mae", "rmse")),
    ],
)
@given(cuts=st.lists(st.integers(0, 60), max_size=5), seed=st.integers(0, 1000))
@settings(deadline=None, max_examples=20)
def test_splitting_the_samples_over_shards_changes_nothing(
    info: DataInfo, names: tuple[str, ...], cuts: list[int], seed: int
) -> None:
    output, target, weight = batch(info, 60, seed)
    metrics, loss = resolve_metrics(names, info), resolve_loss(TrainingConfig(), info)
    whole = measure(info, names, output, target, weight)
    sums = np.zeros(sum(m.width for m in metrics))
    edges = [0, *sorted(cuts), 60]
    for part in itertools.starmap(slice, itertools.pairwise(edges)):
        rows = contributions_of(metrics, output[part], target[part], loss(output[part], target[part]), weight[part])
        sums += rows.sum(0).numpy()
    merged = values_of(metrics, sums)
    assert merged == pytest.approx(whole, rel=1e-6)
    if info.task == "classification":
        counted = [name for name in names if name != "loss"]
        assert [merged[name] for name in counted] == [whole[name] for name in counted]


def test_a_masked_target_counts_for_nothing_whatever_it_is() -> None:
    output, target, _ = batch(NUMBER, 5)
    poisoned = torch.cat([output, torch.tensor([math.nan])]), torch.cat([target, torch.zeros(1)])
    weight = torch.tensor([1.0] * 5 + [0.0])
    assert measure(NUMBER, ("mae",), *poisoned, weight) == pytest.approx(measure(NUMBER, ("mae",), output, target))


def test_weights_of_samples_count_for_all_their_positions() -> None:
    output, target, _ = batch(TEXT, 20)
    weight = torch.arange(20) % 3 / 2
    spread = weight.unsqueeze(1).expand(20, 5)
    assert measure(TEXT, ALL_OF_CLASSES, output, target, weight) == pytest.approx(
        measure(TEXT, ALL_OF_CLASSES, output, target, spread), rel=1e-12
    )


@pytest.mark.parametrize(("info", "names"), [(CLASSES, ALL_OF_CLASSES), (NUMBER, ("mae", "rmse"))])
def test_no_samples_or_no_weight_measure_nan(info: DataInfo, names: tuple[str, ...]) -> None:
    output, target, weight = batch(info, 8)
    assert all(math.isnan(v) for v in measure(info, names, output[:0], target[:0]).values())
    assert all(math.isnan(v) for v in measure(info, names, output, target, torch.zeros_like(weight)).values())


def test_of_equal_logits_the_lower_class_comes_first_and_nan_is_a_miss() -> None:
    target = torch.tensor([0, 1, 2, 6])
    tied = measure(CLASSES, ("accuracy", "top2"), torch.zeros(4, 7), target)
    assert (tied["accuracy"], tied["top2"]) == (0.25, 0.5)
    lost = measure(CLASSES, ("top6",), torch.full((4, 7), math.nan), target)
    assert lost["top6"] == 0


def test_loss_is_always_measured_first_and_once() -> None:
    assert [m.name for m in resolve_metrics(None, CLASSES)] == ["loss", "accuracy"]
    assert [m.name for m in resolve_metrics(None, NUMBER)] == ["loss", "rmse"]
    assert [m.name for m in resolve_metrics((), CLASSES)] == ["loss"]
    assert [m.name for m in resolve_metrics(("top2", "loss", "top2"), CLASSES)] == ["loss", "top2"]


def test_list_metrics_describes_each_in_one_line() -> None:
    assert set(list_metrics()) == {*METRICS, *RANKED, *BY_CLASS, "topK", "hit_rateK", "ndcgK"}
    assert all(text.endswith(".") and "\n" not in text for text in list_metrics().values())


def test_every_metric_says_which_direction_is_better() -> None:
    directions = {name: METRICS[name].higher_is_better for name in METRICS}
    assert {name for name, higher in directions.items() if not higher} == {
        "loss",
        "mae",
        "rmse",
        "brier",
        "ece",
        "perplexity",
    }


@pytest.mark.parametrize("loss", ["auto", "focal"])
@pytest.mark.parametrize("second", [False, True])
def test_perplexity_is_the_exponential_of_the_mean_cross_entropy_of_tokens_that_count(loss: str, second: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    info = DataInfo("classification", (6,), "tokens", (6,), 5, 5)
    output, target = torch.randn(4, 6, 5, generator=generator), torch.randint(0, 5, (4, 6), generator=generator)
    weight = torch.randint(0, 2, (4, 6), generator=generator).float()
    surprises = [
        math.log(sum(math.exp(z) for z in output[i, j].tolist())) - output[i, j, target[i, j]].item()
        for i in range(4)
        for j in range(6)
        if weight[i, j]
    ]
    given = output.movedim(-1, 1) if second else output
    (measure,) = [one for one in resolve_metrics(("perplexity",), info, loss) if one.name == "perplexity"]
    losses = resolve_loss(TrainingConfig(loss=loss), info)(given, target)
    parts = [measure.contributions(given[rows], target[rows], losses[rows], weight[rows]) for rows in ([0], [1, 2, 3])]
    sums = sum(part.sum(0) for part in parts).numpy()
    assert measure.value(sums) == pytest.approx(math.exp(sum(surprises) / len(surprises)), rel=1e-6)
    assert math.isnan(measure.value(np.zeros(2)))
    assert measure.value(np.array([1e6, 1.0])) == math.inf


# Metrics of a user's own


class Bias(MeanMetric):
    """Mean of output minus target."""

    name = "bias"
    higher_is_better = False

    def measure(self, output: Tensor, target: Tensor, losses: Tensor) -> Tensor:
        return output - target


class Impostor(Bias):
    name = "loss"


class Unfinished(Metric):
    name = "unfinished"
    higher_is_better = True
    width = 1


class Nameless(Bias):
    def __init__(self, info: DataInfo) -> None:
        super().__init__(info)

    def __getattribute__(self, key: str) -> object:
        if key == "name":
            raise AttributeError(key)
        return super().__getattribute__(key)


class Demanding(Bias):
    def __init__(self, info: DataInfo, extra: int) -> None:
        super().__init__(info)


class Narrow(Bias):
    name = "narrow"
    width = 3


class Single(Bias):
    name = "single"

    def contributions(self, output: Tensor, target: Tensor, losses: Tensor, weight: Tensor | None) -> Tensor:
        return super().contributions(output, target, losses, weight).float()


class Broken(Bias):
    name = "broken"

    def measure(self, output: Tensor, target: Tensor, losses: Tensor) -> Tensor:
        raise RuntimeError("no\nway")


BATCH = 9


def own(name: str) -> str:
    return f"{__name__}:{name}"


def test_a_metric_of_ones_own_is_measured_beside_the_others() -> None:
    output, target, weight = batch(NUMBER, 9)
    found = measure(NUMBER, (own("Bias"),), output, target, weight)
    assert found["bias"] == pytest.approx(float((weight * (output - target)).sum() / weight.sum()), rel=1e-6)
    metrics = resolve_metrics((own("Bias"), "rmse"), NUMBER)
    check_metrics(metrics, resolve_loss(TrainingConfig(), NUMBER), (), NUMBER)


@pytest.mark.parametrize(
    ("names", "info", "loss", "line"),
    [
        (("accuracy",), NUMBER, "auto", "accuracy is for classes, but the targets are numbers; use mae or rmse"),
        (("top2",), NUMBER, "auto", "top2 is for classes"),
        (("macro_f1",), VECTOR, "auto", "macro_f1 is for classes"),
        (("rmse",), CLASSES, "auto", "rmse is for numbers, but the targets are classes; use accuracy"),
        (("top7",), CLASSES, "auto", "top7 of 7 classes measures nothing; use k from 1 to 6"),
        (("top0",), CLASSES, "auto", "top0 of 7 classes"),
        (("top1",), BINARY, "binary_cross_entropy", "top1 needs a logit a class"),
        (("f2",), CLASSES, "auto", "unknown metric 'f2'; valid are loss, accuracy"),
        ((own("BATCH"),), NUMBER, "auto", "is a int; expected a subclass of raysim.training.metrics.Metric, a metric"),
        ((own("absent"),), NUMBER, "auto", "has no 'absent'"),
        ((own("Impostor"),), NUMBER, "auto", "two metrics are called 'loss'"),
        ((own("Unfinished"),), NUMBER, "auto", "cannot be made from the data's info alone: .*abstract"),
        ((own("Demanding"),), NUMBER, "auto", "cannot be made from the data's info alone: .*extra"),
        ((own("Nameless"),), NUMBER, "auto", "does not set `name`"),
    ],
)
def test_a_metric_that_does_not_suit_is_one_line(names: tuple[str, ...], info: DataInfo, loss: str, line: str) -> None:
    with pytest.raises(ConfigError, match=f"evaluation.metrics: .*{line}") as caught:
        resolve_metrics(names, info, loss)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "info", "output_shape", "line"),
    [
        (own("Narrow"), NUMBER, (), r"narrow.contributions returned \[2, 2\] torch.float64; it must return \[2, 3\]"),
        (own("Single"), NUMBER, (), r"single.contributions returned \[2, 2\] torch.float32"),
        (own("Broken"), NUMBER, (), r"broken cannot measure this model: metric \w+:Broken: \w+: RuntimeError: no way$"),
        ("accuracy", CLASSES, (9,), r"accuracy cannot measure .* outputs of shape \[2, 9\] do not fit 7 classes"),
        ("macro_f1", CLASSES, (), "macro_f1 cannot measure this model"),
        (
            "rmse",
            NUMBER,
            (2,),
            r"rmse cannot measure this model: ValueError: outputs of shape \[2, 2\] are not one for each",
        ),
    ],
)
def test_a_metric_that_cannot_measure_the_model_is_one_line(
    name: str, info: DataInfo, output_shape: tuple[int, ...], line: str
) -> None:
    def loss(output: Tensor, target: Tensor) -> Tensor:
        return output.flatten(1).sum(1) if output.ndim > 1 else output

    with pytest.raises(ConfigError, match=line):
        check_metrics(resolve_metrics((name,), info), loss, output_shape, info)


def test_hit_rate_and_ndcg_are_those_of_the_rank_among_all_classes() -> None:
    output = torch.tensor([[0.1, 0.9, 0.5, 0.2], [0.9, 0.1, 0.5, 0.2], [0.3, 0.3, 0.3, 0.3], [math.nan, 0.0, 1.0, 2.0]])
    target = torch.tensor([2, 1, 1, 0])
    found = measure(DataInfo("classification", (4,), "real", classes=4), ("hit_rate2", "ndcg2"), output, target)
    # Ranks are 2, 4, 2 and, with a NaN, the last one.
    assert found["hit_rate2"] == 0.5
    assert found["ndcg2"] == pytest.approx(2 / math.log2(3) / 4)
