"""Groups of clients that share a weight."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import TypeAdapter

from raysim.config.data import DataConfig
from raysim.config.server import ExplicitWeightsConfig, LawWeightsConfig, SamplesWeightsConfig, UniformWeightsConfig
from raysim.config.sources import InMemoryConfig
from raysim.config.tuning import SimplexConfig
from raysim.data import Federation, prepare
from raysim.errors import ConfigError
from raysim.tuning.groups import form_groups

SIZES = [5, 10, 20, 40, 80]


@pytest.fixture
def federation(tmp_path: Path) -> Federation:
    """Five owners a to e; the first two have labels 0 and 1, the others 2 and 3."""
    owner = np.repeat(list("abcde"), SIZES)
    y = np.arange(sum(SIZES)) % 2 + 2 * (np.char.greater(owner, "b"))
    data = {"x": np.zeros((len(y), 2), np.float32), "y": y, "client": owner}
    config = DataConfig.model_validate(
        {"source": InMemoryConfig(), "partition": "natural", "test": 0.0, "cache": str(tmp_path / "cache")}
    )
    return prepare(config, 0, arrays=data).open()


def formed(federation: Federation, config: Any, weights: Any = None) -> Any:
    section = TypeAdapter(SimplexConfig).validate_python(config)
    return form_groups(section, federation, weights or SamplesWeightsConfig(), seed=0)


def test_every_client_is_a_group_of_its_own_and_the_base_is_the_experiments(federation: Federation) -> None:
    groups = formed(federation, "clients")
    assert groups.names[3] == "client 3"
    np.testing.assert_allclose(groups.base, np.array(SIZES) / sum(SIZES))
    assert formed(federation, "none") is None


def test_within_a_group_clients_count_as_the_experiment_says(federation: Federation) -> None:
    config = {"name": "groups", "groups": {"small": [0, 1], "large": [2, 3, 4]}}
    groups = formed(federation, config)
    table = groups.table(np.array([0.9, 0.1]))
    np.testing.assert_allclose(list(table.values()), [0.3, 0.6, 0.1 / 7, 0.2 / 7, 0.4 / 7])
    np.testing.assert_allclose(formed(federation, config, UniformWeightsConfig()).share, [1 / 2] * 2 + [1 / 3] * 3)
    by_hand = formed(federation, config, ExplicitWeightsConfig(table={2: 1.0, 3: 3.0}))
    np.testing.assert_allclose(by_hand.share, [1 / 2, 1 / 2, 0.25, 0.75, 0])
    np.testing.assert_allclose(by_hand.base, [0, 1])


def test_groups_by_size_and_by_labels(federation: Federation) -> None:
    assert formed(federation, {"name": "sizes", "groups": 2}).of.tolist() == [0, 0, 0, 1, 1]
    by_labels = formed(federation, {"name": "labels", "groups": 2})
    assert by_labels.of.tolist() == [0, 0, 1, 1, 1]
    assert by_labels.names == ("labels 0, 1 (1)", "labels 2, 3 (2)")


def test_groups_by_a_column_of_a_table(federation: Federation, tmp_path: Path) -> None:
    table = tmp_path / "clients.csv"
    table.write_text("client,region\na,north\nb,south\nc,north\nd,south\ne,south\n")
    groups = formed(federation, {"name": "column", "path": str(table), "column": "region"})
    assert groups.names == ("north", "south")
    assert groups.of.tolist() == [0, 1, 0, 1, 1]
    with pytest.raises(ConfigError, match="has no column 'land'; it has client, region"):
        formed(federation, {"name": "column", "path": str(table), "column": "land"})
    table.write_text("client,region\na,north\nz,south\n")
    with pytest.raises(ConfigError, match="names client 'z', whom this federation lacks"):
        formed(federation, {"name": "column", "path": str(table), "column": "region"})
    with pytest.raises(ConfigError, match="cannot be read"):
        formed(federation, {"name": "column", "path": str(tmp_path / "no.csv"), "column": "region"})


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            {"name": "groups", "groups": {"a": [0, 9], "b": [1]}},
            r"there is no client 9 \(group 'a'\); clients are 0",
        ),
        ({"name": "groups", "groups": {"a": [0, 1], "b": [1, 2]}}, "client 1 is in 'a' and in 'b'"),
        ({"name": "groups", "groups": {"a": [0, 1], "b": [2]}}, "client 3 is in no group"),
        ({"name": "groups", "groups": {"a": [0, 1, 2, 3, 4]}}, "there is only one group"),
        ({"name": "sizes", "groups": 6}, "6 groups, but only 5 clients; ask for fewer groups"),
        ({"name": "labels", "groups": 6}, "6 groups, but only 5 clients"),
    ],
)
def test_groups_that_cannot_be_are_refused_in_one_line(
    federation: Federation, config: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        formed(federation, config)
    assert "\n" not in str(caught.value)


def test_weights_that_no_table_can_express_are_refused(federation: Federation) -> None:
    with pytest.raises(ConfigError, match=r"aggregation\.weights is law, which a fixed table cannot express"):
        formed(federation, "clients", LawWeightsConfig())
