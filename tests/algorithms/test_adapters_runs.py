"""Whole runs that aggregate adapters: what they record, and the same bits on actors and after a resume."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from adapted_modules import RULES
from federations import broken_off, digits, final_sha256
from safetensors.torch import load_file
from torch import nn
from transformer_models import federation

from raysim import Experiment, Simulation
from raysim.execution.preparation.prepare import prepare_job
from raysim.tracking import RunDirectory, read_rounds

MODEL = ["model={name: mlp_lora, hidden: [16, 12], rank: 4}", "client.optimizer.lr=0.2", "rounds=3"]
MIXED = {"ranks": "[1, 2, 4]"}
RUNS = {name: f"algorithm={{name: {name}, ranks: [1, 2, 4]}}" for name in RULES if name != "fedsa_lora"} | {
    "fedsa_lora": "algorithm=fedsa_lora",
    "flora-by-share": "algorithm={name: flora, ranks: [2, 4], shares: [0.5, 0.5]}",
    "fedit-measured": "algorithm={name: fedit, measure_gap: true}",
    "fedit-rows": "algorithm={name: fedit, measure_gap: true, products: rows}",
    "fedex_lora-rows": "algorithm={name: fedex_lora, ranks: [1, 2, 4], products: rows}",
    "flora-rows": "algorithm={name: flora, ranks: [1, 2, 4], products: rows}",
    "hlora-rows": "algorithm={name: hlora, ranks: [1, 2, 4], products: rows}",
}


def experiment(tmp_path: Path, run: str, *overrides: str) -> Experiment:
    return digits(tmp_path, *MODEL, RUNS[run], *overrides)


@pytest.mark.ray
@pytest.mark.parametrize("run", RUNS)
def test_any_number_of_actors_comes_to_the_bits_of_one_process(tmp_path: Path, ray_session: Any, run: str) -> None:
    expected = final_sha256(experiment(tmp_path, run))
    counts = (1, 2, 3) if run in ("flora", "hlora", "flora-rows", "hlora-rows") else (3,)
    for actors in counts:
        spread = experiment(tmp_path, run, "execution.executor=ray", f"execution.actors={actors}")
        assert final_sha256(spread) == expected, actors


@pytest.mark.parametrize("run", RUNS)
def test_a_resume_comes_to_the_same_bits(tmp_path: Path, run: str) -> None:
    assert broken_off(experiment(tmp_path, run), after=2)[1] == final_sha256(experiment(tmp_path, run))


@pytest.mark.parametrize("run", RUNS)
def test_the_gap_is_recorded_where_there_are_products(tmp_path: Path, run: str) -> None:
    with Simulation(experiment(tmp_path, run)) as simulation:
        simulation.run()
    table = read_rounds(RunDirectory(simulation.directory))
    measured = run.partition("-")[0] in ("fedex_lora", "flora", "flexlora", "hlora") or run.startswith("fedit-")
    assert ("lora/gap" in table.column_names) == measured
    if measured:
        assert all(0 < value < 1 for value in table["lora/gap"].to_pylist())


def test_the_model_that_a_run_leaves_has_the_version_of_its_base(tmp_path: Path) -> None:
    with Simulation(experiment(tmp_path, "flora")) as simulation:
        simulation.run()
        module = simulation.model()
    tensors = load_file(simulation.directory / "model.safetensors")
    assert tensors["hidden1.residual"].any()
    assert not tensors["hidden1.lora_B"].any()
    assert torch.equal(tensors["hidden1.residual"], module.get_buffer("hidden1.residual"))


def test_clients_count_on_the_wire_with_their_own_rank(tmp_path: Path) -> None:
    found = {}
    for ranks in ("[4]", "[1, 2, 4]"):
        given = experiment(tmp_path, "flora", f"algorithm.ranks={ranks}", "cohort=1.0", "rounds=1")
        with Simulation(given) as simulation:
            found[ranks] = next(iter(simulation)).row.wire_up
    widths, head = (64 + 16) + (16 + 12), 13 * 10
    assert found["[4]"] == 4 * 6 * (4 * widths + head)
    assert found["[1, 2, 4]"] == 4 * (2 * (1 + 2 + 4) * widths + 6 * head)


def test_sums_and_rows_come_to_the_same_model_but_for_rounding(tmp_path: Path) -> None:
    found = []
    for road in ("sums", "rows"):
        with Simulation(experiment(tmp_path, "flora", f"algorithm.products={road}", "rounds=2")) as simulation:
            simulation.run()
            found.append(simulation.model().state_dict())
    for name, tensor in found[0].items():
        torch.testing.assert_close(tensor, found[1][name], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("overrides", "road", "why"),
    [
        (
            ["cohort=6", "model.rank=5", "algorithm.ranks=[5]"],
            "sums",
            "with products in sums of 15,088 bytes; rows of 6 clients have 16,080",
        ),
        ([], "rows", "of each client as rows of 2,248 bytes; sums with products have 14,224"),
    ],
)
def test_products_take_the_road_of_fewer_bytes_and_say_so(
    tmp_path: Path, overrides: list[str], road: str, why: str
) -> None:
    prepared = prepare_job(experiment(tmp_path, "flora", *overrides))
    assert (prepared.aggregation.rule.road == "rows") == (road == "rows")
    assert prepared.adapters == why


def test_a_clip_is_of_each_clients_factors_and_goes_with_rows(tmp_path: Path) -> None:
    clipped = experiment(tmp_path, "fedex_lora", "aggregation.stages=[{name: clip, max_norm: 0.1}]", "rounds=1")
    assert prepare_job(clipped).aggregation.rule.road == "rows"
    with Simulation(clipped) as simulation:
        metrics = next(iter(simulation)).metrics
    assert metrics["stages/clip/share"] == 1
    assert 0 < metrics["lora/gap"] < 1


def network() -> nn.Module:
    """Named by an import string: peft's adapters on a plain module."""
    peft = pytest.importorskip("peft")
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 10))
    config = peft.LoraConfig(r=4, lora_alpha=8, target_modules=["1"], modules_to_save=["3"])
    module: nn.Module = peft.get_peft_model(net, config).base_model.model
    return module


@pytest.mark.parametrize("name", RULES)
def test_adapters_of_peft_are_aggregated_like_any(tmp_path: Path, name: str) -> None:
    rule = f"algorithm={{name: {name}, ranks: [2, 4]}}" if name != "fedsa_lora" else "algorithm=fedsa_lora"
    given = digits(tmp_path, f"model={{name: '{__name__}:network'}}", rule, "rounds=2", "client.optimizer.lr=0.2")
    with Simulation(given) as simulation:
        simulation.run()
        names = set(dict(simulation.model().named_buffers()))
    assert names == ({"1.base_layer.residual"} if name in ("fedex_lora", "flora") else set())


@pytest.mark.ray
@pytest.mark.parametrize(("family", "rule"), [("gpt2", "flora"), ("llama", "fedex_lora"), ("bert", "hlora")])
def test_transformers_on_actors_come_to_the_bits_of_one_process(
    tmp_path: Path, ray_session: Any, family: str, rule: str
) -> None:
    pytest.importorskip("peft")
    given, data = federation(tmp_path, family, "sequential", f"algorithm={{name: {rule}, ranks: [1, 2]}}", "rounds=2")
    expected = final_sha256(given, data=data)
    on_actors = given.updated(["execution.executor=ray", "execution.actors=3"])
    assert final_sha256(on_actors, data=data) == expected


def test_a_module_that_is_handed_over_may_have_adapters(tmp_path: Path) -> None:
    module = network()
    names = list(dict(module.named_buffers()))
    with Simulation(digits(tmp_path, "algorithm=flora", "rounds=2"), model=module) as simulation:
        simulation.run()
        assert simulation.model().get_buffer("1.base_layer.residual").any()
    assert list(dict(module.named_buffers())) == names
