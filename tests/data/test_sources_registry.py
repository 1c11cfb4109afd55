"""Sources by name: the bundled ones, a user's own, and the list."""

from __future__ import annotations

from importlib.machinery import ModuleSpec
from typing import get_args

import numpy as np
import pytest
from sklearn.datasets import load_digits

from raysim.config.base import CustomConfig
from raysim.config.sources import BundledConfig, InMemoryConfig, SourceConfig, SyntheticConfig, SyntheticVirtualConfig
from raysim.data.sources import SOURCES, load_source, sklearn_sets
from raysim.errors import ConfigError, DataError


def names() -> set[str]:
    union = get_args(SourceConfig)[0]
    return {get_args(option)[1].tag for option in get_args(union)}


def test_every_name_of_the_configuration_is_listed_with_a_line() -> None:
    assert set(SOURCES) == names() - {"in_memory", "custom"}
    for source in SOURCES.values():
        assert 10 < len(source.description) < 100


@pytest.mark.parametrize(
    ("name", "samples", "shape", "classes"),
    [
        ("digits", 1797, (1, 8, 8), 10),
        ("breast_cancer", 569, (30,), 2),
        ("wine", 178, (13,), 3),
        ("diabetes", 442, (10,), None),
    ],
)
def test_bundled_sets_have_their_known_shape(name, samples, shape, classes) -> None:
    data = load_source(BundledConfig(name=name), seed=0)
    assert len(data.train) == samples
    assert (data.info.input_shape, data.info.classes) == (shape, classes)
    assert data.info.task == ("regression" if name == "diabetes" else "classification")
    assert np.asarray(data.train.x).dtype == np.float32
    assert classes is None or (data.class_names is not None and len(data.class_names) == classes)


def test_digits_are_scaled_to_the_unit_interval() -> None:
    x = np.asarray(load_source(BundledConfig(), seed=0).train.x)
    assert (x.min(), x.max()) == (0, 1)
    np.testing.assert_array_equal(x * 16, np.round(x * 16))


def test_digits_are_those_of_scikit_learn_wherever_it_keeps_its_file(tmp_path, monkeypatch) -> None:
    expected = load_digits()
    for moved in (False, True):
        if moved:
            monkeypatch.setattr(sklearn_sets, "find_spec", lambda name: ModuleSpec(name, None, origin=str(tmp_path)))
        found = load_source(BundledConfig(), seed=0).train
        np.testing.assert_array_equal(np.asarray(found.x)[:, 0] * 16, expected.images)
        np.testing.assert_array_equal(np.asarray(found.y), expected.target)


def test_virtual_clients_have_nothing_to_load() -> None:
    with pytest.raises(ValueError, match="synthetic_virtual has no samples to load"):
        load_source(SyntheticVirtualConfig(), seed=0)


@pytest.fixture
def module(tmp_path, monkeypatch) -> str:
    (tmp_path / "my_own_data.py").write_text(
        "import numpy as np\n"
        "from raysim.config.sources import InMemoryConfig\n"
        "from raysim.data.sources import load_source\n"
        "def pair(n=4): return np.zeros((n, 2), np.float32), np.arange(n)\n"
        "def whole(): return load_source(InMemoryConfig(), seed=0, arrays=pair())\n"
        "def wrong(): return 'words'\n"
        "def broken(): raise RuntimeError('my own mistake')\n"
        "thing = 3\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    return "my_own_data"


def test_a_users_function_is_called_with_its_arguments(module) -> None:
    data = load_source(CustomConfig(name=f"{module}:pair", args={"n": 7}), seed=0)
    assert (len(data.train), data.info.classes) == (7, 7)
    assert data.train.origin == f"{module}:pair"
    assert len(load_source(CustomConfig(name=f"{module}:whole"), seed=0).train) == 4


def test_a_users_mistakes_are_named(module) -> None:
    for name, args, kind, message in (
        ("pair", {"m": 7}, ConfigError, "data.source.args: my_own_data:pair cannot be called with them"),
        ("nothing", {}, ConfigError, "has no 'nothing'"),
        ("thing", {}, ConfigError, "is a int, not a function"),
        ("wrong", {}, DataError, "my_own_data:wrong: expected a pair"),
        ("broken", {}, DataError, "^data.source: my_own_data:broken: RuntimeError: my own mistake$"),
    ):
        with pytest.raises(kind, match=message):
            load_source(CustomConfig(name=f"{module}:{name}", args=args), seed=0)


def test_loading_twice_gives_the_same_samples() -> None:
    for config in (BundledConfig(name="wine"), SyntheticConfig(clients=3)):
        first, second = (load_source(config, seed=5).train for _ in range(2))
        np.testing.assert_array_equal(first.x, second.x)
        np.testing.assert_array_equal(first.y, second.y)


def test_in_memory_arrays_are_not_copied_when_they_already_fit() -> None:
    x = np.zeros((4, 2), np.float32)
    assert np.shares_memory(load_source(InMemoryConfig(), seed=0, arrays=(x, [0, 1, 0, 1])).train.x, x)
