"""The schema documents itself, and its defaults are an experiment."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any, Literal, get_origin

import pytest
from pydantic import ValidationError
from sections import sections

from raysim.config import Experiment
from raysim.config.base import Section
from raysim.config.descriptions import descriptions

ALL = sorted(sections(), key=lambda section: section.__name__)


def chooses(section: type[Section], key: str) -> bool:
    """Whether the key is the name that a component is chosen by: the component's own docstring describes it."""
    return key == "name" and get_origin(section.model_fields[key].annotation) is Literal


def test_the_walk_finds_the_sections() -> None:
    assert len(ALL) > 40


@pytest.mark.parametrize("section", ALL, ids=lambda section: section.__name__)
def test_every_section_and_every_key_says_what_it_is(section: type[Section]) -> None:
    assert section.__doc__
    texts = descriptions(section)
    for key in section.model_fields:
        if not chooses(section, key):
            assert key in texts, f"{section.__name__}.{key} has no description"
            assert texts[key].rstrip().endswith("."), f"{section.__name__}.{key}: {texts[key]!r}"


def test_the_json_schema_carries_the_descriptions() -> None:
    schema = Experiment.model_json_schema()
    json.dumps(schema)
    assert schema["properties"]["seed"]["description"] == "Every random choice is a function of this."
    for name, definition in {"Experiment": schema, **schema["$defs"]}.items():
        assert definition["additionalProperties"] is False, name
        for key, value in definition["properties"].items():
            section = schema["$defs"].get(value.get("$ref", "").rpartition("/")[2], {})
            if key != "name":
                assert value.get("description") or section.get("description"), f"{name}.{key}"


@pytest.mark.parametrize("section", ALL, ids=lambda section: section.__name__)
def test_sections_are_immutable_and_refuse_what_they_do_not_know(section: type[Section]) -> None:
    assert section.model_config["frozen"] is True
    assert section.model_config["extra"] == "forbid"


def test_an_experiment_needs_no_file() -> None:
    experiment = Experiment()
    assert (experiment.rounds, experiment.cohort, experiment.seed) == (100, 10, 0)
    assert (experiment.data.source.name, experiment.model.name) == ("digits", "softmax")
    assert (experiment.algorithm.name, experiment.aggregation.weights.name) == ("fedavg", "samples")
    assert Experiment.parse({}) == experiment
    with pytest.raises(ValidationError, match="frozen"):
        experiment.seed = 3


def test_the_configuration_imports_neither_ray_nor_torch_and_parses_no_source() -> None:
    names = ("ray", "torch", "optuna", "numpy", "raysim.config.descriptions")
    code = f"import sys, raysim.config; print([m for m in {names} if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded: Any = json.loads(found.stdout.replace("'", '"'))
    assert set(loaded) <= {"numpy"}
