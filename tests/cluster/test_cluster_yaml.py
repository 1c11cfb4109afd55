"""The cluster launcher's configurations, checked offline as `ray up` would check them before it starts anything."""

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
ON_PREMISES = yaml.safe_load((ROOT / "configs" / "cluster" / "on_premises.yaml").read_text(encoding="utf-8"))
BOTH = pytest.mark.parametrize("cluster", [CLUSTER, ON_PREMISES], ids=["cloud", "on premises"])


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


def test_ray_accepts_machines_of_ones_own() -> None:
    complete = prepared(ON_PREMISES)
    (node_type,) = complete["available_node_types"].values()
    assert node_type["max_workers"] == len(ON_PREMISES["provider"]["worker_ips"])
    assert "--num-cpus=0 --num-gpus=0" in ON_PREMISES["head_start_ray_commands"][-1], "no clients on the head"


@BOTH
def test_the_dashboard_is_not_offered_to_the_network(cluster: dict[str, Any]) -> None:
    complete = prepared(cluster)
    starts = [*complete["head_start_ray_commands"], *complete["worker_start_ray_commands"]]
    assert any("--dashboard-host=127.0.0.1" in command for command in starts)
    assert not any("0.0.0.0" in command for command in starts)


@BOTH
def test_every_node_starts_with_the_token(cluster: dict[str, Any]) -> None:
    assert cluster["file_mounts"]["~/.ray/auth_token"] == "~/.ray/auth_token"
    assert any("export RAY_AUTH_MODE=token" in command for command in cluster["setup_commands"])
    assert not any("RAY_AUTH_MODE=disabled" in command for command in cluster["setup_commands"])


@BOTH
def test_what_is_copied_is_there_and_enough_to_install(cluster: dict[str, Any]) -> None:
    copied = [local for local in cluster["file_mounts"].values() if not local.startswith("~")]
    assert all((ROOT / local).exists() for local in copied)
    assert {"raysim", "pyproject.toml", "constraints.txt", "README.md", "LICENSE"} <= set(copied)
    assert any("--editable ~/raysim" in command for command in cluster["setup_commands"])
    assert {"**/.git", "**/.venv", "**/__pycache__"} <= set(cluster["rsync_exclude"])


@BOTH
def test_commands_are_shell(cluster: dict[str, Any]) -> None:
    for command in [one for key in cluster if key.endswith("_commands") for one in cluster[key]]:
        checked = subprocess.run(["bash", "-n", "-c", command], capture_output=True, text=True)
        assert checked.returncode == 0, checked.stderr
