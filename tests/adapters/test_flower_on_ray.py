"""Apps on actors: the bits of this process, however many there are and whoever dies."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("flwr")
from app_runs import run_app

pytestmark = pytest.mark.ray


def on_ray(app: str, folder: Path, actors: int, **config: Any) -> Any:
    """On this many actors, of a small share of a core each."""
    return run_app(app, folder, execution={"actors": actors, "num_cpus": 0.5}, **config)


def test_the_bits_are_the_same_on_one_two_and_four_actors_and_in_this_process(ray_session: Any, tmp_path: Path) -> None:
    run = {"num-server-rounds": 2, "fraction-evaluate": 0.5}
    results = [run_app("torch_app", tmp_path / "here", nodes=5, run=run)]
    results += [on_ray("torch_app", tmp_path / str(actors), actors, nodes=5, run=run) for actors in (1, 2, 4)]
    bits = [{name: array.tobytes() for name, array in result.arrays.items()} for result in results]
    assert bits[1:] == bits[:1] * 3
    assert all(
        [row.metrics for row in result.rounds] == [row.metrics for row in results[0].rounds] for result in results
    )


def test_a_killed_actor_is_replaced_and_its_message_run_again_to_the_same_bits(
    ray_session: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = run_app("strategy_app", tmp_path / "whole", nodes=3, run={"num-server-rounds": 3})
    run = {"num-server-rounds": 3, "die-once": str(tmp_path / "died")}
    result = on_ray("strategy_app", tmp_path / "run", 2, nodes=3, run=run)
    assert (tmp_path / "died").exists()
    assert result.arrays["weights"].tobytes() == whole.arrays["weights"].tobytes()
    assert [row.metrics for row in result.rounds] == [row.metrics for row in whole.rounds]  # with what nodes counted
    assert "the actor died with partition 1" in capsys.readouterr().err
    assert result.failures == 0


def test_classic_clients_run_on_actors_to_the_same_bits(ray_session: Any, tmp_path: Path) -> None:
    run = {"num-server-rounds": 2}
    here = run_app("sklearn_app", tmp_path / "here", nodes=4, run=run)
    there = on_ray("sklearn_app", tmp_path / "there", 3, nodes=4, run=run)
    assert [array.tobytes() for array in here.arrays.values()] == [array.tobytes() for array in there.arrays.values()]
