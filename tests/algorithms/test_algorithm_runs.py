"""What every algorithm promises of whole rounds: engines, cuts, resumes and its neutral setting do not change it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from adapted_modules import RULES
from listed_federation import ListedFederation
from plain_federation import BASE, SIZES, Run, experiment_of

from raysim.algorithms import ALGORITHMS, build_algorithm
from raysim.config import Experiment
from raysim.config.loading import apply_overrides
from raysim.errors import ConfigError
from raysim.execution.preparation.concrete import fit_algorithm

EVERY = pytest.mark.parametrize("name", ALGORITHMS)
TWO_BATCHES = 10
ADAPTED = ["model={name: mlp_lora, hidden: [6], rank: 3}"]
SUITABLE = {
    "moon": ["model={name: mlp, hidden: [6]}"],
    "pfedme": ["algorithm.strength=5"],
    "fedkseed": ["algorithm.epsilon=0.1"],
    "hierfavg": ["algorithm.edges=2"],
    "d_psgd": ["cohort=6", "algorithm.graph=exponential"],
    "push_sum": ["cohort=6", "algorithm.graph=one_peer"],
} | dict.fromkeys(RULES, ADAPTED)
"""Where softmax regression is too little, the learning rate too large, or rounding is divided by a small number."""


def settings(name: str, *overrides: str) -> Experiment:
    """The algorithm as it comes, if it can bear the learning rate and the model."""
    return experiment_of(name, *SUITABLE.get(name, ()), *overrides)


def has_rows(name: str) -> bool:
    return name != "fedsgd"


@EVERY
def test_rows_come_to_what_one_client_at_a_time_comes_to_and_their_number_changes_no_bit(name: str) -> None:
    if not has_rows(name):
        pytest.skip("full batches are as long as the client's shard")
    alone = Run(settings(name)).rounds(3)
    found = {rows: Run(settings(name), rows=rows).rounds(3) for rows in (1, 2, 5)}
    assert np.isfinite(alone).all()
    np.testing.assert_allclose(found[2], alone, rtol=1e-4, atol=2e-6)
    for rows in (1, 5):
        np.testing.assert_array_equal(found[rows], found[2])


@EVERY
def test_a_run_saved_and_loaded_in_the_middle_ends_in_the_same_bits(name: str, tmp_path: Path) -> None:
    whole = Run(settings(name)).rounds(4)
    first, second = Run(settings(name)), Run(settings(name))
    first.rounds(2)
    first.executor.save(str(tmp_path), first.handle)
    second.handle, second.number = second.executor.load(str(tmp_path)), 2
    np.testing.assert_array_equal(second.rounds(2), whole)


@EVERY
def test_at_its_neutral_setting_it_is_fedavg(name: str) -> None:
    neutral = ALGORITHMS[name].neutral
    if neutral is None:
        pytest.skip("it has none")
    values = apply_overrides({**BASE, "algorithm": name}, [*SUITABLE.get(name, ()), *neutral])
    experiment = Experiment.parse(values)
    plain = Experiment.parse({**values, "algorithm": "fedavg"})
    np.testing.assert_allclose(
        Run(experiment).rounds(experiment.rounds), Run(plain).rounds(plain.rounds), rtol=1e-6, atol=1e-6
    )


@EVERY
def test_clients_that_are_empty_or_have_one_sample_do_no_harm(name: str) -> None:
    run = Run(settings(name, "cohort=6"))
    assert np.isfinite(run.rounds(2)).all()
    alone = Run(settings(name, "cohort=2"), sizes=[1, 0])
    assert np.isfinite(alone.rounds(2)).all()


@pytest.mark.parametrize(
    ("algorithm", "line"),
    [
        ("{name: fedavgm, server_momentum: 1}", "'algorithm.server_momentum'"),
        ("{name: fedadam, beta2: 1.5}", "'algorithm.beta2'"),
        ("{name: fedyogi, tau: 0}", "'algorithm.tau'"),
        ("{name: fedadagrad, beta2: 0.9}", "'algorithm.beta2'"),
        ("{name: fedprox, mu: -1}", "'algorithm.mu'"),
        ("{name: fedexp, epsilon: -1}", "'algorithm.epsilon'"),
        ("{name: scaffold, option: 3}", "'algorithm.option'"),
        ("{name: feddyn, alpha: 0}", "'algorithm.alpha'"),
        ("{name: mimelite, beta: 1}", "'algorithm.beta'"),
        ("{name: cocoa, l2: 0}", "'algorithm.l2'"),
        ("{name: cocoa, combine: multiply}", "'algorithm.combine'"),
        ("{name: ifca, clusters: 0}", "'algorithm.clusters'"),
        ("{name: ifca, spread: 0}", "'algorithm.spread'"),
        ("{name: moon, mu: -1}", "'algorithm.mu'"),
        ("{name: moon, temperature: 0}", "'algorithm.temperature'"),
        ("{name: mime, beta: -0.1}", "'algorithm.beta'"),
        ("{name: ditto, strength: -1}", "'algorithm.strength'"),
        ("{name: pfedme, inner_steps: 0}", "'algorithm.inner_steps'"),
        ("{name: pfedme, local_lr: 0.1}", "local_lr · strength must be at most 1"),
        ("{name: apfl, alpha: 1.5}", "'algorithm.alpha'"),
        ("{name: perfedavg, adapt_lr: -1}", "'algorithm.adapt_lr'"),
        ("{name: fedrep, head_epochs: -1}", "'algorithm.head_epochs'"),
        ("{name: qfedavg, q: -0.5}", "'algorithm.q'"),
        ("{name: qfedavg, q: 8}", "(high / low) ** q must be at most 1e9"),
        ("{name: qfedavg, low: 11}", "low (11.0) must be below high (10.0)"),
        ("{name: afl, domains: 0}", "'algorithm.domains'"),
        ("{name: afl, rate: -1}", "'algorithm.rate'"),
        ("{name: afl, low: 11}", "low (11.0) must be below high (10.0)"),
        ("{name: term, t: 30}", "|t| · (high - low) must be at most 20"),
    ],
)
def test_nonsense_knobs_are_refused_in_one_line(algorithm: str, line: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Experiment.parse(BASE).updated([f"algorithm={algorithm}"])
    assert line in str(caught.value).replace("algorithm.", "algorithm.") or line.strip("'") in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("algorithm", "overrides", "line"),
    [
        ("fednova", ["client.optimizer=adam"], "algorithm: fednova normalises by the length of SGD steps"),
        ("scaffold", ["client.optimizer=adam"], "algorithm: scaffold's option 2 reads mean gradients off"),
        ("scaffold", ["aggregation.weights=loss"], "aggregation.weights: scaffold keeps averages over all clients"),
        (
            "fedper",
            ["algorithm.local_layers=[head.*]"],
            "algorithm.local_layers: 'head.*' matches nothing in the model",
        ),
        ("fedbn", [], "algorithm: fedbn finds no layers of its kind in the model"),
        ("fedrep", ["client.steps=3"], "algorithm: fedrep counts in whole epochs"),
        ("fedrep", ["client.optimizer=adam"], "algorithm: fedrep fixes half of the model at a time"),
        ("afl", ["aggregation.weights=samples"], "aggregation.weights: afl learns how much clients count"),
        ("cocoa", ["aggregation.weights=uniform"], "aggregation.weights: cocoa adds up what clients come to"),
        ("cocoa", ["algorithm.server_lr=2"], "algorithm.server_lr: the model would no longer be that of the dual"),
        ("centralised", ["algorithm.server_lr=0.5"], "algorithm.server_lr: centralised has no server"),
        ("centralised", ["client.stragglers.share=0.5"], "client.stragglers: centralised has no clients"),
        ("centralised", ["aggregation.weights={name: explicit, table: {1: 1.0}}"], "aggregation.weights: centralised"),
        ("centralised", ["execution.clients_per_actor=2"], "execution.clients_per_actor: centralised"),
        ("moon", [], "algorithm: moon compares what the last layer is given, and the model has no other"),
        ("moon", ["algorithm.layer=head"], "algorithm.layer: the model has no layer 'head'; it has "),
        ("mime", ["client.clip_norm=1"], "client.clip_norm: mime's correction is exact for whole gradients only"),
        ("mime", ["client.groups=[{match: ['*'], clip_norm: 1}]"], "client.clip_norm: mime's correction is exact for"),
        (
            "scaffold",
            ["client.groups=[{match: ['*'], lr_scale: 2}]"],
            "client.groups: scaffold's option 2 divides",
        ),
        ("scaffold", ["client.schedule=steps"], "client.schedule: scaffold's option 2 divides by how"),
        ("fednova", ["client.schedule=steps"], "client.schedule: fednova divides by how far steps"),
        ("qfedavg", ["client.schedule=steps"], "client.schedule: qfedavg takes the Lipschitz constant for 1 / lr"),
        (
            "fednova",
            ["client.optimizer={name: sgd, momentum: 0.9, state: keep}"],
            "client.optimizer.state: fednova divides by how far steps of one learning rate get from rest; set it to",
        ),
        ("fedrep", ["client.groups=[{match: ['*'], weight_decay: 1}]"], "algorithm: fedrep fixes half of the model"),
        ("pfedme", ["client.optimizer=adam"], "algorithm: pfedme takes steps of its own towards personal models; set"),
        ("pfedme", [], "algorithm.strength: steps of 0.2 towards a personal model diverge"),
        ("apfl", ["client.optimizer.momentum=0.9"], "algorithm: apfl takes steps of its own in two models at once"),
        ("perfedavg", ["client.optimizer=adam"], "algorithm: perfedavg takes steps of its own along gradients"),
        ("feddyn", ["aggregation.weights=loss"], "aggregation.weights: feddyn keeps averages over all clients"),
    ],
)
def test_an_experiment_that_it_is_not_made_for_is_refused_in_one_line(
    algorithm: str, overrides: list[str], line: str
) -> None:
    experiment = experiment_of(algorithm, *overrides)
    experiment = fit_algorithm(experiment, ListedFederation(SIZES))
    with pytest.raises(ConfigError) as caught:
        build_algorithm(experiment.algorithm, Run(experiment_of("fedavg")).executor.worker.algorithm.layout).check(
            experiment
        )
    assert str(caught.value).startswith(line)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("algorithm", "population", "line"),
    [
        ({"name": "afl"}, 20_000, "algorithm.domains: one for each of 20,000 clients would travel with every record"),
        ({"name": "cocoa", "loss": "squared"}, 6, "algorithm.loss: squared does not suit cross_entropy; use logistic"),
        ({"name": "cocoa", "samples": 5}, 6, "algorithm.samples: 5 is not what the data have (6); leave it out"),
        ({"name": "cocoa", "machines": 3}, 6, "algorithm.machines (3) are fewer than a round's clients (4)"),
        ({"name": "afl", "domains": 7}, 6, "algorithm.domains (7) are more than the clients (6); lower it"),
    ],
)
def test_a_knob_that_does_not_suit_the_data_is_refused_in_one_line(
    algorithm: dict[str, Any], population: int, line: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        fit_algorithm(experiment_of(algorithm), ListedFederation([1] * population))
    assert str(caught.value).startswith(line)
    assert "\n" not in str(caught.value)
