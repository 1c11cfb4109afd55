from __future__ import annotations

import errno
import json
import mmap
import multiprocessing
import os
import pickle
import socket
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raysim.data.federation import DataInfo, Samples
from raysim.data.store import ArrowFederation, Manifest, StoreSpec, StoreWriter, cut, mapped, writer
from raysim.data.store.cache import build_once, cache_folder
from raysim.errors import DataError

INFO = DataInfo("classification", (2, 3), "pixels", (), 5)
NAMED = replace(INFO, class_names=tuple("abcde"))
SIZES = np.array([4, 0, 7, 1, 12])
HOLDOUT = np.array([1, 0, 2, 0, 3])


def samples(count: int, seed: int = 0, weight: bool = False) -> Samples:
    random = np.random.default_rng(seed)
    x = random.integers(0, 256, (count, 2, 3), dtype=np.uint8)
    y = random.integers(0, 5, count)
    return Samples(x, y, random.random(count).astype(np.float32) if weight else None)


def write(folder: Path, *, weight: bool = False, owners: list[str] | None = None, seed: int = 0) -> Samples:
    """Write five clients in two chunks, and a test set of nine; returns the clients' samples."""
    folder.mkdir(parents=True, exist_ok=True)
    everything = samples(int(SIZES.sum()), seed, weight)
    with StoreWriter(folder, NAMED) as store:
        for first, last in ((0, 3), (3, 5)):
            rows = slice(int(SIZES[:first].sum()), int(SIZES[:last].sum()))
            part = None if everything.weight is None else everything.weight[rows]
            store.append(Samples(everything.x[rows], everything.y[rows], part), SIZES[first:last], HOLDOUT[first:last])
        store.server("test", samples(9, 1, weight))
        store.close(data={"source": "test"}, owners=owners, transforms=[{"step": "drop"}])
    return everything


def spec(folder: Path) -> StoreSpec:
    return StoreSpec(str(folder), ArrowFederation(folder).fingerprint)


@pytest.mark.parametrize("weight", [False, True])
def test_what_is_written_is_read_back_client_by_client(tmp_path: Path, weight: bool) -> None:
    everything = write(tmp_path, weight=weight)
    federation = ArrowFederation(tmp_path)
    assert federation.info == NAMED
    assert federation.population == 5
    assert federation.sizes().tolist() == (SIZES - HOLDOUT).tolist()
    assert federation.sizes("holdout", np.array([4, 0])).tolist() == [3, 1]
    start = 0
    for client, (size, held) in enumerate(zip(SIZES.tolist(), HOLDOUT.tolist(), strict=True)):
        middle, stop = start + size - held, start + size
        for part, rows in (("train", slice(start, middle)), ("holdout", slice(middle, stop))):
            shard = federation.shard(client, part)
            np.testing.assert_array_equal(shard.x, everything.x[rows])
            np.testing.assert_array_equal(shard.y, everything.y[rows])
            assert shard.x.shape[1:] == (2, 3)
            assert (shard.weight is None) is (not weight)
            if shard.weight is not None and everything.weight is not None:
                np.testing.assert_array_equal(shard.weight, everything.weight[rows])
        start = stop
    test = federation.server("test")
    assert test is not None
    np.testing.assert_array_equal(test.x, samples(9, 1).x)
    assert federation.server("validation") is None
    federation.verify()


def test_integers_are_kept_as_stored(tmp_path: Path) -> None:
    write(tmp_path)
    shard = ArrowFederation(tmp_path).shard(0)
    assert shard.x.dtype == np.uint8
    assert shard.y.dtype == np.int64


def test_histograms_count_training_labels_only(tmp_path: Path) -> None:
    write(tmp_path)
    federation = ArrowFederation(tmp_path)
    histograms = federation.histograms()
    assert histograms is not None
    expected = [np.bincount(federation.shard(client).y, minlength=5) for client in range(5)]
    np.testing.assert_array_equal(histograms, expected)


def test_histograms_are_left_out_on_demand_and_where_there_are_no_labels(tmp_path: Path) -> None:
    for name, info, wanted in (
        ("unwanted", INFO, False),
        ("regression", DataInfo("regression", (2, 3), "real"), True),
        ("tokens", DataInfo("classification", (2, 3), "tokens", (3,), 5, 5), True),
    ):
        folder = tmp_path / name
        folder.mkdir()
        with StoreWriter(folder, info, histograms=wanted) as store:
            store.append(samples(3), np.array([3]), np.array([0]))
            store.close(data={})
        assert ArrowFederation(folder).histograms() is None


def test_owners_are_remembered(tmp_path: Path) -> None:
    write(tmp_path / "a", owners=["Ann", "Bäh", "", "d/e", "漢"])
    write(tmp_path / "b")
    federation = ArrowFederation(tmp_path / "a")
    assert [federation.owner(client) for client in range(5)] == ["Ann", "Bäh", "", "d/e", "漢"]
    assert ArrowFederation(tmp_path / "b").owner(0) is None
    federation.verify()


def test_a_shard_is_a_read_only_view_of_the_memory_map(tmp_path: Path) -> None:
    write(tmp_path)
    federation = ArrowFederation(tmp_path)
    whole = np.frombuffer(federation._files["train.arrow"]._map, np.uint8)
    shard = federation.shard(2)
    for array in (shard.x, shard.y):
        assert np.shares_memory(array, whole)
        assert not array.flags.writeable
        assert array.flags.c_contiguous
    assert np.shares_memory(federation.sizes(), np.frombuffer(federation._files["index.arrow"]._map, np.uint8))


def test_a_shard_outlives_its_federation_and_the_release_of_pages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mapped, "_RELEASE_BYTES", 1)
    everything = write(tmp_path)
    federation = ArrowFederation(tmp_path)
    shards = [federation.shard(4) for _ in range(3)]
    del federation
    np.testing.assert_array_equal(shards[0].x, everything.x[12:21])


def test_record_batches_are_bounded_and_never_split_a_client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "BATCH_BYTES", 14 * 7)  # a sample has 6 bytes of x and 8 of y
    everything = write(tmp_path)
    with pa.ipc.open_file(str(tmp_path / "train.arrow")) as file:
        rows = [file.get_batch(i).num_rows for i in range(file.num_record_batches)]
    assert rows == [4, 7, 1, 12]  # client 1 is empty, client 4 alone is larger than a batch
    federation = ArrowFederation(tmp_path)
    np.testing.assert_array_equal(federation.shard(4).y, everything.y[12:21])
    federation.verify()


@settings(max_examples=50, deadline=None)
@given(sizes=st.lists(st.integers(0, 20), min_size=1, max_size=40), limit=st.integers(0, 50))
def test_runs_of_clients_are_whole_in_order_and_within_the_limit(sizes: list[int], limit: int) -> None:
    runs = list(cut(np.array(sizes), limit))
    assert [client for first, last in runs for client in range(first, last)] == list(range(len(sizes)))
    assert all(last - first == 1 or sum(sizes[first:last]) <= limit for first, last in runs)


def test_the_files_are_plain_arrow_that_others_can_read(tmp_path: Path) -> None:
    everything = write(tmp_path)
    with pa.memory_map(str(tmp_path / "train.arrow")) as source:
        table = pa.ipc.open_file(source).read_all()
    assert table.schema.field("x").type == pa.fixed_shape_tensor(pa.uint8(), (2, 3))
    np.testing.assert_array_equal(table["x"].combine_chunks().to_numpy_ndarray(), everything.x)


def test_a_spec_is_pickled_and_opens_the_same_federation(tmp_path: Path) -> None:
    write(tmp_path)
    original = spec(tmp_path)
    opened = pickle.loads(pickle.dumps(original)).open()
    assert opened.fingerprint == original.fingerprint
    assert len(pickle.dumps(original)) < 1000


def test_the_fingerprint_tells_samples_and_not_folders_or_batches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "a")
    write(tmp_path / "b", seed=1)
    monkeypatch.setattr(writer, "BATCH_BYTES", 100)
    write(tmp_path / "c")
    assert spec(tmp_path / "a").fingerprint == spec(tmp_path / "c").fingerprint != spec(tmp_path / "b").fingerprint
    with pytest.raises(DataError, match=r"b: holds other samples than when this run was planned"):
        StoreSpec(str(tmp_path / "b"), spec(tmp_path / "a").fingerprint).open()


def test_the_manifest_tells_what_was_built(tmp_path: Path) -> None:
    write(tmp_path)
    manifest = Manifest.read(tmp_path)
    assert manifest.samples == {"train": 18, "holdout": 6, "validation": 0, "test": 9}
    assert manifest.transforms == [{"step": "drop"}]
    assert manifest.info.class_names == ("a", "b", "c", "d", "e")
    assert manifest.data == {"source": "test"}


@pytest.mark.parametrize("name", ["train.arrow", "test.arrow", "index.arrow", "histograms.arrow"])
def test_a_truncated_file_is_named_with_the_remedy(tmp_path: Path, name: str) -> None:
    write(tmp_path)
    file = tmp_path / name
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(DataError, match=rf"{name}: has \d+ bytes, \d+ were written; delete the folder"):
        ArrowFederation(tmp_path)


def test_a_foreign_file_of_the_same_size_is_named(tmp_path: Path) -> None:
    write(tmp_path)
    file = tmp_path / "train.arrow"
    content = file.read_bytes()
    file.write_bytes(b"x" * len(content))
    with pytest.raises(DataError, match=r"train\.arrow: is not an Arrow file"):
        ArrowFederation(tmp_path)
    file.write_bytes(content[:8] + b"x" * (len(content) - 16) + content[-8:])
    with pytest.raises(DataError, match=r"train\.arrow: is not an Arrow file"):
        ArrowFederation(tmp_path)


def test_another_arrow_file_in_the_place_of_ours_is_named(tmp_path: Path) -> None:
    write(tmp_path)
    file = tmp_path / "histograms.arrow"
    (tmp_path / "index.arrow").replace(file)
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    manifest["files"]["histograms.arrow"]["bytes"] = file.stat().st_size
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(DataError, match=r"(histograms|index)\.arrow: (does not have the columns|is missing)"):
        ArrowFederation(tmp_path)


def test_a_missing_file_and_a_missing_folder_are_named(tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / "test.arrow").unlink()
    with pytest.raises(DataError, match=r"test\.arrow: is missing; delete the folder"):
        ArrowFederation(tmp_path)
    with pytest.raises(DataError, match=r"nowhere: not a shard store.*every node sees"):
        ArrowFederation(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", r"manifest\.json: cannot be read"),
        ("[]", r"not the manifest of a shard store"),
        ('{"format": "something else"}', r"not the manifest of a shard store"),
        ('{"format": "raysim shards", "version": 99}', r"format version 99, this raysim reads 1; delete the folder"),
        ('{"format": "raysim shards", "version": 1}', r"manifest\.json: damaged \(KeyError"),
    ],
)
def test_a_damaged_or_foreign_manifest_is_named(tmp_path: Path, content: str, message: str) -> None:
    write(tmp_path)
    (tmp_path / "manifest.json").write_text(content)
    with pytest.raises(DataError, match=message):
        ArrowFederation(tmp_path)


def test_a_manifest_whose_checksums_were_changed_is_refused(tmp_path: Path) -> None:
    write(tmp_path)
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    manifest["files"]["train.arrow"]["columns"]["x"]["sha256"] = "0" * 64
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(DataError, match="the fingerprint does not fit the files"):
        ArrowFederation(tmp_path)


def test_verify_finds_a_single_changed_bit_and_names_the_column(tmp_path: Path) -> None:
    everything = write(tmp_path)
    file = tmp_path / "train.arrow"
    content = bytearray(file.read_bytes())
    place = content.index(everything.x[11:].tobytes()[:40])
    content[place] ^= 1
    file.write_bytes(content)
    federation = ArrowFederation(tmp_path)  # opening does not read the samples
    with pytest.raises(DataError, match=r"train\.arrow: column 'x' is damaged"):
        federation.verify()


@pytest.mark.parametrize(("name", "column"), [("index.arrow", "length"), ("histograms.arrow", "count")])
def test_a_damaged_index_is_found_without_reading_the_samples(tmp_path: Path, name: str, column: str) -> None:
    write(tmp_path, owners=list("vwxyz"))
    ArrowFederation(tmp_path).verify_index()
    values = ArrowFederation(tmp_path)._files[name].all()[column].tobytes()
    content = bytearray((tmp_path / name).read_bytes())
    content[content.index(values)] ^= 1
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=rf"{name}: column '{column}' is damaged .*; delete the folder"):
        ArrowFederation(tmp_path).verify_index()


@pytest.mark.parametrize(
    ("folder", "remedy"), [("cache/shards/0123", "delete the folder .*0123"), ("thesis", "name another folder")]
)
def test_an_empty_manifest_says_what_to_do_with_its_folder(tmp_path: Path, folder: str, remedy: str) -> None:
    (tmp_path / folder).mkdir(parents=True)
    (tmp_path / folder / "manifest.json").write_text("{}")
    with pytest.raises(DataError, match=f"not the manifest of a shard store; {remedy}"):
        ArrowFederation(tmp_path / folder)


def test_an_unknown_client_is_named(tmp_path: Path) -> None:
    write(tmp_path)
    federation = ArrowFederation(tmp_path)
    for client in (5, -1):
        with pytest.raises(DataError, match=rf"there is no client {client}; clients are 0 to 4"):
            federation.shard(client)


def test_a_million_clients_are_opened_without_an_object_for_each(tmp_path: Path) -> None:
    clients = 1_000_000
    with StoreWriter(tmp_path, DataInfo("regression", (1,), "real")) as store:
        x = np.arange(clients, dtype=np.float32)
        store.append(Samples(x[:, None], x), np.ones(clients, np.int64), np.zeros(clients, np.int64))
        store.close(data={})
    federation = ArrowFederation(tmp_path)
    assert federation.sizes().sum() == clients
    assert isinstance(federation._files["index.arrow"]._map, mmap.mmap)
    assert federation.shard(765_432).y.tolist() == [765_432.0]


def test_chunks_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    with StoreWriter(tmp_path, INFO) as store:
        with pytest.raises(ValueError, match="a chunk of 3 samples was given for clients of 4"):
            store.append(samples(3), np.array([4]), np.array([0]))
        with pytest.raises(ValueError, match="without clients"):
            store.close(data={})
        store.append(samples(4), np.array([4]), np.array([0]))
        other = Samples(samples(4).x.astype(np.int16), samples(4).y)
        with pytest.raises(ValueError, match=r"type int16 and shape \(2, 3\), the first one had uint8"):
            store.append(other, np.array([4]), np.array([0]))


def _build(folder: Path, barrier: object) -> None:
    def slowly(temporary: Path) -> None:
        write(temporary)
        barrier.wait(timeout=240)

    build_once(folder, slowly)


def test_two_processes_that_build_at_once_both_succeed(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    barrier = context.Barrier(2)
    folder = tmp_path / "shards" / "key"
    builders = [context.Process(target=_build, args=(folder, barrier)) for _ in range(2)]
    for builder in builders:
        builder.start()
    for builder in builders:
        builder.join()
    assert [builder.exitcode for builder in builders] == [0, 0]
    ArrowFederation(folder).verify()
    assert [entry.name for entry in folder.parent.iterdir()] == ["key"]


def test_a_build_that_fails_leaves_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "shards" / "key"

    def fail(temporary: Path) -> None:
        write(temporary)
        raise DataError("bad")

    with pytest.raises(DataError, match="bad"):
        build_once(folder, fail)
    assert list(folder.parent.iterdir()) == []


def _build_until_told(folder: Path, begun: Any, finish: Any) -> None:
    def slowly(temporary: Path) -> None:
        write(temporary)
        begun.set()
        finish.wait(timeout=240)

    build_once(folder, slowly)


def test_what_a_killed_builder_left_is_removed_and_what_a_living_one_writes_is_not(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    cache = tmp_path / "shards"
    builders = []
    for key in ("killed", "living"):
        begun, finish = context.Event(), context.Event()
        builders.append(context.Process(target=_build_until_told, args=(cache / key, begun, finish)))
        builders[-1].start()
        assert begun.wait(timeout=240)
    killed, living = builders
    killed.kill()
    killed.join()
    assert sorted(folder.name.split(".")[1] for folder in cache.iterdir()) == ["killed", "living"]
    build_once(cache / "other", write)
    assert sorted(folder.name.split(".")[-2:][0] for folder in cache.iterdir()) == ["living", "other"]
    finish.set()
    living.join()
    assert living.exitcode == 0
    assert sorted(folder.name for folder in cache.iterdir()) == ["living", "other"]
    ArrowFederation(cache / "living").verify()


@pytest.mark.parametrize("why", ["another machine", "no record", "no locks"])
def test_a_build_whose_builder_may_live_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, why: str
) -> None:
    workshop = tmp_path / ".key.0123"
    workshop.mkdir()
    host = "elsewhere" if why == "another machine" else socket.gethostname()
    (workshop / ".lock").write_text("" if why == "no record" else f' {{"host": "{host}", "pid": 1}}')
    if why == "no locks":
        monkeypatch.setattr("filelock.lock_descriptor", refuse_locks)
    os.utime(workshop, (0, 0))
    build_once(tmp_path / "key", write)
    assert sorted(folder.name for folder in tmp_path.iterdir()) == [workshop.name, "key"]


def refuse_locks(file: int, **options: bool) -> bool:
    raise OSError(errno.ENOLCK, "no locks here")


def test_a_cache_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"cannot be written .*set data\.cache"):
        build_once(tmp_path / "file" / "key", lambda temporary: None)


def test_the_cache_is_the_configured_folder_then_the_environments(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAYSIM_CACHE", str(tmp_path))
    assert cache_folder(None) == tmp_path
    assert cache_folder("~/here") == Path.home() / "here"
    monkeypatch.delenv("RAYSIM_CACHE")
    assert cache_folder(None) == Path.home() / ".cache" / "raysim"
