"""Import strings."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from raysim.cluster.references import Reference
from raysim.config import load
from raysim.errors import ConfigError


@pytest.fixture
def beside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with a user's own package in it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_project").mkdir()
    (tmp_path / "my_project" / "models.py").write_text("class Net:\n    depth = 3\n\n\ndef build():\n    return 7\n")
    (tmp_path / "my_project" / "broken.py").write_text("import not_installed_anywhere\n")
    for name in [name for name in sys.modules if name.startswith("my_project")]:
        monkeypatch.delitem(sys.modules, name)
    return tmp_path


def test_a_good_import_string_gives_the_object() -> None:
    assert load("os.path:join", key="model.name") is os.path.join
    assert load("collections:OrderedDict.fromkeys", key="model.name")("ab") == {"a": None, "b": None}


def test_the_working_directory_is_importable(beside: Path) -> None:
    assert load("my_project.models:build", key="model.name")() == 7
    assert load("my_project.models:Net.depth", key="model.name") == 3


@pytest.mark.parametrize("target", ["no_colon", "a:", ":b", "a:b:c", "a/b.py:c", "a-b:c", "", "a: b", "1a:b"])
def test_a_malformed_import_string_is_told_how_to_write_one(target: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(target, key="training.loss")
    assert str(caught.value) == f"training.loss: {target!r} is not an import string; write `package.module:name`"


@pytest.mark.parametrize(
    ("target", "missing"),
    [("not_there:f", "not_there"), ("my_project.nets:f", "my_project.nets"), ("os.paths:join", "os.paths")],
)
def test_a_missing_module_is_named(beside: Path, target: str, missing: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(target, key="model.name")
    assert (
        str(caught.value) == f"model.name: no module {missing!r} (from {target!r}); "
        "run from the folder that it is in, name that folder in PYTHONPATH, or install it"
    )


@pytest.mark.parametrize(
    ("target", "path"), [("my_project.models:nets", "nets"), ("my_project.models:Net.width", "Net.width")]
)
def test_a_missing_name_is_named(beside: Path, target: str, path: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(target, key="model.name")
    assert str(caught.value) == f"model.name: module 'my_project.models' has no {path!r}"


def test_a_module_that_the_users_own_needs_is_named(beside: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load("my_project.broken:f", key="model.name")
    assert str(caught.value) == (
        "model.name: my_project.broken:f: its module needs 'not_installed_anywhere', which is not installed; install it"
    )
    assert isinstance(caught.value.__cause__, ModuleNotFoundError)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("def f(: pass\n", r"SyntaxError: invalid syntax \(failing.py, line 1\)"),
        ("raise KeyError('mine')\n", "KeyError: 'mine'"),
        ("import sys; sys.exit()\n", r"SystemExit \(sys.exit ends no run; raise an error instead\)"),
        ("def __getattr__(name): raise ValueError(name)\n", "ValueError: f"),
    ],
)
def test_a_module_that_fails_is_one_line(beside: Path, content: str, told: str) -> None:
    (beside / "my_project" / "failing.py").write_text(content)
    with pytest.raises(ConfigError, match=rf"^model.name: my_project.failing:f: .* fails: {told}$") as caught:
        load("my_project.failing:f", key="model.name")
    assert caught.value.users
    sys.modules.pop("my_project.failing", None)


def test_an_actor_finds_the_modules_that_its_driver_finds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [*sys.path])
    monkeypatch.setattr("raysim.config.imports._FOLDERS", [])
    (tmp_path / "aside").mkdir()
    (tmp_path / "aside" / "of_an_actor.py").write_text("depth = 3\n")
    with pytest.raises(ConfigError, match="no module"):
        load("of_an_actor:depth", key="model.name")
    Reference(b"", str(tmp_path), (str(tmp_path / "aside"),)).enter()
    assert load("of_an_actor:depth", key="model.name") == 3
