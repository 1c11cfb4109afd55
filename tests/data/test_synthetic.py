"""FedProx's Synthetic(alpha, beta), against a plain reading of its recipe."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raysim.config.sources import SyntheticConfig
from raysim.data.sources import load_source, synthetic_client, synthetic_sizes
from raysim.data.sources.synthetic import _Stream
from raysim.keyed import Purpose, generator


@pytest.mark.parametrize("iid", [False, True])
def test_a_client_is_the_recipe_written_as_a_loop(iid) -> None:
    seed, client, alpha, beta, d, classes, n = 3, 17, 0.5, 2.0, 6, 4, 40
    x, y = synthetic_client(seed, client, n, alpha=alpha, beta=beta, iid=iid, dimensions=d, classes=classes)
    own = generator(seed, Purpose.SYNTHETIC, _Stream.CLIENT, client)
    u, b_k = (0.0, 0.0) if iid else (alpha * own.standard_normal(), beta * own.standard_normal())
    model = generator(seed, Purpose.SYNTHETIC, _Stream.SHARED_MODEL) if iid else own
    w = [[u + model.standard_normal() for _ in range(classes)] for _ in range(d)]
    b = [u + model.standard_normal() for _ in range(classes)]
    v = [0.0 if iid else b_k + own.standard_normal() for _ in range(d)]
    for i in range(n):
        sample = [v[j] + (j + 1) ** (-1.2 / 2) * own.standard_normal() for j in range(d)]
        np.testing.assert_allclose(x[i], sample, rtol=1e-5, atol=1e-6)
        logits = [sum(float(x[i, j]) * w[j][c] for j in range(d)) + b[c] for c in range(classes)]
        assert y[i] == np.argmax(logits)


@settings(max_examples=25)
@given(st.integers(0, 2**63 - 1), st.integers(0, 2**40), st.integers(1, 50), st.booleans())
def test_a_client_is_a_pure_function_and_more_samples_only_add_to_it(seed, client, n, iid) -> None:
    options = {"alpha": 1.0, "beta": 1.0, "iid": iid, "dimensions": 5, "classes": 3}
    x, y = synthetic_client(seed, client, n, **options)
    assert x.shape == (n, 5)
    assert (x.dtype, y.dtype) == (np.float32, np.int64)
    assert set(y.tolist()) <= {0, 1, 2}
    longer_x, longer_y = synthetic_client(seed, client, n + 7, **options)
    np.testing.assert_array_equal(longer_x[:n], x)
    np.testing.assert_array_equal(longer_y[:n], y)


def test_seeds_and_clients_change_the_samples() -> None:
    base = synthetic_client(0, 0, 5)[0]
    assert not np.array_equal(base, synthetic_client(1, 0, 5)[0])
    assert not np.array_equal(base, synthetic_client(0, 1, 5)[0])


def test_alpha_and_beta_are_the_standard_deviations_between_clients() -> None:
    means = np.array([synthetic_client(0, k, 50, beta=5.0)[0].mean() for k in range(400)])
    assert 4.3 < means.std() < 5.7  # beta, widened by the mean of 60 unit normals
    means = np.array([synthetic_client(0, k, 50)[0].mean() for k in range(400)])
    assert means.std() < 0.3
    x, _ = synthetic_client(0, 0, 20_000, iid=True)
    np.testing.assert_allclose(x.std(axis=0) ** 2, np.arange(1, 61) ** -1.2, rtol=0.06)


def test_iid_clients_share_one_model_and_others_do_not() -> None:
    def agreement(iid: bool) -> float:
        x, y = synthetic_client(0, 0, 300, iid=iid, dimensions=4, classes=3)
        other_x, other_y = synthetic_client(0, 1, 3000, iid=iid, dimensions=4, classes=3)
        nearest = ((x[:, None] - other_x[None]) ** 2).sum(axis=2).argmin(axis=1)
        return float((y == other_y[nearest]).mean())

    assert agreement(iid=True) > 0.85
    assert agreement(iid=False) < 0.7


def test_sizes_are_lognormal_plus_fifty_and_do_not_depend_on_the_population() -> None:
    sizes = synthetic_sizes(0, 100_000)
    assert sizes.min() >= 50
    np.testing.assert_array_equal(synthetic_sizes(0, 100), sizes[:100])
    logs = np.log(sizes[sizes > 150] - 50.0)
    quartiles = np.quantile(np.where(sizes > 150, np.log(sizes - 49.5), 0), [0.75, 0.95])
    np.testing.assert_allclose(quartiles, [4 + 2 * 0.6745, 4 + 2 * 1.6449], atol=0.05)
    assert len(logs) > 30_000


def test_sigma_says_how_unequal_clients_are() -> None:
    log_sizes = np.log(synthetic_sizes(0, 100_000, 0.5) - 49.5)
    np.testing.assert_allclose([log_sizes.mean(), log_sizes.std()], [4, 0.5], atol=0.01)
    assert set(synthetic_sizes(0, 10, 0.0).tolist()) == {50 + int(np.exp(4))}


def test_the_source_is_its_clients_one_after_another() -> None:
    config = SyntheticConfig(alpha=1, beta=1, clients=4, sigma=0.8, dimensions=5, classes=3)
    data = load_source(config, seed=2)
    sizes = synthetic_sizes(2, 4, 0.8)
    assert data.train.client is not None
    np.testing.assert_array_equal(data.train.client, np.repeat(np.arange(4), sizes))
    assert (data.info.classes, data.info.input_shape, data.test) == (3, (5,), None)
    for client in range(4):
        part = data.train.take(np.flatnonzero(data.train.client == client))
        x, y = synthetic_client(2, client, int(sizes[client]), alpha=1, beta=1, dimensions=5, classes=3)
        np.testing.assert_array_equal(part.x, x)
        np.testing.assert_array_equal(part.y, y)
