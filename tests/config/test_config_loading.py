"""Reading YAML, dotted overrides, and files written whole or not at all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from raysim.config import Experiment, read_yaml
from raysim.config.loading import apply_overrides
from raysim.errors import ConfigError
from raysim.files import write_text


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "run.yaml"
    path.write_text(text)
    return path


def test_an_empty_file_is_an_experiment_of_defaults(tmp_path: Path) -> None:
    assert read_yaml(written(tmp_path, "# nothing yet\n")) == {}
    assert Experiment.from_yaml(tmp_path / "run.yaml") == Experiment()


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        Experiment.from_yaml(tmp_path / "none.yaml")
    assert str(caught.value) == f"{tmp_path / 'none.yaml'}: no such file"


def test_a_folder_or_a_binary_file_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00\x81")
    for path, remedy in ((tmp_path, "name the YAML file in it"), (tmp_path / "binary", "save it as UTF-8 text")):
        with pytest.raises(ConfigError, match=f"cannot be read, .*; {remedy}"):
            read_yaml(path)


@pytest.mark.parametrize(("text", "kind"), [("- a\n- b\n", "list"), ("just words\n", "str"), ("3\n", "int")])
def test_a_yaml_that_is_no_mapping_is_refused(tmp_path: Path, text: str, kind: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(ConfigError) as caught:
        read_yaml(path)
    remedy = "write `key: value`, a key a line"
    assert str(caught.value) == f"{path}: expected a mapping of sections, got {kind}; {remedy}"


@pytest.mark.parametrize(
    ("text", "line", "problem"),
    [
        ("rounds: 1\nseed: 2\nrounds: 3\n", 3, "key 'rounds' is given twice"),
        ("client:\n  epochs: 1\n  epochs: 2\n", 3, "key 'epochs' is given twice"),
        ("model: {name: mlp, name: cnn}\n", 1, "key 'name' is given twice"),
        ("rounds: 1\nmodel: {{name}}\n", 2, "a key must be a word"),
        ("rounds: 1\n[a, b]: 2\n", 2, "a key must be a word"),
        ("rounds: [1\nseed: 2\n", 2, "expected"),
        ("rounds: 1\n\tseed: 2\n", 2, "cannot start any token"),
        ("seed: !!python/object:os.system 1\n", 1, "tag '!!python/object:os.system' is not read here"),
    ],
)
def test_bad_yaml_is_named_with_its_line(tmp_path: Path, text: str, line: int, problem: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(ConfigError) as caught:
        read_yaml(path)
    assert str(caught.value).startswith(f"{path}:{line}: not valid YAML (")
    assert problem in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "value"),
    [("1e-3", 1e-3), ("1E5", 1e5), ("-2.5e+2", -250.0), ("1.e2", 100.0), ("0.1", 0.1), ("10", 10), ("1.0", 1.0)],
)
def test_numbers_are_numbers_however_they_are_written(text: str, value: float) -> None:
    found = apply_overrides({}, [f"x={text}"])["x"]
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize("text", ["1e", "e3", "1-e3", "abc1e3", "0x1e3g"])
def test_words_that_look_like_numbers_stay_words(text: str) -> None:
    assert apply_overrides({}, [f"x={text}"]) == {"x": text}


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["rounds=3"], {"rounds": 3}),
        (["client.optimizer.lr=1e-3"], {"client": {"optimizer": {"lr": 1e-3}}}),
        (["model=mlp", "model.hidden=[64, 32]"], {"model": {"name": "mlp", "hidden": [64, 32]}}),
        (["model={name: mlp, hidden: [8]}"], {"model": {"name": "mlp", "hidden": [8]}}),
        (["stop.target="], {"stop": {"target": None}}),
        (["tracking.report=false"], {"tracking": {"report": False}}),
        (["name=a=b"], {"name": "a=b"}),
        ([" rounds =3", "rounds=4"], {"rounds": 4}),
        (["data.source.path='12'"], {"data": {"source": {"path": "12"}}}),
    ],
)
def test_overrides_are_applied_in_order_with_yaml_values(overrides: list[str], expected: dict[str, Any]) -> None:
    assert apply_overrides({}, overrides) == expected


def test_an_override_of_a_key_keeps_its_neighbours_and_of_a_section_replaces_it() -> None:
    values = {"model": {"name": "mlp", "hidden": [8], "dropout": 0.5}, "rounds": 3}
    assert apply_overrides(values, ["model.hidden=[4]"])["model"] == {"name": "mlp", "hidden": [4], "dropout": 0.5}
    assert apply_overrides(values, ["model=softmax"]) == {"model": "softmax", "rounds": 3}
    assert values == {"model": {"name": "mlp", "hidden": [8], "dropout": 0.5}, "rounds": 3}  # only read


def test_a_shorthand_is_expanded_where_an_override_reaches_into_it() -> None:
    values = {"client": {"optimizer": "adam"}, "data": {"partition": "dirichlet"}}
    changed = apply_overrides(values, ["client.optimizer.lr=0.5", "data.partition.alpha=0.1"])
    assert changed == {
        "client": {"optimizer": {"name": "adam", "lr": 0.5}},
        "data": {"partition": {"name": "dirichlet", "alpha": 0.1}},
    }
    experiment = Experiment.parse(changed)
    assert (experiment.client.optimizer.name, experiment.client.optimizer.lr) == ("adam", 0.5)


@pytest.mark.parametrize(
    ("override", "line"),
    [
        ("rounds", "override 'rounds': write key.sub=value"),
        ("=3", "override '=3': write key.sub=value"),
        ("client..lr=3", "override 'client..lr=3': write key.sub=value"),
        (".rounds=3", "override '.rounds=3': write key.sub=value"),
        (
            "rounds=[1",
            "override 'rounds=[1': the value is not valid YAML (expected ',' or ']', but got '<stream end>')",
        ),
        ("model={{x}}", "override 'model={{x}}': the value is not valid YAML (a key must be a word)"),
        (
            "model={a: 1, a: 2}",
            "override 'model={a: 1, a: 2}': the value is not valid YAML (key 'a' is given twice, first on line 1)",
        ),
        ("rounds.x=1", "override 'rounds.x=1': rounds is not a section"),
        ("client.epochs.x.y=1", "override 'client.epochs.x.y=1': client.epochs is not a section"),
    ],
)
def test_a_malformed_override_is_one_line(override: str, line: str) -> None:
    with pytest.raises(ConfigError) as caught:
        apply_overrides({"rounds": 3, "client": {"epochs": 2}}, [override])
    assert str(caught.value) == line


def test_overrides_on_a_file_are_validated_with_it(tmp_path: Path) -> None:
    path = written(tmp_path, "rounds: 5\nmodel: mlp\n")
    experiment = Experiment.from_yaml(path, ["model.hidden=[3]", "client.optimizer=adam", "client.optimizer.lr=1e-2"])
    assert (experiment.rounds, experiment.model.to_dict()["hidden"], experiment.client.optimizer.lr) == (5, [3], 0.01)
    with pytest.raises(ConfigError, match=r"run\.yaml: unknown key 'model\.depth'"):
        Experiment.from_yaml(path, ["model.depth=3"])


KEYS = st.text("abcxyz", min_size=1, max_size=3)
TREES = st.recursive(
    st.integers() | st.booleans() | st.none() | st.floats(allow_nan=False, allow_infinity=False),
    lambda below: st.dictionaries(KEYS, below, max_size=3) | st.lists(below, max_size=3),
    max_leaves=8,
)


def reachable(values: Any, keys: list[str]) -> bool:
    """Whether all but the last of these keys lead through sections, or through nothing yet."""
    for key in keys[:-1]:
        values = {} if values.get(key) is None else values[key]
        if not isinstance(values, dict):
            return False
    return True


@example({"a": None}, ["a", "b"], 1)  # a key that is left empty is a section with nothing in it
@given(st.dictionaries(KEYS, TREES, max_size=3), st.lists(KEYS, min_size=1, max_size=3), st.integers())
def test_an_override_changes_its_own_path_alone(values: dict[str, Any], keys: list[str], new: int) -> None:
    before, override = repr(values), f"{'.'.join(keys)}={new}"
    if not reachable(values, keys):
        with pytest.raises(ConfigError, match="is not a section"):
            apply_overrides(values, [override])
        return
    after = apply_overrides(values, [override])
    assert repr(values) == before
    found: Any = after
    for key in keys:
        found = found[key]
    assert found == new
    for key in values.keys() - {keys[0]}:
        assert after[key] == values[key]


def test_a_file_is_replaced_whole_and_no_temporary_stays(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "config.yaml"
    write_text(path, "one")
    write_text(path, "größer")
    assert path.read_text(encoding="utf-8") == "größer"
    assert list(path.parent.iterdir()) == [path]


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    write_text(path, "old")
    with pytest.raises(UnicodeEncodeError):
        write_text(path, "half \ud800")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
