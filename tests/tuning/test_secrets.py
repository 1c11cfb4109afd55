"""No password, key or token of a URL is ever written or printed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import optuna
import pytest
import yaml
from command_line import invoke
from pydantic import ValidationError
from studies import LR, TUNABLE
from typer.testing import Result

from raysim.config import Experiment
from raysim.config.base import Section
from raysim.errors import ConfigError

SECRET = "hunter2-K7"
URLS = [
    f"postgresql://me:{SECRET}@host/db",
    f"s3://AKIA:{SECRET}@bucket/folder",
    f"s3://AKIA:{SECRET}/+=@bucket/folder",
    f"redis://:{SECRET}@host",
    f"abfs://c@account/x?sas_token={SECRET}",
    f"s3://bucket/folder?secret_key={SECRET}&x=1",
]


def said(result: Result) -> str:
    return result.stdout + result.stderr + str(result.exception)


def text_keys(section: type[Section] = Experiment, path: tuple[str, ...] = ()) -> Iterator[str]:
    """Every key, at any depth, that is text or may be."""
    for key, field in section.model_fields.items():
        annotation: Any = field.annotation
        if isinstance(annotation, type) and issubclass(annotation, Section):
            yield from text_keys(annotation, (*path, key))
        elif annotation is str or "str |" in str(annotation) or getattr(field.default, "name", None):
            yield ".".join((*path, key))


KEYS = [*text_keys(), "data.source.path", "model.weights", "model.args.url", "a.b"]


def test_the_walk_finds_the_keys_that_take_a_place() -> None:
    assert {"tuning.storage", "tracking.checkpoints", "execution.address", "data.cache", "execution.scratch"} <= set(
        KEYS
    )


@pytest.mark.parametrize("key", KEYS)
def test_a_url_with_a_secret_is_refused_in_every_key_and_not_repeated(tmp_path: Path, key: str) -> None:
    (tmp_path / "c.yaml").write_text("data: {source: {name: mnist}}\nmodel: {name: 'my:net'}\n")
    for url in URLS:
        for value in (f"'{url}'", f"{{url: ['{url}']}}", f"[{url}"):
            with pytest.raises(ConfigError) as caught:
                Experiment.from_yaml(tmp_path / "c.yaml", [f"{key}={value}"])
            assert SECRET not in str(caught.value), value
    with pytest.raises(ValidationError) as caught_by_python:  # of somebody who does without `parse`
        Experiment(**{key.partition(".")[0]: URLS[0]})
    assert SECRET not in str(caught_by_python.value)


@pytest.mark.parametrize("url", URLS)
def test_a_file_with_a_secret_is_refused_and_not_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    monkeypatch.chdir(tmp_path)
    texts = (
        yaml.safe_dump({"tuning": {"storage": url}}), f"? {url}\n: 1\n", f"'{url}': 1\n'{url}': 2\n", f"'{url}",
        f"name: !{url} x\n", f"x: *{url}\n", yaml.safe_dump({"tuning": {"space": {url: {"low": 1}}}}),
        yaml.safe_dump({"aggregation": {"weights": {"name": "explicit", "table": {url: 1}}}}),
    )  # fmt: skip
    for text in texts:
        (tmp_path / "c.yaml").write_text(text)
        result = invoke("run", "c.yaml")
        assert result.exit_code == 2, text
        assert SECRET not in said(result), text
    assert [path.name for path in tmp_path.iterdir()] == ["c.yaml"]


@pytest.fixture
def database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A study on a database that takes the password of the environment; URLs that Optuna was given."""
    given: list[str] = []
    storage = optuna.storages.InMemoryStorage()

    def get_storage(url: str | optuna.storages.BaseStorage) -> optuna.storages.BaseStorage:
        if not isinstance(url, str):
            return url
        given.append(url)
        if "broken" in url:
            raise ValueError(f"cannot connect to {url} as {SECRET}")
        return storage

    monkeypatch.setattr("optuna.storages.get_storage", get_storage)
    monkeypatch.setenv("RAYSIM_STORAGE_PASSWORD", SECRET)
    monkeypatch.chdir(tmp_path)
    tuning = {"space": LR, "trials": 1, "storage": "postgresql://me@host/db", "confirm": {"seeds": 0}}
    (tmp_path / "study.yaml").write_text(yaml.safe_dump({**TUNABLE, "tuning": tuning}))
    return given


def test_the_password_of_a_database_comes_from_the_environment_and_goes_nowhere(
    database: list[str], tmp_path: Path
) -> None:
    printed = said(invoke("tune", "study.yaml", "--directory", "study"))
    assert set(database) == {f"postgresql://me:{SECRET}@host/db"}
    assert (tmp_path / "study" / "report.html").exists()
    printed += said(invoke("tune", "study", "tuning.trials=2"))
    printed += said(invoke("tune", "study.yaml", "--directory", "other", "tuning.storage=mysql://me@broken/db"))
    assert "'mysql://me@broken/db' cannot be opened (cannot connect to mysql://me:***@broken/db as ***)" in printed
    assert SECRET not in printed
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) > 5
    assert not [path for path in files if SECRET.encode() in path.read_bytes()]


def test_a_damaged_journal_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    tuning = {"space": LR, "trials": 1, "confirm": {"seeds": 0}}
    (tmp_path / "study.yaml").write_text(yaml.safe_dump({**TUNABLE, "tuning": tuning}))
    assert invoke("tune", "study.yaml", "--directory", "study").exit_code == 0
    for content in (b"{\n", b"[1]\n", b"null\n", b'{"op_code": 99}\n', b"\xff\n", b"[" * 5000 + b"\n"):
        (tmp_path / "study" / "journal.log").write_bytes(content)
        for command in ("tune", "report"):
            result = invoke(command, "study")
            assert (result.exit_code, result.stderr.count("\n")) == (2, 1), (command, content, said(result))
