"""docs/recorded.md against what runs of every family record: a column that it does not define fails."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from federations import digits

from raysim import Experiment, Simulation, tune
from raysim.rounds.faults import Fault
from raysim.tracking import RunDirectory, recorder
from raysim.training.metrics.resolve import list_metrics
from raysim.tuning.directory import StudyDirectory
from raysim.tuning.study import ASKED, DEFAULT, DRIVER, ERROR, LOST, RETRY_OF, read_study

PAGE = Path(__file__).parents[1] / "docs" / "recorded.md"
CLASSES = ("accuracy", "top3", "macro_f1", "balanced_accuracy", "precision", "recall", "f1", "pr_auc", "roc_auc",
           "brier", "ece", "perplexity")  # fmt: skip
_SUMMARY = r"(mean|std|worst10|best10|gini|jain|below_local)"


def section(title: str) -> str:
    text = PAGE.read_text(encoding="utf-8")
    return text.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def rows(title: str, cell: int = 0) -> list[list[str]]:
    """What stands as code in a cell of each row of a section's tables."""
    lines = [line for line in section(title).splitlines() if line.startswith("| `")]
    return [re.findall(r"`([^`]+)`", re.split(r"(?<!\\)\|", line)[cell + 1]) for line in lines]


def metric_names() -> list[str]:
    """The metrics that the second table defines."""
    return [
        name
        for row in rows("Metrics")
        for name in row
        if not name.startswith(("validation", "test", "clients", "nodes"))
    ]


def pattern(name: str) -> str:
    """A column of the page as a regular expression."""
    metrics = "|".join(_filled(re.escape(one)) for one in metric_names())
    return _filled(re.escape(name).replace("<metric>", f"({metrics})"))


def _filled(text: str) -> str:
    text = text.replace("<summary>", _SUMMARY).replace("<class>", "[^/]+").replace("<k>", r"\d+")
    return text.replace("<name>", r"[\w.]+")


def undefined(found: set[str], *titles: str) -> set[str]:
    """Names that no table of these sections has."""
    known = [re.compile(pattern(name)) for title in titles for row in rows(title) for name in row]
    return {name for name in found if not any(one.fullmatch(name) for one in known)}


def checked(experiment: Experiment, **handed_over: Any) -> RunDirectory:
    """Run it, and compare all that it recorded with the page."""
    with Simulation(experiment, **handed_over) as simulation:
        simulation.run()
    run = RunDirectory(simulation.directory)
    assert undefined(set(pq.read_schema(run.rounds).names), "Rounds", "Metrics") == set()
    assert undefined(set(pq.read_schema(run.clients).names), "Clients") == set()
    for file in (run.holdouts, run.path / "client_tests.parquet"):
        if file.exists():
            assert undefined(set(pq.read_schema(file).names), "Holdouts") == set()
    known = {name for row in rows("Environment") for name in row}
    for field, value in json.loads(run.environment.read_text()).items():
        assert field in known or (isinstance(value, dict) and f"{field}.<name>" in known), field
    fields = {row[0]: set(of) for row, of in zip(rows("Log"), rows("Log", 1), strict=True)}
    for line in run.log.read_text().splitlines():
        event = json.loads(line)
        own = event.keys() - {"time", "level", "event"}
        assert own <= fields.get(event["event"], set()), event["event"]
    return run


def small(tmp_path: Path, *overrides: str) -> Experiment:
    return digits(tmp_path, "rounds=2", "data.validation=0.1", *overrides)


FAMILIES = {
    "every metric of classes": [f"evaluation.metrics=[{', '.join(CLASSES)}]"],
    "the positive class": ["data.source=breast_cancer", "evaluation.metrics=[precision, recall, f1, roc_auc]",
                           "evaluation.positive=benign"],
    "regression": ["data.source=diabetes", "data.partition={name: iid, clients: 6}",
                   "data.transforms=[standardise]", "client.optimizer.lr=1e-5", "evaluation.metrics=[mae, rmse]"],
    "text": ["data.source=text", "data.partition=natural", "model=lstm_char", "cohort=2", "client.steps=1",
             "data.holdout=0", "data.validation=0.01", "evaluation.sets=[validation]", "rounds=1"],
    "differential privacy": [
        "aggregation.weights=uniform", "cohort=6", "aggregation.stages=[{name: layer_clip, max_norm: 1.0}, "
        "{name: adaptive_clip, fraction_noise: 0.2}, {name: gaussian, noise_multiplier: 1.0}]"],
    "correlated noise": [
        "aggregation.weights=uniform", "selection=round_robin", "rounds=4", "cohort=1", "aggregation.stages="
        "[{name: clip, max_norm: 1.0}, {name: blt, noise_multiplier: 1.0}]"],
    "devices": ["systems.fleet={name: log_normal, speed: 5, upload: 1000}", "systems.costs.money_per_byte=1",
                "systems.costs.joules_per_second=1", "systems.timetable={name: deadline, seconds: 9}"],
    "learned weights": ["aggregation.weights=learned"],
    "fair weights": ["algorithm={name: qfedavg, q: 1.0}", "aggregation.weights=uniform"],
    "fine-tuning": ["evaluation.fine_tune={epochs: 1}"],
    "personal models": ["algorithm=ditto"],
    "adapters": ["algorithm=flora", "model={name: mlp_lora, hidden: [6], rank: 2}"],
    "a mixture": ["algorithm=apfl"],
    "edges": ["algorithm=hierfavg"],
    "nodes": ["algorithm=d_psgd", "cohort=1.0", "aggregation.weights=uniform"],
    "imbalance": ["data.imbalance={ratio: 5}", "training.class_weights=inverse", "evaluation.metrics=[recall]"],
    "selection": ["selection={name: power_of_choice, candidates: 5}"],
    "noise": ["selection=poisson", "aggregation.weights=uniform", "aggregation.stages=[{name: clip, max_norm: 1}, "
              "{name: gaussian, noise_multiplier: 1}]"],
    "hypothetical noise": ["selection=poisson", "aggregation.weights=uniform", "privacy.hypothetical_cohort=5",
                           "aggregation.stages=[{name: clip, max_norm: 1}, {name: gaussian, noise_multiplier: 1}]"],
    "nothing evaluated": ["evaluation.every=0", "data.holdout=0"],
}  # fmt: skip


@pytest.mark.parametrize("family", FAMILIES)
def test_every_column_of_a_family_is_defined(tmp_path: Path, family: str) -> None:
    checked(small(tmp_path, *FAMILIES[family]))


def test_every_column_of_a_local_baseline_and_of_own_test_samples_is_defined(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    own = np.arange(80) % 4
    data = {
        "x": random.normal(size=(80, 3)), "y": random.integers(0, 2, 80), "client": own,
        "x_test": random.normal(size=(40, 3)), "y_test": random.integers(0, 2, 40), "client_test": own[:40],
    }  # fmt: skip
    common = ["data.partition=natural", "cohort=1.0", "model=softmax"]
    alone = checked(small(tmp_path, *common, "algorithm=local"), data=data)
    checked(small(tmp_path, *common, f"evaluation.local_baseline={alone.path}"), data=data)


def test_every_event_of_the_log_is_defined() -> None:
    source = Path(str(recorder.__file__)).read_text(encoding="utf-8")
    events = set(re.findall(r'_log\.(?:info|warning|error)\(\s*"([^"]+)"', source))
    listed = {row[0] for row in rows("Log")}
    assert events == listed
    fields = {row[0]: of for row, of in zip(rows("Log"), rows("Log", 1), strict=True)}
    assert list(Fault("died", "actor 1", "it died", "again", 1).fields()) == fields["fault"]


def test_a_dropped_client_has_the_columns_and_the_event_of_the_page(tmp_path: Path) -> None:
    x = np.random.default_rng(0).normal(size=(80, 3))
    x[::4] *= 1e30  # all of client 0's
    data = {"x": x, "y": np.arange(80) // 2 % 2, "client": np.arange(80) % 4}
    run = checked(small(tmp_path, "data.partition=natural", "cohort=1.0", "data.validation=0"), data=data)
    assert "client dropped" in run.log.read_text()


def test_every_metric_is_defined() -> None:
    named = {re.sub(r"<k>", "K", name).partition("/")[0] for name in metric_names()}
    assert named == set(list_metrics())


def test_every_attribute_of_a_study_is_defined(tmp_path: Path) -> None:
    tuning = ["tuning.trials=3", "tuning.space={client.epochs: {low: 1, high: 3}}", "tuning.confirm={seeds: 2}"]
    tuned = tune(small(tmp_path, "data.holdout=0", *tuning), directory=tmp_path / "study")
    directory = StudyDirectory(tuned.directory)
    study = read_study(directory)
    found = {name for trial in study.get_trials() for name in trial.user_attrs} | set(study.user_attrs)
    confirmation = json.loads(directory.confirmation.read_text())
    assert undefined(found | set(confirmation), "Studies") == set()
    assert undefined({ASKED, DRIVER, RETRY_OF, LOST, ERROR, DEFAULT, "same_as", "weights"}, "Studies") == set()
