"""HierFAVG against a plain loop after the paper's algorithm 1, and how clients come to their edges."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from listed_federation import ListedFederation
from plain_federation import COLUMNS, Plain, Run, experiment_of
from torch import nn

from raysim.algorithms import build_algorithm
from raysim.config import Experiment
from raysim.errors import ConfigError
from raysim.execution.preparation.concrete import fit_algorithm
from raysim.selection.edges import edge_bits, edges_of
from raysim.training import ParameterLayout

HIERARCHY = {"name": "hierfavg", "edges": 2, "edge_rounds": 2}


def edges_in(run: Run) -> Any:
    found = edges_of(run.experiment, run.federation)
    assert found is not None
    return found


@pytest.mark.parametrize("cohort", [6, 4])
@pytest.mark.parametrize("every", [2, 3])
def test_it_follows_algorithm_1_of_the_paper(every: int, cohort: int) -> None:
    run = Run(experiment_of({**HIERARCHY, "edge_rounds": every}, f"cohort={cohort}"))
    plain, edge_of = Plain(run), edges_in(run)
    cloud = run.model.astype(np.float64)
    edges, shares = np.repeat(cloud[None], 2, axis=0), np.zeros(2)
    for number in range(1, 7):
        moved, weight = np.zeros_like(edges), np.zeros(2)
        for client, p in plain.cohort(number):
            edge = edge_of[client]
            moved[edge] += p * (plain.local(edges[edge], number, client) - edges[edge])
            weight[edge] += p
        edges = edges + moved / np.where(weight > 0, weight, 1)[:, None]
        shares += weight
        found = run.rounds(1)
        if number % every == 0:
            cloud = (shares[:, None] * edges).sum(axis=0) / shares.sum()
            edges, shares = np.repeat(cloud[None], 2, axis=0), np.zeros(2)
        np.testing.assert_allclose(found, cloud, rtol=0, atol=3e-6)
        np.testing.assert_allclose(run.handle.state["edges"].reshape(2, COLUMNS), edges, rtol=0, atol=3e-6)


@pytest.mark.parametrize(
    "overrides", [[], ["cohort=6", "aggregation.weights=uniform"], ["algorithm.server_momentum=0.5"]]
)
def test_with_one_edge_round_it_is_fedavg_bit_for_bit(overrides: Sequence[str]) -> None:
    run = Run(experiment_of({**HIERARCHY, "edges": 3, "edge_rounds": 1}, *overrides))
    momentum = 0.5 if "algorithm.server_momentum=0.5" in overrides else 0.0
    plain = [one for one in overrides if "momentum" not in one]
    expected = Run(experiment_of({"name": "fedavg", "server_momentum": momentum}, *plain))
    for _ in range(4):
        np.testing.assert_array_equal(run.rounds(1), expected.rounds(1))


def test_between_the_rounds_of_the_cloud_edges_are_federations_of_their_own() -> None:
    run = Run(experiment_of({**HIERARCHY, "edge_rounds": 5}, "cohort=6"))
    edge_of, first = edges_in(run), run.model
    np.testing.assert_array_equal(run.rounds(4), first)
    for edge in range(2):
        own = Run(experiment_of("fedavg", "cohort=6"))
        mine = np.where(edge_of == edge, own.federation.sizes("train"), 0)
        alone = Run(own.experiment, federation=_Some(mine))
        np.testing.assert_allclose(run.handle.state["edges"].reshape(2, COLUMNS)[edge], alone.rounds(4), atol=3e-6)


class _Some(ListedFederation):
    """The same clients, some of which have lost their samples."""

    def __init__(self, sizes: Any) -> None:
        super().__init__(sizes.tolist(), [0] * len(sizes))


def assigned(assign: str, sizes: Sequence[int], edges: int, seed: int = 0) -> Any:
    experiment = experiment_of(
        {"name": "hierfavg", "edges": edges}, f"algorithm.assign={assign}", f"seed={seed}", "cohort=1"
    )
    return edges_of(experiment, ListedFederation(sizes))


def test_edges_have_as_many_clients_or_as_many_samples_keyed_by_the_seed() -> None:
    sizes = [100, 1, 1, 1, 50, 49, 2, 3, 1, 2]
    by_key = assigned("key", sizes, 3)
    assert sorted(np.bincount(by_key).tolist()) == [3, 3, 4]
    assert (by_key == assigned("key", sizes, 3)).all()
    assert (by_key != assigned("key", sizes, 3, seed=1)).any()
    held = np.bincount(assigned("size", sizes, 2), weights=sizes)
    assert np.ptp(held) <= 2


def test_a_file_names_the_edges(tmp_path: Path) -> None:
    file = tmp_path / "edges.csv"
    file.write_text("client,town\n2,Ulm\n0,Bonn\n1,Ulm\n3,Bonn\n")
    experiment = experiment_of({**HIERARCHY, "assign": {"name": "file", "path": str(file), "column": "town"}})
    found = edges_of(experiment, ListedFederation([1] * 4))
    assert found is not None
    assert found.tolist() == [0, 1, 1, 0]
    before = edge_bits(experiment)
    file.write_text("client,town\n2,Ulm\n0,Bonn\n1,Bonn\n3,Bonn\n")
    assert before != edge_bits(experiment)


FILES = [
    (None, "algorithm.assign.path: no such file: "),
    ("client,town\n0,a\n1,b\n2,a\n3,a\n", "algorithm.assign: {path} has no column 'edge', but client, town"),
    ("client,edge\n0,a\n1,\n2,a\n3,b\n", "algorithm.assign: {path} has a row without 'edge'"),
    ("client,edge\n0,1\n1,2\n3,1\n", "algorithm.assign: {path} must have a row for each of the 4 clients, by their"),
    ("client,edge\n0,1\n1,2\n2,1\n2,1\n3,1\n", "algorithm.assign: {path} must have a row for each of the 4 clients"),
    ("client,edge\n0,1\n1,2\n2,3\n3,1\n", "algorithm.edges: 2, but {path} names 3 of them; set it to that"),
]


@pytest.mark.parametrize(("text", "line"), FILES)
def test_a_file_that_does_not_name_them_is_refused_in_one_line(tmp_path: Path, text: str | None, line: str) -> None:
    file = tmp_path / "edges.csv"
    if text is not None:
        file.write_text(text)
    experiment = experiment_of({**HIERARCHY, "assign": {"name": "file", "path": str(file)}})
    with pytest.raises(ConfigError) as caught:
        edges_of(experiment, ListedFederation([1] * 4))
    assert str(caught.value).startswith(line.format(path=file))
    assert "\n" not in str(caught.value)


def checked(experiment: Experiment) -> None:
    experiment = fit_algorithm(experiment, ListedFederation([3] * 6))
    build_algorithm(experiment.algorithm, ParameterLayout(nn.Linear(4, 3))).check(experiment)


@pytest.mark.parametrize(
    ("override", "line"),
    [
        ("algorithm.edges=7", "algorithm.edges: 7 edges, but only 6 clients; lower it"),
        ("rounds=5", "rounds: the cloud averages after every 2 (algorithm.edge_rounds)"),
        ("aggregation.protection=secagg", "aggregation.protection: secagg has one sum a round"),
        ("aggregation.weights=learned", "aggregation.weights: learned ones try means of all clients"),
        ("aggregation.stages=[{name: clip, max_norm: 1}]", "aggregation.stages: clip stands around one sum a round"),
        (
            "systems.timetable={name: deadline, seconds: 9}",
            "systems.timetable: edges of hierfavg wait for all of their",
        ),
    ],
)
def test_what_it_cannot_be_is_refused_in_one_line(override: str, line: str) -> None:
    with pytest.raises(ConfigError) as caught:
        checked(experiment_of(HIERARCHY, override))
    assert str(caught.value).startswith(line)
    assert "\n" not in str(caught.value)
