"""Runs are attacked: samples from updates, members from models, and the same run without one client."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from federations import digits

from raysim import Simulation
from raysim.attacking import attack_model, attack_round, draw_inversion, invert_update
from raysim.attacking.participation import participation_scores
from raysim.auditing import neighbouring_runs, private_clients
from raysim.config.example_privacy import ExamplePrivacyConfig
from raysim.errors import ConfigError, RunError
from raysim.evidence import evidence_of, keep_evidence
from raysim.privacy.accountants import sampled_pld_epsilon
from raysim.privacy.samples import sample_epsilons
from raysim.tracking import write_report

SMALL = (
    "data.partition={name: iid, clients: 300}", "data.holdout=0", "data.test=0.2", "client.steps=1",
    "client.batch_size=8", "rounds=2", "client.optimizer.lr=0.05",
)  # fmt: skip


def finished(tmp_path: Path, *overrides: str) -> Path:
    with Simulation(digits(tmp_path, *SMALL, *overrides)) as simulation:
        simulation.run()
        return Path(simulation.directory)


def in_round(run: Path, number: int) -> int:
    from raysim.tracking import RunDirectory
    from raysim.tracking.reading import read_clients

    rows = [row for batch in read_clients(RunDirectory.open(run)) for row in batch.to_pylist()]
    return int(next(row["client"] for row in rows if row["round"] == number and row["samples"] <= 8))


@pytest.mark.parametrize("method", ["cosine", "linear"])
def test_an_update_gives_samples_of_its_client_away(tmp_path: Path, method: str) -> None:
    run = finished(tmp_path, "model={name: mlp, hidden: [64]}")
    client = in_round(run, 2)
    found = invert_update(run, client=client, round=2, method=method, steps=150)  # type: ignore[arg-type]
    assert found.found.shape == found.originals.shape
    assert found.steps == 1
    assert found.error.min() < 0.25 * found.guess
    again = invert_update(run, client=client, round=2, method=method, steps=150)  # type: ignore[arg-type]
    assert torch.equal(found.found, again.found)
    assert found.facts()["mean_error"] == pytest.approx(float(found.error.mean()))


def test_noise_on_gradients_of_samples_hides_them_and_what_it_hides_is_shown_beside(tmp_path: Path) -> None:
    errors = []
    for protection in ((), ("client.privacy={clip: 1.0, noise_multiplier: 2.0}",)):
        run = finished(tmp_path, *protection)
        found = invert_update(run, client=in_round(run, 1), round=1, steps=100)
        errors.append(float(found.error.min()))
    assert errors[1] > 3 * errors[0]
    assert found.unprotected is not None
    assert found.unprotected_error is not None
    assert found.unprotected_error < float(found.error.mean()) / 3


def test_the_server_s_noise_hides_a_client_from_those_who_see_models_alone(tmp_path: Path) -> None:
    """With one client a round the change of the model is its message, and with noise it is that and noise."""
    alone = ("cohort=1", "rounds=1", "aggregation.weights=uniform", "selection=uniform")
    errors = {}
    for name, stages in (
        ("plain", "[]"),
        ("noisy", "[{name: clip, max_norm: 0.5}, {name: gaussian, noise_multiplier: 1}]"),
    ):
        run = finished(tmp_path / name, *alone, f"aggregation.stages={stages}")
        client = in_round(run, 1)
        for sees in ("message", "model"):
            found = invert_update(run, client=client, round=1, method="linear", sees=sees)  # type: ignore[arg-type]  # a str here
            errors[name, sees] = float(found.error.mean())
            assert found.unprotected is None
    assert errors["plain", "model"] == pytest.approx(errors["plain", "message"], rel=1e-3)
    assert errors["noisy", "model"] > 2 * errors["noisy", "message"]


def test_clients_of_a_round_are_told_by_the_change_of_the_model_and_noise_hides_them(tmp_path: Path) -> None:
    few = ("cohort=4", "rounds=2", "aggregation.weights=uniform", "selection=uniform")
    found = {}
    noise = {"none": "[]", "much": "[{name: clip, max_norm: 0.5}, {name: gaussian, noise_multiplier: 20}]"}
    for name, stages in noise.items():
        run = finished(tmp_path / name, *few, f"aggregation.stages={stages}")
        found[name] = attack_round(run, round=2, clients=60)
        assert (found[name].members, found[name].others) == (4, 60)
    assert found["none"].found.auc == 1.0
    assert found["much"].found.auc < 0.9
    evidence = evidence_of(found["none"])
    assert evidence.saw == "the model before and after round 2, and the samples of 64 clients"
    assert evidence.facts["auc"] == 1.0


def test_scores_are_the_best_linear_estimate_of_who_is_in_the_mean() -> None:
    """Exact without noise; with noise as if its variance were known."""
    generator = np.random.default_rng(0)
    sent, inside = generator.normal(size=(40, 400)), np.arange(40) < 10
    exact = participation_scores(sent[inside].mean(axis=0), sent, 10)
    assert exact == pytest.approx(inside.astype(float), abs=1e-5)
    change = sent[inside].mean(axis=0) + generator.normal(0, 0.8, 400)
    scores = participation_scores(change, sent, 10)
    own, rest = sent / 10, change - sent.sum(axis=0) / 40
    expected = 0.25 + np.linalg.solve(own @ own.T + 0.8**2 / (0.25 * 0.75) * np.eye(40), own @ rest)
    assert scores == pytest.approx(expected, rel=0.1, abs=0.02)


def test_what_attacks_found_is_kept_and_reported(tmp_path: Path) -> None:
    run = finished(tmp_path, "client.privacy={clip: 1.0, noise_multiplier: 2.0}")
    inverted = invert_update(run, client=in_round(run, 1), round=1, method="linear")
    attacked = attack_model(run)
    for found in (inverted, attacked):
        assert keep_evidence(run, found).is_file()
    text = write_report([run]).read_text()
    low, high = attacked.found.interval
    assert f"{attacked.found.auc:.4f} ({low:.4f} to {high:.4f})" in text
    assert f"{inverted.error.mean():.3g}" in text
    assert f"{inverted.unprotected_error:.3g}" in text
    assert "attack-inversion-message" in " ".join(one.name for one in (run / "figures").iterdir())
    with pytest.raises(RunError, match="no such run directory"):
        keep_evidence(tmp_path / "nowhere", attacked)


def test_members_of_an_overfitted_model_are_told_from_others(tmp_path: Path) -> None:
    few = ("data.partition={name: iid, clients: 4}", "data.test=0.95", "client.steps=60", "rounds=10")
    found = attack_model(finished(tmp_path, *few, "client.optimizer.lr=0.5", "model={name: mlp, hidden: [64]}"))
    assert found.found.auc > 0.6
    assert found.member_loss < found.other_loss
    assert found.facts()["auc"] == found.found.auc


def test_the_run_without_a_client_is_trained_and_told_from_the_run_with_it(tmp_path: Path) -> None:
    runs = 6
    skewed = digits(tmp_path, "data.partition={name: shards, clients: 10}", "cohort=10", "rounds=2", "data.holdout=0")
    found = neighbouring_runs(skewed, client=3, runs=runs)
    assert len(found.distances) == runs
    assert (found.distances > 0).all()
    assert found.found.auc == 1.0
    assert np.mean(found.with_client - found.without_client) > 0


def test_what_cannot_be_attacked_says_so(tmp_path: Path) -> None:
    run = finished(tmp_path)
    with pytest.raises(RunError, match="is not in the cohort"):
        invert_update(run, client=[one for one in range(300) if one != in_round(run, 1)][-1], round=1, steps=1)
    with pytest.raises(RunError, match="there is no round 9"):
        invert_update(run, client=0, round=9)
    with pytest.raises(RunError, match="the cohort of round 1 is all clients"):
        attack_round(finished(tmp_path / "all", "cohort=1.0", "rounds=1"), round=1)
    with pytest.raises(ConfigError, match="there is no client 77"):
        neighbouring_runs(digits(tmp_path), client=77)
    with pytest.raises(ConfigError, match="depend on the rounds before"):
        neighbouring_runs(digits(tmp_path, "selection=oort"), client=0)


def test_epsilon_of_samples_is_that_of_all_steps_of_their_client(tmp_path: Path) -> None:
    run = finished(tmp_path, "data.partition={name: iid, clients: 4}", "client.privacy={clip: 1, noise_multiplier: 2}")
    found = private_clients(run, 1e-5)
    assert found.steps.tolist() == (found.rounds * 1).tolist()
    assert found.rounds.sum() == 2 * 4
    for n, steps, epsilon in zip(found.samples, found.steps, found.epsilon, strict=True):
        assert epsilon == pytest.approx(sampled_pld_epsilon("gaussian", 2.0, 8 / n, int(steps), 1e-5))
    cut = ExamplePrivacyConfig(clip=1, noise_multiplier=2, largest_batch=28)
    whole = ExamplePrivacyConfig(clip=1, noise_multiplier=2)
    some = np.array([400]), np.array([50])
    more, less = (float(sample_epsilons(one, 8, *some, 1e-3)[0]) for one in (cut, whole))
    assert less < more < 2 * less
    assert sample_epsilons(ExamplePrivacyConfig(clip=1, noise_multiplier=0), 8, *some, 1e-5)[0] == np.inf
    with pytest.raises(RunError, match="samples were not protected"):
        private_clients(finished(tmp_path))


def test_reconstructions_are_drawn_beside_the_originals(tmp_path: Path) -> None:
    run = finished(tmp_path)
    draw_inversion(invert_update(run, client=in_round(run, 1), round=1, method="linear"), tmp_path / "digits.png")
    assert (tmp_path / "digits.png").stat().st_size > 1000
