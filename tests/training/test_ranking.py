"""Areas under precision-recall and ROC curves: exact for few scores, within their bins for many, in any order."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pytest
import sklearn.metrics as reference
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_metrics_by_class import BINARY, CLASSES, NAMED, NUMBER, TEXT, skewed
from torch import Tensor, nn

from raysim.data import DataInfo, Samples
from raysim.errors import ConfigError
from raysim.training import Evaluator, ParameterLayout, merge_exact, resolve_metrics, values_of
from raysim.training.losses import cross_entropy
from raysim.training.metrics import Collector, Scores, WholeSet, merged
from raysim.training.metrics.ranking import LARGEST, LISTED, Counted, Curve, Listed, PrAuc, RankMetric, RocAuc, bins_for

CPU = torch.device("cpu")
AREAS = ("pr_auc", "roc_auc")


def collected(
    metric: RankMetric, output: Tensor, target: Tensor, weight: Tensor | None = None, whole: int | None = None
) -> Scores:
    heaviest = 1.0 if weight is None else float(weight.max())
    collector = Collector(metric, WholeSet(target.numel() if whole is None else whole, heaviest), CPU)
    for start in range(0, len(target), 7):
        part = slice(start, start + 7)
        collector.add(output[part], target[part], None if weight is None else weight[part])
    return collector.scores()


def area(metric: RankMetric, *batch: Tensor | None, whole: int | None = None) -> float:
    output, target, *rest = batch
    assert output is not None
    assert target is not None
    return metric.of_curves(collected(metric, output, target, *rest, whole=whole).curves())


@pytest.mark.parametrize("info", [CLASSES, TEXT])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("n", [9, 300])
def test_areas_are_scikit_learns_one_class_against_the_rest(info: DataInfo, weighted: bool, n: int) -> None:
    output, target, weight = skewed(info, n)
    output = output.round() if n == 9 else output  # of few samples many are tied
    y, w = target.flatten().numpy(), weight.flatten().numpy() if weighted else None
    probabilities = output.reshape(-1, 5).double().softmax(1).numpy()
    scores = np.log(probabilities) - np.log1p(-probabilities)
    exact: dict[str, list[float]] = {name: [] for name in AREAS}
    for c in range(5):
        own, score = y == c, scores[:, c].astype(np.float32)
        heavy = np.ones(len(y)) if w is None else w
        if heavy[own].sum() > 0:
            exact["pr_auc"].append(reference.average_precision_score(own, score, sample_weight=w))
            if heavy[~own].sum() > 0:
                exact["roc_auc"].append(reference.roc_auc_score(own, score, sample_weight=w))
    for kind, name in ((PrAuc, "pr_auc"), (RocAuc, "roc_auc")):
        found = area(kind(info), output, target, weight if weighted else None)
        assert found == pytest.approx(np.mean(exact[name]), rel=1e-6), name


@given(
    st.lists(st.tuples(st.integers(-3, 3), st.booleans(), st.sampled_from([0.0, 0.5, 2.0])), min_size=1, max_size=12)
)
def test_tied_scores_are_one_step_of_a_curve(samples: list[tuple[int, bool, float]]) -> None:
    scores, own, weights = (np.array(part) for part in zip(*samples, strict=True))
    curve = Listed(scores[:, None].astype(np.float32), own.astype(np.int64) - 1, weights).curves()[0]
    positives, negatives = weights[own].sum(), weights[~own].sum()
    found = PrAuc(BINARY).area(curve), RocAuc(BINARY).area(curve)
    if positives > 0:
        assert found[0] == pytest.approx(reference.average_precision_score(own, scores, sample_weight=weights))
    else:
        assert math.isnan(found[0])
    if positives > 0 and negatives > 0:
        assert found[1] == pytest.approx(reference.roc_auc_score(own, scores, sample_weight=weights))
    else:
        assert math.isnan(found[1])


def test_of_two_classes_the_positive_one_is_looked_for_whether_by_one_logit_or_two() -> None:
    output, target, _ = skewed(BINARY, 200)
    logit = output[:, 1] - output[:, 0]
    for positive, score, own in ((None, logit, target), (1, logit, target), (0, -logit, 1 - target)):
        for given_output in (output, logit, logit.unsqueeze(1)):
            for kind, expected in (
                (PrAuc, reference.average_precision_score(own, score)),
                (RocAuc, reference.roc_auc_score(own, score)),
            ):
                assert area(kind(BINARY, positive), given_output, target) == pytest.approx(expected)


def test_a_very_sure_model_is_ranked_to_the_last_sample() -> None:
    """Probabilities of exactly 0 and 1 in float64 tie what log-odds tell apart."""
    target = torch.tensor([0, 1] * 20)
    logit = torch.arange(40.0) * 500 - 10_000
    output = torch.stack([torch.zeros(40), logit], 1)
    expected = reference.average_precision_score(target, logit)
    assert area(PrAuc(BINARY), output, target) == pytest.approx(expected)
    assert area(PrAuc(BINARY), output, target, whole=LISTED + 1) == pytest.approx(expected, abs=2e-3)


def test_one_class_alone_has_no_roc_and_a_perfect_or_no_precision_recall_curve() -> None:
    output = torch.randn(8, 2, generator=torch.Generator().manual_seed(0))
    ones, zeros = torch.ones(8, dtype=torch.long), torch.zeros(8, dtype=torch.long)
    assert area(PrAuc(BINARY), output, ones) == 1.0
    assert math.isnan(area(PrAuc(BINARY), output, zeros))
    assert math.isnan(area(RocAuc(BINARY), output, ones))
    assert math.isnan(area(RocAuc(BINARY), output, zeros))
    assert area(PrAuc(CLASSES), torch.zeros(8, 5), ones) == 1.0  # classes that do not occur are left out of the mean
    for kind in (PrAuc, RocAuc):
        assert math.isnan(area(kind(BINARY), output[:0], ones[:0]))
        assert math.isnan(area(kind(BINARY), output, ones, torch.zeros(8)))
    broken = torch.full((8, 2), math.nan)
    assert area(RocAuc(BINARY), broken, torch.arange(8) % 2) == 0.5


def bounds(curve: Curve) -> tuple[tuple[float, float], tuple[float, float]]:
    """What average precision and ROC area can be at most and at least, however the targets of a bin are ordered."""
    own, others = curve.own, curve.every - curve.own
    hits, taken = np.cumsum(own) - own, np.cumsum(curve.every) - curve.every
    lowest = 0.0
    for h, t, p, n in zip(hits, taken, own, others, strict=True):
        steps = np.arange(1, p + 1)
        lowest += float(((h + steps) / (t + n + steps)).sum())
    some = own > 0
    highest = float((own * (hits + own))[some] @ (1 / (taken + own)[some]))
    average = lowest / own.sum(), highest / own.sum()
    pairs = own.sum() * others.sum()
    worst = float((others * hits).sum() / pairs)
    return average, (worst, worst + float((others * own).sum() / pairs))


@settings(max_examples=25)
@given(st.integers(0, 2**16), st.sampled_from([0.01, 1.0, 30.0]))
def test_counted_in_bins_the_area_is_within_what_the_bins_leave_open(seed: int, scale: float) -> None:
    output, target, _ = skewed(BINARY, 400, seed)
    output = output * scale
    for kind, place in ((PrAuc, 0), (RocAuc, 1)):
        exact = area(kind(BINARY), output, target)
        counted = collected(kind(BINARY), output, target, whole=LISTED + 1)
        assert isinstance(counted, Counted)
        low, high = bounds(counted.curves()[0])[place]
        assert low - 1e-9 <= exact <= high + 1e-9
        assert low - 1e-9 <= kind(BINARY).of_curves(counted.curves()) <= high + 1e-9
        assert kind(BINARY).of_curves(counted.curves()) == pytest.approx(exact, abs=5e-3)


@pytest.mark.parametrize(("classes", "bins"), [(1, 1 << 18), (10, 1 << 14), (1000, 256), (10**6, 16)])
def test_bins_are_a_power_of_two_for_each_class(classes: int, bins: int) -> None:
    assert bins_for(classes) == bins


def test_scores_beyond_the_last_bin_are_still_on_their_side() -> None:
    logit = torch.tensor([-1e9, -LARGEST, 0.0, LARGEST, 1e9])
    counted = collected(RocAuc(BINARY), logit, torch.tensor([0, 0, 0, 1, 1]), whole=LISTED + 1)
    assert RocAuc(BINARY).of_curves(counted.curves()) == 1.0


@pytest.mark.parametrize("heaviest", [1e-30, 1e-9, 1.0, 1e9, 3e38])
def test_in_bins_weights_count_in_proportion_however_light_or_heavy_they_are(heaviest: float) -> None:
    output, target, weight = skewed(BINARY, 4000)
    expected = area(RocAuc(BINARY), output, target, weight)
    scaled = weight * (heaviest / float(weight.max()))
    assert area(RocAuc(BINARY), output, target, scaled, whole=LISTED + 1) == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize("listed", [LISTED, 4])
@pytest.mark.parametrize("weighted", [False, True])
def test_ranges_in_any_order_come_to_the_bits_of_the_whole(
    listed: int, weighted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("raysim.training.metrics.ranking.LISTED", listed)
    module, generator = nn.Linear(4, 5), np.random.default_rng(0)
    x = generator.normal(size=(70, 4)).round().astype(np.float32)
    weight = generator.uniform(0.1, 3, 70).astype(np.float32) if weighted else None
    samples = Samples(x, generator.integers(0, 5, 70), weight)
    metrics, layout = resolve_metrics(("accuracy", *AREAS), CLASSES), ParameterLayout(module)
    model = layout.pack(module)
    evaluator = Evaluator(module, layout, cross_entropy, metrics, CLASSES, CPU, 1000)
    evaluator.load(model)

    def found(cuts: Sequence[int], seed: int) -> dict[str, float]:
        parts = [evaluator.exact_sums(samples.slice(a, b), WholeSet.of(samples)) for a, b in itertools.pairwise(cuts)]
        random.Random(seed).shuffle(parts)
        scores = [one for _, one in parts if one is not None]
        return {
            name: value
            for name, value in values_of(metrics, merge_exact([sums for sums, _ in parts]), merged(scores)).items()
            if name in AREAS
        }

    whole = found([0, 70], 0)
    for seed, cuts in enumerate(([0, 30, 31, 70], [0, 1, 2, 3, 50, 70], [0, 35, 70])):
        assert found(cuts, seed) == whole
    if listed == LISTED:
        values: npt.NDArray[np.float64] = evaluator.values(samples)
        assert dict(zip([m.name for m in metrics], values, strict=True)) | whole == pytest.approx(
            dict(zip([m.name for m in metrics], values, strict=True))
        )


def test_the_areas_say_which_data_they_are_for() -> None:
    with pytest.raises(ConfigError, match=r"evaluation.metrics: roc_auc is for classes, but the targets are numbers"):
        resolve_metrics(("roc_auc",), NUMBER)
    with pytest.raises(ConfigError, match=r"evaluation.positive: there is no class dead; classes are died, lived on"):
        resolve_metrics(("roc_auc",), NAMED, positive="dead")
