"""Runs whose clients protect single samples: the same bits everywhere, adapters that learn, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from federations import digits, final_sha256, sha256
from torch import nn

from raysim import Experiment, Simulation
from raysim.errors import ConfigError

PRIVATE = ("client.steps=4", "client.privacy={clip: 1.0, noise_multiplier: 0.5}")
ENGINES = {"sequential": "training.engine=sequential", "rows": "training={engine: rows, rows: 3, compile: false}"}
ENGINE = pytest.mark.parametrize("engine", ENGINES.values(), ids=ENGINES)
LORA = ("model={name: mlp_lora, hidden: [16], rank: 4}", "client.optimizer.lr=0.5", "rounds=6", "client.steps=10")


def private(tmp_path: Path, *overrides: str) -> Experiment:
    return digits(tmp_path, *PRIVATE, *overrides)


@ENGINE
def test_a_resume_comes_to_the_same_bits(tmp_path: Path, engine: str) -> None:
    expected = final_sha256(private(tmp_path, engine))
    with Simulation(private(tmp_path, engine)) as simulation:
        assert simulation._prepared.engine.engine.name == engine.partition("engine")[2].strip("=: ").partition(",")[0]
        for committed in simulation:
            if committed.number == 3:
                break
    with Simulation.resume(simulation.directory) as resumed:
        resumed.run()
        assert sha256(resumed.model()) == expected


@pytest.mark.ray
@ENGINE
def test_actors_come_to_the_bits_of_one_process(tmp_path: Path, ray_session: object, engine: str) -> None:
    expected = final_sha256(private(tmp_path, engine))
    for actors in (1, 3):
        spread = private(tmp_path, engine, "execution.executor=ray", f"execution.actors={actors}")
        assert final_sha256(spread) == expected, actors


def test_noise_depends_on_the_seed_and_rows_do_not_change_it(tmp_path: Path) -> None:
    rows = [final_sha256(private(tmp_path, f"training={{engine: rows, rows: {k}, compile: false}}")) for k in (2, 5)]
    assert rows[0] == rows[1]
    assert final_sha256(private(tmp_path)) != final_sha256(private(tmp_path, "seed=1", "data.seed=0"))


@ENGINE
@pytest.mark.parametrize("algorithm", ["fedavg", "flora"])
def test_adapters_move_and_change_what_the_model_says(tmp_path: Path, engine: str, algorithm: str) -> None:
    x = torch.rand(32, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    with Simulation(private(tmp_path, *LORA, engine, f"algorithm={algorithm}")) as simulation:
        first = simulation.model()
        metrics = [committed.metrics["test/loss"] for committed in simulation]
        last = simulation.model()
    before, after = (dict(one.named_parameters()) for one in (first, last))
    adapters = [name for name in before if "lora" in name]
    assert len(adapters) == 2
    assert float((last(x) - first(x)).detach().abs().max()) > 0.1
    assert metrics[-1] < 0.9 * metrics[0]
    if algorithm == "fedavg":  # flora puts products into the base, and its adapters begin anew
        for name in before:
            assert torch.equal(before[name], after[name]) == (not before[name].requires_grad), name
        # The adapters alone, with the first head, say something else, too.
        last.load_state_dict({**last.state_dict(), **{n: p for n, p in before.items() if n not in adapters}})
        assert float((last(x) - first(x)).detach().abs().max()) > 0.01


def test_the_centralised_baseline_is_private_too(tmp_path: Path) -> None:
    private_one = private(tmp_path, "algorithm=centralised", "rounds=1")
    assert final_sha256(private_one) != final_sha256(private_one.updated(["client.privacy=null"]))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["client.batch_size=full"], "batch_size is full; set it to a number"),
        (["client.steps=null"], "epochs are shuffled; set steps"),
        (["client.drop_last=true"], "remove drop_last"),
        (["client.resampling=balanced"], "remove resampling"),
        (["client.accumulation=2"], "remove accumulation"),
        (["client.privacy.largest_batch=4"], "is below batch_size"),
        (["training.class_weights=inverse"], "class_weights inverse counts labels"),
        (["training.logits=fedlc"], "logits fedlc counts labels"),
        (["data.augmentation=smote"], "makes several samples of one"),
        (["algorithm=fedsgd"], "gradients of whole shards, not of Poisson batches"),
        (["algorithm=mime"], "fedavg"),
        (["algorithm=ditto"], "the same batches again, in another pass"),
        (["algorithm=qfedavg"], "losses of models on the clients' samples"),
        (["algorithm=apfl"], "several gradients of the same batch"),
        (["algorithm=fedkseed"], "losses of a batch"),
        (["algorithm={name: moon}"], "representations"),
        (["aggregation.weights=loss"], "weighs clients by losses"),
        (["selection=oort"], "chooses clients by losses"),
        (["stop={metric: train/loss, target: 0.1}"], "stop.metric: train/loss"),
        (["evaluation.fine_tune={epochs: 1}"], "evaluation.fine_tune"),
    ],
)  # fmt: skip
def test_what_would_look_at_samples_without_noise_is_refused(
    tmp_path: Path, overrides: list[str], message: str
) -> None:
    with pytest.raises(ConfigError) as caught, Simulation(private(tmp_path, *overrides)):
        pass
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("algorithm", ["fedprox", "scaffold", "fednova", "feddyn", "fedexp", "fedadam"])
def test_algorithms_of_noisy_gradients_are_not(tmp_path: Path, algorithm: str) -> None:
    final_sha256(private(tmp_path, f"algorithm={algorithm}", "rounds=1"))


def test_statistics_that_samples_leave_in_a_model_are_refused(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.BatchNorm1d(8), nn.Linear(8, 10))
    with pytest.raises(ConfigError, match=r"statistics of its samples \(2\.running_mean\)"):
        Simulation(private(tmp_path), model=model)
