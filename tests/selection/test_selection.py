"""Cohorts that are more than a uniform draw, against plain loops after the papers' pseudo-code."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from federations import digits, sha256
from listed_federation import ListedFederation
from plain_federation import Plain, Run, experiment_of

from raysim import Simulation, keyed
from raysim.config.server import ClusteredConfig
from raysim.data.federation import Int64
from raysim.debugging import debug
from raysim.errors import ConfigError, RunError
from raysim.execution.preparation.prepare import prepare_job
from raysim.execution.scheduling.round_costs import rounds_ahead
from raysim.rounds.ranges import Evaluated, TrainRange
from raysim.rounds.task import RoundWork
from raysim.selection import build_selection, load_state, save_state
from raysim.selection.clusters import clusters_of, draw_stratified, k_means
from raysim.selection.cohort import draw_cohort, draw_round
from raysim.selection.oort import Oort
from raysim.selection.sampling import without_replacement
from raysim.systems import Fleet, Load, Rounds

SIZES = (12, 30, 1, 0, 7, 18)


def test_a_round_robin_asks_everybody_once_before_anybody_twice() -> None:
    experiment = experiment_of("fedavg", "selection=round_robin", "cohort=3")
    asked = [client for number in range(1, 15) for client in draw_cohort(experiment, 14, number).tolist()]
    assert all(len(set(draw_cohort(experiment, 14, number).tolist())) == 3 for number in range(1, 15))
    for rounds in range(1, 15):
        times = Counter(asked[: 3 * rounds])
        assert max(times.values()) - min(times[client] for client in range(14)) <= 1
    assert set(Counter(asked).values()) == {3}
    order = sorted(range(14), key=lambda client: int(keyed.bits(3, keyed.Purpose.ROTATION, client)))
    assert draw_cohort(experiment, 14, 5).tolist() == sorted((order + order)[12:15])
    other = [draw_cohort(experiment.updated(["seed=4"]), 14, n).tolist() for n in range(1, 5)]
    assert other != [draw_cohort(experiment, 14, n).tolist() for n in range(1, 5)]


def test_k_means_is_lloyds_algorithm_and_draws_are_stratified() -> None:
    generator = np.random.default_rng(0)
    middles = np.eye(3)
    points = np.concatenate([middles[i] + 0.05 * generator.standard_normal((n, 3)) for i, n in enumerate((8, 14, 18))])
    labels = k_means(5, points, 3, 50)
    truth = np.repeat([0, 1, 2], [8, 14, 18])
    assert len({(a, b) for a, b in zip(labels.tolist(), truth.tolist(), strict=True)}) == 3
    centres = [points[labels == i].mean(axis=0) for i in range(3)]
    nearest = [min(range(3), key=lambda i: float(((p - centres[i]) ** 2).sum())) for p in points]
    assert labels.tolist() == nearest
    drawn = np.zeros(40)
    for number in range(1, 801):
        cohort = draw_stratified(1, number, 10, truth)
        assert len(set(cohort.tolist())) == 10
        for cluster, size in enumerate((8, 14, 18)):
            share = 10 * size / 40
            assert math.floor(share) <= (truth[cohort] == cluster).sum() <= math.ceil(share)
        drawn[cohort] += 1
    assert np.abs(drawn / 800 - 0.25).max() < 5 * math.sqrt(0.25 * 0.75 / 800)


def test_candidates_are_drawn_in_proportion_to_their_weights_without_replacement() -> None:
    clients, weights = np.array([2, 5, 7, 9]), np.array([1.0, 3.0, 0.0, 6.0])
    first: Counter[int] = Counter()
    for number in range(4000):
        three = without_replacement(0, keyed.Purpose.CANDIDATES, number, clients, weights, 3).tolist()
        assert three == [2, 5, 9], "nobody of weight 0 comes before one that has weight"
        first.update(without_replacement(0, keyed.Purpose.CANDIDATES, number, clients, weights, 1).tolist())
    assert [first[client] / 4000 for client in (2, 5, 7, 9)] == pytest.approx([0.1, 0.3, 0.0, 0.6], abs=0.03)


def selection_run(selection: str, *overrides: str, sizes: tuple[int, ...] = SIZES) -> tuple[Run, Any]:
    run = Run(experiment_of("fedavg", f"selection={selection}", *overrides), sizes=sizes)
    work = run.executor.worker.algorithm.work(run.experiment.client)
    return run, build_selection(run.experiment, run.federation, work)


def test_power_of_choice_takes_those_candidates_whose_loss_is_highest() -> None:
    run, selection = selection_run("{name: power_of_choice, candidates: 4}", "cohort=2")
    plain = Plain(run)
    handle = run.handle
    for number in range(1, 5):
        w = run.executor.fetch(handle).astype(np.float64)
        candidates = selection.drawn(number).tolist()
        assert len(candidates) == 4
        assert 3 not in candidates, "a client without samples has no loss"
        expected = sorted(sorted(candidates, key=lambda client: -plain.loss(w, client))[:2])
        found = selection.cohort(number, {}, lambda ranges, at=handle: run.executor.evaluate(list(ranges), at))
        assert found.tolist() == expected
        task = draw_round(run.experiment, run.federation, run.executor.worker.trainer.work, number, found)
        handle = next(run.executor.rounds(iter([RoundWork(task)]), handle)).server


def losses(clients: Int64, squares: list[float]) -> list[Evaluated]:
    """A result for each client, the last first."""
    rows = [Evaluated("train", np.array([[0.5, s]]), np.array([c])) for c, s in zip(clients, squares, strict=True)]
    return rows[::-1]


@pytest.mark.parametrize("devices", [False, True])
def test_oort_follows_algorithm_1_of_the_paper(devices: bool) -> None:
    sizes = (12, 30, 5, 0, 7, 18, 40, 9, 22, 3)
    options = "{name: oort, exploration: 0.8, exploration_decay: 0.7, exploration_floor: 0.25, window: 2, clip: 80}"
    _, selection = selection_run(options, "cohort=4", sizes=sizes)
    assert isinstance(selection, Oort)
    eligible = [client for client, size in enumerate(sizes) if size]
    t: dict[int, float] = {client: 2 * -(-sizes[client] // 5) for client in eligible}  # two epochs in batches of five
    at = 0.0
    if devices:
        steps, speed = (
            np.array([t.get(client, 0) for client in range(10)]),
            np.array([4, 1, 2, 3, 1, 9, 0.5, 1, 2, 5.0]),
        )
        upload, download, latency = np.full(10, 50.0), np.full(10, 100.0), np.full(10, 0.25)
        fleet = Fleet(3, speed, upload, download, latency, np.zeros(10))
        selection = selection.on(
            Rounds(fleet, Load(steps, down=200, up=100), cohorts=lambda step: np.empty(0, np.int64))
        )
        t = {client: 0.25 + 2 + t[client] / speed[client] + 2 + 0.25 for client in eligible}
    state: Any = selection.first()
    utility: dict[int, float] = {}
    last: dict[int, int] = {}
    sums: list[float] = []
    percentile = 30.0
    generator = np.random.default_rng(2)
    for number in range(1, 12):
        cohort = selection.cohort(number, state, lambda ranges: [])
        rest = [client for client in eligible if client not in utility]
        epsilon = max(0.8 * 0.7 ** (number - 1), 0.25)
        new = min(max(round(epsilon * 4), 4 - len(utility)), len(rest))

        def draw(purpose: int, among: dict[int, float], count: int, number: int = number) -> list[int]:
            u = {client: float(keyed.uniform(3, keyed.Purpose(purpose), number, client)) for client in among}
            return sorted(among, key=lambda client: math.log(u[client]) / among[client], reverse=True)[:count]

        chosen = draw(keyed.Purpose.EXPLORATION, {client: 1 / t[client] for client in rest}, new)
        preferred = np.percentile(list(t.values()), percentile)
        util = {}
        for client, value in utility.items():
            value = min(value, np.percentile(list(utility.values()), 80))
            value += math.sqrt(0.1 * math.log(number) / last[client])
            util[client] = value * (preferred / t[client]) ** 2 if preferred < t[client] else value
        if new < 4:
            cut = 0.95 * sorted(util.values(), reverse=True)[4 - new - 1]
            admitted = {client: value for client, value in util.items() if value >= cut}
            chosen += draw(keyed.Purpose.COHORT, admitted, 4 - new)
        assert cohort.tolist() == sorted(chosen)

        squares = generator.uniform(0.1, 4, 4) / number
        state = selection.after(number, state, cohort, losses(cohort, squares.tolist()))
        mine = [sizes[client] * math.sqrt(s) for client, s in zip(cohort, squares, strict=True)]
        utility |= dict(zip(cohort.tolist(), mine, strict=True))
        last |= dict.fromkeys(cohort.tolist(), number)
        sums.append(sum(mine))
        if number % 2 == 0 and number >= 4 and sum(sums[-4:-2]) > sum(sums[-2:]):
            percentile = min(100.0, percentile + 5)
        at += max(t[client] for client in chosen)
        assert not devices or state["virtual"][0] == pytest.approx(at)
        assert state["percentile"][0] == percentile
        assert state["clients"].tolist() == sorted(utility)
        np.testing.assert_allclose(state["utility"], [utility[client] for client in sorted(utility)])
        assert state["last"].tolist() == [last[client] for client in sorted(utility)]
    assert percentile > 30, "the pacer has done something"
    assert len(utility) == len(eligible)


def test_losses_are_those_of_each_client_alone_however_they_are_cut() -> None:
    run, _ = selection_run("uniform")
    plain, w = Plain(run), run.model.astype(np.float64)
    whole = run.executor.evaluate([TrainRange(np.array([0, 1, 4]))], run.handle)[0]
    apart = [run.executor.evaluate([TrainRange(np.array([c]))], run.handle)[0].sums for c in (0, 1, 4)]
    np.testing.assert_array_equal(whole.sums, np.concatenate(apart))
    np.testing.assert_allclose(np.asarray(whole.sums)[:, 0], [plain.loss(w, c) for c in (0, 1, 4)], atol=1e-6)
    assert (np.asarray(whole.sums)[:, 1] >= np.asarray(whole.sums)[:, 0] ** 2).all()


ADAPTIVE = ("power_of_choice", "{name: oort, exploration: 0.5, window: 1}")


@pytest.mark.parametrize("selection", [*ADAPTIVE, "round_robin", "{name: clustered, clusters: 2}"])
def test_a_resume_selects_as_the_unbroken_run_and_comes_to_the_same_bits(tmp_path: Path, selection: str) -> None:
    experiment = digits(tmp_path, f"selection={selection}", "cohort=2", "rounds=5", "tracking.checkpoint_every=1")
    with Simulation(experiment, directory=tmp_path / "whole") as simulation:
        simulation.run()
        expected = sha256(simulation.model())
    with Simulation(experiment, directory=tmp_path / "broken") as simulation:
        for committed in simulation:
            if committed.number == 3:
                break
    with Simulation.resume(tmp_path / "broken") as resumed:
        resumed.run()
        assert sha256(resumed.model()) == expected
    cohorts = [pq.read_table(tmp_path / name / "clients.parquet")["client"].to_pylist() for name in ("whole", "broken")]
    assert cohorts[0] == cohorts[1]
    if selection in ADAPTIVE:
        again = debug(tmp_path / "whole", client=cohorts[0][-1], round=5)
        assert again.replayed == 0


@pytest.mark.parametrize("selection", ADAPTIVE)
def test_a_replay_without_checkpoints_finds_the_same_cohort(tmp_path: Path, selection: str) -> None:
    experiment = digits(tmp_path, f"selection={selection}", "cohort=2", "rounds=4", "tracking.checkpoint_every=0")
    with Simulation(experiment, directory=tmp_path / "run") as simulation:
        simulation.run()
    client = pq.read_table(tmp_path / "run" / "clients.parquet")["client"].to_pylist()[-1]
    (tmp_path / "run" / "checkpoints" / "round-000004" / "manifest.json").unlink()
    assert debug(tmp_path / "run", client=client, round=4).replayed == 3


def test_no_round_is_worked_on_ahead_of_the_one_that_decides_its_cohort() -> None:
    for selection, ahead in (("oort", 0), ("power_of_choice", 0), ("uniform", 7), ("clustered", 7)):
        experiment = experiment_of("fedavg", f"selection={selection}", "execution.rounds_ahead=7")
        assert rounds_ahead(experiment) == ahead


def test_what_a_selection_remembers_survives_a_file_and_must_be_its_own(tmp_path: Path) -> None:
    _, oort = selection_run("oort")
    with pytest.raises(RunError, match="cannot be read as safetensors"):
        load_state(tmp_path, oort)
    state = oort.after(1, oort.first(), np.array([0, 4]), losses(np.array([0, 4]), [1.0, 2.0]))
    save_state(tmp_path, state)
    found = load_state(tmp_path, oort)
    assert {name: value.tolist() for name, value in found.items()} == {n: v.tolist() for n, v in state.items()}
    _, uniform = selection_run("uniform")
    assert load_state(tmp_path, uniform) == {}


@pytest.mark.parametrize(
    ("selection", "overrides", "message"),
    [
        (
            "{name: power_of_choice, candidates: 3}",
            [],
            "selection.candidates: 3 candidates for a cohort of 4; raise it",
        ),
        ("{name: power_of_choice, candidates: 6}", [], "selection.candidates: 6 candidates, but only 5 clients have"),
        ("oort", ["cohort=6"], "cohort: oort chooses among clients with training samples, and only 5 have some"),
    ],
)
def test_a_selection_that_does_not_fit_the_population_is_refused(
    selection: str, overrides: list[str], message: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        selection_run(selection, *overrides)
    assert str(caught.value).startswith(message)


def test_clusters_need_labels_and_enough_different_clients(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="selection: clustered needs label histograms"):
        clusters_of(0, ClusteredConfig(), ListedFederation(SIZES))
    with pytest.raises(ConfigError, match=r"selection\.clusters: 10 clusters, but the clients have only 6 different"):
        prepare_job(digits(tmp_path, "selection=clustered"))
