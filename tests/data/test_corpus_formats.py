"""Corpora of every format: the same documents, owners and tokens; and what is wrong with one is a line."""

from __future__ import annotations

import gzip
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from corpora import arrays, byte_tokenizer, load, write_lines
from pyarrow import parquet
from pydantic import ValidationError

from raysim.config import Experiment
from raysim.config.text import CorpusConfig
from raysim.errors import ConfigError, DataError

ROWS = [
    {"text": "to be", "who": "ann", "kind": 1},
    {"text": "or not", "who": "bob", "kind": 0},
    {"text": "that is", "who": "ann", "kind": 0},
]
"""Documents of two owners, those of ann with one of bob's between them."""


def decoded(data: Any) -> dict[str, str]:
    """The text of each owner that bytes spell, `|` for the end of a document."""
    x, y, weight = arrays(data)
    assert weight is not None
    found: dict[str, str] = {}
    for owner, ids, nexts, counts in zip(data.train.client, x, y, weight > 0, strict=True):
        spelled = [ids[0] if not found.get(owner) else None, *nexts[counts]]
        found[owner] = found.get(owner, "") + "".join("|" if i == 0 else chr(i) for i in spelled if i is not None)
    return found


def write(folder: Path, form: str) -> tuple[Path, dict[str, Any]]:
    """The documents in a format, and the options to read them with."""
    if form in ("jsonl", "jsonl.gz"):
        return write_lines(folder / f"a.{form}", ROWS), {"client": "who"}
    if form == "parquet":
        parquet.write_table(pa.Table.from_pylist(ROWS), folder / "a.parquet", row_group_size=1)
        return folder / "a.parquet", {"client": "who"}
    if form == "json":
        (folder / "a.json.gz").write_bytes(gzip.compress(json.dumps(ROWS).encode()))
        return folder / "a.json.gz", {"client": "who"}
    if form == "folder":
        for number, row in enumerate(ROWS):
            (folder / "texts" / row["who"]).mkdir(parents=True, exist_ok=True)
            (folder / "texts" / row["who"] / f"{number}.txt").write_text(row["text"])
        return folder / "texts", {"client": "folder"}
    if form == "glob":
        for number, row in enumerate(ROWS):
            write_lines(folder / f"part-{number}.jsonl", [row])
        return folder / "part-*.jsonl", {"client": "who"}
    datasets = pytest.importorskip("datasets")
    made = datasets.Dataset.from_list(ROWS)
    if form == "hub with splits":
        made = datasets.DatasetDict({"train": made, "test": made.select([0])})
    made.save_to_disk(folder / "saved")
    return folder / "saved", {"client": "who"}


FORMS = ("jsonl", "jsonl.gz", "parquet", "json", "folder", "glob", "hub", "hub with splits")


@pytest.mark.parametrize("form", FORMS)
def test_every_format_gives_the_documents_of_each_owner(tmp_path, form) -> None:
    path, options = write(tmp_path, form)
    data = load(tmp_path / "cache", path=str(path), tokenizer="bytes", length=4, **options)
    assert decoded(data) == {"ann": "to be|that is|", "bob": "or not|"}
    assert data.counts == {"documents": 3, "tokens": 21, "token ids": 256, "owners": 2}
    assert data.info.vocabulary == data.info.classes == 256


def test_a_mapping_of_clients_to_texts_has_its_owners_without_a_word(tmp_path) -> None:
    (tmp_path / "a.json").write_text(json.dumps({"x": "abc", "y": "ca"}))
    data = load(tmp_path / "cache", path=str(tmp_path / "a.json"), length=2)
    assert data.train.client is not None
    assert data.train.client.tolist() == ["x", "x", "y"]
    x, y, weight = arrays(data)
    np.testing.assert_array_equal(x, [[1, 2], [3, 0], [3, 1]])  # a b c are 1 2 3; 0 ends a text, and pads
    np.testing.assert_array_equal(y, [[2, 3], [0, 0], [1, 0]])
    np.testing.assert_array_equal(weight, [[1, 1], [1, 0], [1, 1]])


def test_a_file_may_be_the_owner_of_what_is_in_it(tmp_path) -> None:
    for name in ("north", "south"):
        write_lines(tmp_path / f"{name}.jsonl", ROWS[:1])
    data = load(tmp_path / "cache", path=str(tmp_path), client="file", length=4)
    assert data.train.client is not None
    assert sorted(set(data.train.client)) == ["north.jsonl", "south.jsonl"]


def test_files_of_one_name_in_several_folders_are_several_owners(tmp_path) -> None:
    for name in ("north", "south"):
        (tmp_path / name).mkdir()
        write_lines(tmp_path / name / "data.jsonl", ROWS[:1])
    for path in (tmp_path, tmp_path / "*" / "data.jsonl", tmp_path / "**" / "*.jsonl"):
        data = load(tmp_path / "cache", path=str(path), client="file", length=4)
        assert data.train.client is not None
        assert sorted(set(data.train.client)) == ["north/data.jsonl", "south/data.jsonl"]


def test_without_owners_all_documents_follow_one_another(tmp_path) -> None:
    path = write_lines(tmp_path / "a.jsonl", ROWS)
    data = load(tmp_path / "cache", path=str(path), tokenizer="bytes", length=4)
    assert data.train.client is None
    assert len(data.train) == 5  # 20 of 21 tokens have a next one


def test_the_name_of_a_class_is_the_label_of_a_hub_data_set(tmp_path) -> None:
    datasets = pytest.importorskip("datasets")
    features = datasets.Features({"text": datasets.Value("string"), "kind": datasets.ClassLabel(names=["ham", "spam"])})
    rows = [{"text": row["text"], "kind": row["kind"]} for row in ROWS]
    datasets.Dataset.from_list(rows, features=features).save_to_disk(tmp_path / "saved")
    options = {"label": "kind", "task": "classification", "length": 8}
    data = load(tmp_path / "cache", path=str(tmp_path / "saved"), **options)
    assert data.class_names == ("ham", "spam")
    assert data.train.targets.tolist() == [1, 0, 0]


def test_what_has_no_text_or_no_owner_is_left_out_and_told(tmp_path) -> None:
    rows = [*ROWS, {"text": "  ", "who": "ann"}, {"text": "lost", "who": None}, {"text": "too", "who": ""}]
    path = write_lines(tmp_path / "a.jsonl", rows)
    data = load(tmp_path / "cache", path=str(path), client="who", tokenizer="bytes", length=4)
    assert decoded(data) == {"ann": "to be|that is|", "bob": "or not|"}
    assert [(one.step, one.count, one.of, one.unit) for one in data.left_out] == [
        ("data.source", 1, 6, "documents"),
        ("data.source.client", 2, 6, "documents"),
    ]


def test_owners_with_little_text_are_left_out_and_named(tmp_path) -> None:
    path = write_lines(tmp_path / "a.jsonl", ROWS)
    data = load(tmp_path / "cache", path=str(path), client="who", tokenizer="bytes", length=4, min_characters=7)
    assert set(decoded(data)) == {"ann"}
    assert str(data.left_out[0]) == (
        "data.source.min_characters: 1 of 2 source owners left out: fewer than 7 characters: bob"
    )
    with pytest.raises(
        DataError, match=r"no owner has 99 characters of text \(the most is 12\); lower data.source.min"
    ):
        load(tmp_path / "cache", path=str(path), client="who", min_characters=99)


TESTS = [
    {"text": "be to", "who": "ann", "kind": 0},
    {"text": "zz", "who": "bob", "kind": 1},
    {"text": "?", "who": None, "kind": 1},
]


def test_a_corpus_may_bring_documents_to_test_on_with_their_owners(tmp_path) -> None:
    path, test = write_lines(tmp_path / "a.jsonl", ROWS), write_lines(tmp_path / "b.jsonl", TESTS)
    options = {"path": str(path), "test": str(test), "client": "who", "tokenizer": "bytes", "length": 4}
    data = load(tmp_path / "cache", **options)
    assert decoded(data) == {"ann": "to be|that is|", "bob": "or not|"}
    assert data.test is not None
    assert decoded(replace(data, train=data.test)) == {"ann": "be to|", "bob": "zz|", "": "?|"}
    assert data.counts["documents"] == 6
    fewer = load(tmp_path / "cache", **options, min_characters=7)
    assert fewer.test is not None
    assert set(decoded(fewer)) == {"ann"}
    assert fewer.test.client is not None
    assert fewer.test.client.tolist().count("") == 2  # what bob wrote, who is left out, is the server's alone
    characters = load(tmp_path / "cache", **(options | {"tokenizer": "characters"}))
    assert characters.info.vocabulary == 1 + len(set("".join(row["text"] for row in [*ROWS, *TESTS])))
    from raysim.config.data import DataConfig
    from raysim.data.build import prepare

    config = DataConfig(source={"name": "corpus", **options}, partition="natural", cache=str(tmp_path / "cache"))  # type: ignore[arg-type]
    federation = prepare(config, 0).open()
    assert federation.sizes().tolist() == [4, 2]
    assert federation.sizes("test").tolist() == [2, 1]


def test_documents_to_test_on_have_the_classes_of_the_others(tmp_path) -> None:
    path, test = write_lines(tmp_path / "a.jsonl", ROWS), write_lines(tmp_path / "b.jsonl", TESTS)
    options = {"path": str(path), "task": "classification", "label": "kind", "length": 4, "inputs": []}
    data = load(tmp_path / "cache", test=str(test), **options)
    assert data.test is not None
    assert data.test.targets.tolist() == [0, 1, 1]
    write_lines(tmp_path / "c.jsonl", [{"text": "a", "kind": 7}])
    with pytest.raises(
        DataError, match=r"c.jsonl: a test document has the label '7', which no document to train on has"
    ):
        load(tmp_path / "cache", test=str(tmp_path / "c.jsonl"), **options)


def test_a_split_of_a_hub_data_set_may_be_the_test_part(tmp_path) -> None:
    datasets = pytest.importorskip("datasets")
    parts = {name: datasets.Dataset.from_list(rows) for name, rows in (("fit", ROWS), ("held", TESTS))}
    datasets.DatasetDict(parts).save_to_disk(tmp_path / "saved")
    options = {"path": str(tmp_path / "saved"), "tokenizer": "bytes", "length": 4, "client": "who"}
    data = load(tmp_path / "cache", split="fit", test="held", **options)
    assert data.test is not None
    assert decoded(replace(data, train=data.test)) == {"ann": "be to|", "bob": "zz|", "": "?|"}
    with pytest.raises(DataError, match=r"data.source.split: no split 'train'; there are fit, held"):
        load(tmp_path / "cache", **options)


def test_the_names_of_folders_are_part_of_what_is_tokenised(tmp_path) -> None:
    for folder in ("x", "y"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a.txt").write_text("same")
        data = load(tmp_path / "cache", path=str(tmp_path / folder), client="folder", length=4)
        assert data.train.client is not None
        assert set(data.train.client) == {folder}


def refused(tmp_path: Path, **options: Any) -> str:
    with pytest.raises((DataError, ConfigError)) as caught:
        load(tmp_path / "cache", **options)
    assert "\n" not in str(caught.value)
    assert not list((tmp_path / "cache").glob("tokens/*"))
    return str(caught.value)


def test_what_is_wrong_with_a_corpus_is_one_line(tmp_path) -> None:
    path = write_lines(tmp_path / "a.jsonl", ROWS)
    assert "nowhere: no such file or folder; check data.source.path" in refused(
        tmp_path, path=str(tmp_path / "nowhere")
    )
    assert "a.jsonl: line 1: data.source.text: no field 'body'; fields are 'file', 'folder', 'text', 'who', 'kind'" in (
        refused(tmp_path, path=str(path), text="body")
    )
    assert "data.source.client: no field 'whom'; did you mean 'who'?" in refused(
        tmp_path, path=str(path), client="whom"
    )
    (tmp_path / "empty.jsonl").write_text("\n")
    assert "the corpus is empty" in refused(tmp_path, path=str(tmp_path / "empty.jsonl"))
    blank = write_lines(tmp_path / "blank.jsonl", [{"text": " "}])
    assert "none of its 1 documents has text" in refused(tmp_path, path=str(blank))
    (tmp_path / "bad.jsonl").write_text('{"text": "a"}\n{"text": \n')
    assert "bad.jsonl: line 2: no JSON" in refused(tmp_path, path=str(tmp_path / "bad.jsonl"))
    number = write_lines(tmp_path / "number.jsonl", [*ROWS, {"text": 3}])
    assert "number.jsonl: line 4: field 'text' has type int, not text" in refused(tmp_path, path=str(number))
    assert "blank.jsonl: there is no document with text in it" in refused(tmp_path, path=str(path), test=str(blank))
    (tmp_path / "data.bin").write_bytes(b"x")
    assert "its ending does not tell" in refused(tmp_path, path=str(tmp_path / "data.bin"))
    mixed = tmp_path / "mixed"
    mixed.mkdir()
    write_lines(mixed / "a.jsonl", ROWS)
    (mixed / "b.txt").write_text("b")
    assert "files of several formats (.jsonl, .txt); name one kind" in refused(tmp_path, path=str(mixed))
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9")
    assert "latin.txt: byte 3 is not UTF-8" in refused(tmp_path, path=str(tmp_path / "latin.txt"))
    assert "only a data set of format: hub has splits" in refused(tmp_path, path=str(path), split="test")


def test_classes_are_checked(tmp_path) -> None:
    wanted = {"task": "classification", "label": "kind"}
    one = write_lines(tmp_path / "one.jsonl", ROWS[:1])
    with pytest.raises(DataError, match="every document is of class '1'; at least two classes are needed"):
        load(tmp_path / "cache", path=str(one), **wanted)
    part = write_lines(tmp_path / "part.jsonl", [*ROWS, {"text": "a", "kind": 0.5}])
    with pytest.raises(DataError, match=r"line 4: label 'kind' is 0.5, no class"):
        load(tmp_path / "cache", path=str(part), **wanted)
    none = write_lines(tmp_path / "none.jsonl", [*ROWS, {"text": "a"}])
    with pytest.raises(DataError, match="line 4: label 'kind' is missing"):
        load(tmp_path / "cache", path=str(none), **wanted)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"length": 1}, "greater than or equal to 2"),
        ({"task": "classification"}, "needs `label`"),
        ({"prompt": "q"}, "prompt and response come together"),
        ({"prompt": "q", "response": "a", "text": "b"}, "take the place of `text`"),
        ({"messages": "m", "prompt": "q", "response": "a"}, "messages take the place of `text`"),
        ({"template": "{prompt}{response}"}, "template joins prompt and response"),
        ({"prompt": "q", "response": "a", "template": "{response}{prompt}"}, "must have {prompt}, and after it"),
        ({"task": "classification", "label": "kind", "packing": True}, "packing is for causal_lm"),
        ({"inputs": ["segments"], "packing": False}, "segments part the documents of a packed sample"),
        ({"inputs": ["position_ids"]}, "position_ids begin anew with each segment"),
        ({"inputs": ["segments", "segments"]}, "one is named twice"),
        ({"end_of_text": "</s>"}, "characters knows no such token"),
        ({"download": True}, "nothing here has a name"),
        ({"format": "hub"}, "format and split are of the files that `path` names"),
    ],
)
def test_what_cannot_be_meant_is_refused(options, message) -> None:
    with pytest.raises(ValidationError) as caught:
        CorpusConfig(**options)
    assert message in str(caught.value)


def test_a_corpus_takes_no_transforms(tmp_path) -> None:
    from raysim.config.data import DataConfig
    from raysim.data.build import prepare

    config = DataConfig(source={"name": "corpus"}, transforms=["standardise"], cache=str(tmp_path))  # type: ignore[arg-type]
    with pytest.raises(DataError, match=r"a corpus of tokens takes no transforms; remove data.transforms"):
        prepare(config, 0)


def test_a_missing_extra_is_named(tmp_path, monkeypatch) -> None:
    import sys

    path = write_lines(tmp_path / "a.jsonl", ROWS)
    (tmp_path / "tokenizer.json").write_text("{}")
    for name in ("tokenizers", "transformers", "datasets"):
        monkeypatch.setitem(sys.modules, name, None)
    remedy = "install it with `pip install 'raysim-fl[llm]'`"
    assert remedy in refused(tmp_path, path=str(path), tokenizer=str(tmp_path / "tokenizer.json"))
    assert remedy in refused(tmp_path, path="a-data-set", format="hub")


def test_nothing_is_made_between_two_records(tmp_path) -> None:
    from raysim.config.data import DataConfig
    from raysim.data.build import prepare

    path = write_lines(tmp_path / "a.jsonl", ROWS)
    source = {"name": "corpus", "path": str(path), "task": "classification", "label": "kind"}
    partition = {"name": "iid", "clients": 1}
    options: Any = {"source": source, "partition": partition, "augmentation": "smote", "cache": str(tmp_path)}
    with pytest.raises(DataError, match="nothing is between two tokens; remove smote"):
        prepare(DataConfig(**options), 0)


def test_a_download_is_refused_where_everything_is_at_hand(tmp_path) -> None:
    path = write_lines(tmp_path / "a.jsonl", [{"text": "the cat"}])
    tokenizer = tmp_path / "tokenizer.json"
    byte_tokenizer().save(str(tokenizer))
    with pytest.raises(DataError, match=r"data\.source\.download: nothing is fetched"):
        load(tmp_path, path=str(path), tokenizer=str(tokenizer), length=4, download=True)


def test_a_label_that_nothing_looks_at_is_refused() -> None:
    source = {"name": "corpus", "path": "a.jsonl", "label": "kind"}
    for partition in ("iid", "natural", "quantity"):
        with pytest.raises(ConfigError, match=rf"source.label \(kind\) parts texts .* and {partition} does not"):
            Experiment.parse({"data": {"source": {**source, "packing": False}, "partition": partition}})
        Experiment.parse({"data": {"source": source, "partition": partition}})  # a packed sample has one
    Experiment.parse({"data": {"source": {**source, "packing": False}, "partition": "dirichlet"}})
