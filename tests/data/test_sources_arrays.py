"""Plain arrays, in memory and in NumPy archives: types decide what they are, and nothing wrong gets through."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch

from raysim.config.sources import InMemoryConfig, NpzConfig
from raysim.data.dataset import Dataset
from raysim.data.sources import from_arrays, load_source
from raysim.errors import DataError

X = np.arange(12, dtype=np.float32).reshape(6, 2)
Y = np.array([0, 1, 2, 0, 1, 2])


def load(arrays: object) -> Dataset:
    return load_source(InMemoryConfig(), seed=0, arrays=arrays)


def test_float_features_and_integer_labels_make_a_classification() -> None:
    data = load((X.astype(np.float64), Y.astype(np.uint8)))
    assert (data.info.task, data.info.input_kind, data.info.input_shape) == ("classification", "real", (2,))
    assert data.info.classes == 3
    assert data.info.target_shape == ()
    assert data.test is None
    assert (data.train.x.dtype, data.train.y.dtype) == (np.float32, np.int64)
    np.testing.assert_array_equal(data.train.x, X)


def test_float_targets_make_a_regression_even_on_vectors() -> None:
    data = load((X, X.astype(np.float64)))
    assert (data.info.task, data.info.target_shape, data.info.classes) == ("regression", (2,), None)
    assert data.train.y.dtype == np.float32


def test_uint8_features_are_pixels_kept_as_they_are() -> None:
    images = np.zeros((6, 3, 4, 4), np.uint8)
    data = load((images, Y))
    assert data.info.input_kind == "pixels"
    assert data.train.x.dtype == np.uint8


def test_other_integer_features_are_token_ids_in_their_smallest_type() -> None:
    tokens = np.arange(18).reshape(6, 3)
    data = load((tokens, (tokens + 1) % 18))
    assert (data.info.input_kind, data.info.vocabulary, data.info.classes) == ("tokens", 18, 18)
    assert data.info.target_shape == (3,)
    assert (data.train.x.dtype, data.train.y.dtype) == (np.uint8, np.uint8)
    assert load((tokens * 100, Y)).train.x.dtype == np.int16
    assert load((tokens * 10_000, Y)).train.x.dtype == np.int32
    assert load((tokens * 2**31, Y)).train.x.dtype == np.int64


def test_torch_tensors_and_a_mapping_with_all_keys_are_taken() -> None:
    data = load(
        {
            "x": torch.tensor(X, requires_grad=True),
            "y": torch.tensor(Y),
            "x_test": X[:2],
            "y_test": Y[:2],
            "client": np.array(["a", "b", "a", "b", "a", "b"], dtype=object),
            "client_test": ["a", "c"],
            "weight": [1, 2, 3, 4, 5, 0.5],
            "weight_test": None,
        }
    )
    assert data.test is not None
    assert data.train.client is not None
    assert data.train.client.tolist() == list("ababab")
    assert data.train.client.dtype.kind == "U"
    assert data.test.client is not None
    assert data.train.weight is not None
    assert data.train.weight.dtype == np.float32
    assert data.test.weight is None


def test_a_weight_per_sample_is_spread_over_its_targets() -> None:
    data = load({"x": X, "y": X, "weight": np.arange(6.0)})
    assert data.train.weight is not None
    np.testing.assert_array_equal(data.train.weight, np.repeat(np.arange(6.0)[:, None], 2, axis=1))


def test_take_keeps_everything_together_and_remembers_the_rows() -> None:
    pool = load({"x": X, "y": Y, "client": np.arange(6), "weight": np.arange(6.0)}).train
    twice = pool.take([5, 3, 1]).take([2, 0])
    np.testing.assert_array_equal(twice.x, X[[1, 5]])
    for values, expected in ((twice.y, [1, 2]), (twice.client, [1, 5]), (twice.weight, [1, 5]), (twice.row, [1, 5])):
        assert values is not None
        np.testing.assert_array_equal(values, expected)


def test_a_dataset_is_taken_as_it_is_if_its_lengths_agree() -> None:
    data = load((X, Y))
    assert load(data) is data
    broken = Dataset(data.train.take([0, 1]), None, data.info)
    object.__setattr__(broken.train, "client", np.arange(3))
    with pytest.raises(DataError, match=r"train\.client has length 3, y has 2"):
        load(broken)
    with pytest.raises(DataError, match="train has no samples"):
        load(Dataset(data.train.take([]), None, data.info))


BAD = {
    "neither pair nor mapping": ((X, Y, X), r"expected a pair \(x, y\) or a mapping .*, got tuple of 3"),
    "a bare array": (X, "expected a pair .*, got ndarray"),
    "misspelt key": ({"x": X, "y": Y, "xtest": X}, "unknown array 'xtest'; did you mean 'x_test'"),
    "foreign key": ({"x": X, "y": Y, "quux": X}, "unknown array 'quux'; valid are x, y"),
    "no targets": ({"x": X}, "array 'y' is missing"),
    "half a test set": ({"x": X, "y": Y, "x_test": X}, "array 'y_test' is missing; x_test and y_test come together"),
    "different lengths": ((X, Y[:5]), r"y has shape \(5,\) for 6 samples of x"),
    "a scalar target": ((X, np.int64(3)), r"y has shape \(\) for 6 samples"),
    "one-dimensional features": ((X[:, 0], Y), r"x has shape \(6,\); expected \[samples, features"),
    "no samples": ((X[:0], Y[:0]), r"x is empty \(shape \(0, 2\)\)"),
    "no features": ((X[:, :0], Y), r"x is empty \(shape \(6, 0\)\)"),
    "objects": ((np.array([["a", "b"]] * 6), Y), "x has type <U1; expected numbers"),
    "ragged": (([[1.0, 2.0], [3.0]], [0, 1]), "x is ragged"),
    "negative label": ((X, np.array([0, 1, 2, -1, 0, 0])), r"y\[3\] is -1; class labels are integers 0..C-1"),
    "negative token": ((np.array([[1, -2]] * 6), Y), "x has integer type int64 and negative values; .* float32"),
    "NaN target": ((X, np.array([0.5, np.nan, 1, 1, 1, 1])), r"y\[1\] is nan; remove samples without a target"),
    "infinite target": ((X, np.array([[0.5], [1e300], [1], [1], [1], [1]])), r"y\[1, 0\] is inf"),
    "labels of no sample": ((X, np.eye(5, dtype=int)), r"y has shape \(5, 5\) for 6 samples of x"),
    "void label of images": ((X, np.array([0, 1, 2, 255, 0, -100])), r"y\[5\] is -100; .* do not count have any class"),
    "label beyond int64": ((X, np.array([0, 1, 1, 2**63, 0, 0], np.uint64)), r"y\[3\] is 9223372036854775808; class"),
    "one class": ((X, np.full(6, 3)), "every label of y is 3; at least two classes are needed"),
    "arbitrary numbers as labels": (
        (X, np.array([0, 1, 2, 90210, 1, 1])),
        "y has a label 90210.* number classes from 0",
    ),
    "test label outside": (
        {"x": X, "y": Y, "x_test": X, "y_test": Y + 2},
        r"y_test\[1\] is 3, outside the training labels 0..2",
    ),
    "test shape": ({"x": X, "y": Y, "x_test": X[:, :1], "y_test": Y}, r"of x_test has shape \(1,\), of x \(2,\)"),
    "test type": ({"x": X, "y": Y, "x_test": X.astype(np.uint8), "y_test": Y}, "x holds real, x_test pixels"),
    "test token outside": (
        {"x": X.astype(int), "y": Y, "x_test": X.astype(int) + 5, "y_test": Y},
        r"x_test has the token id 16, outside the training ids 0..11",
    ),
    "owners of another length": ({"x": X, "y": Y, "client": [1, 2]}, r"client has shape \(2,\); expected \(6,\)"),
    "weights of another shape": ({"x": X, "y": Y, "weight": [1, 2]}, r"weight has shape \(2,\); expected \(6,\)"),
    "negative weight": ({"x": X, "y": Y, "weight": [1, 1, -2, 1, 1, 1]}, r"weight\[2\] is -2.0; weights are finite"),
    "NaN weight": ({"x": X, "y": Y, "weight": [1, 1, np.nan, 1, 1, 1]}, r"weight\[2\] is nan"),
}


@pytest.mark.parametrize(("arrays", "message"), BAD.values(), ids=BAD)
def test_bad_arrays_are_one_clear_line(arrays: object, message: str) -> None:
    with pytest.raises(DataError, match=message) as error:
        load(arrays)
    assert str(error.value).startswith("data: ")
    assert "\n" not in str(error.value)


def test_float_labels_are_refused_where_classes_were_asked_for() -> None:
    with pytest.raises(DataError, match=r"y has type float32; .* task: regression"):
        from_arrays((X, Y.astype(np.float32)), origin="here", task="classification")
    with pytest.raises(DataError, match=r"y\[2\] is nan; class labels"):
        from_arrays((X, np.where(Y == 2, np.nan, Y)), origin="here", task="classification")


def test_in_memory_without_arrays_says_how_to_bring_them() -> None:
    with pytest.raises(DataError, match="in_memory needs its arrays again: pass data="):
        load(None)


def test_an_archive_is_loaded_by_its_keys(tmp_path) -> None:
    path = tmp_path / "data.npz"
    np.savez_compressed(path, x=X, y=Y, x_test=X, y_test=Y, client=np.array(list("aabbcc")))
    data = load_source(NpzConfig(path=str(path)), seed=0)
    assert data.info.classes == 3
    assert data.test is not None
    assert data.train.client is not None
    assert load_source(NpzConfig(path=str(path), task="regression"), seed=0).train.y.dtype == np.float32


def test_a_damaged_or_foreign_archive_is_one_clear_line(tmp_path) -> None:
    path = tmp_path / "data.npz"
    config = NpzConfig(path=str(path))
    with pytest.raises(DataError, match=re.escape(f"{path}: no such file")):
        load_source(config, seed=0)
    path.mkdir()
    with pytest.raises(DataError, match="is a folder, not a file"):
        load_source(config, seed=0)
    path.rmdir()
    np.savez(path, x=np.ones((50, 2)), y=np.arange(50) % 3)
    whole = path.read_bytes()
    for content in (b"", b"hello", whole[: len(whole) // 2], whole[:100] + b"\xff" * 300 + whole[400:]):
        path.write_bytes(content)
        with pytest.raises(DataError, match=re.escape(f"{path}: not a readable .npz archive")):
            load_source(config, seed=0)
    np.savez(path, x=np.array([{}, {}], dtype=object), y=[0, 1])
    with pytest.raises(DataError, match=r"not a readable .npz archive of plain arrays"):
        load_source(config, seed=0)
    with path.open("wb") as file:
        np.save(file, X)
    with pytest.raises(DataError, match="a single array; save x and y together"):
        load_source(config, seed=0)
