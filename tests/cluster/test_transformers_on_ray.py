"""Transformers with adapters and dropout: the same bits in process, on actors, and after a resume; a mapped base."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from federations import final_sha256, sha256
from transformer_models import federation

from raysim import Simulation
from raysim.execution.placement import memory

pytestmark = pytest.mark.ray


def on_actors(actors: int) -> list[str]:
    return ["execution.executor=ray", f"execution.actors={actors}"]


@pytest.mark.parametrize(
    ("family", "engine"),
    [("gpt2", "sequential"), ("llama", "sequential"), ("bert", "sequential"), ("llama", "rows")],
)
def test_the_same_bits_on_actors_and_after_a_resume(
    tmp_path: Path, ray_session: Any, monkeypatch: pytest.MonkeyPatch, family: str, engine: str
) -> None:
    monkeypatch.setenv("RAYSIM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(memory, "MAPPED_FROM", 1)  # small as it is, actors map the base from a file
    experiment, data = federation(tmp_path, family, engine)
    expected = final_sha256(experiment, data=data)
    for actors in (1, 2, 3) if family == "gpt2" else (2,):
        assert final_sha256(experiment.updated(on_actors(actors)), data=data) == expected, actors
    assert list((tmp_path / "cache" / "bases").glob("*/base.safetensors"))
    with Simulation(experiment.updated(["rounds=2"]), data=data) as first:
        first.run()
    with Simulation.resume(first.directory, overrides=["rounds=4"], data=data) as resumed:
        resumed.run()
        assert sha256(resumed.model()) == expected
