"""Membership inference: which samples, or clients, a model was trained on, and what that says about epsilon."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import exp, inf, log

import numpy as np

from raysim.arrays import Float64

_LOW_FALSE_POSITIVES = 0.01


@dataclass(frozen=True, slots=True)
class Membership:
    """How well scores tell members from others.

    Attributes:
        auc: chance that a member scores above another; 1/2 is guessing.
        interval: of the AUC at 95 %, as if all scores were independent (`auc_interval`).
        advantage: largest difference of true and false positive rates over all thresholds.
        low: true positive rate where at most 1 % of the others are taken for members (Carlini et al. 2022).
    """

    auc: float
    interval: tuple[float, float]
    advantage: float
    low: float

    def facts(self) -> dict[str, float]:
        """For programs."""
        low, high = self.interval
        return {"auc": self.auc, "auc_low": low, "auc_high": high, "advantage": self.advantage}


def membership(members: Float64, others: Float64) -> Membership:
    """How well scores tell members `[n]` from others `[m]`; larger is taken for a member, ties count half.

    The threshold attack of Yeom et al. 2018 has minus the loss as score.
    """
    order = np.sort(others)
    below, upto = np.searchsorted(order, members, "left"), np.searchsorted(order, members, "right")
    auc = float((below + upto).mean() / (2 * len(others)))
    thresholds = np.unique(np.concatenate([members, others]))
    true = 1 - np.searchsorted(np.sort(members), thresholds, "left") / len(members)
    false = 1 - np.searchsorted(order, thresholds, "left") / len(others)
    allowed = true[false <= _LOW_FALSE_POSITIVES]
    interval = auc_interval(auc, len(members), len(others))
    return Membership(auc, interval, float(max((true - false).max(), 0.0)), float(allowed.max(initial=0.0)))


def auc_interval(auc: float, members: int, others: int, z: float = 1.959964) -> tuple[float, float]:
    """The values of the AUC that lie within `z` of their own standard errors of the one that was found.

    The standard error is that of Hanley & McNeil 1982 with the mean of both numbers in place of each (Newcombe,
    "Confidence intervals for an effect size measure based on the Mann-Whitney statistic. Part 2", Statistics in
    Medicine 25, 2006, method 5). The interval has a width also where scores are told apart without an error.
    """
    more = (members + others) / 2 - 1

    def excess(value: float) -> float:
        spread = 1 + more * ((1 - value) / (2 - value) + value / (1 + value))
        return (auc - value) ** 2 - z**2 * value * (1 - value) * spread / (members * others)

    return tuple(_root(excess, end, auc) for end in (0.0, 1.0))  # type: ignore[return-value]  # two of them


def _root(excess: Callable[[float], float], end: float, middle: float) -> float:
    """Where `excess` changes its sign between an end, where it is not negative, and the middle, where it is not
    positive."""
    for _ in range(60):
        halfway = (end + middle) / 2
        end, middle = (halfway, middle) if excess(halfway) >= 0 else (end, halfway)
    return (end + middle) / 2


def likelihood_ratios(scores: Float64, inside: Float64, outside: Float64) -> Float64:
    """LiRA: log-likelihood ratio `[n]` of each sample's score under Gaussians fitted to models with and without it.

    Carlini, Chien, Nasr, Song, Terzis & Tramèr, "Membership Inference Attacks From First Principles", S&P 2022,
    algorithm 1, with one variance of all samples (as for few shadow models).

    Args:
        scores: of the attacked model, `[n]`, such as log(p / (1 - p)) of the true class.
        inside, outside: of shadow models trained with and without the sample, `[models, n]`; NaN where there is none.
    """
    means = [np.nanmean(one, axis=0) for one in (inside, outside)]
    spreads = [
        float(np.sqrt(np.nanmean((one - mean) ** 2))) + 1e-12
        for one, mean in zip((inside, outside), means, strict=True)
    ]
    logs = [-0.5 * ((scores - mean) / spread) ** 2 - log(spread) for mean, spread in zip(means, spreads, strict=True)]
    found: Float64 = logs[0] - logs[1]
    return found


def advantage_bound(epsilon: float, delta: float) -> float:
    """The largest advantage of any attack on an (ε, δ)-private model: (e^ε - 1 + 2δ) / (e^ε + 1) (Humphries et al.
    2023)."""
    if epsilon > 700:
        return 1.0
    return min(1.0, (exp(epsilon) - 1 + 2 * delta) / (exp(epsilon) + 1))


def epsilon_lower_bound(members: Float64, others: Float64, delta: float, level: float = 0.95) -> float:
    """The largest ε that scores refute at a level of confidence: log((TPR - δ) / FPR) at the best threshold.

    Rates are replaced by the ends of Clopper-Pearson intervals (Nasr et al. 2021), each at half of what is left over;
    the threshold is chosen on the first half of the scores, and rates are counted on the second, so that the choice
    costs nothing.
    """
    from scipy.stats import beta

    (try_in, in_), (try_out, out) = ((one[0::2], one[1::2]) for one in (members, others))
    thresholds = np.unique(np.concatenate([try_in, try_out]))

    def bound(threshold: float, inside: Float64, outside: Float64) -> float:
        found = 0.0
        for a, b in (((inside >= threshold), (outside >= threshold)), ((outside < threshold), (inside < threshold))):
            hits, misses, tail = int(a.sum()), int(b.sum()), (1 - level) / 2
            low = float(beta.ppf(tail, hits, len(a) - hits + 1)) if hits else 0.0
            high = float(beta.ppf(1 - tail, misses + 1, len(b) - misses)) if misses < len(b) else 1.0
            if low > delta and high > 0:
                found = max(found, log((low - delta) / high))
        return found

    best = max(thresholds, key=lambda threshold: bound(threshold, try_in, try_out), default=inf)
    return bound(best, in_, out)
