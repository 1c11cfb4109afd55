"""How many actors fit where."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raysim.config.running import ExecutionConfig
from raysim.errors import PlacementError
from raysim.execution.placement.demand import demands
from raysim.execution.placement.placing import ACTOR_BYTES, Placement, Placer, Seat, place
from raysim.execution.placement.slots import Node, Share, fits_gpus, slots_on

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
    assert slots_on(node(64, gpus), Share(1, share)) == slots
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
        assert all(slots_on(one, Share(1.0, share)) == 0 for one in nodes)
        return
    assert 1 <= placement.actors <= cohort
    for one in nodes:
        here = placement.nodes.count(one.id)
        assert here <= placement.slots[one.id]
        assert here * placement.num_cpus <= one.cpus + 1e-9
        assert here * share <= one.gpus + 1e-9


def mixed(*nodes: Node, cohort: int = 100, census: tuple[list[int], list[int]], **execution: Any) -> Placement:
    counted = (np.array(census[0]), np.array(census[1]))
    return place(nodes, ExecutionConfig(**execution), population=1000, cohort=cohort, actor_bytes=0, census=counted)


def counts(placement: Placement, node: str) -> list[int]:
    """Actors of each class on a node."""
    return [placement.seats.count(Seat(node, group)) for group in range(len(placement.shares))]


LARGE = {"clients": [0], "num_gpus": 1}


def test_actors_with_a_whole_gpu_are_placed_beside_fractions_and_started_first() -> None:
    nodes = [node(16, 2, name="a"), node(16, 2, name="b")]
    placement = mixed(
        *nodes, num_gpus=0.1, num_cpus=0.5, classes={"large": {**LARGE, "actors": 2}}, census=([999, 1], [999, 1])
    )
    assert counts(placement, "a") == counts(placement, "b") == [10, 1]
    assert [seat.group for seat in placement.seats[:3]] == [1, 1, 0]
    assert placement.shares == (Share(0.5, 0.1), Share(1.0, 1.0))


def test_classes_that_leave_their_number_open_share_the_room_by_their_work() -> None:
    census = ([900, 100], [1000, 3000])
    placement = mixed(node(8), classes={"long": {"min_steps": 20}}, census=census)
    assert counts(placement, "a") == [2, 6]
    assert counts(mixed(node(8), cohort=3, classes={"long": {"min_steps": 20}}, census=census), "a") == [1, 2]


def test_a_class_has_no_more_actors_than_clients_and_an_empty_default_has_none() -> None:
    placement = mixed(node(8), classes={"one": {"clients": [0]}}, census=([999, 1], [1, 9000]))
    assert counts(placement, "a") == [7, 1]
    everybody = mixed(node(8), actors=3, classes={"all": {"clients": ["0-999"]}}, census=([0, 1000], [0, 1]))
    assert counts(everybody, "a") == [0, 8]


def test_a_class_that_cannot_be_placed_beside_the_others_is_refused() -> None:
    classes = {"large": {**LARGE, "actors": 2}}
    with pytest.raises(PlacementError) as caught:
        mixed(node(16, 1), num_gpus=0.1, classes=classes, census=([999, 1], [1, 1]))
    assert str(caught.value) == (
        "execution.classes.large: 2 actors of 1 CPUs and 1 GPUs do not fit: there is room for 1 (1 node with 16 CPUs "
        "and 1 GPUs in all); lower execution.classes.large.actors, num_cpus or num_gpus"
    )
    with pytest.raises(PlacementError, match=r"execution\.classes\.large\.num_gpus: 1\.5 cannot be placed"):
        mixed(node(16, 2), num_gpus=0.1, classes={"large": {**LARGE, "num_gpus": 1.5}}, census=([999, 1], [1, 1]))
    with pytest.raises(PlacementError, match=r"an actor wants 1 CPUs and 0\.1 GPUs, but no node has that"):
        mixed(node(16, 1), num_gpus=0.1, classes={"large": LARGE | {"actors": 1}}, census=([999, 1], [1, 1]))


def test_fractions_are_counted_in_the_order_in_which_ray_gives_them_out() -> None:
    """0.6 and 0.4 fill a GPU; three of 0.4 do not find two GPUs that hold 0.6 as well."""
    assert fits_gpus(2, [Share(1, 0.6), Share(1, 0.6), Share(1, 0.4), Share(1, 0.4)])
    assert not fits_gpus(2, [Share(1, 0.4), Share(1, 0.4), Share(1, 0.6), Share(1, 0.6)])
    assert fits_gpus(3, [Share(1, 2), Share(1, 0.5), Share(1, 0.5)])
    assert not fits_gpus(2, [Share(1, 0.1), Share(1, 2)])


def test_an_actor_needs_room_in_the_memory_of_its_gpu() -> None:
    small, large = Node("a", 8, 2, 64 * GIB, 8 * GIB), Node("b", 8, 2, 64 * GIB, 80 * GIB)

    def on(*nodes: Node, **execution: Any) -> Placement:
        config = ExecutionConfig(num_cpus=0.1, **execution)
        return place(nodes, config, population=1000, cohort=1000, gpu_bytes=3 * GIB)

    assert on(small, large, num_gpus=0.5).nodes.count("a") == 4
    assert on(small, large, num_gpus=0.25).nodes == ("b",) * 8  # a quarter of the small one's does not do
    assert on(Node("c", 8, 2, 64 * GIB), num_gpus=0.25).actors == 8  # of unknown size
    with pytest.raises(PlacementError) as caught:
        on(small, num_gpus=0.25)
    assert str(caught.value) == (
        "execution.num_gpus: an actor needs about 3072 MiB of its GPU, but 0.25 of the largest is 2048 MiB; "
        "set it to at least 0.38"
    )
    with pytest.raises(PlacementError, match=r"lower training\.rows or shard_memory"):
        on(Node("a", 8, 2, 64 * GIB, 2 * GIB), num_gpus=1)


def test_nodes_that_join_are_filled_and_lost_actors_are_placed_again_where_there_is_room() -> None:
    a, b, c = node(4, name="a"), node(4, name="b"), node(2, name="c")
    wanted = demands(ExecutionConfig(), population=1000, cohort=100)
    placer = Placer([a, b], wanted, cohort=100, actor_bytes=0)
    seats = placer.place([a, b]).seats
    assert placer.refill([a, b], seats) == []
    assert placer.refill([a, b, c], seats) == [Seat("c")] * 2
    assert placer.refill([a], [Seat("a")] * 4) == []
    six = Placer([a, b], demands(ExecutionConfig(actors=6), population=1000, cohort=100), cohort=100, actor_bytes=0)
    assert [seat.node for seat in six.place([a, b]).seats] == ["a", "b"] * 3
    assert six.refill([a], [Seat("a")] * 3) == [Seat("a")]
    assert six.refill([a, c], [Seat("a")] * 3) == [Seat("c"), Seat("c"), Seat("a")]
    few = Placer([a], demands(ExecutionConfig(), population=1000, cohort=5), cohort=5, actor_bytes=0)
    assert few.refill([a, b], few.place([a]).seats) == [Seat("b")]


def test_a_node_that_joins_too_small_in_memory_gets_fewer_actors() -> None:
    wanted = demands(ExecutionConfig(), population=1000, cohort=100)
    placer = Placer([node(1)], wanted, cohort=100, actor_bytes=GIB)
    assert placer.refill([node(1), node(8, memory=3 * GIB, name="b")], [Seat("a")]) == [Seat("b")] * 3
