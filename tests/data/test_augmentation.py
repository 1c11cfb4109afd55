"""Augmented shards: how much of which class, made of what, and that nothing but training parts grows."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import ndimage

from raysim.config.data import DataConfig
from raysim.config.imbalance import JitterConfig
from raysim.config.sources import InMemoryConfig
from raysim.data import ArrowFederation, prepare
from raysim.data.augmentation import growth
from raysim.data.warping import rotated_and_shifted
from raysim.errors import ConfigError, DataError


def built(tmp_path: Path, augmentation: Any = "none", **sections: Any) -> ArrowFederation:
    values = {
        "source": "digits",
        "partition": {"name": "dirichlet", "clients": 6, "alpha": 0.5},
        "cache": str(tmp_path),
        "augmentation": augmentation,
        "holdout": 0.2,
        "validation": 0.1,
    } | sections
    federation = prepare(DataConfig.model_validate(values), 0).open()
    assert isinstance(federation, ArrowFederation)
    return federation


def check_only_training_parts_grow(plain: ArrowFederation, grown: ArrowFederation, *, least: int = 1) -> None:
    """Every class of each client of which it has so many samples is as frequent as its largest."""
    for client in range(plain.population):
        before, after = plain.shard(client), grown.shard(client)
        np.testing.assert_array_equal(after.x[: len(before)], before.x)
        np.testing.assert_array_equal(after.y[: len(before)], before.y)
        had, has = (np.bincount(shard.y, minlength=10) for shard in (before, after))
        np.testing.assert_array_equal(has, np.where(had >= least, had.max(), had))
        for one, other in ((plain.shard(client, "holdout"), grown.shard(client, "holdout")),):
            np.testing.assert_array_equal(one.x, other.x)
            np.testing.assert_array_equal(one.y, other.y)
    for part in ("validation", "test"):
        one, other = plain.server(part), grown.server(part)
        assert one is not None
        assert other is not None
        np.testing.assert_array_equal(one.x, other.x)
    histograms = grown.histograms()
    assert histograms is not None
    np.testing.assert_array_equal(histograms[0], np.bincount(grown.shard(0).y, minlength=10))
    assert plain.fingerprint != grown.fingerprint


@pytest.mark.parametrize("augmentation", ["images", {"name": "images", "noise": 0.05, "shift": 0}, "jitter"])
def test_rare_classes_grow_to_the_clients_largest_in_training_parts_alone(tmp_path: Path, augmentation: Any) -> None:
    plain, grown = built(tmp_path), built(tmp_path, augmentation)
    check_only_training_parts_grow(plain, grown)
    again = built(tmp_path / "elsewhere", augmentation)
    assert again.fingerprint == grown.fingerprint
    if augmentation != "jitter":
        made = grown.shard(0).x[len(plain.shard(0)) :]
        assert plain.shard(0).x.min() <= made.min()
        assert made.max() <= plain.shard(0).x.max()


def test_images_are_warped_as_scipy_does() -> None:
    images = np.random.default_rng(0).random((3, 2, 9, 7))
    angle, shift = np.deg2rad([20.0, -35.0, 0.0]), np.array([[0, 0, 2], [0, 0, -1]])
    found = rotated_and_shifted(images, angle, shift)
    inner = (slice(3, 6), slice(2, 5))  # what no edge reaches
    for i in (0, 1):
        expected = ndimage.rotate(images[i], np.rad2deg(angle[i]), axes=(1, 2), reshape=False, order=1)
        np.testing.assert_allclose(found[i][:, *inner], expected[:, *inner], atol=1e-9)
    expected = ndimage.shift(images[2], (0, 2, -1), order=1, mode="nearest")
    np.testing.assert_allclose(found[2], expected, atol=1e-12)


def test_pixels_stay_pixels(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    y = np.repeat([0, 1], [30, 4])
    arrays = {
        "x": random.integers(0, 256, (34, 1, 6, 6), dtype=np.uint8),
        "y": y,
        "x_test": np.zeros((2, 1, 6, 6), "u1"),
    }
    arrays["y_test"] = np.array([0, 1])
    config = DataConfig.model_validate(
        {
            "source": InMemoryConfig(),
            "partition": {"name": "iid", "clients": 1},
            "augmentation": "images",
            "cache": str(tmp_path),
        }
    )
    shard = prepare(config, 0, arrays=arrays).open().shard(0)
    assert shard.x.dtype == np.uint8
    np.testing.assert_array_equal(np.bincount(shard.y), [30, 30])


def test_jitter_is_noise_of_a_share_of_each_features_deviation(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    x = np.stack([random.normal(0, 10, 1200), random.integers(0, 2, 1200), random.normal(5, 1, 1200)], 1)
    y = np.repeat([0, 1], [1199, 1])
    values = {
        "source": InMemoryConfig(), "partition": {"name": "iid", "clients": 1}, "cache": str(tmp_path), "test": 0.0,
        "augmentation": {"name": "jitter", "scale": 0.2},
    }  # fmt: skip
    shard = prepare(DataConfig.model_validate(values), 0, arrays=(x.astype(np.float32), y)).open().shard(0)
    own, made = shard.x[:1200][shard.y[:1200] == 1], shard.x[1200:]
    assert len(made) == 1198
    np.testing.assert_allclose((made - own).std(0), [2.0, 0.0, 0.2], rtol=0.1)


def test_growth_has_its_limits() -> None:
    counts = np.array([40, 10, 0, 1])
    np.testing.assert_array_equal(growth(JitterConfig(), counts), [0, 30, 0, 39])
    np.testing.assert_array_equal(growth(JitterConfig(to=0.5), counts), [0, 10, 0, 19])
    np.testing.assert_array_equal(growth(JitterConfig(most=2.5), counts), [0, 15, 0, 1])


def test_smote_lies_between_samples_of_the_class(tmp_path: Path) -> None:
    pytest.importorskip("imblearn")
    plain, grown = built(tmp_path), built(tmp_path, {"name": "smote", "neighbours": 2})
    check_only_training_parts_grow(plain, grown, least=2)
    before, after = plain.shard(1), grown.shard(1)
    for x, y in zip(after.x[len(before) :], after.y[len(before) :], strict=True):
        own = before.x[before.y == y]
        assert (own.min(0) <= x + 1e-6).all()
        assert (x <= own.max(0) + 1e-6).all()
    assert built(tmp_path / "elsewhere", {"name": "smote", "neighbours": 2}).fingerprint == grown.fingerprint


def test_smote_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "imblearn.over_sampling", None)
    monkeypatch.setitem(sys.modules, "imblearn", None)
    with pytest.raises(
        ConfigError, match=r"smote needs the package imbalanced-learn; install .* 'raysim-fl\[imbalance\]'"
    ):
        built(tmp_path, "smote")


@pytest.mark.parametrize(
    ("source", "augmentation", "line"),
    [
        ("wine", "images", r"images have shape \[channels, height, width\], these samples \[13\]; use jitter or smote"),
        ("diabetes", "jitter", "jitter is for samples with one class each"),
        ("synthetic_virtual", "jitter", "synthetic_virtual has no rare classes"),
    ],
)
def test_what_cannot_be_augmented_is_one_line(tmp_path: Path, source: str, augmentation: str, line: str) -> None:
    partition = {"name": "iid", "clients": 4}
    sections = {"holdout": 0.0} if source == "synthetic_virtual" else {}
    with pytest.raises(DataError, match=rf"data\.augmentation: {line}"):
        built(tmp_path, augmentation, source=source, partition=partition, **sections)
