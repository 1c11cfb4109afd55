from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from raysim.config.base import CustomConfig
from raysim.config.data import DataConfig
from raysim.config.sources import InMemoryConfig
from raysim.data import ArrowFederation, DataInfo, Dataset, Pool, build, describe, prepare
from raysim.data.identity import dataset_identity
from raysim.data.sources import from_arrays
from raysim.errors import DataError

SIZE = 400


def arrays(seed: int = 0, **more: Any) -> dict[str, Any]:
    random = np.random.default_rng(seed)
    x = random.normal(5.0, 3.0, (SIZE, 3)).astype(np.float32)
    x[:, 0] = np.arange(SIZE)  # tells every sample from every other
    return {"x": x, "y": random.integers(0, 4, SIZE)} | more


def config(tmp_path: Path, **sections: Any) -> DataConfig:
    return DataConfig.model_validate(
        {"source": InMemoryConfig(), "partition": {"name": "iid", "clients": 8}, "cache": str(tmp_path)} | sections
    )


def built(tmp_path: Path, data: Any, seed: int = 0, **sections: Any) -> ArrowFederation:
    federation = prepare(config(tmp_path, **sections), seed, arrays=data).open()
    assert isinstance(federation, ArrowFederation)
    return federation


def ids(federation: ArrowFederation, part: Any) -> list[int]:
    if part in ("train", "holdout"):
        values = [federation.shard(client, part).x[:, 0] for client in range(federation.population)]
        return sorted(np.concatenate(values).astype(int).tolist())
    samples = federation.server(part)
    return [] if samples is None else sorted(samples.x[:, 0].astype(int).tolist())


def test_training_holdout_validation_and_test_are_disjoint_and_together_everything(tmp_path: Path) -> None:
    federation = built(tmp_path, arrays(), test=0.2, validation=0.1, holdout=0.25)
    parts = {part: ids(federation, part) for part in ("train", "holdout", "validation", "test")}
    assert sorted(row for rows in parts.values() for row in rows) == list(range(SIZE))
    assert {part: len(rows) for part, rows in parts.items()} == {
        "train": 216,
        "holdout": 72,
        "validation": 32,
        "test": 80,
    }
    assert federation.manifest.samples == {part: len(rows) for part, rows in parts.items()}


def test_labels_and_weights_stay_with_their_samples(tmp_path: Path) -> None:
    data = arrays()
    data["weight"] = data["x"][:, 0] + 0.5
    federation = built(tmp_path, data, holdout=0.2, partition={"name": "dirichlet", "clients": 5, "min_size": 1})
    for client in range(5):
        shard = federation.shard(client)
        rows = shard.x[:, 0].astype(int)
        np.testing.assert_array_equal(shard.y, data["y"][rows])
        assert shard.weight is not None
        np.testing.assert_array_equal(shard.weight, rows + 0.5)


def test_statistics_of_transforms_come_from_the_training_part_alone(tmp_path: Path) -> None:
    data = arrays()
    plain = built(tmp_path, data)
    train = data["x"][ids(plain, "train")].astype(np.float64)
    scaled = built(tmp_path, data, transforms=["standardise"])
    test = scaled.server("test")
    assert test is not None
    expected = (data["x"][ids(plain, "test")] - train.mean(axis=0)) / train.std(axis=0)
    np.testing.assert_allclose(np.sort(test.x, axis=0), np.sort(expected, axis=0), atol=1e-5)
    assert scaled.manifest.transforms[0]["step"] == "scale"


def test_rows_with_holes_are_dropped_with_their_owner_and_label(tmp_path: Path) -> None:
    data = arrays(client=np.arange(SIZE) % 5)
    data["x"][::7, 2] = np.nan
    federation = built(tmp_path, data, transforms=["missing"], partition="natural")
    for client in range(5):
        rows = federation.shard(client).x[:, 0].astype(int)
        assert not (rows % 7 == 0).any()
        assert set((rows % 5).tolist()) == {client}
        assert federation.owner(client) == str(client)
        np.testing.assert_array_equal(federation.shard(client).y, data["y"][rows])


def test_a_hole_without_the_missing_transform_is_named(tmp_path: Path) -> None:
    data = arrays()
    data["x"][123, 2] = np.inf
    with pytest.raises(
        DataError,
        match=r"sample 123, feature \(2\) is inf in float32, which ends at 3.4e38; add the `missing` transform",
    ):
        built(tmp_path, data)


def test_natural_clients_each_give_their_share_to_the_test_set(tmp_path: Path) -> None:
    data = arrays(client=np.repeat(["a", "b"], [100, 300]))
    federation = built(tmp_path, data, partition="natural", test=0.2)
    tested = np.array(ids(federation, "test"))
    assert ((tested < 100).sum(), (tested >= 100).sum()) == (20, 60)


def test_the_sources_own_test_set_is_used_as_it_is(tmp_path: Path) -> None:
    data = arrays(x_test=arrays(1)["x"][:50], y_test=np.arange(50) % 4)
    federation = built(tmp_path, data, test=0.5)
    test = federation.server("test")
    assert test is not None
    np.testing.assert_array_equal(test.x, data["x_test"])
    assert federation.sizes().sum() == SIZE


def test_the_same_data_and_seed_give_the_same_federation_and_another_seed_another(tmp_path: Path) -> None:
    first = prepare(config(tmp_path / "a"), 0, arrays=arrays())
    again = prepare(config(tmp_path / "b"), 0, arrays=arrays())
    other = prepare(config(tmp_path / "a"), 1, arrays=arrays())
    assert first.fingerprint == again.fingerprint != other.fingerprint
    assert pickle.loads(pickle.dumps(first)).open().fingerprint == first.fingerprint


def test_a_store_is_built_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = prepare(config(tmp_path), 0, arrays=arrays())
    monkeypatch.setattr(build, "divide", None)
    assert prepare(config(tmp_path), 0, arrays=arrays()) == spec


def test_a_bundled_source_is_not_even_loaded_when_its_store_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = prepare(config(tmp_path, source="wine"), 0)
    monkeypatch.setattr(build, "load_source", None)
    assert prepare(config(tmp_path, source="wine"), 0) == spec


def test_a_file_that_changes_is_built_again(tmp_path: Path) -> None:
    file = tmp_path / "data.npz"
    fingerprints = []
    for seed in (0, 1):
        np.savez(file, **arrays(seed))
        fingerprints.append(prepare(config(tmp_path, source={"name": "npz", "path": str(file)}), 0).fingerprint)
    assert fingerprints[0] != fingerprints[1]


def test_every_key_that_matters_makes_a_store_of_its_own(tmp_path: Path) -> None:
    sections: list[dict[str, Any]] = [
        {},
        {"test": 0.3},
        {"validation": 0.1},
        {"holdout": 0.1},
        {"transforms": ["min_max"]},
        {"label_histograms": False},
        {"partition": {"name": "iid", "clients": 9}},
    ]
    folders = {prepare(config(tmp_path, **section), 0, arrays=arrays()).path for section in sections}
    assert len(folders) == len(sections)


def deal(labels: np.ndarray, seed: int) -> list[np.ndarray]:
    return np.array_split(np.arange(len(labels)), PARTS)


PARTS = 3


def test_a_partitioner_of_the_user_that_changes_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    section = CustomConfig(name=f"{__name__}:deal")
    assert built(tmp_path, arrays(), partition=section).population == 3
    monkeypatch.setitem(globals(), "PARTS", 4)
    assert built(tmp_path, arrays(), partition=section).population == 4


def test_arrays_other_than_those_of_the_run_are_refused(tmp_path: Path) -> None:
    fingerprint = dataset_identity(from_arrays(arrays(), origin="data"))
    prepare(config(tmp_path, source=InMemoryConfig(fingerprint=fingerprint)), 0, arrays=arrays())
    with pytest.raises(DataError, match="not the arrays that the run was started with"):
        prepare(config(tmp_path, source=InMemoryConfig(fingerprint=fingerprint)), 0, arrays=arrays(1))


def test_a_damaged_store_is_reported_and_not_silently_rebuilt(tmp_path: Path) -> None:
    federation = built(tmp_path, arrays())
    (federation.path / "train.arrow").write_bytes(b"")
    with pytest.raises(DataError, match=r"train\.arrow: has 0 bytes.*delete the folder"):
        built(tmp_path, arrays())


def test_nothing_is_left_behind_by_a_build_that_fails(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="500 clients, but only 320 training samples"):
        built(tmp_path, arrays(), partition={"name": "iid", "clients": 500})
    assert not (tmp_path / "shards").exists()


INFO = DataInfo("classification", (3,), "real", (), 4)


def pool(y: Any = None, x: Any = None, kind: Any = "real") -> Pool:
    data = arrays()
    return Pool(data["x"] if x is None else x, data["y"] if y is None else y, kind, "mine")


def label(value: int) -> np.ndarray:
    y = arrays()["y"]
    y[77] = value
    return y


@pytest.mark.parametrize(
    ("dataset", "message"),
    [
        (Dataset(pool(label(4)), None, INFO), r"mine: label 4 of sample 77 is outside 0\.\.3; correct it"),
        (Dataset(pool(label(-1)), None, INFO), r"mine: label -1 of sample 77 is outside 0\.\.3"),
        (Dataset(pool(), pool(label(9)), INFO), r"mine: label 9 of sample 77 is outside"),
        (Dataset(pool(arrays()["y"] + 0.5), None, INFO), r"targets have type float64, expected integers"),
        (
            Dataset(pool(), pool(x=np.zeros((SIZE, 5), np.float32)), INFO),
            r"samples have shape \(5,\) and targets \(\), expected \(3,\)",
        ),
        (
            Dataset(pool(np.full(SIZE, np.nan)), None, DataInfo("regression", (3,), "real")),
            r"the target of sample \d+ is not finite",
        ),
        (
            Dataset(
                pool(x=np.full((SIZE, 3), 7), kind="tokens"),
                None,
                DataInfo("classification", (3,), "tokens", (), 4, 6),
            ),
            r"token 7 of sample \d+ is outside 0\.\.5",
        ),
        (
            Dataset(pool(x=np.zeros((SIZE, 3)), kind="pixels"), None, INFO),
            r"features have type float64, expected integers",
        ),
    ],
)
def test_what_a_source_of_the_user_got_wrong_is_named(tmp_path: Path, dataset: Dataset, message: str) -> None:
    with pytest.raises(DataError, match=message):
        built(tmp_path, dataset)


def test_a_summary_tells_sizes_and_skew(tmp_path: Path) -> None:
    y = np.repeat([0, 1, 2, 3], SIZE // 4)
    data = arrays(y=y)
    even = describe(built(tmp_path, data, partition={"name": "iid", "clients": 2}, holdout=0.1))
    assert (even.clients, even.samples + even.holdout, even.test, even.validation) == (2, 320, 80, 0)
    assert even.skew is not None
    assert even.skew < 0.15
    assert even.classes_per_client == pytest.approx(4, abs=0.2)
    own_test = arrays(y=y, x_test=arrays()["x"], y_test=y)
    skewed = describe(built(tmp_path, own_test, partition={"name": "classes", "clients": 8, "classes_per_client": 1}))
    assert skewed.skew == pytest.approx(0.75)
    assert skewed.classes_per_client == pytest.approx(1.0)
    assert (skewed.smallest, skewed.median, skewed.largest) == (50, 50.0, 50)


def test_a_summary_without_histograms_reads_the_shards(tmp_path: Path) -> None:
    section = {"name": "dirichlet", "clients": 6, "alpha": 0.5, "min_size": 1}
    stored = describe(built(tmp_path, arrays(), partition=section))
    counted = describe(built(tmp_path, arrays(), partition=section, label_histograms=False))
    assert stored == counted


def test_a_summary_of_numbers_to_regress_on_has_no_skew(tmp_path: Path) -> None:
    summary = describe(built(tmp_path, arrays(y=np.linspace(0, 1, SIZE)), partition="quantity"))
    assert summary.skew is None
    assert summary.classes_per_client is None
    assert summary.inspected == 0
