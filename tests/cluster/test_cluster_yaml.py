"""The cluster launcher's configuration, checked offline as `ray up` would check it before it starts anything."""

from __future__ import annotations

import copy
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
CLUSTER = yaml.safe_load((ROOT / "cluster.yaml").read_text(encoding="utf-8"))


def prepared(cluster: dict[str, Any]) -> dict[str, Any]:
    """The configuration with the provider's defaults filled in; raises what `ray up` would refuse."""
    from ray.autoscaler._private.util import prepare_config, validate_config

    complete: dict[str, Any] = prepare_config(copy.deepcopy(cluster))
    validate_config(complete)
    return complete


def test_ray_accepts_the_configuration() -> None:
    complete = prepared(CLUSTER)
    assert complete["available_node_types"]["head"]["max_workers"] == 0
    assert complete["available_node_types"]["gpu"]["min_workers"] == 0


def with_unknown_key(cluster: dict[str, Any]) -> None:
    cluster["max_worker"] = 3


def with_unknown_head(cluster: dict[str, Any]) -> None:
    cluster["head_node_type"] = "haed"


def with_more_workers_than_allowed(cluster: dict[str, Any]) -> None:
    cluster["available_node_types"]["gpu"]["min_workers"] = cluster["max_workers"] + 1


@pytest.mark.parametrize("spoil", [with_unknown_key, with_unknown_head, with_more_workers_than_allowed])
def test_the_check_would_notice_a_mistake(spoil: Callable[[dict[str, Any]], None]) -> None:
    spoiled = copy.deepcopy(CLUSTER)
    spoil(spoiled)
    with pytest.raises(Exception):  # noqa: B017 - of whatever class: jsonschema's, or ValueError
        prepared(spoiled)


def test_no_client_is_placed_on_the_head() -> None:
    assert CLUSTER["available_node_types"]["head"]["resources"] == {"CPU": 0, "GPU": 0}


def test_workers_are_spot_instances_that_start_from_none() -> None:
    workers = CLUSTER["available_node_types"]["gpu"]
    assert workers["min_workers"] == 0
    assert 0 < workers["max_workers"] <= CLUSTER["max_workers"]
    assert workers["resources"]["GPU"] >= 1
    assert workers["node_config"]["InstanceMarketOptions"] == {"MarketType": "spot"}


def test_the_dashboard_is_not_offered_to_the_network() -> None:
    complete = prepared(CLUSTER)
    starts = [*complete["head_start_ray_commands"], *complete["worker_start_ray_commands"]]
    assert any("--dashboard-host=127.0.0.1" in command for command in starts)
    assert not any("0.0.0.0" in command for command in starts)


def test_every_node_starts_with_the_token() -> None:
    assert CLUSTER["file_mounts"]["/home/ubuntu/.ray/auth_token"] == "~/.ray/auth_token"
    assert any("export RAY_AUTH_MODE=token" in command for command in CLUSTER["setup_commands"])


def test_what_is_copied_is_there_and_enough_to_install() -> None:
    copied = [local for local in CLUSTER["file_mounts"].values() if not local.startswith("~")]
    assert all((ROOT / local).exists() for local in copied)
    assert {"raysim", "pyproject.toml", "constraints.txt", "README.md", "LICENSE"} <= set(copied)
    assert any("--editable ~/raysim" in command for command in CLUSTER["setup_commands"])


@pytest.mark.parametrize("key", [key for key in CLUSTER if key.endswith("_commands")])
def test_commands_are_shell(key: str) -> None:
    for command in CLUSTER[key]:
        checked = subprocess.run(["bash", "-n", "-c", command], capture_output=True, text=True)
        assert checked.returncode == 0, checked.stderr
