"""Whatever is handed over as data has an effect, or is refused: every array of every form that carries it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from federations import sha256

from raysim import Experiment, Simulation
from raysim.data import from_arrays
from raysim.data.sources.arrays import KEYS
from raysim.errors import RaysimError

SETTING = {
    "rounds": 2,
    "cohort": 1.0,
    "algorithm": "local",
    "data": {"partition": "natural"},
    "client": {"optimizer": {"lr": 0.3}},
    "evaluation": {"metrics": ["recall"]},
    "training": {"engine": "sequential"},
    "execution": {"executor": "inprocess"},
    "tracking": {"report": False},
}


def whole() -> dict[str, Any]:
    """A value for every key."""
    random = np.random.default_rng(0)
    x, x_test = (random.normal(size=(count, 3)).astype(np.float32) for count in (36, 12))
    return {
        "x": x,
        "y": (x[:, 0] + random.normal(size=36) > 0).astype(int),
        "x_test": x_test,
        "y_test": (x_test[:, 0] + random.normal(size=12) > 0).astype(int),
        "client": np.repeat(["a", "b", "c"], 12),
        "client_test": np.repeat(["a", "b", "c"], 4),
        "weight": np.ones(36),
        "weight_test": np.ones(12),
        "classes": np.array(["no", "yes"]),
    }


OTHER: Mapping[str, Callable[[Any], Any]] = {
    "x": lambda x: 2 * x,
    "y": lambda y: y[::-1],
    "x_test": lambda x: x[::-1],
    "y_test": lambda y: 1 - y,
    "client": lambda client: np.tile(["a", "b", "c"], 12),
    "client_test": lambda client: np.tile(["a", "b", "c"], 4),
    "weight": lambda weight: np.arange(36.0),
    "weight_test": lambda weight: np.arange(12.0),
    "classes": lambda names: np.array(["sound", "ill"]),
}


def outcome(tmp_path: Path, data: Any, **source: Any) -> Any:
    """What comes out of a run on these data: the model, what is measured, and on whom."""
    values = SETTING | {"data": SETTING["data"] | source, "tracking": {"report": False, "directory": str(tmp_path)}}
    try:
        with Simulation(Experiment.parse(values), data=data) as run:
            rounds = [{name: repr(value) for name, value in one.metrics.items()} for one in run]
            return rounds, sha256(run.model()), run.directory.joinpath("clients.parquet").exists()
    except RaysimError as error:
        return f"refused: {error}"


def handed_over(form: str, values: dict[str, Any], tmp_path: Path) -> tuple[Any, dict[str, Any]]:
    """The data in one of the forms that they may have, and the source that reads them."""
    if form == "archive":
        path = tmp_path / f"{len(list(tmp_path.iterdir()))}.npz"
        np.savez(path, **values)
        return None, {"source": {"name": "npz", "path": str(path)}}
    if form == "pairs":
        parts = {"train": (values["x"], values["y"]), "test": (values["x_test"], values["y_test"])}
        return parts | {key: value for key, value in values.items() if key[0] not in "xy"}, {}
    if form == "data set":
        return from_arrays(values, origin="own"), {}
    return values, {}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Any]:
    """What comes out of a run on the data as they are, by their form."""

    @cache
    def of(form: str) -> Any:
        folder = tmp_path_factory.mktemp("base")
        data, source = handed_over(form, whole(), folder)
        return outcome(folder, data, **source)

    return of


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("form", ["arrays", "archive", "pairs", "data set"])
def test_a_field_has_an_effect(form: str, key: str, tmp_path: Path, base: Callable[[str], Any]) -> None:
    data, source = handed_over(form, whole() | {key: OTHER[key](whole()[key])}, tmp_path)
    found = outcome(tmp_path, data, **source)
    assert not str(base(form)).startswith("refused"), base(form)
    assert found != base(form), f"{key} of {form} has no effect"


@pytest.mark.parametrize("key", ["x_tets", "clients", "name", "labels"])
def test_a_field_that_nothing_reads_is_refused(key: str, tmp_path: Path) -> None:
    assert f"unknown array {key!r}" in outcome(tmp_path, whole() | {key: whole()["y"]})


@pytest.mark.parametrize("key", ["client_test", "weight_test"])
def test_what_is_said_of_a_test_set_that_is_not_there_is_refused(key: str, tmp_path: Path) -> None:
    values = {name: value for name, value in whole().items() if name in ("x", "y", "client", key)}
    assert "says something of a test set, but there is no x_test" in outcome(tmp_path, values)
