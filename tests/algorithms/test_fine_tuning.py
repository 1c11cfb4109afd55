"""Fine-tuning before an evaluation, against a plain loop, and what is recorded of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from federations import digits
from plain_federation import Plain, Run, experiment_of
from plain_holdouts import BIASES, by_client, holdout_loss, model_of, tuned_by_client
from plain_orders import orders

from raysim import Simulation
from raysim.config.fine_tuning import FineTuneConfig
from raysim.errors import ConfigError
from raysim.execution.preparation.prepare import prepare_job
from raysim.training import LocalWork

STEPS = 7
LR = 0.3


def tuned(plain: Plain, model: Any, client: int, columns: Any = 1.0) -> Any:
    """Plain SGD from this model, with the batches of round 0."""
    size = int(plain.sizes[client])
    for index in orders(3, 0, client, size, LocalWork(5, steps=STEPS)) if size else ():
        model = model - LR * columns * plain.grad(model, client, index.numpy())
    return model


@pytest.mark.parametrize("name", ["fedavg", "ditto", "fedper"])
def test_it_begins_at_the_model_that_the_client_would_use(name: str) -> None:
    knobs = f"evaluation.fine_tune={{steps: {STEPS}, lr: {LR}}}"
    run, untouched = (Run(experiment_of(name, *extra)) for extra in ([knobs], []))
    plain = Plain(run)
    before = by_client(untouched)
    found = tuned_by_client(run)
    np.testing.assert_array_equal(run.model, untouched.model)
    assert {client: untuned for client, (_, untuned) in found.items()} == before
    for client, (loss, _) in found.items():
        expected = tuned(plain, model_of(run, client), client)
        assert loss == pytest.approx(holdout_loss(run, plain, expected, client), rel=1e-4)


def test_only_the_named_layers_change() -> None:
    run = Run(experiment_of("fedavg", "evaluation.fine_tune={steps: 7, lr: 0.3, layers: ['*.bias']}"))
    plain = Plain(run)
    for client, (loss, _) in tuned_by_client(run).items():
        expected = tuned(plain, run.model.astype(np.float64), client, BIASES)
        assert loss == pytest.approx(holdout_loss(run, plain, expected, client), rel=1e-4)


def test_rows_come_to_what_one_client_at_a_time_comes_to_and_their_number_changes_no_bit() -> None:
    setting = experiment_of("fedper", "evaluation.fine_tune={epochs: 2, lr: 0.3, layers: ['*.weight']}")
    alone, *found = (tuned_by_client(Run(setting, rows=rows)) for rows in (None, 2, 1, 5))
    assert found[0] == found[1] == found[2]
    for client, values in alone.items():
        assert values == pytest.approx(found[0][client], rel=1e-5)


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        (["data.holdout=0"], "evaluation.fine_tune: clients need a holdout, or test samples of their own, to be"),
        (["client.optimizer=adam"], "evaluation.fine_tune.lr: set one: fine-tuning takes steps of plain SGD"),
        (["evaluation.fine_tune.layers=[head.*]"], "evaluation.fine_tune.layers: 'head.*' matches nothing"),
        (["evaluation.fine_tune.layers=[]"], "'evaluation.fine_tune.layers'"),
        (["evaluation.fine_tune.steps=0"], "'evaluation.fine_tune.steps'"),
    ],
)
def test_what_cannot_be_done_is_refused_in_one_line(overrides: list[str], line: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        prepare_job(digits(tmp_path, "evaluation.fine_tune={steps: 1}", *overrides))
    assert line.strip("'") in str(caught.value)
    assert "\n" not in str(caught.value)


def test_metrics_before_and_after_are_recorded(tmp_path: Path) -> None:
    setting = ["data.partition={name: shards, clients: 10}", "rounds=3", "evaluation.fine_tune={epochs: 3}"]
    with Simulation(digits(tmp_path, *setting)) as simulation:
        *_, last = simulation
    assert last.metrics["clients/accuracy/mean"] > last.metrics["clients/accuracy/untuned_mean"] + 0.1
    assert last.metrics["clients/loss/worst10"] < last.metrics["clients/loss/untuned_worst10"]


def test_perfedavg_takes_one_step_unless_told_otherwise(tmp_path: Path) -> None:
    perfedavg = "algorithm={name: perfedavg, adapt_lr: 0.3}"
    chosen = prepare_job(digits(tmp_path, perfedavg)).experiment.evaluation.fine_tune
    assert chosen == FineTuneConfig(steps=1, lr=0.3)
    told = digits(tmp_path, perfedavg, "evaluation.fine_tune={epochs: 2}")
    assert prepare_job(told).experiment.evaluation.fine_tune == FineTuneConfig(epochs=2)
    again = prepare_job(digits(tmp_path, "algorithm=fedavg").updated(["evaluation.fine_tune.steps=4"]))
    assert again.experiment.evaluation.fine_tune == FineTuneConfig(steps=4)
    assert prepare_job(digits(tmp_path, perfedavg, "data.holdout=0")).experiment.evaluation.fine_tune is None
