"""How many actors fit where."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raysim.config.running import ExecutionConfig
from raysim.errors import PlacementError
from raysim.execution import ACTOR_BYTES, Node, Placement, place
from raysim.execution.placement import slots_on

GIB = 1024**3


def node(cpus: float = 8, gpus: float = 0, memory: int = 64 * GIB, name: str = "a") -> Node:
    return Node(name, cpus, gpus, memory)


def placed(*nodes: Node, population: int = 1000, cohort: int = 100, **execution: Any) -> Placement:
    return place(nodes, ExecutionConfig(**execution), population=population, cohort=cohort)


def refusal(*nodes: Node, population: int = 1000, cohort: int = 100, **execution: Any) -> str:
    with pytest.raises(PlacementError) as caught:
        placed(*nodes, population=population, cohort=cohort, **execution)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("share", "gpus", "slots"),
    [
        (0.25, 1, 4),
        (0.25, 2, 8),
        (0.3, 1, 3),
        (0.3, 2, 6),
        (0.1, 1, 10),
        (0.7, 2, 2),
        (0.4, 2, 4),
        (0.3, 4, 12),
        (1, 2, 2),
        (2, 3, 1),
    ],
)
def test_actors_share_a_gpu_in_whole_numbers(share: float, gpus: int, slots: int) -> None:
    assert slots_on(node(64, gpus), 1, share) == slots
    placement = placed(node(64, gpus), num_gpus=share)
    assert (placement.actors, placement.num_gpus, placement.slots) == (slots, share, {"a": slots})


def test_cores_bound_the_actors_on_a_gpu() -> None:
    assert placed(node(3, 1), num_gpus=0.25).actors == 3
    assert placed(node(3, 1), num_gpus=0.25, num_cpus=0.5).actors == 4


def test_two_whole_gpus_need_a_node_that_has_two() -> None:
    assert placed(node(8, 1, name="a"), node(8, 4, name="b"), num_gpus=2).nodes == ("b", "b")
    line = refusal(node(8, 1, name="a"), node(8, 1, name="b"), num_gpus=2)
    assert line == (
        "an actor wants 1 CPUs and 2 GPUs, but no node has that (2 nodes with 16 CPUs and 2 GPUs in all); "
        "lower execution.num_cpus or execution.num_gpus"
    )


def test_a_part_of_several_gpus_is_refused() -> None:
    assert refusal(node(8, 4), num_gpus=1.5) == (
        "execution.num_gpus: 1.5 cannot be placed; above 1 it must be a whole number"
    )


def test_a_gpu_where_there_is_none_is_refused() -> None:
    assert refusal(node(8), num_gpus=0.25) == (
        "execution.num_gpus: an actor wants 0.25 GPUs, but no node has a GPU; set it to 0"
    )


def test_auto_fills_the_cores_but_not_beyond_the_cohort() -> None:
    assert placed(node(8), cohort=100).actors == 8
    assert placed(node(8), cohort=3).actors == 3
    assert placed(node(8), num_cpus=2).actors == 4
    assert placed(node(7.5)).actors == 7
    assert placed(node(8)).num_cpus == 1.0


@pytest.mark.parametrize(
    ("cores", "actors", "share"), [(2, 4, 0.5), (2, 3, 0.6666), (8, 8, 1.0), (8, 3, 1.0), (7, 1000, 0.007)]
)
def test_more_actors_than_cores_share_them(cores: float, actors: int, share: float) -> None:
    placement = placed(node(cores, memory=1000 * GIB), actors=actors)
    assert placement.actors == actors
    assert placement.num_cpus == pytest.approx(share)
    assert placement.num_cpus * actors <= cores + 1e-9
    assert round(placement.num_cpus * 1e4) == pytest.approx(placement.num_cpus * 1e4)  # what Ray can count


@given(st.lists(st.integers(1, 16), min_size=1, max_size=5), st.integers(1, 300))
def test_a_share_of_the_cores_fits_node_by_node(cores: list[int], actors: int) -> None:
    nodes = [node(count, memory=10_000 * GIB, name=str(i)) for i, count in enumerate(cores)]
    placement = placed(*nodes, actors=actors)
    assert placement.actors == actors
    for one in nodes:
        assert placement.nodes.count(one.id) * placement.num_cpus <= one.cpus + 1e-6


def test_cores_given_by_hand_are_not_shared_out() -> None:
    assert refusal(node(2), actors=4, num_cpus=1) == (
        "4 actors of 1 CPUs and 0 GPUs do not fit: there is room for 2 (1 node with 2 CPUs and 0 GPUs in all); "
        "lower execution.actors, num_cpus or num_gpus, or raise clients_per_actor"
    )
    assert "no node has that" in refusal(node(2), num_cpus=3)


def test_clients_may_have_actors_of_their_own() -> None:
    assert placed(node(8), population=30, clients_per_actor=10).actors == 3
    assert placed(node(8), population=31, clients_per_actor=10).actors == 4
    every = placed(node(8), population=40, cohort=5, clients_per_actor=1)
    assert (every.actors, every.num_cpus) == (40, 0.2)
    assert placed(node(8), population=30, clients_per_actor=10, actors=2).actors == 3  # it says more than `actors`


def test_actors_that_do_not_fit_the_memory_are_refused() -> None:
    assert ACTOR_BYTES == 180 * 1024**2
    line = refusal(node(8, memory=GIB), population=1000, clients_per_actor=1)
    assert line == (
        "1000 actors of about 180 MiB need more than the 1024 MiB that node a has; "
        "lower execution.actors, or raise clients_per_actor"
    )
    assert placed(node(8, memory=GIB), actors=5).actors == 5
    assert "6 actors" in refusal(node(8, memory=GIB), actors=6)
    small = place([node(8, memory=GIB)], ExecutionConfig(actors=8), population=9, cohort=9, actor_bytes=GIB // 8)
    assert small.actors == 8


def test_actors_are_spread_evenly_over_the_nodes() -> None:
    nodes = [node(8, name="a"), node(8, name="b"), node(2, name="c")]
    assert placed(*nodes, actors=3).nodes == ("a", "b", "c")
    assert placed(*nodes, actors=9).nodes == ("a", "b", "c", "a", "b", "c", "a", "b", "a")
    full = placed(*nodes)
    assert {name: full.nodes.count(name) for name in "abc"} == {"a": 8, "b": 8, "c": 2} == full.slots


def test_a_head_without_cores_gets_no_actors() -> None:
    assert placed(node(0, name="head"), node(4, name="b")).nodes == ("b",) * 4


@given(
    st.lists(st.tuples(st.integers(0, 16), st.integers(0, 4)), min_size=1, max_size=5),
    st.sampled_from([0.0, 0.2, 0.25, 0.3, 0.5, 1.0, 2.0]),
    st.integers(1, 50),
)
def test_a_placement_never_asks_for_more_than_a_node_has(
    machines: list[tuple[int, int]], share: float, cohort: int
) -> None:
    nodes = [node(cpus, gpus, 10_000 * GIB, str(i)) for i, (cpus, gpus) in enumerate(machines)]
    try:
        placement = placed(*nodes, num_gpus=share, cohort=cohort)
    except PlacementError:
        assert all(slots_on(one, 1.0, share) == 0 for one in nodes)
        return
    assert 1 <= placement.actors <= cohort
    for one in nodes:
        here = placement.nodes.count(one.id)
        assert here <= placement.slots[one.id]
        assert here * placement.num_cpus <= one.cpus + 1e-9
        assert here * share <= one.gpus + 1e-9
