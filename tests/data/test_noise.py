"""Labels spoiled on purpose: which, how many, and nowhere else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from raysim.config.data import DataConfig, LabelNoiseConfig
from raysim.config.sources import InMemoryConfig
from raysim.data import ArrowFederation, prepare
from raysim.data.noise import mislabelled
from raysim.errors import DataError


def built(tmp_path: Path, data: Any = None, **sections: Any) -> ArrowFederation:
    random = np.random.default_rng(0)
    data = data or {"x": random.normal(size=(400, 3)).astype(np.float32), "y": random.integers(0, 4, 400)}
    values = {"source": InMemoryConfig(), "partition": {"name": "iid", "clients": 8}, "cache": str(tmp_path)} | sections
    federation = prepare(DataConfig.model_validate(values), 0, arrays=data).open()
    assert isinstance(federation, ArrowFederation)
    return federation


def test_only_training_labels_of_the_named_clients_are_wrong(tmp_path: Path) -> None:
    sections: dict[str, Any] = {"holdout": 0.2, "test": 0.2, "validation": 0.1}
    clean = built(tmp_path, **sections)
    noisy = built(tmp_path, noise={"clients": [2, 5], "fraction": 0.6}, **sections)
    for client in range(8):
        one, other = clean.shard(client), noisy.shard(client)
        np.testing.assert_array_equal(one.x, other.x)
        wrong = int((one.y != other.y).sum())
        assert wrong == (round(0.6 * len(one)) if client in (2, 5) else 0)
        np.testing.assert_array_equal(clean.shard(client, "holdout").y, noisy.shard(client, "holdout").y)
    for part in ("validation", "test"):
        before, after = clean.server(part), noisy.server(part)
        assert before is not None
        assert after is not None
        np.testing.assert_array_equal(before.y, after.y)
    counted = noisy.histograms()
    assert counted is not None
    np.testing.assert_array_equal(counted[2], np.bincount(noisy.shard(2).y, minlength=4))
    assert clean.fingerprint != noisy.fingerprint


def test_wrong_labels_are_keyed_and_spread_over_the_other_classes() -> None:
    labels = np.zeros(3000, dtype=np.int64)
    noise = LabelNoiseConfig(clients=(3,), fraction=1.0)
    wrong = mislabelled(noise, labels, 3, 4, seed=1)
    np.testing.assert_array_equal(wrong, mislabelled(noise, labels, 3, 4, seed=1))
    assert (wrong != mislabelled(noise, labels, 3, 4, seed=2)).any()
    assert np.bincount(wrong, minlength=4)[0] == 0
    assert np.bincount(wrong).max() < 1.2 * 1000
    assert not labels.any()


def test_noise_that_the_data_cannot_have_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"data\.noise\.clients: there is no client 8; clients are 0 to 7"):
        built(tmp_path, noise={"clients": [8]})
    numbers = {"x": np.zeros((40, 2), np.float32), "y": np.linspace(0, 1, 40, dtype=np.float32)}
    with pytest.raises(DataError, match=r"data\.noise: only samples with one label"):
        built(tmp_path, numbers, noise={"clients": [0]})
    with pytest.raises(DataError, match=r"data\.noise: synthetic_virtual"):
        prepare(DataConfig.model_validate({"source": "synthetic_virtual", "noise": {"clients": [0]}}), 0)
