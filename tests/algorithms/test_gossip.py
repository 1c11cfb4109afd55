"""Decentralised learning against plain loops in NumPy with the matrix of the graph, and its graphs by themselves."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from listed_federation import ListedFederation
from plain_federation import COLUMNS, Plain, Run, experiment_of
from torch import nn

from raysim.algorithms import build_algorithm
from raysim.algorithms.gossip import Gossip
from raysim.algorithms.topology import edges, matrix, push_weights, spectral_gap
from raysim.config import Experiment
from raysim.config.algorithm_base import DataFacts
from raysim.config.gossip import GossipConfig
from raysim.errors import ConfigError
from raysim.execution.preparation.concrete import fit_algorithm
from raysim.rounds.task import RoundWork
from raysim.training import ParameterLayout

SIZES = (12, 30, 1, 9, 7, 18)
ALL = ("cohort=6", "aggregation.weights=uniform")
GRAPHS: dict[str, list[list[int]]] = {
    "ring": [[5, 1], [0, 2], [1, 3], [2, 4], [3, 5], [4, 0]],
    "torus": [[1, 2, 3], [0, 2, 4], [0, 1, 5], [0, 4, 5], [1, 3, 5], [2, 3, 4]],
    "exponential": [[5, 4, 2], [0, 5, 3], [1, 0, 4], [2, 1, 5], [3, 2, 0], [4, 3, 1]],
    "full": [[j for j in range(6) if j != i] for i in range(6)],
}
"""From whom each of six nodes receives."""
SPARSE = "algorithm.graph={name: erdos_renyi, degree: 3.5}"


def run_of(name: str, *overrides: str, rows: int | None = None) -> Run:
    return Run(experiment_of(name, *ALL, *overrides), sizes=SIZES, rows=rows)


def gossip_of(run: Run) -> Gossip:
    found = run.executor.server.algorithm
    assert isinstance(found, Gossip)
    return found


def models_of(run: Run) -> Any:
    return run.handle.state["nodes"].reshape(6, COLUMNS)


def built(name: str, nodes: int, columns: int, *overrides: str) -> Gossip:
    """An algorithm by itself, for a vector of so many parameters."""
    config = Experiment.parse({"algorithm": name}).updated(list(overrides)).algorithm
    facts = DataFacts(nodes, nodes, "mse", samples=lambda: nodes, largest=lambda: 1)
    found = build_algorithm(config.fitted(facts), ParameterLayout(nn.Linear(columns, 1, bias=False)))
    assert isinstance(found, Gossip)
    return found


def sent_by(nodes: Any, far: Any) -> dict[str, Any]:
    """What the server is given of these nodes' u `[k, P]`."""
    rows = np.asarray(far, dtype=np.float32)
    return {"node.rows": np.asarray(nodes, dtype=np.float32), "update.rows": rows.ravel()}


@pytest.mark.parametrize("graph", GRAPHS)
def test_nodes_receive_along_the_edges_of_their_graph(graph: str) -> None:
    config = Experiment().updated(["algorithm=d_psgd", f"algorithm.graph={graph}"]).algorithm
    assert isinstance(config, GossipConfig)
    found = edges(config.graph, 6)
    assert [one.tolist() for one in found.sources] == [sorted(one) for one in GRAPHS[graph]]
    assert found.sends.tolist() == [sum(i in one for one in GRAPHS[graph]) for i in range(6)]


@pytest.mark.parametrize(
    "graph", ["ring", "torus", "exponential", "full", SPARSE, f"{SPARSE};algorithm.mixing=uniform"]
)
def test_d_psgd_follows_the_loop_of_its_paper(graph: str) -> None:
    run = run_of("d_psgd", *(graph.split(";") if "=" in graph else [f"algorithm.graph={graph}"]))
    weights = gossip_of(run).mixing_matrix()
    np.testing.assert_allclose(weights.sum(axis=0), 1, atol=1e-12)
    np.testing.assert_allclose(weights.sum(axis=1), 1, atol=1e-12)
    plain, models = Plain(run), np.repeat(run.model[None].astype(np.float64), 6, axis=0)
    for number in range(1, 5):
        models = weights @ np.array([plain.local(models[node], number, node) for node in range(6)])
    mean = run.rounds(4)
    np.testing.assert_allclose(models_of(run), models, rtol=0, atol=3e-6)
    np.testing.assert_allclose(mean, models.mean(axis=0), rtol=0, atol=3e-6)
    apart = np.sqrt(((models - models.mean(axis=0)) ** 2).sum(axis=1).mean())
    np.testing.assert_allclose(run.handle.state["gossip/consensus"], apart, atol=3e-6)


@pytest.mark.parametrize("graph", ["algorithm.graph=one_peer", SPARSE])
def test_push_sum_follows_the_loop_of_its_paper(graph: str) -> None:
    run = run_of("push_sum", graph)
    plain, mass = Plain(run), np.ones(6)
    biased = np.repeat(run.model[None].astype(np.float64), 6, axis=0)
    for number in range(1, 6):
        shares = gossip_of(run).mixing_matrix(number - 1)
        np.testing.assert_allclose(shares.sum(axis=0), 1, atol=1e-12)
        models = biased / mass[:, None]
        half = biased + [plain.local(models[node], number, node) - models[node] for node in range(6)]
        biased, mass = shares @ half, shares @ mass
    mean = run.rounds(5)
    np.testing.assert_allclose(models_of(run), biased / mass[:, None], rtol=0, atol=5e-6)
    np.testing.assert_allclose(run.handle.state["mass"], mass, rtol=1e-12)
    np.testing.assert_allclose(mean, biased.mean(axis=0), rtol=0, atol=5e-6)
    assert (np.abs(mass - 1) > 0.1).any() == (graph == SPARSE), "nodes of unlike degrees gather unlike weights"


@pytest.mark.parametrize("name", ["d_psgd", "push_sum"])
def test_on_the_full_graph_it_is_fedavg_bit_for_bit(name: str) -> None:
    expected = run_of("fedavg")
    run = run_of(name, "algorithm.graph=full")
    for _ in range(4):
        np.testing.assert_array_equal(run.rounds(1), expected.rounds(1))
        assert (models_of(run) == run.model).all()


@pytest.mark.parametrize("name", ["d_psgd", "push_sum"])
@pytest.mark.parametrize("graph", ["ring", "torus", "exponential"])
def test_on_quadratics_the_consensus_error_falls_by_the_spectral_gap_of_the_graph(name: str, graph: str) -> None:
    nodes, columns, lr = 12, 5, 0.1
    algorithm = built(name, nodes, columns, f"algorithm.graph={graph}")
    size, weights = algorithm.layout.size, algorithm.mixing_matrix()
    rate = (1 - lr) * (1 - spectral_gap(weights))
    random = np.random.default_rng(0)
    optimum, models = np.zeros(size), np.zeros((nodes, size))
    optimum[:columns], models[:, :columns] = random.normal(size=columns), random.normal(size=(nodes, columns)) * 9
    model = models.mean(axis=0).astype(np.float32)
    state = algorithm.init(model) | {"nodes": models.astype(np.float32).astype(np.float64).ravel()}
    errors = []
    for _ in range(24):
        before = state["nodes"].reshape(nodes, size)
        stepped = before - lr * (before - optimum)  # of ½ ‖x - b‖², the same for all
        model, state = algorithm.apply(model, state, sent_by(range(nodes), stepped - model))
        np.testing.assert_allclose(state["nodes"].reshape(nodes, size), weights @ stepped, atol=1e-5)
        errors.append(float(state["gossip/consensus"][0]))
    assert (errors[-1] / errors[-9]) ** (1 / 8) == pytest.approx(rate, rel=0.02)


def test_a_node_that_loses_its_update_keeps_its_model_and_the_mean_stays_true() -> None:
    nodes, there = 8, np.array([0, 2, 3, 4, 6, 7])
    for name, graph in (("d_psgd", "ring"), ("d_psgd", "one_peer"), ("push_sum", "one_peer")):
        algorithm = built(name, nodes, 4, f"algorithm.graph={graph}")
        size, random = algorithm.layout.size, np.random.default_rng(1)
        models = np.zeros((nodes, size), np.float32)
        models[:, :4] = random.normal(size=(nodes, 4))
        model = models.mean(axis=0)
        state = algorithm.init(model) | {"nodes": models.astype(np.float64).ravel()}
        half = models.copy()
        half[there, :4] += random.normal(size=(6, 4)).astype(np.float32)
        mean, after = algorithm.apply(model, state, sent_by(there, half[there] - model))
        found = after["nodes"].reshape(nodes, size)
        for lost in (1, 5):
            np.testing.assert_allclose(found[lost], models[lost], atol=1e-6)
        mass = after.get("mass", np.ones(nodes))
        np.testing.assert_allclose(mean, (mass[:, None] * found).mean(axis=0), atol=1e-6)
        assert mass.sum() == pytest.approx(nodes)
        if graph == "ring":
            np.testing.assert_allclose(found[6], (half[6] * 2 + half[7]) / 3, atol=1e-6)


def test_shares_for_a_node_that_is_not_there_stay_with_the_sender() -> None:
    config = Experiment().updated(["algorithm=push_sum", "algorithm.graph=exponential"]).algorithm
    assert isinstance(config, GossipConfig)
    there = np.array([True, True, False, True, True])
    shares = matrix(push_weights(edges(config.graph, 5), there))
    np.testing.assert_allclose(shares.sum(axis=0), 1)
    assert shares[2].tolist() == [0, 0, 1, 0, 0]


def test_the_one_peer_graph_averages_exactly_in_as_many_rounds_as_it_has() -> None:
    config = Experiment().updated(["algorithm=d_psgd", "algorithm.graph=one_peer"]).algorithm
    assert isinstance(config, GossipConfig)
    product = np.eye(8)
    for turn in range(3):
        product = matrix(push_weights(edges(config.graph, 8, turn), np.ones(8, dtype=bool))) @ product
    np.testing.assert_allclose(product, 1 / 8)


def test_a_random_graph_is_keyed_by_its_seed() -> None:
    found = [gossip_of(run_of("d_psgd", SPARSE, f"algorithm.graph.seed={seed}")).mixing_matrix() for seed in (5, 5, 8)]
    assert (found[0] == found[1]).all()
    assert (found[0] != found[2]).any()


@pytest.mark.parametrize("name", ["d_psgd", "push_sum"])
def test_bytes_are_those_of_a_model_along_every_edge(name: str) -> None:
    run = run_of(name, SPARSE)
    graph, message = gossip_of(run).edges(0), 15 + (name == "push_sum")
    (done,) = run.executor.rounds(iter([RoundWork(run.task(1))]), run.handle)
    clients = done.facts.clients
    assert clients["wire_up"].to_pylist() == (4 * message * graph.sends).tolist()
    assert clients["wire_down"].to_pylist() == (4 * message * graph.receives).tolist()
    assert len(set(graph.sends.tolist())) > 1


def checked(experiment: Experiment) -> None:
    experiment = fit_algorithm(experiment, ListedFederation(SIZES))
    build_algorithm(experiment.algorithm, ParameterLayout(nn.Linear(4, 3))).check(experiment)


REFUSED: list[tuple[str, list[str], str]] = [
    (
        "d_psgd",
        ["cohort=4"],
        "algorithm.name: all nodes of d_psgd train in every round, and cohort is 4 of 6; set cohort",
    ),
    ("d_psgd", ["algorithm.nodes=5"], "algorithm.nodes: 5 is not the number of clients (6)"),
    ("d_psgd", ["algorithm.graph.degree=6"], "algorithm.graph.degree: 6 neighbours, but a node has only 5 others"),
    ("push_sum", ["algorithm.graph={name: erdos_renyi, degree: 7}"], "algorithm.graph.degree: 7 neighbours, but"),
    ("d_psgd", ["algorithm.graph={name: torus, rows: 4}"], "algorithm.graph.rows: 6 nodes are no grid of 4 rows"),
    ("d_psgd", ["algorithm.graph={name: torus, rows: 6}"], "algorithm.graph.rows: 6 nodes are no grid of 6 rows"),
    (
        "d_psgd",
        ["algorithm.graph={name: erdos_renyi, degree: 0.5}"],
        "algorithm.graph: erdos_renyi of 6 nodes falls into",
    ),
    ("d_psgd", ["algorithm.mixing=uniform"], "algorithm.mixing: all nodes of this ring have as many neighbours"),
    ("d_psgd", ["algorithm.server_lr=0.5"], "algorithm.server_lr: d_psgd has no server"),
    ("d_psgd", ["selection=poisson"], "selection: all nodes of d_psgd train in every round"),
    ("push_sum", ["aggregation.weights=samples"], "aggregation.weights: nodes of push_sum weigh what they hear"),
    ("d_psgd", ["aggregation.protection=secagg"], "aggregation.protection: secagg hides addends from a server"),
    ("d_psgd", ["aggregation.stages=[{name: clip, max_norm: 1}]"], "aggregation.stages: clip stands between"),
    ("d_psgd", ["aggregation.exact=false"], "aggregation.exact: d_psgd mixes in fixed point only"),
    (
        "d_psgd",
        ["client.privacy={clip: 1, noise_multiplier: 1}", "client.steps=2"],
        "client.privacy: epsilon is accounted for",
    ),
    ("d_psgd", ["systems.timetable={name: deadline, seconds: 9}"], "systems.timetable: nodes of d_psgd wait for their"),
]


@pytest.mark.parametrize(("name", "overrides", "line"), REFUSED)
def test_what_it_cannot_be_is_refused_in_one_line(name: str, overrides: list[str], line: str) -> None:
    with pytest.raises(ConfigError) as caught:
        checked(experiment_of(name, *ALL, *overrides))
    assert str(caught.value).startswith(line)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("sizes", "graph", "line"),
    [
        ([3] * 7, "torus", "algorithm.graph: 7 nodes are no grid, as 7 is no product"),
        ([3], "full", "algorithm.name: d_psgd needs two nodes or more, and there is one client"),
    ],
)
def test_numbers_of_nodes_that_are_no_graph_are_refused_in_one_line(sizes: list[int], graph: str, line: str) -> None:
    experiment = experiment_of("d_psgd", "cohort=1.0", f"algorithm.graph={graph}")
    with pytest.raises(ConfigError) as caught:
        fit_algorithm(experiment, ListedFederation(sizes))
    assert str(caught.value).startswith(line)
