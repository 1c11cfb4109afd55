"""Whole studies in this process: what is tried, kept, refused, and gone on with."""

from __future__ import annotations

import errno
import json
import re
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState
from studies import LR, Tunable

from raysim import Experiment, tune
from raysim.errors import ConfigError, RaysimError, RunError, StorageError
from raysim.files import storing
from raysim.tracking import RunDirectory, RunTables, read_rounds
from raysim.tuning import Tuned

SHORT = {"space": LR, "sampler": {"name": "tpe", "startup": 2}}


def picks(tuned: Tuned) -> list[dict[str, Any]]:
    return [trial.params for trial in tuned.study.trials]


def values(tuned: Tuned) -> list[float | None]:
    return [trial.value for trial in tuned.study.trials]


def test_the_default_setting_is_tried_first_and_every_trial_is_a_run(tunable: Tunable, tmp_path: Path) -> None:
    tuned = tune(tunable(SHORT), directory=tmp_path / "study")
    assert picks(tuned)[0] == {"client.optimizer.lr": 0.1}
    assert [trial.state for trial in tuned.study.trials] == [TrialState.COMPLETE] * 4
    for trial in tuned.study.trials:
        run = RunDirectory.open(tmp_path / "study" / "trials" / f"{trial.number:05d}")
        assert run.experiment().client.optimizer.lr == trial.params["client.optimizer.lr"]
        rounds = read_rounds(run)
        assert rounds["validation/accuracy"].to_pylist()[-1] == trial.value
        assert "test/accuracy" not in rounds.column_names, "a trial must not look at the test set"
        assert trial.user_attrs["steps"] == 3 * 4 * 2
    assert tuned.trial.value == max(v for v in values(tuned) if v is not None)
    best = Experiment.from_yaml(tmp_path / "study" / "best.yaml")
    assert best.client.optimizer.lr == tuned.trial.params["client.optimizer.lr"] == tuned.experiment.client.optimizer.lr


def test_the_study_is_a_plain_optuna_study(tunable: Tunable, tmp_path: Path) -> None:
    tuned = tune(tunable(SHORT), directory=tmp_path / "study")
    storage = JournalStorage(JournalFileBackend(str(tmp_path / "study" / "journal.log")))
    study = optuna.load_study(study_name="study", storage=storage)
    assert study.best_params == tuned.study.best_params
    assert study.metric_names == ["validation/accuracy"]


@pytest.mark.parametrize(
    "sampler", ["tpe", "random", {"name": "cma_es", "population": 4}, {"name": "gp", "startup": 4}, "nsga2"]
)
def test_the_same_seed_gives_the_same_trials_also_after_a_break(tunable: Tunable, tmp_path: Path, sampler: Any) -> None:
    if isinstance(sampler, dict) and sampler["name"] == "cma_es":
        pytest.importorskip("cmaes")
    space = LR | {"client.steps": {"low": 1, "high": 3}}
    tuning = {"space": space, "sampler": sampler, "trials": 6}
    whole = tune(tunable(tuning, rounds=1), directory=tmp_path / "whole")
    tune(tunable(tuning | {"trials": 3}, rounds=1), directory=tmp_path / "broken")
    resumed = tune(directory=tmp_path / "broken", overrides=["tuning.trials=6"])
    assert picks(resumed) == picks(whole)
    assert values(resumed) == values(whole)
    other = tune(tunable(tuning | {"seed": 7}, rounds=1), directory=tmp_path / "other")
    assert picks(other)[1:] != picks(whole)[1:]


def test_a_pruner_stops_trials_within_a_round_and_they_count(tunable: Tunable, tmp_path: Path) -> None:
    pruner = {"name": "median", "startup": 1}
    tuned = tune(tunable({"space": LR, "pruner": pruner, "trials": 8}, rounds=4), directory=tmp_path / "study")
    pruned = [trial for trial in tuned.study.trials if trial.state == TrialState.PRUNED]
    assert pruned
    assert len(tuned.study.trials) == 8
    for trial in pruned:
        assert trial.user_attrs["rounds"] < 4 or trial.last_step == 4
        assert trial.last_step == trial.user_attrs["rounds"]


def test_weights_of_clients_are_tried_as_explicit_tables(tunable: Tunable, tmp_path: Path) -> None:
    tuned = tune(tunable({"weights": "clients", "trials": 3}), directory=tmp_path / "study")
    assert tuned.weights is not None
    assert sum(tuned.weights.values()) == pytest.approx(1)
    first, second = (RunDirectory.open(tmp_path / "study" / "trials" / f"0000{k}").experiment() for k in (0, 1))
    assert first.aggregation.weights.name == "samples"
    assert second.aggregation.weights.name == "explicit"
    recorded = tuned.study.trials[1].user_attrs["weights"]
    assert list(second.aggregation.weights.table.values()) == pytest.approx(recorded, abs=1e-8)


def test_a_grid_is_every_combination_once(tunable: Tunable, tmp_path: Path) -> None:
    space = {"client.steps": {"low": 1, "high": 3}, "client.batch_size": {"choices": [5, 10]}}
    tuned = tune(tunable({"space": space, "sampler": "grid", "trials": 50}, rounds=1), directory=tmp_path / "study")
    found = [tuple(pick.values()) for pick in picks(tuned)]
    assert found[0] == (2, 10)
    assert sorted(found) == [(s, b) for s in (1, 2, 3) for b in (5, 10)]


def test_a_pick_that_was_complete_before_is_not_run_again(tunable: Tunable, tmp_path: Path) -> None:
    space = {"client.steps": {"low": 1, "high": 2}}
    tuned = tune(tunable({"space": space, "sampler": "random", "trials": 6}, rounds=1), directory=tmp_path / "study")
    assert len(tuned.study.trials) == 6
    assert len(list((tmp_path / "study" / "trials").iterdir())) == 2
    twins = [trial for trial in tuned.study.trials if "same_as" in trial.user_attrs]
    assert len(twins) == 4
    assert all(twin.value == tuned.study.trials[twin.user_attrs["same_as"]].value for twin in twins)


def test_a_trial_that_diverges_fails_counts_and_is_not_repeated(tunable: Tunable, tmp_path: Path) -> None:
    space = {"client.optimizer.lr": {"choices": [0.1, 1e38]}}
    tuned = tune(tunable({"space": space, "sampler": "grid", "trials": 2}), directory=tmp_path / "study")
    states = {trial.params["client.optimizer.lr"]: trial.state for trial in tuned.study.trials}
    assert states == {0.1: TrialState.COMPLETE, 1e38: TrialState.FAIL}
    assert "every client was dropped" in tuned.study.trials[1].user_attrs["error"]


def test_several_objectives_have_a_pareto_front(tunable: Tunable, tmp_path: Path) -> None:
    tuning = {
        "space": {"client.steps": {"low": 1, "high": 6}},
        "objective": ["validation/accuracy", "total/steps"],
        "sampler": "nsga2",
        "trials": 6,
    }
    tuned = tune(tunable(tuning), directory=tmp_path / "study")
    front = {tuple(trial.values) for trial in tuned.study.best_trials}
    assert len(front) >= 2
    assert tuned.trial.values[0] == max(accuracy for accuracy, _ in front)


def test_the_winner_is_confirmed_on_fresh_seeds_and_the_test_set(tunable: Tunable, tmp_path: Path) -> None:
    tuning = {"space": {"client.optimizer.lr": {"choices": [0.1, 1.5]}}, "sampler": "grid", "confirm": {"seeds": 3}}
    tuned = tune(tunable(tuning, client={"steps": 3, "optimizer": {"lr": 0.1}}), directory=tmp_path / "study")
    confirmed = tuned.confirmed
    assert confirmed is not None
    assert confirmed.metric == "test/accuracy"
    assert len(set(confirmed.seeds)) == 3
    kept = json.loads((tmp_path / "study" / "confirmation.json").read_text())
    for who, found in (("baseline", confirmed.baseline), ("winner", confirmed.winner)):
        for seed, value in zip(confirmed.seeds, found, strict=True):
            run = RunDirectory.open(tmp_path / "study" / "confirm" / f"{who}-{seed}")
            assert read_rounds(run)["test/accuracy"][-1].as_py() == value == kept["values"][who][str(seed)]
            assert run.experiment().seed == seed
            assert run.experiment().data.seed == 0, "the federation must be the one that was tuned for"
    low, high = confirmed.interval
    assert low < confirmed.difference < high
    again = tune(directory=tmp_path / "study")
    assert again.confirmed == confirmed


def test_a_study_of_another_search_space_is_refused(tunable: Tunable, tmp_path: Path) -> None:
    tune(tunable(SHORT | {"trials": 1}), directory=tmp_path / "study")
    other = {"space": {"client.optimizer.lr": {"low": 0.02, "high": 1.0, "log": True}}}
    message = (
        r"belongs to another search space: tuning\.space\.client\.optimizer\.lr\.low is 0\.01 there and 0\.02 here"
    )
    with pytest.raises(RunError, match=message):
        tune(tunable(other), directory=tmp_path / "study")
    with pytest.raises(RunError, match="belongs to another experiment: rounds is 3 there and 5 here"):
        tune(tunable(SHORT, rounds=5), directory=tmp_path / "study")


def test_a_study_whose_version_did_not_know_a_key_goes_on(tunable: Tunable, tmp_path: Path) -> None:
    tune(tunable(SHORT | {"trials": 1}), directory=tmp_path / "study")
    for name in ("study.yaml", "journal.log"):
        text = (tmp_path / "study" / name).read_text()
        older = re.sub(r'  drop_last: false\n|\\"drop_last\\": false, ', "", text)
        assert older != text
        (tmp_path / "study" / name).write_text(older)
    assert len(tune(tunable(SHORT | {"trials": 2}), directory=tmp_path / "study").study.trials) == 2


def test_a_database_keeps_the_study_and_refuses_another_space(tunable: Tunable, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'studies.db'}"
    tune(tunable(SHORT | {"storage": url, "trials": 2}), directory=tmp_path / "one")
    together = tune(tunable(SHORT | {"storage": url, "trials": 3}), directory=tmp_path / "two")
    assert len(together.study.trials) == 3
    other = {"space": {"client.steps": {"low": 1, "high": 2}}, "storage": url}
    with pytest.raises(RunError, match="belongs to another search space"):
        tune(tunable(other), directory=tmp_path / "three")
    with pytest.raises(ConfigError, match=r"tuning\.storage: 'nonsense://x' cannot be opened"):
        tune(tunable(SHORT | {"storage": "nonsense://x"}), directory=tmp_path / "four")


def test_what_is_wrong_is_said_before_anything_is_written(tunable: Tunable, tmp_path: Path) -> None:
    wrong: list[tuple[Any, dict[str, Any], str]] = [
        ({"space": {"client.lr": {"low": 0, "high": 1}}}, {}, "unknown key 'client.lr'"),
        ({"space": LR, "pruner": "asha", "objective": ["validation/loss", "total/bytes"]}, {}, "single objective only"),
        (SHORT, {"data": {"partition": {"name": "iid", "clients": 6}}}, "set data.validation"),
        ({"space": LR, "parallel": 2}, {}, "2 trials at once need execution.executor: ray"),
        ({"weights": {"name": "sizes", "groups": 7}}, {}, "7 groups, but only 6 clients"),
        (
            {"weights": "clients", "space": {"aggregation.weights.default": {"low": 0.0, "high": 1.0}}},
            {"aggregation": {"weights": {"name": "explicit", "table": {0: 1.0}}}},
            "aggregation.weights is varied by tuning.weights already",
        ),
    ]
    for tuning, sections, message in wrong:
        with pytest.raises(RaysimError) as caught:
            tune(tunable(tuning, **sections), directory=tmp_path / "study")
        assert message in str(caught.value)
        assert "\n" not in str(caught.value)
        assert not (tmp_path / "study" / "study.yaml").exists()
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "thesis.tex").write_text("x")
    with pytest.raises(RunError, match="exists already and is no study"):
        tune(tunable(SHORT), directory=tmp_path / "taken")
    with pytest.raises(RunError, match="no study to go on with"):
        tune(directory=tmp_path / "nowhere")


def test_trials_that_a_dead_driver_left_are_failed_and_tried_once_more(tunable: Tunable, tmp_path: Path) -> None:
    experiment = tunable(SHORT)
    tune(experiment, directory=tmp_path / "study", overrides=["tuning.trials=2"])
    journal = tmp_path / "study" / "journal.log"
    study = optuna.load_study(study_name="study", storage=JournalStorage(JournalFileBackend(str(journal))))
    left = study.ask({"client.optimizer.lr": optuna.distributions.FloatDistribution(0.01, 1.0, log=True)})
    with journal.open("a") as file:
        file.write('{"op_code": 6, "half a li')  # what a kill in the middle of a write leaves
    (tmp_path / "study" / "journal.log.lock").symlink_to("nobody")
    tuned = tune(directory=tmp_path / "study", overrides=["tuning.trials=4"])
    states = [trial.state for trial in tuned.study.trials]
    assert states == [TrialState.COMPLETE] * 2 + [TrialState.FAIL] + [TrialState.COMPLETE] * 2
    again = tuned.study.trials[3]
    assert again.user_attrs["retry_of"] == left.number == 2
    assert again.params == left.params


@pytest.mark.parametrize("refusing", ["the journal", "a trial's tables"])
def test_a_full_disk_ends_a_study_in_one_line_and_the_study_goes_on_when_there_is_room(
    tunable: Tunable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refusing: str
) -> None:
    experiment = tunable({"space": LR, "trials": 2})
    where = (JournalFileBackend, "append_logs") if refusing == "the journal" else (RunTables, "append")
    original, calls = getattr(*where), []

    def full(*arguments: Any) -> None:
        calls.append(refusing)
        if len(calls) > 4:
            with storing("clients.parquet"):
                raise OSError(errno.ENOSPC, "full")
        original(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(*where, full)
        with pytest.raises(StorageError) as caught:
            tune(experiment, directory=tmp_path / "study")
    again = f"(No space left on device); make room there, then: raysim tune {tmp_path / 'study'}"
    assert str(caught.value).endswith(again)
    tuned = tune(experiment, directory=tmp_path / "study")
    assert sum(trial.state == TrialState.COMPLETE for trial in tuned.study.trials) == 2


def test_a_module_and_arrays_of_ones_own_are_tuned(tunable: Tunable, tmp_path: Path) -> None:
    import numpy as np
    from torch import nn

    random = np.random.default_rng(0)
    x = random.normal(size=(200, 5)).astype(np.float32)
    data = {"partition": {"name": "iid", "clients": 6}, "validation": 0.2}
    tuned = tune(
        tunable(SHORT | {"trials": 2}, data=data),
        directory=tmp_path / "study",
        model=nn.Linear(5, 2),
        data=(x, (x[:, 0] > 0).astype(np.int64)),
    )
    assert len(tuned.study.trials) == 2
