"""Codecs: a receiver has what the algebra says, messages are as long as they are counted, and errors as published."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from raysim import keyed
from raysim.compression import Codec, build_codec
from raysim.compression.bits import most_rice_bits, pack, rice_bits, rice_decode, rice_encode, rice_parameter, unpack
from raysim.compression.messages import message_bytes, read_message, write_message
from raysim.compression.sparse import largest
from raysim.config.compression import CodecConfig
from raysim.errors import ConfigError

CONFIG: Any = TypeAdapter(CodecConfig)
CODECS: list[Any] = [
    {"name": "topk", "fraction": 0.05},
    {"name": "qsgd", "levels": 3, "block": 16},
    {"name": "int8", "block": 32},
    {"name": "int4", "block": 7},
    "sign",
    "majority",
    "fp16",
    "bf16",
    {"name": "powersgd", "rank": 1},
]
SHAPES = [(6, 4, 2), (5,), (9, 3)]
N = sum(prod(shape) for shape in SHAPES)


def codec(config: Any, shapes: Any = SHAPES) -> Codec[Any]:
    return build_codec(CONFIG.validate_python(config), shapes)


def draw(*key: int) -> Any:
    return lambda: keyed.generator(0, keyed.Purpose.CODEC, *key)


def sent(of: Codec[Any], x: Any, *key: int) -> Any:
    return of.compress(x, draw(*key), np.zeros(of.memory, np.float32))


def floats(most: float) -> st.SearchStrategy[float]:
    return st.floats(-most, most, width=32, allow_subnormal=False)


values = st.lists(st.one_of(st.just(0.0), floats(2.0**20), floats(2.0**-20)), min_size=N, max_size=N)


@pytest.mark.parametrize("config", CODECS, ids=str)
@settings(max_examples=25, deadline=None)
@given(x=values, dense=st.integers(0, 3))
def test_a_receiver_has_what_the_algebra_says_of_as_many_bytes_as_are_counted(config: Any, x: Any, dense: int) -> None:
    one, vector = codec(config), np.array(x, dtype=np.float32)
    before = vector.copy()
    code, rest = sent(one, vector), np.arange(dense, dtype=np.float32)
    assert np.array_equal(vector, before), "what is compressed is only read"
    message = write_message(one, code, rest)
    assert len(message) == message_bytes(one.length(code), dense) <= message_bytes(one.most, dense)
    found, others = read_message(one, message, dense)
    assert one.restore(found).tobytes() == one.restore(code).tobytes()
    assert np.array_equal(others, rest)


@pytest.mark.parametrize("config", [one for one in CODECS if one != CODECS[0]], ids=str)
def test_messages_of_all_codecs_but_top_k_are_as_long_as_is_known_before(config: Any) -> None:
    one = codec(config)
    for x in (np.zeros(N, np.float32), np.ones(N, np.float32), np.arange(N, dtype=np.float32)):
        assert one.length(sent(one, x)) == one.most


def test_messages_that_are_cut_off_or_of_another_codec_are_refused() -> None:
    one, x = codec("int8"), np.ones(N, np.float32)
    message = write_message(one, sent(one, x), x[:2])
    for wrong in (b"", message[:-1], message + b"x", b"\x09" + message[1:]):
        with pytest.raises(ValueError, match="a message of"):
            read_message(one, wrong, 2)
    sparse = codec(CODECS[0])
    body = sparse.encode(sent(sparse, x))
    for wrong in (b"", body[:5], body[:-1], b"\xff" + body[1:]):
        with pytest.raises(ValueError, match="a message "):
            sparse.decode(wrong)


@given(st.sets(st.integers(0, 999), min_size=1, max_size=60), st.integers(0, 9))
def test_golombs_code_has_its_columns_and_the_counted_bits(columns: set[int], low: int) -> None:
    sorted_columns = np.array(sorted(columns))
    data = rice_encode(sorted_columns, low)
    assert len(data) == -(-rice_bits(sorted_columns, low) // 8)
    assert rice_bits(sorted_columns, low) <= most_rice_bits(1000, len(columns), low)
    assert np.array_equal(rice_decode(data, len(columns), low), sorted_columns)


def test_the_parameter_of_golombs_code_takes_the_fewest_bits_for_random_columns() -> None:
    columns = np.sort(np.random.default_rng(0).choice(100_000, 1000, replace=False))
    bits = [rice_bits(columns, low) for low in range(12)]
    assert bits[rice_parameter(100_000, 1000)] == min(bits)
    assert min(bits) / 1000 < 8.2  # Sattler et al. 2019: 8.38 bits a position at 1 %


@given(st.lists(st.integers(0, 7), max_size=30))
def test_numbers_of_three_bits(numbers: list[int]) -> None:
    array = np.array(numbers, dtype=np.int64)
    assert unpack(pack(array, 3), len(numbers), 3).tolist() == numbers


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 700), st.integers(0, 5), st.integers(1, 10))
def test_the_largest_values_are_those_of_a_stable_sort(n: int, seed: int, different: int) -> None:
    generator = np.random.default_rng(seed)
    x = generator.integers(-different, different + 1, n).astype(np.float32)
    k = int(generator.integers(1, n + 1))
    assert largest(x, k).tolist() == sorted(np.argsort(-np.abs(x), kind="stable")[:k].tolist())


def test_the_largest_of_many_values_are_found_by_a_sample() -> None:
    x = np.random.default_rng(0).standard_normal(200_000).astype(np.float32)
    for vector in (x, np.sort(x), np.round(x, 1), np.where(np.arange(len(x)) % 61, x, 0)):
        expected = np.sort(np.argsort(-np.abs(vector), kind="stable")[:2000])
        assert np.array_equal(largest(vector.astype(np.float32), 2000), expected)


@pytest.mark.parametrize("config", [one for one in CODECS if codec(one).unbiased], ids=str)
def test_codecs_that_say_so_are_right_on_average(config: Any) -> None:
    """10,000 keyed roundings of a value are within four standard errors of it."""
    times = 10_000
    name = config["name"]
    # As many blocks of the same values, which are rounded each by itself.
    block = np.array([0.3, -0.7, 0.011, -1.0, 0.0, 0.5, -0.123, 0.999], dtype=np.float32)
    one = codec({"name": name, "block": len(block)}, [(times * len(block),)])
    code = sent(one, np.tile(block, times), 7)
    found = one.restore(code).reshape(times, -1).astype(np.float64)
    deviation = np.maximum(found.std(0), 1e-7)
    assert (np.abs(found.mean(0) - block) < 4 * deviation / np.sqrt(times) + 1e-5).all()
    assert set(np.unique(code.levels)) <= set(range(-127, 128))
    assert (found[:, 4] == 0).all()


def test_each_message_is_rounded_by_its_own_key() -> None:
    one, x = codec("int4"), np.linspace(-1, 1, N).astype(np.float32)
    levels = [sent(one, x, key).levels.tolist() for key in (1, 2, 1)]
    assert levels[0] != levels[1]
    assert levels[0] == levels[2]


def test_signs_have_the_mean_magnitude_of_their_layer() -> None:
    one, x = codec("sign"), np.random.default_rng(0).standard_normal(N).astype(np.float32)
    expected, at = [], 0
    for shape in SHAPES:
        layer = x[at : at + prod(shape)]
        expected += (np.where(layer < 0, -1, 1) * np.abs(layer).mean()).tolist()
        at += prod(shape)
    assert one.restore(sent(one, x)) == pytest.approx(expected, rel=1e-6)


def test_the_power_method_finds_a_matrix_of_its_rank_and_starts_where_it_ended() -> None:
    generator = np.random.default_rng(0)
    low = (generator.standard_normal((30, 2)) @ generator.standard_normal((2, 20))).astype(np.float32)
    one = codec({"name": "powersgd", "rank": 2}, [(30, 20)])
    assert one.restore(sent(one, low.ravel())) == pytest.approx(low.ravel(), abs=1e-5)
    spectrum = generator.standard_normal((30, 3)) * [3, 2, 1] @ generator.standard_normal((3, 20))
    x, memory = spectrum.astype(np.float32).ravel(), np.zeros(one.memory, np.float32)
    errors = [np.linalg.norm(one.restore(one.compress(x, draw(1), memory)) - x) for _ in range(12)]
    s = np.linalg.svd(spectrum)[1]
    best = np.linalg.norm(s[2:])
    assert errors[0] > 1.05 * best
    assert errors[-1] == pytest.approx(best, rel=1e-3)


def test_sixteen_bits_are_the_nearest_and_end_at_their_largest() -> None:
    x = np.full(N, 1e6, np.float32)
    x[:4] = [1 + 2**-11, 1 + 2**-10, -1e30, 2**-30]
    half, brain = (codec(name).restore(sent(codec(name), x)) for name in ("fp16", "bf16"))
    assert half[:5].tolist() == [1.0, 1 + 2**-10, -65504.0, 0.0, 65504.0]
    assert brain[0] == 1.0
    assert brain[3] == 2**-30


def test_a_codec_that_sends_or_saves_nothing_is_refused() -> None:
    with pytest.raises(
        ConfigError, match=r"fraction 0.001 of 80 values is a top-k of nothing; raise it to 0.013 or more"
    ):
        codec({"name": "topk", "fraction": 0.001})
    with pytest.raises(ConfigError, match=r"no layer is a matrix that factors of rank 9 make smaller; lower rank"):
        codec({"name": "powersgd", "rank": 9})
