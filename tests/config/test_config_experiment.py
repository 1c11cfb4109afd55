"""What the schema accepts, what it refuses, and in which words."""

from __future__ import annotations

import math
from typing import Any

import pytest
import yaml

from raysim.config import Experiment
from raysim.config.client import AdamConfig
from raysim.config.server import ExplicitWeightsConfig
from raysim.errors import ConfigError, RaysimError

RICH = """
name: my-run.1
seed: 7
rounds: 12
cohort: 0.25
selection: poisson
data:
  source: {name: csv, path: heart.csv, label: target, ignore: [id], task: classification}
  transforms: [{name: missing, action: median}, standardise, {name: one_hot, columns: [sex]}]
  partition: {name: quantity, clients: 8, distribution: lognormal, sigma: 0.5, allow_empty: true}
  holdout: 0.1
  seed: 3
model: {name: mlp, hidden: [32, 16], dropout: 0.1}
client:
  optimizer: {name: adamw, lr: 1e-3, weight_decay: 1e-2}
  schedule: {name: cosine, floor: 0.1}
  batch_size: full
  steps: 5
  clip_norm: 1.0
training: {loss: "my.losses:focal", engine: sequential}
algorithm: {name: fedavg, server_lr: 0.5, server_momentum: 0.9}
aggregation:
  weights: {name: explicit, table: {0: 0.6, 1: 0.4}, default: 0.1}
  fan_in: 4
evaluation: {every: 2, clients_every: 0, metrics: [accuracy, top5, "my.metrics:Recall"], batch_size: 100}
stop: {metric: test/accuracy, target: 0.9, patience: 3, seconds: 60}
execution: {executor: inprocess, actors: 2, num_cpus: 0.5, num_gpus: 0.25, device: cpu}
tracking: {directory: out, checkpoint_every: 0, keep: 1, report: false, clients: false}
"""


def refused(values: Any) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        Experiment.parse(values, where="run.yaml")
    return str(caught.value).split("\n")


def test_a_rich_configuration_survives_being_written_and_read_again(tmp_path: Any) -> None:
    (tmp_path / "rich.yaml").write_text(RICH)
    experiment = Experiment.from_yaml(tmp_path / "rich.yaml")
    assert experiment.client.optimizer == AdamConfig(name="adamw", lr=1e-3, weight_decay=1e-2)
    assert isinstance(experiment.aggregation.weights, ExplicitWeightsConfig)
    assert experiment.aggregation.weights.table == {0: 0.6, 1: 0.4}
    assert experiment.data.transforms[0].to_dict()["action"] == "median"
    assert experiment.model.to_dict()["hidden"] == [32, 16]

    (tmp_path / "again.yaml").write_text(experiment.to_yaml())
    again = Experiment.from_yaml(tmp_path / "again.yaml")
    assert again == experiment
    assert again.to_yaml() == experiment.to_yaml()
    assert yaml.safe_load(experiment.to_yaml()) == experiment.to_dict()


@pytest.mark.parametrize(
    ("values", "line"),
    [
        ({"ronds": 3}, "unknown key 'ronds'; did you mean 'rounds'?"),
        ({"client": {"epoch": 3}}, "unknown key 'client.epoch'; did you mean 'epochs'?"),
        ({"model": {"name": "mlp", "hiden": [3]}}, "unknown key 'model.hiden'; did you mean 'hidden'?"),
        (
            {"data": {"source": {"name": "synthetic", "alhpa": 1}}},
            "unknown key 'data.source.alhpa'; did you mean 'alpha'?",
        ),
        (
            {"data": {"transforms": ["standardise", {"name": "missing", "acton": "drop"}]}},
            "unknown key 'data.transforms[1].acton'; did you mean 'action'?",
        ),
        (
            {"aggregation": {"weights": {"name": "loss", "lower": 1}}},
            "unknown key 'aggregation.weights.lower'; did you mean 'low'?",
        ),
        ({"model": {"name": "a:b", "arg": 1}}, "unknown key 'model.arg'; did you mean 'args'?"),
        ({"selection": {"name": "poisson", "xyz": 1}}, "unknown key 'selection.xyz'; valid are name"),
    ],
)
def test_an_unknown_key_is_named_with_its_path_and_the_closest_one(values: Any, line: str) -> None:
    assert refused(values) == [f"run.yaml: {line}"]


@pytest.mark.parametrize(
    ("values", "line"),
    [
        (
            {"rounds": "many"},
            "rounds: input should be a valid integer, unable to parse string as an integer",
        ),
        ({"rounds": 0}, "rounds: input should be greater than or equal to 1, got 0"),
        ({"rounds": 2.5}, "rounds: input should be a valid integer, got a number with a fractional part, got 2.5"),
        ({"seed": -1}, "seed: input should be greater than or equal to 0, got -1"),
        (
            {"client": {"optimizer": {"name": "sgd", "lr": "fast"}}},
            "client.optimizer.lr: input should be a valid number",
        ),
        ({"model": {"name": "mlp", "hidden": [64, 0]}}, "model.hidden[1]: input should be greater than or equal to 1"),
        ({"model": {"name": "mlp", "hidden": 64}}, "model.hidden: input should be a valid tuple, got 64"),
        ({"data": {"source": {"name": "csv", "path": "x.csv"}}}, "data.source.label: required key is missing"),
        (
            {"systems": {"fleet": {"name": "tiers", "tiers": [{"share": 1}]}}},
            "systems.fleet.tiers[0].speed: required key is missing",
        ),
        ({"data": {"test": 1.0}}, "data.test: input should be less than 1, got 1.0"),
        ({"data": None}, "data: input should be a valid dictionary"),
        ({"data": {"source": "mnist", "holdout": -0.1}}, "data.holdout: input should be greater than or equal to 0"),
        (
            {"aggregation": {"weights": {"name": "explicit", "table": {"zero": 1}}}},
            "aggregation.weights.table: input should be a valid integer",
        ),
        (
            {"aggregation": {"weights": {"name": "law", "staleness": 1.5}}},
            "aggregation.weights.staleness: 1.5 discounts old models, but rounds wait for all their clients; remove it",
        ),
        (
            {"aggregation": {"weights": {"name": "explicit", "table": {3: -1}}}},
            "aggregation.weights.table[3]: input should be greater than or equal to 0",
        ),
        (
            {"evaluation": {"metrics": ["acuracy"]}},
            "evaluation.metrics[0]: unknown name 'acuracy'; did you mean 'accuracy'?",
        ),
        (
            {"evaluation": {"metrics": ["loss", "tpo3"]}},
            "evaluation.metrics[1]: unknown name 'tpo3'; did you mean 'top5'?",
        ),
        ({"name": "a/b"}, "name: expected letters, digits, `.`, `-` and `_`, got 'a/b'"),
        (
            {"cohort": 1.5},
            "cohort: expected a whole number of at least 1, or a number above 0 and at most 1, got 1.5",
        ),
        ({"cohort": 0}, "cohort: expected a whole number of at least 1, or a number above 0 and at most 1, got 0"),
        (
            {"client": {"batch_size": "ten"}},
            "client.batch_size: expected a whole number of at least 1, or 'full', got 'ten'",
        ),
        (
            {"client": {"batch_size": "ful"}},
            "client.batch_size: expected a whole number of at least 1, or 'full', got 'ful'; did you mean 'full'?",
        ),
        (
            {"execution": {"actors": 0}},
            "execution.actors: expected a whole number of at least 1 and at most 100000, or 'auto', got 0",
        ),
        (
            {"execution": {"num_cpus": "all"}},
            "execution.num_cpus: expected a number above 0 and at most 1024, or 'auto', got 'all'",
        ),
        ({"training": {"compile": "maybe"}}, "training.compile: expected true or false, or 'auto', got 'maybe'"),
        (
            {"training": {"loss": "crossentropy"}},
            "training.loss: unknown name 'crossentropy'; did you mean 'cross_entropy'?",
        ),
        (
            {"cohort": True},
            "cohort: expected a whole number of at least 1, or a number above 0 and at most 1, got True",
        ),
        ({"rounds": True}, "rounds: expected a number, got True"),
        ({"client": {"steps": 0}}, "client.steps: input should be greater than or equal to 1, got 0"),
        ({"execution": {"num_gpus": -1}}, "execution.num_gpus: input should be greater than or equal to 0"),
        ({1: 2}, "[1]: keys should be strings"),
    ],
)
def test_a_bad_value_is_one_line_with_the_key_and_what_was_expected(values: Any, line: str) -> None:
    lines = refused(values)
    assert len(lines) == 1
    assert lines[0].startswith(f"run.yaml: {line}")


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
@pytest.mark.parametrize("section", ["client.optimizer.lr", "stop.target", "aggregation.weights.high", "cohort"])
def test_no_number_may_be_infinite_or_nan(section: str, value: float) -> None:
    names = {"client.optimizer": "sgd", "aggregation.weights": "loss"}
    owner, _, key = section.rpartition(".")
    nested: Any = {key: value} | ({"name": names[owner]} if owner in names else {})
    for part in reversed(owner.split(".") if owner else []):
        nested = {part: nested}
    assert any(line.startswith(f"run.yaml: {section}: ") for line in refused(nested))


def test_every_problem_is_told_at_once() -> None:
    lines = refused({"rounds": 0, "client": {"batch_size": -1}, "modle": "mlp"})
    unknown = "unknown key 'modle'; did you mean 'model'?"
    assert [line.split(": ")[1] for line in lines] == ["rounds", "client.batch_size", unknown]


@pytest.mark.parametrize(
    ("values", "line"),
    [
        (
            {"client": {"optimizer": {"name": "sgd", "nesterov": True}}},
            "client.optimizer: nesterov needs momentum above 0",
        ),
        (
            {"aggregation": {"weights": {"name": "loss", "low": 5, "high": 5}}},
            "aggregation.weights: low (5.0) must be below high (5.0)",
        ),
        (
            {"data": {"transforms": [{"name": "min_max", "low": 1, "high": 0}]}},
            "data.transforms[0]: low (1.0) must be below high (0.0)",
        ),
        (
            {"aggregation": {"weights": {"name": "explicit", "table": {0: 0.0}}}},
            "aggregation.weights: no client has weight; give a client of table, or default, one above 0",
        ),
        (
            {"stop": {"metric": "test/loss", "seconds": 5}},
            "stop: metric (test/loss) stops nothing by itself; set target or patience, or remove it",
        ),
        (
            {"cohort": 101},
            "cohort (101) is larger than the population (100 clients); lower cohort, or raise data.partition.clients",
        ),
        (
            {"cohort": 51, "data": {"partition": {"name": "natural", "clients": 50}}},
            "cohort (51) is larger than the population (50 clients); lower cohort, or raise data.partition.clients",
        ),
        (
            {"cohort": 8, "data": {"source": {"name": "synthetic_virtual", "clients": 7}}},
            "cohort (8) is larger than the population (7 clients); lower cohort, or raise data.source.clients",
        ),
    ],
)
def test_keys_that_contradict_each_other_are_refused(values: Any, line: str) -> None:
    assert refused(values) == [f"run.yaml: {line}"]


def test_a_cohort_of_all_clients_is_accepted() -> None:
    assert Experiment.parse({"cohort": 100}).cohort == 100
    assert (
        Experiment.parse({"cohort": 200, "data": {"partition": "natural"}}).cohort == 200
    )  # not known before the data
    virtual = {"name": "synthetic_virtual", "clients": 1000}
    assert Experiment.parse({"cohort": 1000, "data": {"source": virtual}}).cohort == 1000


@pytest.mark.parametrize(
    ("written", "kind"), [("1", int), ("1.0", float), ("0.5", float), ("10", int), ("1e-2", float)]
)
def test_a_cohort_is_a_count_without_a_point_and_a_fraction_with_one(written: str, kind: type) -> None:
    experiment = Experiment().updated([f"cohort={written}"])
    assert type(experiment.cohort) is kind
    again = Experiment.parse(yaml.safe_load(experiment.to_yaml()))
    assert type(again.cohort) is kind
    assert again.cohort == float(written)


@pytest.mark.parametrize("value", [0, -1, 0.0, 1.5, 10.0, "ten", None, [1]])
def test_a_cohort_that_is_neither_a_count_nor_a_fraction_is_refused(value: Any) -> None:
    (line,) = refused({"cohort": value})
    assert line.startswith("run.yaml: cohort: expected a whole number")
    assert line.endswith(f"got {value!r}")


def test_the_data_have_the_experiments_seed_unless_they_have_their_own() -> None:
    assert Experiment.parse({"seed": 5}).data_seed == 5
    assert Experiment.parse({"seed": 5, "data": {"seed": 0}}).data_seed == 0


def test_an_updated_experiment_is_a_new_one() -> None:
    experiment = Experiment()
    changed = experiment.updated(["client.optimizer.lr=0.5", "model=mlp"])
    assert (changed.client.optimizer.lr, changed.model.name) == (0.5, "mlp")
    assert experiment == Experiment()
    with pytest.raises(ConfigError, match=r"overrides: rounds: input should be greater than or equal to 1, got 0"):
        experiment.updated(["rounds=0"])


def test_configuration_errors_are_raysims() -> None:
    assert issubclass(ConfigError, RaysimError)
