from __future__ import annotations

import pickle
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

from raysim.config.data import DataConfig
from raysim.config.sources import SyntheticVirtualConfig
from raysim.data import ArrowFederation, VirtualSpec, prepare
from raysim.data.sources import synthetic_client
from raysim.errors import DataError


def source(**options: object) -> SyntheticVirtualConfig:
    return SyntheticVirtualConfig.model_validate(
        {"clients": 50, "samples": 20, "test_samples": 45, "iid": False} | options
    )


def test_a_shard_is_made_from_the_seed_and_the_client() -> None:
    spec = VirtualSpec(source(alpha=1.0, beta=1.0), seed=7)
    shard = spec.open().shard(31)
    x, y = synthetic_client(7, 31, 20, alpha=1.0, beta=1.0)
    np.testing.assert_array_equal(shard.x, x)
    np.testing.assert_array_equal(shard.y, y)
    assert not shard.x.flags.writeable
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(spec)).open().shard(31).x, x)


def test_training_and_holdout_are_the_two_ends_of_a_client() -> None:
    federation = VirtualSpec(source(), 0, holdout=0.2).open()
    for client in (0, 49):
        whole = synthetic_client(0, client, 20)[0]
        train, holdout = federation.shard(client), federation.shard(client, "holdout")
        assert len(train) == federation.sizes("train", np.array([client]))[0] == 16
        assert len(holdout) == federation.sizes("holdout", np.array([client]))[0] == 4
        np.testing.assert_array_equal(np.concatenate([train.x, holdout.x]), whole)


def test_sizes_of_millions_of_clients_are_computed_at_once() -> None:
    federation = VirtualSpec(source(clients=2_000_000, samples=15), 0, holdout=0.1).open()
    train, holdout = federation.sizes("train"), federation.sizes("holdout")
    assert len(train) == federation.population == 2_000_000
    assert set((train + holdout).tolist()) == {15}
    assert holdout.mean() == pytest.approx(1.5, abs=0.01)
    some = np.array([5, 1_999_999])
    assert federation.sizes("train", some).tolist() == train[some].tolist()


def test_the_servers_sets_come_from_clients_outside_the_population() -> None:
    federation = VirtualSpec(source(), 0, validation=True).open()
    test, validation = federation.server("test"), federation.server("validation")
    assert test is not None
    assert validation is not None
    expected = np.concatenate([synthetic_client(0, client, 20)[0] for client in (50, 51, 52)])
    np.testing.assert_array_equal(test.x, expected[:45])
    np.testing.assert_array_equal(validation.x[:20], synthetic_client(0, 53, 20)[0])
    assert len(test) == len(validation) == 45
    assert federation.server("test") is test
    assert VirtualSpec(source(), 0).open().server("validation") is None


def test_the_iid_variant_has_one_model_for_all_clients() -> None:
    federation = VirtualSpec(source(iid=True, samples=400), 0).open()
    histograms = np.array([np.bincount(federation.shard(client).y, minlength=10) / 400 for client in range(5)])
    assert np.abs(histograms - histograms.mean(axis=0)).max() < 0.1


def test_an_unknown_client_is_named() -> None:
    with pytest.raises(DataError, match="there is no client 50; clients are 0 to 49"):
        VirtualSpec(source(), 0).open().shard(50)


def test_the_fingerprint_tells_everything_that_changes_a_sample() -> None:
    specs = [
        VirtualSpec(source(), 0),
        VirtualSpec(source(), 1),
        VirtualSpec(source(alpha=0.5), 0),
        VirtualSpec(source(), 0, holdout=0.1),
        VirtualSpec(source(), 0, validation=True),
    ]
    assert len({spec.fingerprint for spec in specs}) == len(specs)
    assert VirtualSpec(source(on_disk=True), 0).fingerprint == specs[0].fingerprint
    assert specs[0].open().fingerprint == specs[0].fingerprint


def test_a_million_clients_are_prepared_without_writing_anything(tmp_path: Path) -> None:
    spec = prepare(DataConfig(source=source(clients=1_000_000), cache=str(tmp_path)), 0)
    assert spec.open().population == 1_000_000
    assert list(tmp_path.iterdir()) == []


def test_on_disk_are_the_same_samples(tmp_path: Path) -> None:
    options = {"holdout": 0.2, "validation": 0.1, "cache": str(tmp_path)}
    made = prepare(DataConfig(source=source(), **options), 3).open()
    stored = prepare(DataConfig(source=source(on_disk=True), **options), 3).open()
    assert isinstance(stored, ArrowFederation)
    assert made.info == stored.info
    for part in ("train", "holdout"):
        np.testing.assert_array_equal(made.sizes(part), stored.sizes(part))
        for client in (0, 17, 49):
            np.testing.assert_array_equal(made.shard(client, part).x, stored.shard(client, part).x)
            np.testing.assert_array_equal(made.shard(client, part).y, stored.shard(client, part).y)
    for part in ("validation", "test"):
        ours, theirs = made.server(part), stored.server(part)
        assert ours is not None
        assert theirs is not None
        np.testing.assert_array_equal(ours.x, theirs.x)
    assert stored.histograms() is not None


def test_transforms_are_refused_because_there_is_no_training_part_to_look_at(tmp_path: Path) -> None:
    config = DataConfig(source=source(), transforms=["standardise"], cache=str(tmp_path))
    with pytest.raises(DataError, match=r"data\.transforms: synthetic_virtual takes none.*remove them"):
        prepare(config, 0)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads Linux's account of a process")
def test_writing_and_reading_many_clients_takes_little_memory(tmp_path: Path) -> None:
    """48 MB of shards, in a process of its own so that its memory can be measured."""
    code = """
        import sys
        import numpy
        import pyarrow
        from raysim.config.data import DataConfig
        from raysim.data import prepare
        from raysim.data.store import mapped, writer

        def resident(key):
            for line in open("/proc/self/status"):
                if line.startswith(key):
                    return int(line.split()[1]) >> 10

        writer.BATCH_BYTES, mapped._RELEASE_BYTES = 2 << 20, 2 << 20
        pyarrow.array(numpy.zeros(1))  # imports pandas, where it is installed
        before = resident("VmRSS")
        source = {"name": "synthetic_virtual", "clients": 400, "samples": 500, "on_disk": True}
        federation = prepare(DataConfig(source=source, cache=sys.argv[1]), 0).open()
        for client in range(400):
            federation.shard(client).x.sum()
        print(resident("VmHWM") - before)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert int(done.stdout) < 40
