"""What DP-SGD on each client (`client.privacy`) is worth: ε of each client's samples, by the steps that it took."""

from __future__ import annotations

from math import exp, inf

import numpy as np

from raysim.arrays import Float64, Int64
from raysim.config.example_privacy import ExamplePrivacyConfig
from raysim.privacy.accountants import sampled_pld_epsilon

_TIMES = 50


def sample_epsilons(
    privacy: ExamplePrivacyConfig, batch_size: int, samples: Int64, steps: Int64, delta: float
) -> Float64:
    """ε at δ of one sample that is there or not, `[n]`, of clients with these numbers of samples and steps in all.

    A step is Gaussian noise on a Poisson sample, of rate `batch_size` / n. Steps compose, whatever the rounds. Where
    `largest_batch` is given, batches beyond it, which keep that many samples, are a failure that δ pays for.

    Raises:
        ConfigError: dp-accounting is not installed.
    """
    pairs, inverse = np.unique(np.stack([samples, steps]), axis=1, return_inverse=True)
    found = [_epsilon(privacy, batch_size, n, taken, delta) for n, taken in pairs.T.tolist()]
    return np.array(found, dtype=np.float64)[inverse.ravel()]


def _epsilon(privacy: ExamplePrivacyConfig, batch_size: int, samples: int, steps: int, delta: float) -> float:
    if not steps or not samples:
        return 0.0
    if not privacy.noise_multiplier:
        return inf
    rate = min(1.0, batch_size / samples)
    failure = 0.0
    if privacy.largest_batch is not None:
        from scipy.stats import binom

        failure = steps * float(binom.sf(privacy.largest_batch, samples, rate))
    # The cut mechanism is that of whole batches but for the failure: δ' = δ + (1 + e^ε) failure.
    epsilon = 0.0
    for _ in range(_TIMES):
        left = delta - failure * (1 + exp(min(epsilon, 700.0)))
        if left <= 0:
            return inf
        before, epsilon = epsilon, sampled_pld_epsilon("gaussian", privacy.noise_multiplier, rate, steps, left)
        if not failure or epsilon <= before * (1 + 1e-4):
            return epsilon
    return inf
