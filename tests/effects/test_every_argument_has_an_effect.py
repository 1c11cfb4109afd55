"""Whatever the Python API accepts has an effect, or is refused: every argument of what `raysim` exports."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from dataclasses import is_dataclass
from typing import Any

import optuna
import pytest
from argument_table import ARGUMENTS, SETTING, Place

import raysim
from raysim import Experiment, tune
from raysim.errors import RaysimError


def arguments() -> list[str]:
    """`tune.data`, `Simulation.model`, `Simulation.resume.run`. A result's fields are no arguments: nobody calls it."""
    found = []
    for name in raysim.__all__:
        exported = getattr(raysim, name)
        called = dict(_methods(name, exported)) if inspect.isclass(exported) else {name: exported}
        found += [f"{path}.{one}" for path, what in called.items() if callable(what) for one in _parameters(what)]
    return found


def _methods(name: str, exported: type) -> Iterator[tuple[str, Any]]:
    """Public methods of a class that raysim defines; the fields of an `Experiment` are keys of the schema."""
    if is_dataclass(exported):
        return
    for base in exported.__mro__:
        for method in vars(base) if base.__module__.startswith("raysim.") else ():
            if method == "__init__":
                yield name, exported.__init__
            elif not method.startswith("_") and inspect.isroutine(getattr(exported, method)):
                yield f"{name}.{method}", getattr(exported, method)


def _parameters(function: Any) -> list[str]:
    return [one for one in inspect.signature(function).parameters if one != "self"]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    optuna.logging.disable_default_handler()
    return Place(tmp_path_factory.mktemp("place"))


@pytest.mark.parametrize("argument", arguments())
def test_an_argument_has_an_effect_or_is_refused(argument: str, place: Place) -> None:
    assert argument in ARGUMENTS, f"say in tests/effects/argument_table.py what shows the effect of {argument}"
    before, after = ARGUMENTS[argument](place)
    assert before != after, f"{argument} has no effect: {before}"


def test_no_line_is_about_an_argument_that_is_gone() -> None:
    assert set(ARGUMENTS) <= set(arguments())


@pytest.mark.parametrize("overrides", ["rounds=2", {"rounds": 2}])
def test_overrides_that_are_no_list_are_refused(overrides: Any) -> None:
    with pytest.raises(RaysimError, match=r"^overrides: expected a list such as \['rounds=10'\], got .*rounds"):
        Experiment().updated(overrides)


def test_an_override_that_is_no_text_is_refused() -> None:
    with pytest.raises(RaysimError, match=r"^override 2: write 'key.sub=value'$"):
        Experiment().updated([2])


def test_a_study_takes_what_a_simulation_takes(place: Place) -> None:
    assert place.tuned(str(place.file)) == place.tuned(place.experiment) == place.tuned(SETTING)
    with pytest.raises(RaysimError, match=r"^experiment: expected an Experiment, .*; got int$"):
        tune(3)
