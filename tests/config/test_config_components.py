"""Every component that can be chosen by name, whatever its section."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from sections import Component, components, required

from raysim.config import Experiment
from raysim.errors import ConfigError

ALL = list(components())
UNIONS = {component.path: component for component in ALL}


def spelled(component: Component) -> dict[str, Any]:
    return {**required(component.section), "name": component.name}


def test_the_walk_finds_the_components() -> None:
    found = {str(component) for component in ALL}
    assert {
        "data.source=digits",
        "data.source=synthetic_virtual",
        "data.source=custom",
        "data.transforms=one_hot",
        "data.partition=dirichlet",
        "model=mlp",
        "client.optimizer=adamw",
        "client.schedule=cosine",
        "algorithm=fedsgd",
        "aggregation.weights=inverse_loss",
        "selection=poisson",
    } <= found
    assert len(found) == len(ALL)


@pytest.mark.parametrize("component", ALL, ids=str)
def test_a_component_survives_being_written_and_read_again(component: Component, tmp_path: Path) -> None:
    experiment = Experiment.parse(component.within(spelled(component)))
    assert type(component.of(experiment)) is component.section
    assert component.of(experiment).name == component.name

    text = experiment.to_yaml(tmp_path / "config.yaml")
    assert (tmp_path / "config.yaml").read_text() == text
    assert Experiment.from_yaml(tmp_path / "config.yaml") == experiment
    assert Experiment.parse(experiment.to_dict()) == experiment
    assert Experiment.parse(yaml.safe_load(text)).to_yaml() == text  # plain YAML, of which any reader makes the same


@pytest.mark.parametrize("component", [c for c in ALL if not required(c.section) or c.tag == "custom"], ids=str)
def test_a_bare_name_is_short_for_a_component_with_its_defaults(component: Component) -> None:
    short = Experiment.parse(component.within(component.name))
    assert short == Experiment.parse(component.within({"name": component.name}))


@pytest.mark.parametrize("component", ALL, ids=str)
def test_an_unknown_key_of_a_component_is_named_with_its_path(component: Component) -> None:
    with pytest.raises(ConfigError) as caught:
        Experiment.parse(component.within({**spelled(component), "no_such_key": 1}), where="my.yaml")
    path = ".".join(component.path) + ("[0]" if component.many else "")
    assert str(caught.value).startswith(f"my.yaml: unknown key '{path}.no_such_key'; ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("component", UNIONS.values(), ids=lambda component: ".".join(component.path))
def test_an_unknown_name_lists_or_suggests_the_names_there_are(component: Component) -> None:
    names = [other.name for other in ALL if other.path == component.path and other.tag not in ("custom", "in_memory")]
    path = ".".join(component.path) + ("[0]" if component.many else "")
    with pytest.raises(ConfigError, match="valid are") as caught:
        Experiment.parse(component.within("zzzzzzzzzz"))
    assert str(caught.value).startswith(f"experiment: {path}: unknown name 'zzzzzzzzzz'; ")
    assert all(name in str(caught.value) for name in names)

    longest = max(names, key=len)
    with pytest.raises(ConfigError) as caught:
        Experiment.parse(component.within({"name": longest + "x"}))
    assert str(caught.value) == f"experiment: {path}: unknown name '{longest}x'; did you mean '{longest}'?"


@pytest.mark.parametrize("component", UNIONS.values(), ids=lambda component: ".".join(component.path))
@pytest.mark.parametrize("value", [3, ["mlp"], None])
def test_a_component_without_a_name_is_told_how_to_write_one(component: Component, value: object) -> None:
    path = ".".join(component.path) + ("[0]" if component.many else "")
    with pytest.raises(ConfigError) as caught:
        Experiment.parse(component.within(value))
    assert str(caught.value) == (
        f"experiment: {path}: expected a name, or a section with the key `name`, got {value!r}"
    )


@pytest.mark.parametrize(
    ("values", "path", "name"),
    [
        ({"client": {"optimizer": {"lr": 0.5}}}, ("client", "optimizer"), "sgd"),
        ({"algorithm": {"server_lr": 0.5}}, ("algorithm",), "fedavg"),
        ({"data": {"partition": {"clients": 50}}}, ("data", "partition"), "iid"),
    ],
)
def test_a_section_without_a_name_is_the_default_component(values: Any, path: tuple[str, ...], name: str) -> None:
    given, found = values, Experiment.parse(values).to_dict()
    for key in path:
        given, found = given[key], found[key]
    assert found["name"] == name
    assert found | given == found
    assert "name" not in given  # only read


def test_a_transform_has_no_default_and_needs_its_name() -> None:
    with pytest.raises(ConfigError, match=r"data\.transforms\[0\]: expected a name"):
        Experiment.parse({"data": {"transforms": [{"action": "drop"}]}})


@pytest.mark.parametrize("component", [c for c in ALL if c.tag == "custom"], ids=str)
def test_your_own_component_keeps_its_arguments(component: Component) -> None:
    value = {"name": "a.b:C", "args": {"depth": 3, "names": ["x"], "nested": {"k": 0.5}}}
    experiment = Experiment.parse(component.within(value))
    assert component.of(experiment).args == value["args"]
    assert Experiment.parse(yaml.safe_load(experiment.to_yaml())) == experiment


@pytest.mark.parametrize("component", [c for c in ALL if c.tag == "custom"], ids=str)
@pytest.mark.parametrize("name", ["a.b:", ":c", "a b:c", "1a:c", "a.b:c d"])
def test_a_malformed_import_string_is_refused(component: Component, name: str) -> None:
    with pytest.raises(ConfigError, match=r"\.?name: expected `package.module:name`, got "):
        Experiment.parse(component.within(name))
