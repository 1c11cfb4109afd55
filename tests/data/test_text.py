"""Texts cut into windows, and characters turned into ids by a vocabulary of the training part."""

from __future__ import annotations

import gzip
import json
import re

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from raysim.config.sources import TextConfig
from raysim.config.transforms import MinMaxConfig
from raysim.data.dataset import Dataset, Pool
from raysim.data.sources import load_source
from raysim.data.sources.text import windows
from raysim.data.transforms import apply, describe, fit
from raysim.errors import DataError


def load(path, texts: object, **options: object) -> Dataset:
    path.write_text(json.dumps(texts))
    return load_source(TextConfig(path=str(path), **options), seed=0)


@given(st.integers(2, 60), st.integers(1, 20))
def test_windows_are_the_plain_loop_over_the_text(n, length) -> None:
    tokens = np.arange(1, n + 1)
    x, y, weight = windows(tokens, length)
    pairs = [(tokens[i], tokens[i + 1]) for i in range(n - 1)]
    assert x.shape == y.shape == weight.shape == (-(-len(pairs) // length), length)
    for i in range(x.size):
        row, column = divmod(i, length)
        expected = (*pairs[i], 1) if i < len(pairs) else (0, 0, 0)
        assert (x[row, column], y[row, column], weight[row, column]) == expected


def test_characters_get_ids_from_one_on_and_padding_has_weight_zero(tmp_path) -> None:
    data = load(tmp_path / "t.json", {"a": "abcab", "b": "ca"}, sequence_length=3)
    fitted = fit((), data.train)
    pool = apply(fitted, data.train)
    np.testing.assert_array_equal(pool.x, [[1, 2, 3], [1, 0, 0], [3, 0, 0]])
    np.testing.assert_array_equal(pool.y, [[2, 3, 1], [2, 0, 0], [1, 0, 0]])
    assert pool.weight is not None
    np.testing.assert_array_equal(pool.weight, [[1, 1, 1], [1, 0, 0], [1, 0, 0]])
    assert pool.client is not None
    assert pool.client.tolist() == ["a", "a", "b"]
    assert np.asarray(pool.x).dtype == pool.y.dtype == np.uint8
    info = describe(fitted, data.info, pool)
    assert (info.input_kind, info.input_shape, info.target_shape) == ("tokens", (3,), (3,))
    assert (info.vocabulary, info.classes) == (4, 4)


def test_no_weight_is_stored_where_nothing_is_padded(tmp_path) -> None:
    assert load(tmp_path / "t.json", {"a": "abcdefg"}, sequence_length=3).train.weight is None


def test_characters_that_only_the_test_part_has_are_unknown(tmp_path) -> None:
    data = load(tmp_path / "t.json", {"a": "abab", "z": "xbax"}, sequence_length=3)
    fitted = fit((), data.train.take([0]))
    assert fitted.vocabulary is not None
    assert fitted.vocabulary.characters == "ab"
    test = apply(fitted, data.train.take([1]))
    np.testing.assert_array_equal(test.x, [[0, 2, 1]])
    np.testing.assert_array_equal(test.y, [[2, 1, 0]])
    assert fitted.vocabulary.decode(np.asarray(test.x)[0]) == "\ufffdba"


def test_large_alphabets_take_wider_ids(tmp_path) -> None:
    text = "".join(map(chr, range(0x4E00, 0x4E00 + 400)))
    data = load(tmp_path / "t.json", {"a": text}, sequence_length=399)
    pool = apply(fit((), data.train), data.train)
    assert np.asarray(pool.x).dtype == np.int16
    np.testing.assert_array_equal(pool.y, [np.arange(2, 401)])


@settings(max_examples=40)
@given(st.text(min_size=2, max_size=30), st.text(min_size=2, max_size=30))
def test_any_text_survives_encoding_and_decoding(train, other) -> None:
    def pool(text: str) -> Pool:
        codes = np.array([*text.encode("utf-32-le", "surrogatepass")], np.uint8).view("<U1")
        x, y, _ = windows(codes, 7)
        return Pool(x, y, "tokens", "here")

    fitted = fit((), pool(train))
    assert fitted.vocabulary is not None
    for text in (train, other):
        encoded = apply(fitted, pool(text))
        known = [c if c in train and c != "\0" else "\ufffd" for c in text]
        assert fitted.vocabulary.decode(np.asarray(encoded.x).reshape(-1)[: len(text) - 1]) == "".join(known[:-1])
        assert fitted.vocabulary.decode(encoded.y.reshape(-1)[: len(text) - 1]) == "".join(known[1:])


def test_bytes_need_no_vocabulary(tmp_path) -> None:
    data = load(tmp_path / "t.json", {"a": "né!"}, sequence_length=3, tokens="bytes")
    pool = apply(fit((), data.train), data.train)
    np.testing.assert_array_equal(pool.x, [list("né!".encode())[:3]])
    np.testing.assert_array_equal(pool.y, [list("né!".encode())[1:]])
    assert (data.info.vocabulary, data.info.classes) == (256, 256)
    assert describe(fit((), data.train), data.info, pool) == data.info


def test_owners_with_little_text_are_left_out_counting_all_their_texts(tmp_path) -> None:
    path = tmp_path / "t.parquet"
    parquet.write_table(pa.table({"client": [7, 8, 7], "text": ["abc", "abcd", "de"]}), path)
    data = load_source(TextConfig(path=str(path), min_characters=5, sequence_length=10), seed=0)
    assert data.train.client is not None
    assert data.train.client.tolist() == ["7", "7"]
    assert (np.asarray(data.train.x)[:, :3] == [["a", "b", ""], ["d", "", ""]]).all()


def test_json_may_be_gzipped(tmp_path) -> None:
    path = tmp_path / "t.json.gz"
    path.write_bytes(gzip.compress(json.dumps({"a": "hello"}).encode()))
    assert len(load_source(TextConfig(path=str(path)), seed=0).train) == 1


def test_the_bundled_shakespeare_has_a_few_dozen_roles_and_ordinary_characters() -> None:
    data = load_source(TextConfig(), seed=0)
    assert data.train.client is not None
    roles, windows_each = np.unique(data.train.client, return_counts=True)
    assert len(roles) == 40
    assert windows_each.max() > 10 * windows_each.min()
    fitted = fit((), data.train)
    assert fitted.vocabulary is not None
    assert len(fitted.vocabulary) == 62
    pool = apply(fitted, data.train)
    first = np.asarray(pool.x)[roles.tolist().index("antony_and_cleopatra/ANTONY")]
    assert fitted.vocabulary.decode(first).startswith("There's beggary in the love that can be reckon'd.")


def test_scaling_does_not_apply_to_text(tmp_path) -> None:
    data = load(tmp_path / "t.json", {"a": "abab"})
    with pytest.raises(DataError, match="min_max does not apply to tokens"):
        fit((MinMaxConfig(),), data.train)


@pytest.mark.parametrize(
    ("texts", "options", "message"),
    [
        (["abc"], {}, "expected JSON of the form {client: text}, got a list"),
        ({"a": 3}, {}, "row 1: expected an owner and a text, got str and int"),
        ({}, {}, "no owner has a text of at least 2 characters (the longest has 0)"),
        ({"a": "x"}, {}, "no owner has a text of at least 2 characters (the longest has 1)"),
        (
            {"a": "abc"},
            {"min_characters": 9},
            "no owner has a text of at least 9 characters (the longest has 3)",
        ),
    ],
)
def test_bad_texts_are_one_clear_line(tmp_path, texts, options, message) -> None:
    with pytest.raises(DataError, match=re.escape(f"t.json: {message}")):
        load(tmp_path / "t.json", texts, **options)


def test_foreign_text_files_are_one_clear_line(tmp_path) -> None:
    path = tmp_path / "t"
    config = TextConfig(path=str(path))
    with pytest.raises(DataError, match="no such file"):
        load_source(config, seed=0)
    for content, message in (
        (b"Call me Ishmael.", "neither Parquet nor JSON"),
        (b"\xff\xfe\x00", "neither Parquet nor JSON"),
        (b"PAR1 and then nothing", "not a readable Parquet file"),
    ):
        path.write_bytes(content)
        with pytest.raises(DataError, match=f"{path}: {message}"):
            load_source(config, seed=0)
    parquet.write_table(pa.table({"who": ["a"], "text": ["b"]}), path)
    with pytest.raises(DataError, match="no column 'client'; a text file has the columns 'client' and 'text'"):
        load_source(config, seed=0)
    parquet.write_table(pa.table({"client": ["a", None], "text": ["abc", "abc"]}), path)
    with pytest.raises(DataError, match="row 2: expected an owner and a text, got NoneType and str"):
        load_source(config, seed=0)
