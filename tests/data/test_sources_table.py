"""CSV and Parquet tables: which columns are used, how labels are numbered, what is refused."""

from __future__ import annotations

import gzip
import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from raysim.config.sources import TableConfig
from raysim.data.dataset import Columns, Dataset
from raysim.data.sources import load_source
from raysim.errors import DataError

CSV = """age,city,smoker,hospital,outcome
31,Ulm,true,7,well
,Bonn,false,7,ill
55,,true,9,well
"""


def load(path: Path, text: str | bytes | None = None, **options: object) -> Dataset:
    if text is not None:
        path.write_bytes(text.encode() if isinstance(text, str) else text)
    return load_source(TableConfig(**{"path": str(path), "label": "outcome", **options}), seed=0)


def columns(data: Dataset) -> dict[str, list[object]]:
    assert isinstance(data.train.x, Columns)
    return {
        name: [None if value is None or value != value else value for value in values.tolist()]
        for name, values in zip(data.train.x.names, data.train.x.values, strict=True)
    }


def test_a_table_keeps_numbers_categories_and_holes_apart(tmp_path) -> None:
    data = load(tmp_path / "t.csv", CSV, client="hospital")
    assert columns(data) == {"age": [31, None, 55], "city": ["Ulm", "Bonn", None], "smoker": [1, 0, 1]}
    assert data.class_names == ("ill", "well")
    assert data.train.y.tolist() == [1, 0, 1]
    assert (data.info.task, data.info.classes, data.info.input_shape) == ("classification", 2, (3,))
    assert data.train.client is not None
    assert data.train.client.tolist() == [7, 7, 9]


def test_gzip_a_byte_order_mark_semicolons_and_tabs_make_no_difference(tmp_path) -> None:
    expected = columns(load(tmp_path / "t.csv", CSV))
    assert columns(load(tmp_path / "t.csv", gzip.compress(CSV.encode()))) == expected
    assert columns(load(tmp_path / "t.csv", b"\xef\xbb\xbf" + CSV.encode())) == expected
    for delimiter in ";\t":
        assert columns(load(tmp_path / "t.csv", CSV.replace(",", delimiter))) == expected


def test_parquet_and_csv_say_the_same(tmp_path) -> None:
    table = pa.table(
        {
            "age": pa.array([31, None, 55], pa.int8()),
            "city": pa.array(["Ulm", "Bonn", None]).dictionary_encode(),
            "smoker": [True, False, True],
            "hospital": ["a", "a", "b"],
            "outcome": ["well", "ill", "well"],
        }
    )
    folder = tmp_path / "year=2020"  # not a partition: the path says nothing about columns
    folder.mkdir()
    parquet.write_table(table, folder / "t.parquet")
    data = load(folder / "t.parquet", name="parquet", client="hospital")
    assert columns(data) == columns(load(tmp_path / "t.csv", CSV, ignore=["hospital"]))
    assert data.train.client is not None
    assert data.train.client.tolist() == ["a", "a", "b"]


def test_features_can_be_chosen_in_any_order(tmp_path) -> None:
    assert list(columns(load(tmp_path / "t.csv", CSV, features=["smoker", "age"]))) == ["smoker", "age"]


def test_integer_labels_are_numbered_in_order_whatever_they_are(tmp_path) -> None:
    data = load(tmp_path / "t.csv", "a,outcome\n1,10\n2,-1\n3,2\n")
    assert data.train.y.tolist() == [2, 0, 1]
    assert data.class_names == ("-1", "2", "10")


def test_owners_beyond_two_to_the_53_stay_apart(tmp_path) -> None:
    data = load(tmp_path / "t.csv", f"a,who,outcome\n1,{2**53},x\n2,{2**53 + 1},y\n", client="who")
    assert data.train.client is not None
    assert data.train.client.tolist() == [2**53, 2**53 + 1]


def test_a_column_that_turns_to_text_late_in_the_file_is_text(tmp_path) -> None:
    rows = "".join(f"{i},{i % 2}\n" for i in range(400_000))
    data = load(tmp_path / "t.csv", f"a,outcome\n{rows}late,1\n")
    assert columns(data)["a"][-1] == "late"


def test_regression_takes_the_label_as_a_number(tmp_path) -> None:
    data = load(tmp_path / "t.csv", "a,outcome\n1,0.5\n2,7\n", task="regression")
    assert (data.info.task, data.info.classes, data.class_names) == ("regression", None, None)
    assert data.train.y.dtype == np.float32
    assert data.train.y.tolist() == [0.5, 7]


BAD = {
    "label": (CSV, {"label": "outcom"}, "data.source.label: no column 'outcom'; did you mean 'outcome'?"),
    "label far off": (CSV, {"label": "zzz"}, "no column 'zzz'; columns are 'age', 'city', 'smoker', 'hospital'"),
    "feature": (CSV, {"features": ["agee"]}, "data.source.features: no column 'agee'; did you mean 'age'?"),
    "ignored": (CSV, {"ignore": ["cty"]}, "data.source.ignore: no column 'cty'; did you mean 'city'?"),
    "client": (CSV, {"client": "hospitals"}, "data.source.client: no column 'hospitals'; did you mean 'hospital'?"),
    "label as feature": (CSV, {"features": ["age", "outcome"]}, "features: 'outcome' is also the label"),
    "nothing to learn from": ("outcome\nx\ny\n", {}, "no column is left to learn from"),
    "twice": ("a,a,outcome\n1,2,x\n", {}, "two columns are called 'a'; rename one"),
    "empty file": ("", {}, "not a readable CSV file (Empty CSV file)"),
    "header only": ("a,outcome\n", {}, "the table has no rows"),
    "ragged": (
        "a,outcome\n1,x\n2\n",
        {},
        "not a readable CSV file (CSV parse error: Row #3: Expected 2",
    ),
    "label hole": ("a,outcome\n1,x\n2,\n", {}, "row 2, column 'outcome' is empty; fill it or remove the row"),
    "label infinite": (
        "a,outcome\n1,2.5\n2,inf\n",
        {"task": "regression"},
        "row 2, column 'outcome' is empty, NA or not",
    ),
    "label too large": ("a,outcome\n1,1\n2,1e300\n", {"task": "regression"}, "column 'outcome'[1] is inf"),
    "owner hole": (
        "a,b,outcome\n1,u,x\n2,,y\n",
        {"client": "b"},
        "row 2, column 'b' is empty; fill it or remove the row",
    ),
    "fractional class": ("a,outcome\n1,1\n2,0.5\n", {}, "'outcome': row 2 is 0.5, no class; set task: regression"),
    "text to regress on": ("a,outcome\n1,x\n2,y\n", {"task": "regression"}, "is text; set task: classification"),
    "one class": ("a,outcome\n1,x\n2,x\n", {}, "is x in every row; there are no classes to tell apart"),
    "UTF-16": (CSV.encode("utf-16"), {}, "this file is UTF-16; save it as UTF-8"),
    "no header": ("1,2\n3,4\n", {}, "its first row, 1, 2, is all numbers; begin with a row of names"),
    "pandas' row numbers": (",a,outcome\n0,7,x\n1,8,y\n", {}, "column 1 has no name; name it, or leave it out by"),
    "blanks": ("a,outcome\nx,1\nx ,0\n", {}, "row 2, column 'a': 'x ' is another category than 'x'; remove the blanks"),
    "padded owners": (
        "a,b,outcome\n1,7,x\n2,007,y\n",
        {"client": "b"},
        "has 7 (row 1) and 007 (row 2), which are read",
    ),
    "owners beyond 2^64": (
        f"a,b,outcome\n1,{10**20},x\n2,{10**20 + 1},y\n",
        {"client": "b"},
        f"column 'b' has {10**20} (row 1) and {10**20 + 1} (row 2), which are read as one number",
    ),
    "padded classes": ("a,outcome\n1,1\n2,01\n3,2\n", {}, "data.source.label: column 'outcome' has 1 (row 1) and 01"),
    "a mark among numbers to predict": (
        "a,outcome\n1,0.5\n2,?\n3,1\n",
        {"task": "regression"},
        "row 2, column 'outcome': '?' is not a number, as 2 of 3 cells are; correct the cell",
    ),
    "a mark among classes": (
        "a,outcome\n1,0\n2,?\n3,1\n",
        {},
        "row 2, column 'outcome': '?' is not a number, as 2 of 3",
    ),
    "not UTF-8": (b"a,outcome\n\xff\xfe,x\nb,y\n", {}, "column 'a' is not UTF-8 text"),
}


@pytest.mark.parametrize(("text", "options", "message"), BAD.values(), ids=BAD)
def test_a_bad_table_is_one_clear_line(tmp_path, text, options, message) -> None:
    path = tmp_path / "t.csv"
    with pytest.raises(DataError, match=re.escape(message)) as error:
        load(path, text, **options)
    assert str(error.value).startswith(f"{path}: ")
    assert "\n" not in str(error.value)


def test_missing_and_foreign_files_are_one_clear_line(tmp_path) -> None:
    path = tmp_path / "t.parquet"
    for name in ("csv", "parquet"):
        with pytest.raises(DataError, match=re.escape(f"{path}: no such file; check the path in `data.source`")):
            load(path, name=name)
    for content in (b"", b"hello", b"PAR1" + bytes(100) + b"PAR1"):
        with pytest.raises(DataError, match=re.escape(f"{path}: not a readable Parquet file")):
            load(path, content, name="parquet")


NAMED = "country,size,outcome\n" + "NA,1,None\nDE,NA,yes\n,null,NA\nNA,4,yes\n"


def test_a_category_may_be_called_na_and_only_the_empty_cell_is_a_hole_in_text(tmp_path) -> None:
    data = load(tmp_path / "t.csv", NAMED)
    assert columns(data) == {"country": ["NA", "DE", None, "NA"], "size": [1, None, None, 4]}
    assert data.class_names == ("NA", "None", "yes")


def test_na_values_are_holes_in_text_and_among_numbers(tmp_path) -> None:
    text = "a,b,outcome\nx,1,0\n?,2, 0\ny,?,1\nz, ?,1\n"
    data = load(tmp_path / "t.csv", text, na_values=["?"])
    assert columns(data) == {"a": ["x", None, "y", "z"], "b": [1, 2, None, None]}
    table = pa.table({"a": ["x", "?", "", "z"], "b": ["1", "2", "?", "?"], "outcome": [0, 0, 1, 1]})
    parquet.write_table(table, tmp_path / "t.parquet")
    data = load(tmp_path / "t.parquet", name="parquet", na_values=["?"])
    assert columns(data) == {"a": ["x", None, "", "z"], "b": [1, 2, None, None]}
    parquet.write_table(
        pa.table({"a": [1, -9, 3], "b": [0.5, -9.0, None], "outcome": [0, 0, 1]}), tmp_path / "n.parquet"
    )
    for file, name in (("n.parquet", "parquet"), ("n.csv", "csv")):
        written = None if name == "parquet" else "a,b,outcome\n1,0.5,0\n-9,-9.0,0\n3,,1\n"
        data = load(tmp_path / file, written, name=name, na_values=["-9"])
        assert columns(data) == {"a": [1, None, 3], "b": [0.5, None, None]}


@pytest.mark.parametrize("kind", [pa.large_string(), pa.dictionary(pa.int32(), pa.string())], ids=str)
def test_na_values_are_holes_in_every_type_of_text_that_parquet_has(tmp_path, kind: pa.DataType) -> None:
    texts = {"a": ["x", "?", "z"], "b": ["1", "?", "3"]}
    made = {name: pa.array(cells).dictionary_encode().cast(kind) for name, cells in texts.items()}
    decimals = pa.array([1.5, -9, 2.5]).cast(pa.decimal128(10, 2))
    parquet.write_table(pa.table(made | {"c": decimals, "outcome": [0, 0, 1]}), tmp_path / "t.parquet")
    data = load(tmp_path / "t.parquet", name="parquet", na_values=["?", "-9"])
    assert columns(data) == {"a": ["x", None, "z"], "b": [1, None, 3], "c": [1.5, None, 2.5]}


def test_numbers_are_names_in_parquet_and_where_pandas_counted_the_columns(tmp_path) -> None:
    parquet.write_table(pa.table({"5": [1.0, 2.0], "7": [0, 1]}), tmp_path / "t.parquet")
    assert columns(load(tmp_path / "t.parquet", name="parquet", label="7")) == {"5": [1, 2]}
    assert columns(load(tmp_path / "t.csv", "0,1\n5,0\n6,1\n", label="1")) == {"0": [5, 6]}


def test_large_owners_of_test_rows_are_exact_beside_rows_without_an_owner(tmp_path) -> None:
    first, second = 2**53 + 1, 2**53 + 2
    (tmp_path / "test.csv").write_text(f"a,who,outcome\n1,{first},0\n2,,1\n3,{second},1\n")
    text = f"a,who,outcome\n1,{first},0\n2,{second},1\n"
    data = load(tmp_path / "t.csv", text, test=str(tmp_path / "test.csv"), client="who")
    assert data.test is not None
    assert data.test.client is not None
    assert data.test.client.tolist() == [first, None, second]


def test_commas_inside_quotes_and_bars_are_told_from_delimiters(tmp_path) -> None:
    data = load(tmp_path / "t.csv", 'a|"b, c, d"|outcome\n1|"x, y"|0\n2|z|1\n')
    assert columns(data) == {"a": [1, 2], "b, c, d": ["x, y", "z"]}


def test_whole_numbers_and_the_same_with_a_point_are_one_class(tmp_path) -> None:
    assert load(tmp_path / "t.csv", "a,outcome\n1,1\n2,1.0\n3,0\n").train.y.tolist() == [1, 1, 0]


def test_parquet_decimals_and_categories_of_numbers_are_numbers(tmp_path) -> None:
    owners = pa.array([2**53, 2**53 + 1]).dictionary_encode()
    price = pa.array([1.5, 2.5]).cast(pa.decimal128(10, 2))
    parquet.write_table(pa.table({"p": price, "who": owners, "outcome": [0, 1]}), tmp_path / "t.parquet")
    data = load(tmp_path / "t.parquet", name="parquet", client="who")
    assert columns(data) == {"p": [1.5, 2.5]}
    assert data.train.client is not None
    assert data.train.client.tolist() == [2**53, 2**53 + 1]
