"""What is said of a sampler holds for the cohorts that it draws."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raysim.config import Experiment
from raysim.privacy import Sampling, sampling_of
from raysim.selection.cohort import draw_cohort


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 40).flatmap(lambda n: st.tuples(st.just(n), st.integers(1, n))),
    st.integers(1, 60),
    st.integers(0, 9),
)
def test_round_robin_keeps_its_separation_and_number_of_participations(
    clients: tuple[int, int], rounds: int, seed: int
) -> None:
    population, cohort = clients
    experiment = Experiment.parse({"selection": "round_robin", "cohort": cohort, "seed": seed})
    said = sampling_of(experiment, population, cohort).recurrence(rounds)
    took = np.zeros((rounds, population), dtype=bool)
    for number in range(1, rounds + 1):
        took[number - 1, draw_cohort(experiment, population, number)] = True
    gaps = [np.diff(np.flatnonzero(took[:, client])).min(initial=rounds) for client in range(population)]
    assert min(gaps) >= min(said.separation, rounds)
    assert took.sum(axis=0).max() == said.most


@pytest.mark.parametrize(
    ("selection", "kind", "adjacency"),
    [
        ("poisson", "poisson", "add_remove"),
        ("uniform", "fixed_size", "replace_one"),
        ("round_robin", "round_robin", "add_remove"),
    ],
)
def test_the_event_is_that_of_the_selection(selection: str, kind: str, adjacency: str) -> None:
    experiment = Experiment.parse({"selection": selection, "cohort": 10})
    found = sampling_of(experiment, 100, 10)
    assert (found.kind, found.rate, found.adjacencies[0]) == (kind, 0.1, adjacency)


@pytest.mark.parametrize("selection", ["poisson", "uniform", "round_robin"])
def test_a_cohort_of_all_clients_is_no_sample(selection: str) -> None:
    found = sampling_of(Experiment.parse({"selection": selection, "cohort": 1.0}), 10, 10)
    assert found.kind == "everyone"
    assert not found.amplifies
    assert found.recurrence(7).most == 7


@pytest.mark.parametrize("name", ["clustered", "power_of_choice", "oort", "own.code:Choice"])
def test_selections_that_look_at_clients_have_no_event(name: str) -> None:
    found = sampling_of(Experiment.parse({"selection": {"name": name}}), 100, 10)
    assert found.kind == "other"
    assert found.why


def test_centralised_training_has_no_clients_to_protect() -> None:
    assert sampling_of(Experiment.parse({"algorithm": "centralised"}), 1, 1) == Sampling(
        "other", 1, 1, "centralised training has one client, who has all samples"
    )
