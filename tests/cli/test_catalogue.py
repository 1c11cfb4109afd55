from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

from raysim.algorithms import ALGORITHMS
from raysim.cli.catalogue import IN_MEMORY, KINDS, catalogue, choices
from raysim.cli.schema import json_schema
from raysim.config import Experiment
from raysim.data.partition import PARTITIONERS
from raysim.data.sources import SOURCES
from raysim.models import MODELS
from raysim.training.losses import LOSSES

Raysim = Callable[..., Result]
CUSTOM_NAME = "package.module:name"


def test_every_choice_of_the_configuration_is_a_kind() -> None:
    assert {path for path, _ in choices(Experiment)} <= set(KINDS.values())


@pytest.mark.parametrize(
    ("kind", "registry"),
    [
        ("datasets", SOURCES),
        ("partitioners", PARTITIONERS),
        ("models", MODELS),
        ("algorithms", ALGORITHMS),
        ("losses", LOSSES),
    ],
)
def test_what_can_be_built_is_what_is_listed(kind: str, registry: dict[str, object]) -> None:
    assert set(catalogue(kind)) == {*registry, CUSTOM_NAME}


@pytest.mark.parametrize("kind", KINDS)
def test_every_component_has_a_description_and_validates_by_its_name(kind: str) -> None:
    listed = catalogue(kind)
    assert all(listed.values())
    assert len(set(listed.values())) == len(listed), "two components with one description"
    assert IN_MEMORY not in listed


def test_list_prints_one_line_each(raysim: Raysim) -> None:
    result = raysim("list", "partitioners")
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0] == "partitioners (data.partition)"
    assert [line.split()[0] for line in lines[1:]] == list(catalogue("partitioners"))


@pytest.mark.parametrize("kind", [(), ("all",)])
def test_list_without_a_kind_or_of_all_prints_all(raysim: Raysim, kind: tuple[str, ...]) -> None:
    headings = [line.split()[0] for line in raysim("list", *kind).stdout.splitlines() if line and line[0] != " "]
    assert headings == list(KINDS)


def test_list_names_the_paper_of_an_algorithm(raysim: Raysim) -> None:
    assert "arXiv:1602.05629" in raysim("list", "algorithms").stdout


def test_list_of_an_unknown_kind_is_one_line(raysim: Raysim) -> None:
    result = raysim("list", "model")
    assert (result.exit_code, result.stderr) == (2, "error: unknown kind 'model'; did you mean 'models'?\n")


def test_schema_is_printed_or_written(raysim: Raysim, folder: Path) -> None:
    printed = json.loads(raysim("schema").stdout)
    assert printed["$schema"].startswith("https://json-schema.org/")
    assert printed["title"] == "raysim experiment"
    assert raysim("schema", "--out", "raysim.schema.json").stdout == "raysim.schema.json\n"
    assert json.loads((folder / "raysim.schema.json").read_text()) == printed


@pytest.mark.parametrize(
    ("values", "valid"),
    [
        ({}, True),
        ({"model": "mlp", "data": {"transforms": ["standardise", {"name": "missing"}]}}, True),
        ({"model": {"name": "mlp", "hidden": [8]}, "algorithm": "mine.rules:Best"}, True),
        ({"data": {"source": {"name": "csv", "path": "a.csv", "label": "y"}}}, True),
        ({"data": {"source": "csv"}}, False),
        ({"model": "mpl"}, False),
        ({"modle": "mlp"}, False),
        ({"client": {"epochs": 0}}, False),
    ],
)
def test_the_schema_accepts_what_the_configuration_accepts(values: dict[str, object], valid: bool) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    assert jsonschema.Draft202012Validator(json_schema()).is_valid(values) == valid
    if valid:
        Experiment.parse(values)


def test_the_schema_accepts_a_resolved_configuration() -> None:
    jsonschema = pytest.importorskip("jsonschema")
    jsonschema.Draft202012Validator.check_schema(json_schema())
    jsonschema.validate(json.loads(json.dumps(Experiment().to_dict())), json_schema())
