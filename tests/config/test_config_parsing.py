"""YAML and JSON become plain values in bounded work; what is refused has a line and a reason."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from raysim.config import Experiment, parsing
from raysim.config.parsing import MOST_BYTES, Malformed, as_yaml, parse_json, parse_yaml
from raysim.config.showing import hidden, holds_secret, shown
from raysim.errors import ConfigError

LAUGHS = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 9)
)
"""Nine lines of aliases, for 10^9 values."""
MERGES = "a0: &a0 {k: 1}\n" + "".join(f"a{i}: &a{i} {{<<: [{', '.join([f'*a{i - 1}'] * 10)}]}}\n" for i in range(1, 9))


@pytest.mark.parametrize(
    ("text", "line", "reason"),
    [
        ("name: 2001-99-99", 1, "'2001-99-99' looks like a date, which no key takes; quote it"),
        ("name: 2001-01-01", 1, "'2001-01-01' looks like a date, which no key takes; quote it"),
        ("rounds: !!int abc", 1, "'abc' is no whole number"),
        ("rounds: !!int ''", 1, "'' is no whole number"),
        ("rounds: 0o8", 1, None),
        ("rounds: 08_", 1, None),
        ("x: 1\nrate: !!float fast", 2, "'fast' is no number"),
        ("x: !!bool maybe", 1, "'maybe' is no true or false"),
        ("x: !!int [1]", 1, "expected a scalar node, but found sequence"),
        ("rounds: " + "9" * 6000, 1, "a number of 6,000 characters; at most 100 are read"),
        ("rounds: 0x" + "f" * 6000, 1, "a number of 6,002 characters; at most 100 are read"),
        ("rounds: " + ":".join(["59"] * 5000), 1, "a number of 14,999 characters; at most 100 are read"),
        ("name: " + "[" * 2000 + "]" * 2000, 1, "more than 50 lists and mappings within each other"),
        ("name: " + "{a: " * 2000 + "}" * 2000, 1, "more than 50 lists and mappings within each other"),
        ("- " * 2000 + "x", 1, "more than 50 lists and mappings within each other"),
        ("? " * 2000 + "x", 1, "more than 50 lists and mappings within each other"),
        ("m: 1\nx: &a [*a]", 2, "alias *a is inside what it stands for"),
        ("x: &a {<<: *a}", 1, "alias *a is inside what it stands for"),
        (LAUGHS, 6, "more than 1,000,000 values, those behind aliases included"),
        (MERGES, 7, "more than 1,000,000 values, those behind aliases included"),
        ("x: *nowhere", 1, "found undefined alias 'nowhere'"),
        ("x: &a 1\ny: &a 2", 2, "anchor &a is given twice"),
        ("a: 1\nb: 2\na: 3", 3, "key 'a' is given twice, first on line 1"),
        ("1: a\n0x1: b", 2, "key '0x1' is given twice, first on line 1"),
        ("<<: {a: 1}\n<<: {b: 1}", 2, "key '<<' is given twice, first on line 1"),
        ("<<: 3", 1, "expected a mapping or list of mappings for merging, but found scalar"),
        ("<<: [{a: 1}, 3]", 1, "expected a mapping for merging, but found scalar"),
        ("on: 1", 1, "a key must be a word, and 'on' is read as True; quote it"),
        ("~: 1", 1, "a key must be a word, and '~' is read as None; quote it"),
        ("1.5: 1", 1, "a key must be a word, and '1.5' is read as 1.5; quote it"),
        ("x: !!set {a, b}", 1, "tag '!!set' is not read here; write a plain value"),
        ("x: !!binary aGk=", 1, "tag '!!binary' is not read here; write a plain value"),
        ("x: !!omap [a: 1]", 1, "tag '!!omap' is not read here; write a plain value"),
        ("x: !mine 3", 1, "tag '!mine' is not read here; write a plain value"),
        ("x: =", 1, "tag '!!value' is not read here; write a plain value"),
        ("x: <<", 1, "tag '!!merge' is not read here; write a plain value"),
        ("a: 1\nb: \0", 2, "character 0x00 is not allowed"),
        ("a: 1\nb: \x1b[31m", 2, "character 0x1b is not allowed"),
        ("a: \ud800", 1, "character 0xd800 is not allowed"),
        ("a: 1\n---\nb: 2", 2, "but found another document"),
        ("%YAML 9.9\n---\na: 1", 1, "found incompatible YAML document (version 1.* is required)"),
        ("a: 'open", 1, "found unexpected end of stream"),
        ("a: \"\\xZZ\"", 1, "expected escape sequence of 2 hexadecimal numbers, but found 'Z'"),
        ("@: 1", 1, "found character '@' that cannot start any token"),
    ],
)  # fmt: skip
def test_what_is_refused_has_its_line(text: str, line: int, reason: str | None) -> None:
    if reason is None:  # looks like a number, and is a word
        assert parse_yaml(text) == {"rounds": text.partition(": ")[2]}
        return
    with pytest.raises(Malformed) as caught:
        parse_yaml(text)
    assert (caught.value.line, caught.value.reason) == (line, reason)


def test_a_merge_key_is_as_if_its_keys_were_written_out() -> None:
    text = """
client: &c
  epochs: 3
  optimizer: &o {name: sgd, lr: 0.5}
evaluation:
  fine_tune: {<<: {epochs: 9, lr: 0.1}, epochs: 2}
x: {<<: *c, epochs: 4}
y: {<<: [{a: 1, b: 1}, {b: 2, c: 2}], c: 3}
z: {<<: &z {<<: *o, lr: 0.25}}
"""
    assert parse_yaml(text) == {
        "client": {"epochs": 3, "optimizer": {"name": "sgd", "lr": 0.5}},
        "evaluation": {"fine_tune": {"epochs": 2, "lr": 0.1}},
        "x": {"epochs": 4, "optimizer": {"name": "sgd", "lr": 0.5}},
        "y": {"a": 1, "b": 1, "c": 3},
        "z": {"name": "sgd", "lr": 0.25},
    }


def test_a_merged_section_is_found_again_in_the_experiment(tmp_path: Any) -> None:
    (tmp_path / "c.yaml").write_text(
        "client: {optimizer: &fast {name: adam, lr: 0.5}}\n<<: {rounds: 7, seed: 1}\nseed: 2\n"
        "tuning: {space: {client.optimizer: {choices: [*fast, {<<: *fast, lr: 0.25}]}}}\n"
    )
    experiment = Experiment.from_yaml(tmp_path / "c.yaml")
    assert (experiment.rounds, experiment.seed, experiment.client.optimizer.lr) == (7, 2, 0.5)
    choices = experiment.tuning.space["client.optimizer"].choices
    assert choices == ({"name": "adam", "lr": 0.5}, {"name": "adam", "lr": 0.25})


def test_a_file_that_is_larger_than_any_configuration_is_not_parsed(tmp_path: Any) -> None:
    (tmp_path / "c.yaml").write_bytes(b"# comment\n" * (MOST_BYTES // 10 + 1))
    with pytest.raises(ConfigError, match=r"c.yaml: larger than 4 MiB, which no configuration is"):
        Experiment.from_yaml(tmp_path / "c.yaml")


@pytest.mark.parametrize(
    ("override", "reason"),
    [
        ("name=2001-99-99", "'2001-99-99' looks like a date, which no key takes; quote it"),
        ("rounds=!!int abc", "'abc' is no whole number"),
        ("name=" + "[" * 2000, "more than 50 lists and mappings within each other"),
        ("model.args={x: &a [*a]}", "alias *a is inside what it stands for"),
        ("name=\0", "character 0x00 is not allowed"),
    ],
)
def test_an_override_is_parsed_as_a_file_is(override: str, reason: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Experiment().updated([override])
    assert str(caught.value).endswith(f": the value is not valid YAML ({reason})")
    assert len(str(caught.value)) < 250


@pytest.mark.parametrize(
    "text", ["1e5", "-2E+3", "1.e-3", "1e5 ", "null", "2020-01-01", "0x1F", "1_000", "<<", "=", ""]
)
def test_a_text_is_read_as_it_was_written_whatever_it_looks_like(text: str) -> None:
    values = {"list": [text], "of": {text: [None, True, 5, 1e-05, 1e22]}}
    for one_line in (False, True):
        assert parse_yaml(as_yaml(values, one_line=one_line)) == values
    experiment = Experiment.parse({"data": {"classes": [text, "b"]}, "model": {"name": "a:b", "args": {"x": text}}})
    assert Experiment.parse(parse_yaml(experiment.to_yaml())) == experiment


def test_no_configuration_is_written_that_could_not_be_read_again(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("raysim.config.experiment.MOST_BYTES", 1 << 10)
    with pytest.raises(ConfigError, match=r"c\.yaml: the configuration takes 0\.\d MiB of YAML, and no more than"):
        Experiment().to_yaml(tmp_path / "c.yaml")
    assert not [*tmp_path.iterdir()]


def test_an_override_of_a_thousand_parts_is_refused() -> None:
    with pytest.raises(ConfigError, match="a key of 1,000 parts; write"):
        Experiment().updated([".".join(["a"] * 1000) + "=1", "rounds=1"])


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[" * 200_000, "too many brackets within each other"),
        ('{"a": 1, "a": 2}', "key 'a' is given twice"),
        ("1" * 5000, "a number has 5,000 digits"),
        ("{", "expecting property name enclosed in double quotes"),
        (b"\xff\xfe", None),
        ("", "expecting value"),
    ],
)
def test_json_that_is_refused_has_a_reason(text: str | bytes, reason: str | None) -> None:
    with pytest.raises(Malformed) as caught:
        parse_json(text)
    assert reason is None or caught.value.reason == reason


SECRETS = [
    ("postgresql://me:hunter2@host/db", "postgresql://me:***@host/db"),
    ("s3://AKIA:sec/ret+k@ey=@bucket/a", "s3://AKIA:***@bucket/a"),
    ("redis://:hunter2@host", "redis://:***@host"),
    ("abfs://c@a/p?sas_token=abc&x=1", "abfs://c@a/p?sas_token=***&x=1"),
    ("https://h/p?token_2=abc", "https://h/p?token_2=***"),
    ("s3://b?access_key=AK&secret_key=SK", "s3://b?access_key=***&secret_key=***"),
    ("mysql+pymysql://u:a b@h/d?charset=utf8", "mysql+pymysql://u:***@h/d?charset=utf8"),
]


@pytest.mark.parametrize(("text", "safe"), SECRETS)
def test_a_password_in_a_url_is_hidden(text: str, safe: str) -> None:
    assert holds_secret(text)
    assert hidden(f"cannot open {text!r}") == f"cannot open {safe!r}"
    assert shown({"storage": text}) == str({"storage": safe})


@pytest.mark.parametrize(
    "text",
    [
        "sqlite:///study.db",
        "postgresql://me@host:5432/db",
        "ray://head:10001",
        "http://h:80/a@b",
        "a:b@c",
        "s3://b/f",
        "https://h/m?tokenizer=bert&max_tokens=5",
    ],
)
def test_a_url_without_a_password_is_left_alone(text: str) -> None:
    assert not holds_secret(text)
    assert hidden(text) == text


def test_a_value_is_shown_on_one_short_line() -> None:
    assert shown("a\nb\x1b") == r"'a\nb\x1b'"
    assert len(shown(["x" * 50] * 10**6)) == 80
    assert shown([10**5000]) == "a list too large to show"


def test_text_of_any_script_stays_readable_in_yaml() -> None:
    for text in ("é", "漢字", "😀", "a\\Ub"):
        assert text in as_yaml({"a": text})
        assert text in as_yaml({"a": text}, one_line=True)


def values_or_none(loader: Any, text: str) -> str:
    """What a loader makes of a text, with types and signs; nothing where it refuses it."""
    try:
        return repr(parsing._read(loader(text)))
    except yaml.YAMLError:
        return ""


PIECES = st.sampled_from(
    ["a", "b: ", "- ", ":", "\n", "\n  ", " ", "[", "]", "{", "}", ",", "[a: ", "{a:", "x:", '"', "'", "#", " # c",
     "1e-3", ".5", "~", "&x ", "*x", "|\n", ">-\n", "%", "@", "`", "\\", "---\n", "...\n", "<<: ", "é", "=", "yes",
     "12:30", "a: 1\n", "- x\n"]
)  # fmt: skip


@pytest.mark.skipif(parsing._QuickLoader is None, reason="needs libyaml")
@settings(max_examples=200)
@given(st.lists(PIECES, max_size=12).map("".join))
def test_what_libyaml_reads_is_what_pyyaml_reads(text: str) -> None:
    assert parsing._PLAIN.fullmatch(text)
    quick = values_or_none(parsing._QuickLoader, text)
    assert quick in ("", values_or_none(parsing._Loader, text))


def test_a_configuration_is_read_in_the_quick_way_and_what_is_wrong_in_it_is_said_in_the_same_words(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    text = as_yaml(Experiment().to_dict())
    expected = parse_yaml(text)
    assert expected == Experiment().to_dict()
    with monkeypatch.context() as patch:
        patch.setattr(parsing, "_Loader", None)
        if parsing._QuickLoader is not None:
            assert parse_yaml(text) == expected
    for quick in (parsing._QuickLoader, None):
        monkeypatch.setattr(parsing, "_QuickLoader", quick)
        for wrong, said in (
            (f"{text}\nname: x", "key 'name' is given twice"),
            ("a: [1", "expected ',' or ']', but got"),
        ):
            with pytest.raises(Malformed, match=said):
                parse_yaml(wrong)


@pytest.mark.parametrize("text", ["a: !", "a: [b?c]", "a:\tb", "a: b\x85c: d"])
def test_texts_that_the_two_may_read_otherwise_are_not_read_in_the_quick_way(text: str) -> None:
    assert not parsing._PLAIN.fullmatch(text)
