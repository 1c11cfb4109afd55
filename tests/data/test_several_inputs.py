"""Samples of several inputs as words: packed, checked, stored, and found again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from raysim.data import DataInfo
from raysim.data.inputs import InputField, pack_inputs, unpack_inputs
from raysim.data.sources import from_arrays
from raysim.data.store.manifest import Manifest
from raysim.errors import DataError
from raysim.models.inputs import largest_record, take_inputs

FIELDS = (
    InputField("input_ids", "tokens", (5,), count=100),
    InputField("attention_mask", "flags", (5,)),
    InputField("image", "pixels", (1, 3, 3)),
    InputField("age", "real", ()),
    InputField("box", "integers", (2, 2), count=8),
)


def some(n: int = 4) -> dict[str, Any]:
    generator = np.random.default_rng(0)
    return {
        "input_ids": generator.integers(0, 100, (n, 5)),
        "attention_mask": generator.integers(0, 2, (n, 5)),
        "image": generator.integers(0, 256, (n, 1, 3, 3), dtype=np.uint8),
        "age": generator.normal(size=n).astype(np.float32),
        "box": generator.integers(0, 8, (n, 2, 2)),
    }


def test_inputs_are_found_again_as_they_were() -> None:
    given = some()
    packed, fields = pack_inputs(given, FIELDS)
    assert packed.dtype == np.int32
    assert packed.shape == (4, 5 + 2 + 3 + 1 + 4)
    for name, values in unpack_inputs(packed, fields).items():
        np.testing.assert_array_equal(values, given[name])


def test_a_forward_pass_gets_ids_as_int64_flags_as_bool_and_pixels_between_0_and_1() -> None:
    given = some()
    packed, fields = pack_inputs(given, FIELDS)
    found = take_inputs(torch.from_numpy(packed), fields)
    assert {name: one.dtype for name, one in found.items()} == {
        "input_ids": torch.int64,
        "attention_mask": torch.bool,
        "image": torch.float32,
        "age": torch.float32,
        "box": torch.int64,
    }
    np.testing.assert_array_equal(found["image"].numpy(), given["image"].astype(np.float32) / np.float32(255))
    np.testing.assert_array_equal(found["attention_mask"].numpy(), given["attention_mask"].astype(bool))
    np.testing.assert_array_equal(found["age"].numpy(), given["age"])
    np.testing.assert_array_equal(found["box"].numpy(), given["box"])


@pytest.mark.parametrize(
    ("name", "value", "line"),
    [
        ("input_ids", 100, "input 'input_ids': 100 of sample 1 is outside 0..99"),
        ("box", -1, "input 'box': -1 of sample 1 is outside 0..7"),
        ("attention_mask", 2, "input 'attention_mask': flags are 0 or 1, found 0..2"),
    ],
)
def test_a_value_out_of_range_is_named(name: str, value: int, line: str) -> None:
    given = some()
    given[name][1].flat[0] = value
    with pytest.raises(DataError, match=line):
        pack_inputs(given, FIELDS)


def test_the_largest_record_has_the_largest_ids() -> None:
    _, fields = pack_inputs(some(), FIELDS)
    info = DataInfo("classification", (15,), "record", (), 2, 100, inputs=fields)
    found = take_inputs(largest_record(info, 3), fields)
    assert found["input_ids"].unique().tolist() == [99]
    assert found["box"].unique().tolist() == [7]
    assert found["attention_mask"].all()


def test_a_mapping_of_arrays_is_a_data_set() -> None:
    given = some(6)
    found = from_arrays({"x": given, "y": [0, 1, 0, 1, 0, 1]}, origin="here")
    assert found.train.kind == found.info.input_kind == "record"
    by_name = {field.name: field for field in found.info.inputs}
    assert {name: field.kind for name, field in by_name.items()} == {field.name: field.kind for field in FIELDS}
    assert found.info.vocabulary == by_name["input_ids"].count == given["input_ids"].max() + 1
    for name, values in unpack_inputs(np.asarray(found.train.x), found.info.inputs).items():
        np.testing.assert_array_equal(values, given[name])


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"x": {}}, "x has no inputs"),
        ({"x": {"a": np.zeros((2, 2)), "b": np.zeros((3, 2))}}, "the inputs of x have"),
        ({"x": {"a b": np.zeros((2, 2))}}, "the input 'a b' of x is no name"),
        ({"x": {"a": np.array([[-1], [0]])}}, "the input 'a' of x has -1"),
        ({"x": {"a": np.array([[2**32 + 5], [0]])}}, "input 'a' has 4,294,967,302 values, more than 32 bits hold"),
        ({"x": {"a": np.array([[0.0], [np.nan]])}}, "input 'a': sample 1 has a value that is not finite"),
        ({"x_test": {"input_ids": np.zeros((2, 5), int)}, "y_test": [0, 1]}, "x has the inputs .*, x_test"),
        ({"x_test": np.zeros((2, 5)), "y_test": [0, 1]}, "x and x_test are both arrays, or both inputs by name"),
    ],
)
def test_a_mapping_that_is_no_data_set_is_refused_in_a_line(change: dict[str, Any], line: str) -> None:
    with pytest.raises(DataError, match=line):
        from_arrays({"x": some(2), "y": [0, 1], **change}, origin="here")


def test_a_store_remembers_its_inputs_and_one_without_them_keeps_its_fingerprint(tmp_path: Path) -> None:
    _, fields = pack_inputs(some(), FIELDS)
    record = DataInfo("classification", (15,), "record", (), 2, 100, inputs=fields)
    plain = DataInfo("classification", (3,), "real", (), 2)
    for info in (record, plain):
        manifest = Manifest(info, 1, {"train": 1}, {}, {}, [], ())
        manifest.write(tmp_path)
        read = Manifest.read(tmp_path)
        assert read.info == info
        assert read.info.inputs == info.inputs
    # SHA-256 of `[info, columns]` as it was before samples of several inputs existed.
    assert manifest.fingerprint == FINGERPRINT


FINGERPRINT = "4fd819dd09f73ab1e69287d5ba768a85aea410a3a8b800565f8242cba040b441"
