"""Weights that a run learns while it goes on, from the updates of its cohort."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from federations import broken_off, sha256

from raysim import Experiment, Simulation
from raysim.errors import ConfigError, RunError
from raysim.tracking import RunDirectory, read_clients, read_rounds
from raysim.tuning.learned import choose

NOISY = (1, 4)


def learned(tmp_path: Path, *overrides: str, **weights: Any) -> Experiment:
    experiment = Experiment.parse(
        {
            "rounds": 4,
            "cohort": 6,
            "data": {
                "partition": {"name": "iid", "clients": 6},
                "validation": 0.2,
                "noise": {"clients": list(NOISY), "fraction": 0.8},
            },
            "client": {"optimizer": {"lr": 0.3}, "epochs": 2},
            "training": {"engine": "sequential"},
            "aggregation": {"weights": {"name": "learned", "trials": 16, **weights}},
            "execution": {"executor": "inprocess"},
            "tracking": {"directory": str(tmp_path / "runs"), "report": False, "checkpoint_every": 2},
        }
    )
    return experiment.updated(overrides) if overrides else experiment


def finished(experiment: Experiment) -> tuple[RunDirectory, str]:
    with Simulation(experiment) as simulation:
        simulation.run()
        return RunDirectory(simulation.directory), sha256(simulation.model())


def shares(run: RunDirectory) -> dict[int, npt.NDArray[np.float64]]:
    """Weights of a round's clients, by round."""
    found: dict[int, list[float]] = {}
    for batch in read_clients(run, ["client", "weight"]):
        for row in batch.to_pylist():
            found.setdefault(row["round"], []).append(row["weight"])
    return {number: np.array(weights) for number, weights in found.items()}


def test_clients_with_wrong_labels_are_muted_and_the_gain_is_recorded(tmp_path: Path) -> None:
    run, _ = finished(learned(tmp_path))
    for weights in shares(run).values():
        assert weights.sum() == pytest.approx(1)
        assert weights[list(NOISY)].sum() < 0.1
    rounds = read_rounds(run)
    assert all(gain > 0 for gain in rounds["weights/gain"].to_pylist())
    for measured, chosen in zip(rounds["validation/loss"].to_pylist(), rounds["weights/loss"].to_pylist(), strict=True):
        assert measured == pytest.approx(chosen, rel=1e-5), "the model is the one that was chosen"


def test_rounds_between_have_the_default_weights(tmp_path: Path) -> None:
    run, _ = finished(learned(tmp_path, every=3))
    by_round = shares(run)
    assert read_rounds(run)["weights/gain"].is_null().to_pylist() == [True, True, False, True]
    for number in (1, 2, 4):
        assert by_round[number].max() < 0.2


def test_a_chooser_that_keeps_the_default_gives_the_bits_of_samples_weights(tmp_path: Path) -> None:
    _, plain = finished(learned(tmp_path).updated(["aggregation.weights=samples"]))
    _, kept = finished(learned(tmp_path, chooser="choosers:keep"))
    assert kept == plain


def test_a_resume_comes_to_the_same_bits(tmp_path: Path) -> None:
    _, whole = finished(learned(tmp_path))
    assert broken_off(learned(tmp_path), after=2)[1] == whole


@pytest.mark.ray
@pytest.mark.usefixtures("ray_session")
@pytest.mark.parametrize("ahead", [0, "auto"])
def test_actors_come_to_the_bits_of_one_process(tmp_path: Path, ahead: int | str) -> None:
    run, alone = finished(learned(tmp_path))
    execution = ["execution.executor=ray", "execution.actors=2", f"execution.rounds_ahead={ahead}"]
    on_ray, shared = finished(learned(tmp_path, *execution))
    assert shared == alone
    for number, weights in shares(run).items():
        np.testing.assert_array_equal(shares(on_ray)[number], weights)


def test_a_client_that_is_dropped_has_no_row(tmp_path: Path) -> None:
    """One client's samples are not finite after scaling: its update is left out, and the others are weighed."""
    x = np.random.default_rng(0).normal(size=(120, 3)).astype(np.float32)
    x[:20] = 3e38
    data = {"x": x, "y": (x[:, 1] > 0).astype(np.int64), "client": np.repeat(np.arange(6), 20)}
    data |= {"x_test": x[20:], "y_test": data["y"][20:]}
    experiment = learned(tmp_path, "data.noise.clients=[]", "data.partition=natural", "data.validation=0.3", "rounds=1")
    with Simulation(experiment, data=data) as simulation:
        (only,) = list(simulation)
    assert only.clients["dropped"].to_pylist()[0] is not None
    assert only.clients["weight"].to_pylist()[0] == 0
    assert sum(only.clients["weight"].to_pylist()) == pytest.approx(1)


def test_what_cannot_be_learned_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="learned needs a validation set to learn from; set data"):
        Simulation(learned(tmp_path, "data.validation=0"))
    with pytest.raises(ConfigError, match=r"the updates of 6 clients take [\d,]+ bytes, the budget is 1,000"):
        Simulation(learned(tmp_path, budget=1000))
    with pytest.raises(ConfigError, match=r"aggregation\.weights\.chooser: no module 'nowhere'"):
        finished(learned(tmp_path, chooser="nowhere:choose"))
    with pytest.raises(RunError, match="choosers:nonsense returned a weight that is not finite; expected"):
        finished(learned(tmp_path, chooser="choosers:nonsense"))


def distance_to(truth: npt.NDArray[np.float64]) -> Any:
    def scores(weights: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        losses: npt.NDArray[np.float64] = np.square(weights - truth).sum(axis=1)
        return losses

    return scores


def test_the_study_finds_weights_that_are_known_and_never_does_worse_than_the_default() -> None:
    truth = np.array([0.4, 0.0, 0.3, 0.0, 0.3])
    default = np.full(5, 0.2)
    scores = distance_to(truth)
    found = choose(default, scores, trials=64, seed=1)
    assert found.sum() == pytest.approx(1)
    assert scores(found[None])[0] < 0.1 * scores(default[None])[0]
    np.testing.assert_array_equal(found, choose(default, scores, trials=64, seed=1))
    np.testing.assert_array_equal(choose(truth, scores, trials=8, seed=1), truth)


def test_many_clients_get_a_law_of_what_each_is_worth_by_itself() -> None:
    worth = np.linspace(0.1, 2.0, 60)

    def scores(weights: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        return np.asarray(weights @ worth)

    found = choose(np.full(60, 1 / 60), scores, trials=16, seed=0)
    assert scores(found[None])[0] < 0.5 * worth.mean()


def test_one_client_and_losses_that_are_no_numbers_are_survived() -> None:
    assert choose(np.ones(1), distance_to(np.ones(1)), trials=4, seed=0).tolist() == [1.0]

    def broken(weights: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        return np.full(len(weights), np.nan)

    np.testing.assert_array_equal(choose(np.array([0.5, 0.5]), broken, trials=4, seed=0), [0.5, 0.5])
