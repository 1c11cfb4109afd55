"""Code of a user's own that fails in an actor: the same one line as in process, caused by the same error."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from failing_code import TOLD, Failing

from raysim import Simulation
from raysim.cluster.inspection import check_gpus
from raysim.errors import ClientError, PlacementError, RaysimError

ACTORS = {"executor": "ray", "actors": 1, "num_cpus": 0.5, "max_retries": 1}


def failure(failing: Failing, **execution: Any) -> RaysimError:
    """The error that the run ends with on actors."""
    failing.write()
    with pytest.raises(RaysimError) as caught, Simulation(failing.experiment(**ACTORS, **execution)) as simulation:
        simulation.run()
    return caught.value


@pytest.mark.parametrize(
    ("place", "kind"),
    [
        ("forward in training", "pressed"),  # no terminal reaches an actor: it is an error like any other
        ("correct", "unpicklable"),
        ("send", "unspeakable"),
        ("forward in evaluation", "stop"),
        ("measure", "exit"),
        ("init", "key"),
        ("apply", "closed"),
    ],
)
def test_a_failure_in_an_actor_is_one_line_that_names_the_place(
    tmp_path: Path, ray_session: Any, monkeypatch: pytest.MonkeyPatch, place: str, kind: str
) -> None:
    monkeypatch.chdir(tmp_path)
    failing = Failing(tmp_path, place, kind)
    error = failure(failing)
    assert re.search(failing.pattern, str(error)), str(error)
    assert str(error).isprintable()
    assert error.users
    if kind not in ("unpicklable", "unspeakable"):
        assert type(error.__cause__).__name__ == TOLD[kind].partition(":")[0].partition(" ")[0]
    left = list((tmp_path / "runs").iterdir()) if (tmp_path / "runs").exists() else []
    assert len(left) == isinstance(error, ClientError)


def test_an_actor_whose_torch_sees_no_gpu_says_so_and_names_its_node(
    tmp_path: Path, ray_session: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from raysim.cluster.actors import ClientActor
    from raysim.cluster.references import Reference
    from raysim.execution.preparation.prepare import prepare_job

    monkeypatch.chdir(tmp_path)
    failing = Failing(tmp_path, "nowhere", "value")
    failing.write()
    prepared = prepare_job(failing.experiment())
    object.__setattr__(prepared.job.engine, "device", "cuda")
    actor = ray_session.remote(ClientActor).options(num_cpus=0).remote(Reference.put(prepared.job), 3, 0.5)
    with pytest.raises(PlacementError) as caught:
        ray_session.get(actor.bits.remote())
    node = ray_session.get_runtime_context().get_node_id()[:8]
    assert re.search(
        rf"actor 3 on node {node} cannot start work: Ray gives away a GPU there, but torch .* "
        r"(is built without CUDA|finds no CUDA driver); install torch for the CUDA version of the node",
        str(caught.value),
    )
    ray_session.kill(actor)


class OneNode:
    """As much of a Ray as is asked of it: a node with GPUs, on which calls are made at once."""

    def nodes(self) -> list[dict[str, Any]]:
        gpus = {"NodeID": "0123456789", "Alive": True, "Resources": {"GPU": 2.0}}
        return [gpus, {"NodeID": "abc", "Alive": True, "Resources": {"CPU": 2.0}}]

    def remote(self, function: Any) -> Any:
        return SimpleNamespace(options=lambda **options: SimpleNamespace(remote=function))

    def get(self, value: Any, timeout: float) -> Any:
        return value


@pytest.mark.parametrize(("version", "why"), [(None, "is built without CUDA"), ("13.0", "finds no CUDA driver")])
def test_a_plan_asks_nodes_with_gpus_whether_torch_can_use_them(
    monkeypatch: pytest.MonkeyPatch, version: str | None, why: str
) -> None:
    runtime: Any = SimpleNamespace(ray=OneNode(), pinned=lambda node: node)
    monkeypatch.setattr(torch.version, "cuda", version)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(PlacementError, match=f"node 01234567: Ray gives away a GPU there, but torch .* {why}; install"):
        check_gpus(runtime)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    check_gpus(runtime)
