"""MNIST, IDX and CIFAR-10 files: parsed, found, imported, and refused when damaged."""

from __future__ import annotations

import gzip
import os
import re
import shutil
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from raysim.config.sources import Cifar10Config, IdxConfig, MnistConfig
from raysim.data.importing import import_dataset
from raysim.data.sources import load_source
from raysim.data.sources.idx import read_idx
from raysim.errors import DataError

REAL = os.environ.get("RAYSIM_DATA", "")
CODES = {"u1": 8, "i1": 9, "i2": 11, "i4": 12, "f4": 13, "f8": 14}
TRAIN = np.arange(5 * 4 * 4, dtype=np.uint8).reshape(5, 4, 4)
LABELS = np.array([3, 0, 1, 2, 3], np.uint8)


@pytest.fixture(autouse=True)
def _homes(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("RAYSIM_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("RAYSIM_DATA", str(tmp_path / "shared"))


def idx(array: np.ndarray) -> bytes:
    kind = array.dtype.str[1:]
    header = bytes([0, 0, CODES[kind], array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return header + array.astype(">" + kind).tobytes()


def write_mnist(folder: Path, *, compressed: bool = False, names: str = "{}-{}-idx{}-ubyte") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for part, rows in (("train", slice(None)), ("t10k", slice(2))):
        for what, array in (("images", TRAIN[rows]), ("labels", LABELS[rows])):
            name = names.format(part, what, array.ndim) + (".gz" if compressed else "")
            (folder / name).write_bytes(gzip.compress(idx(array)) if compressed else idx(array))
    return folder


def write_cifar10(folder: Path) -> Path:
    folder.mkdir(parents=True)
    for i, name in enumerate(["data_batch_1.bin", "data_batch_2.bin", "test_batch.bin"]):
        records = np.full((2, 3073), i, np.uint8)
        records[1] = 9
        (folder / name).write_bytes(records.tobytes())
    return folder


@given(
    st.sampled_from(sorted(CODES)).flatmap(
        lambda kind: arrays.arrays(np.dtype(kind), arrays.array_shapes(max_dims=4, min_side=0, max_side=4))
    ),
    st.booleans(),
)
def test_idx_of_every_type_and_shape_comes_back_bit_for_bit(tmp_path_factory, array, compressed) -> None:
    path = tmp_path_factory.getbasetemp() / "array"
    path.write_bytes(gzip.compress(idx(array)) if compressed else idx(array))
    back = read_idx(path)
    assert back.dtype == array.dtype
    assert back.shape == array.shape
    assert back.tobytes() == array.tobytes()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda whole: b"", "not an IDX file (it starts with nothing)"),
        (lambda whole: b"\0\0", "not an IDX file (it starts with 00 00)"),
        (lambda whole: b"PK\3\4" + whole, "not an IDX file (it starts with 50 4b 03 04)"),
        (lambda whole: whole[:2] + b"\7" + whole[3:], "not an IDX file (it starts with 00 00 07 03)"),
        (lambda whole: whole[:3] + b"\0" + whole[4:], "not an IDX file (it starts with 00 00 08 00)"),
        (lambda whole: whole[:9], "not an IDX file"),
        (lambda whole: whole[:-1], "truncated: 95 bytes where shape (5, 4, 4) needs 96"),
        (lambda whole: whole + b"\0", "too long: more bytes follow where shape (5, 4, 4) needs 96"),
        (lambda whole: gzip.compress(whole)[:-12], "damaged gzip file"),
        (lambda whole: gzip.compress(whole)[:12] + b"\xff" * 40, "damaged gzip file"),
        (lambda whole: gzip.compress(whole) + b"trailing", "damaged gzip file"),
    ],
)
def test_a_damaged_idx_file_is_one_clear_line(tmp_path, damage, message) -> None:
    path = tmp_path / "file"
    path.write_bytes(damage(idx(TRAIN)))
    with pytest.raises(DataError, match=re.escape(f"{path}: {message}")):
        read_idx(path)


def test_an_idx_pair_becomes_pixels_with_a_channel(tmp_path) -> None:
    (tmp_path / "x").write_bytes(idx(TRAIN))
    (tmp_path / "y").write_bytes(idx(LABELS))
    config = IdxConfig(features=str(tmp_path / "x"), labels=str(tmp_path / "y"))
    data = load_source(config, seed=0)
    assert (data.info.input_kind, data.info.input_shape, data.info.classes) == ("pixels", (1, 4, 4), 4)
    np.testing.assert_array_equal(data.train.x, TRAIN[:, None])
    with_test = config.model_copy(update={"test_features": config.features, "test_labels": config.labels})
    assert load_source(with_test, seed=0).test is not None
    with pytest.raises(DataError, match="give both test_features and test_labels, or neither"):
        load_source(config.model_copy(update={"test_features": config.features}), seed=0)
    (tmp_path / "y").write_bytes(idx(LABELS[:4]))
    with pytest.raises(DataError, match=r"x: 5 samples, but .*y has 4 labels"):
        load_source(config, seed=0)


def test_integers_in_an_idx_file_are_features_not_tokens(tmp_path) -> None:
    (tmp_path / "x").write_bytes(idx(np.arange(-5, 5, dtype="i2").reshape(5, 2)))
    (tmp_path / "y").write_bytes(idx(LABELS))
    data = load_source(IdxConfig(features=str(tmp_path / "x"), labels=str(tmp_path / "y")), seed=0)
    assert data.info.input_kind == "real"
    assert data.train.x.dtype == np.float32


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("names", ["{}-{}-idx{}-ubyte", "{}-{}.idx{}-ubyte", "emnist-digits-{}-{}-idx{}-ubyte"])
def test_mnist_is_found_under_its_usual_names(tmp_path, compressed, names) -> None:
    folder = write_mnist(tmp_path / "files", compressed=compressed, names=names)
    data = load_source(MnistConfig(path=str(folder)), seed=0)
    assert data.info.input_shape == (1, 4, 4)
    assert len(data.train) == 5
    assert data.test is not None
    np.testing.assert_array_equal(data.test.y, [3, 0])


def test_mnist_is_looked_for_in_raysim_data_and_then_in_the_data_home(tmp_path) -> None:
    shared, home = tmp_path / "shared" / "mnist", tmp_path / "home" / "mnist"
    with pytest.raises(DataError) as error:
        load_source(MnistConfig(), seed=0)
    assert f"no IDX files in {shared}, {home};" in str(error.value)
    assert "raysim data import mnist" in str(error.value)
    write_mnist(home)
    assert load_source(MnistConfig(), seed=0).train.origin == str(home)
    write_mnist(shared)
    assert load_source(MnistConfig(), seed=0).train.origin == str(shared)
    elsewhere = tmp_path / "elsewhere"
    with pytest.raises(DataError, match=re.escape(f"no IDX files in {elsewhere};")):
        load_source(MnistConfig(path=str(elsewhere)), seed=0)


def test_an_incomplete_or_ambiguous_mnist_folder_is_one_clear_line(tmp_path) -> None:
    folder = write_mnist(tmp_path / "files")
    (folder / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(DataError, match=r"t10k-labels-idx1-ubyte \(or .gz\) is missing"):
        load_source(MnistConfig(path=str(folder)), seed=0)
    write_mnist(folder, names="other-{}-{}-idx{}-ubyte")
    with pytest.raises(DataError, match="other-train-images-idx3-ubyte, train-images-idx3-ubyte could each be"):
        load_source(MnistConfig(path=str(folder)), seed=0)


def test_a_plain_file_is_preferred_to_its_gzipped_twin(tmp_path) -> None:
    folder = write_mnist(tmp_path / "files")
    write_mnist(folder, compressed=True)
    assert len(load_source(MnistConfig(path=str(folder)), seed=0).train) == 5


def test_cifar10_is_read_record_by_record(tmp_path) -> None:
    data = load_source(Cifar10Config(path=str(write_cifar10(tmp_path / "files"))), seed=0)
    assert (data.info.input_kind, data.info.input_shape, data.info.classes) == ("pixels", (3, 32, 32), 10)
    assert data.train.y.tolist() == [0, 9, 1, 9]
    assert data.class_names is not None
    assert data.class_names[9] == "truck"
    assert data.test is not None
    assert (np.asarray(data.test.x)[0] == 2).all()


def test_a_missing_or_damaged_cifar10_is_one_clear_line(tmp_path) -> None:
    with pytest.raises(DataError, match=r"no data_batch_\*.bin in .*raysim data import cifar10"):
        load_source(Cifar10Config(), seed=0)
    folder = write_cifar10(tmp_path / "files")
    config = Cifar10Config(path=str(folder))
    (folder / "data_batch_2.bin").write_bytes(b"\x0c" + bytes(3072))
    with pytest.raises(DataError, match=r"data_batch_2.bin: record 0 has label 12, outside 0..9"):
        load_source(config, seed=0)
    (folder / "data_batch_2.bin").write_bytes(bytes(3000))
    with pytest.raises(DataError, match=r"data_batch_2.bin: 3000 bytes are no whole number of 3073-byte records"):
        load_source(config, seed=0)
    (folder / "data_batch_2.bin").unlink()
    (folder / "test_batch.bin").unlink()
    with pytest.raises(DataError, match=r"test_batch.bin: no such file"):
        load_source(config, seed=0)


def test_imported_data_is_found_by_name_and_replaced_by_the_next_import(tmp_path) -> None:
    for compressed in (False, True):
        written = import_dataset("mnist", write_mnist(tmp_path / f"files-{compressed}", compressed=compressed))
        assert written == tmp_path / "home" / "mnist"
        assert len(list(written.iterdir())) == 4
        assert load_source(MnistConfig(), seed=0).train.origin == str(written)
    import_dataset("cifar10", write_cifar10(tmp_path / "cifar"))
    assert len(load_source(Cifar10Config(), seed=0).train) == 4
    assert sorted(path.name for path in (tmp_path / "home").iterdir()) == ["cifar-10-batches-bin", "mnist"]


def test_an_import_writes_into_the_folder_that_is_there_and_leaves_nothing_of_the_one_before(tmp_path) -> None:
    (tmp_path / "volume").mkdir()
    target = import_dataset("mnist", write_mnist(tmp_path / "files", compressed=True))
    shutil.rmtree(target)
    target.symlink_to(tmp_path / "volume")
    import_dataset("mnist", write_mnist(tmp_path / "files", compressed=True))
    import_dataset("mnist", write_mnist(tmp_path / "others"))
    assert target.is_symlink()
    assert sorted(file.name for file in target.iterdir()) == sorted(f.name for f in (tmp_path / "others").iterdir())


def test_nothing_is_imported_from_a_bad_folder(tmp_path) -> None:
    folder = write_mnist(tmp_path / "files")
    (folder / "train-labels-idx1-ubyte").write_bytes(idx(LABELS)[:-1])
    with pytest.raises(DataError, match="train-labels-idx1-ubyte: truncated"):
        import_dataset("mnist", folder)
    with pytest.raises(DataError, match="no such folder"):
        import_dataset("mnist", tmp_path / "nowhere")
    with pytest.raises(DataError, match="cannot import 'imagenet'; valid are mnist, cifar10"):
        import_dataset("imagenet", folder)
    assert not (tmp_path / "home").exists()


def test_a_data_home_that_cannot_be_written_is_one_clear_line(tmp_path, monkeypatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("RAYSIM_HOME", str(tmp_path / "file"))
    with pytest.raises(DataError, match=r"cannot be written .* set RAYSIM_HOME"):
        import_dataset("mnist", write_mnist(tmp_path / "files"))


@pytest.mark.skipif(not REAL, reason="needs the real MNIST in RAYSIM_DATA")
def test_the_real_mnist_has_its_published_shape(monkeypatch) -> None:
    monkeypatch.setenv("RAYSIM_DATA", REAL)
    data = load_source(MnistConfig(), seed=0)
    assert data.test is not None
    assert (np.shape(data.train.x), np.shape(data.test.x)) == ((60_000, 1, 28, 28), (10_000, 1, 28, 28))
    assert np.bincount(data.train.y).tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
