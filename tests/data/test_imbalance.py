"""Imbalanced training sets: how many of each class, which samples, and nothing else touched."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from raysim.config.data import DataConfig
from raysim.config.imbalance import ImbalanceConfig
from raysim.data import ArrowFederation, prepare
from raysim.data.imbalance import kept
from raysim.errors import DataError


def built(tmp_path: Path, seed: int = 0, **sections: Any) -> ArrowFederation:
    values = {"source": "digits", "partition": {"name": "iid", "clients": 5}, "cache": str(tmp_path)} | sections
    federation = prepare(DataConfig.model_validate(values), seed).open()
    assert isinstance(federation, ArrowFederation)
    return federation


def training(federation: ArrowFederation) -> tuple[np.ndarray, np.ndarray]:
    shards = [federation.shard(client) for client in range(federation.population)]
    return np.concatenate([shard.x for shard in shards]), np.concatenate([shard.y for shard in shards])


def test_one_line_makes_digits_fifty_to_one(tmp_path: Path) -> None:
    plain, skewed = built(tmp_path, validation=0.1), built(tmp_path, validation=0.1, imbalance={"ratio": 50})
    counts = np.bincount(training(skewed)[1], minlength=10)
    falling = np.sort(counts)[::-1]
    np.testing.assert_allclose(falling, falling[0] * 50.0 ** (-np.arange(10) / 9), atol=0.51)
    assert counts.min() == round(counts.max() / 50)
    for part in ("validation", "test"):
        before, after = plain.server(part), skewed.server(part)
        assert before is not None
        assert after is not None
        np.testing.assert_array_equal(before.x, after.x)
    whole = {row.tobytes() for row in training(plain)[0]}
    assert all(row.tobytes() in whole for row in training(skewed)[0])
    histograms = skewed.histograms()
    assert histograms is not None
    np.testing.assert_array_equal(histograms.sum(0), counts)


def test_profiles_and_orders() -> None:
    present = np.array([100, 80, 120, 90, 100])
    by_label = kept(ImbalanceConfig(ratio=16, order="label"), present, 0)
    np.testing.assert_array_equal(by_label, [100, 50, 25, 12, 6])
    step = kept(ImbalanceConfig(ratio=10, profile="step", minority=0.4, order="label"), present, 0)
    np.testing.assert_array_equal(step, [80, 80, 80, 8, 8])
    shuffled = [kept(ImbalanceConfig(ratio=16), present, seed) for seed in range(6)]
    assert len({int(counts.argmin()) for counts in shuffled}) > 1
    for counts in shuffled:
        assert (counts <= present).all()
        assert counts.max() / counts.min() == pytest.approx(16, rel=0.1)


def test_the_choice_is_keyed_by_the_seed(tmp_path: Path) -> None:
    setting = {"imbalance": {"ratio": 20, "order": "label"}}
    first, other = built(tmp_path / "a", **setting), built(tmp_path / "b", **setting)
    assert first.fingerprint == other.fingerprint
    assert first.fingerprint != built(tmp_path, seed=1, **setting).fingerprint


def test_what_has_no_classes_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"data\.imbalance: only samples with one label of two classes"):
        built(tmp_path, source="diabetes", imbalance={"ratio": 5})
    with pytest.raises(DataError, match=r"data\.imbalance: synthetic_virtual is never seen as a whole"):
        prepare(DataConfig.model_validate({"source": "synthetic_virtual", "imbalance": {"ratio": 5}}), 0)
