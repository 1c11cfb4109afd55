"""Direct preference optimisation as a run: against a plain loop, the same bits everywhere, and what is refused."""

from __future__ import annotations

import copy
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from corpora import load, write_lines
from federations import final_sha256, sha256

from raysim import Experiment, Simulation
from raysim.config.loading import apply_overrides
from raysim.data.inputs import unpack_inputs
from raysim.data.lazy import gathered
from raysim.errors import ConfigError, DataError, ModelError
from raysim.models.preferring import PairForward
from raysim.models.versioned import versioned_bases, with_versions
from raysim.tracking import RunDirectory, read_rounds

# Not imported here, where every process that collects tests would take seconds for it.
pytestmark = pytest.mark.skipif(find_spec("peft") is None, reason="needs peft")

PAIRS = [
    {"prompt": "say a", "chosen": "aaa", "rejected": "bb", "client": "x"},
    {"prompt": "say b now", "chosen": "b", "rejected": "abab", "client": "x"},
    {"prompt": "c?", "chosen": "cc", "rejected": "ca", "client": "y"},
    {"prompt": "or a", "chosen": "ab", "rejected": "ba", "client": "y"},
]
SMALL = {"model_type": "gpt2", "n_embd": 8, "n_layer": 1, "n_head": 2, "n_positions": 16}
BETA, LENGTH = 0.3, 14


def experiment(folder: Path, *overrides: str) -> Experiment:
    values: dict[str, Any] = {
        "name": "preferring",
        "rounds": 2,
        "cohort": 2,
        "data": {
            "source": {
                "name": "corpus",
                "task": "preference",
                "path": str(write_lines(folder / "pairs.jsonl", PAIRS)),
                "tokenizer": "bytes",
                "length": LENGTH,
            },
            "partition": "natural",
            "test": 0,
            "holdout": 0,
        },
        "model": {
            "name": "hugging_face",
            "config": {**SMALL, "resid_pdrop": 0, "embd_pdrop": 0, "attn_pdrop": 0},
            "peft": {"name": "lora", "r": 2, "targets": ["c_attn"]},
        },
        "client": {"batch_size": "full", "steps": 3, "optimizer": {"name": "sgd", "lr": 0.5}},
        "training": {"loss": "dpo", "dpo_beta": BETA, "engine": "sequential"},
        "aggregation": {"weights": "uniform"},
        "evaluation": {"every": 0},
        "execution": {"executor": "inprocess"},
        "tracking": {"directory": str(folder / "runs"), "report": False, "checkpoint_every": 1},
    }
    return Experiment.parse(apply_overrides(values, list(overrides)))


def log_probabilities(model: Any, prompt: str, answer: str) -> torch.Tensor:
    """log π(answer | prompt) of one pair, without padding; the answer ends with the id 0."""
    asked, said = [*f"{prompt}\n".encode()], [*answer.encode(), 0]
    ids = torch.tensor([[*asked, *said][:LENGTH]])
    logits = model(input_ids=ids).logits[0, :-1].double()
    found = F.log_softmax(logits, dim=-1)[torch.arange(len(logits)), ids[0, 1:]]
    return found[len(asked) - 1 :].sum()


def plain_round(model: Any, base: Any, lr: float = 0.5) -> Any:
    """A round of two clients that take three steps of plain gradient descent each, and the mean of their adapters."""
    trained = []
    for client in ("x", "y"):
        mine = copy.deepcopy(model)
        adapters = [one for one in mine.parameters() if one.requires_grad]
        for _ in range(3):
            losses = []
            for pair in (one for one in PAIRS if one["client"] == client):
                reward = [
                    log_probabilities(mine, pair["prompt"], pair[which])
                    - log_probabilities(base, pair["prompt"], pair[which]).detach()
                    for which in ("chosen", "rejected")
                ]
                losses.append(-torch.log(torch.sigmoid(BETA * (reward[0] - reward[1]))))
            slopes = torch.autograd.grad(torch.stack(losses).mean(), adapters)
            with torch.no_grad():
                for parameter, slope in zip(adapters, slopes, strict=True):
                    parameter -= lr * slope
        trained.append(adapters)
    with torch.no_grad():
        for parameter, *theirs in zip((one for one in model.parameters() if one.requires_grad), *trained, strict=True):
            parameter.copy_(torch.stack([one.double() for one in theirs]).mean(0))
    return model


def test_a_run_is_a_plain_loop(tmp_path: Path) -> None:
    with Simulation(experiment(tmp_path)) as simulation:
        plain = simulation.model().eval()
        with torch.no_grad():  # B is zero at first: without adapters the base is the same model
            base = copy.deepcopy(plain)
        for _ in simulation:
            plain = plain_round(plain, base)
        found = dict(simulation.model().named_parameters())
    moved = 0.0
    for name, parameter in plain.named_parameters():
        torch.testing.assert_close(found[name], parameter, rtol=0, atol=1e-5)
        moved = max(moved, float((parameter - dict(base.named_parameters())[name]).detach().abs().max()))
    assert moved > 1e-2


def test_rewards_are_measured(tmp_path: Path) -> None:
    setting = ["evaluation.every=1", "rounds=4", "data.test=0.5", "data.partition={name: iid, clients: 2}"]
    setting.append("evaluation.metrics=[reward_margin, reward_accuracy]")
    with Simulation(experiment(tmp_path, *setting)) as simulation:
        last = [one.metrics for one in simulation][-1]
        model, base = simulation.model().eval(), simulation.model().eval()
        samples = simulation._prepared.federation.server("test")
        fields = simulation._prepared.info.inputs
    for layer in base.modules():
        if hasattr(layer, "lora_B"):
            torch.nn.init.zeros_(layer.lora_B["default"].weight)
    ids = unpack_inputs(samples.x, fields)["input_ids"]
    test = [pair for pair in PAIRS if any(bytes(row[0].tolist()).startswith(pair["prompt"].encode()) for row in ids)]
    assert len(test) == 2
    ahead = [
        BETA * sum(
            sign * log_probabilities(one, pair["prompt"], pair[which]).item()
            for one, side in ((model, 1), (base, -1))
            for which, sign in (("chosen", side), ("rejected", -side))
        )
        for pair in test
    ]  # fmt: skip
    assert last["test/reward_margin"] == pytest.approx(np.mean(ahead), abs=1e-5)
    assert last["test/reward_accuracy"] == np.mean([one > 0 for one in ahead])
    assert last["test/loss"] == pytest.approx(np.mean([np.log1p(np.exp(-one)) for one in ahead]), abs=1e-5)


def test_a_resume_comes_to_the_same_bits_and_tokens_are_counted(tmp_path: Path) -> None:
    dropout = ["model.config.resid_pdrop=0.2", "model.peft.dropout=0.1"]
    expected = final_sha256(experiment(tmp_path, *dropout))
    with Simulation(experiment(tmp_path, *dropout, "rounds=1")) as simulation:
        simulation.run()
    with Simulation.resume(simulation.directory, overrides=["rounds=2"]) as resumed:
        resumed.run()
        assert sha256(resumed.model()) == expected
    assert read_rounds(RunDirectory(resumed.directory))["tokens"].to_pylist() == [2 * LENGTH * 12] * 2


@pytest.mark.ray
def test_actors_come_to_the_same_bits(tmp_path: Path, ray_session: Any) -> None:
    expected = final_sha256(experiment(tmp_path))
    on_ray = ["execution.executor=ray", "execution.actors=2"]
    assert final_sha256(experiment(tmp_path, *on_ray)) == expected


def test_samples_are_pairs_and_pairs_without_an_answer_are_left_out(tmp_path: Path) -> None:
    silent = {"prompt": "e", "chosen": " ", "rejected": "x"}
    unanswered = {"prompt": "p" * 20, "chosen": "a", "rejected": "b"}
    names = ("prompt", "chosen", "rejected")
    rows = [{name: row[name] for name in names} for row in (*PAIRS, silent, unanswered)]
    path = write_lines(tmp_path / "a.jsonl", rows)
    data = load(tmp_path, path=str(path), task="preference", tokenizer="bytes", length=LENGTH)
    found = unpack_inputs(gathered(data.train.x), data.info.inputs)
    assert data.info.classes == 2
    assert data.info.tokens == 2 * LENGTH
    assert len(found["input_ids"]) == len(PAIRS)
    for pair, ids, answer in zip(PAIRS, found["input_ids"], found["answer"], strict=True):
        for which, row, flags in zip(("chosen", "rejected"), ids, answer, strict=True):
            asked, said = f"{pair['prompt']}\n".encode(), pair[which].encode() + b"\0"
            assert bytes(row.tolist()) == (asked + said)[:LENGTH].ljust(LENGTH, b"\0")
            expected = [len(asked) <= place < len(asked) + len(said) for place in range(LENGTH)]
            assert flags.astype(bool).tolist() == expected
    told = {one.step: (one.count, one.unit) for one in data.left_out}
    assert told["data.source"] == (1, "documents")
    assert ("data.source.length", 1, "samples") in {(one.step, one.count, one.unit) for one in data.left_out}
    assert any(one.unit == "tokens" for one in data.left_out)


def test_the_reference_is_the_base_without_adapters_versions_and_dropout(tmp_path: Path) -> None:
    import peft
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    settings = {key: value for key, value in SMALL.items() if key != "model_type"}
    model = GPT2LMHeadModel(GPT2Config(vocab_size=20, **settings, attn_pdrop=0.5))
    base = copy.deepcopy(model).eval()
    peft.inject_adapter_in_model(peft.LoraConfig(r=2, target_modules=["c_attn"], init_lora_weights=False), model)
    with_versions(model)
    torch.nn.init.normal_(versioned_bases(model)[0].residual)
    ids, answer = torch.randint(20, (4, 9)), torch.ones(4, 9, dtype=torch.bool)
    own, reference = (
        F.log_softmax(one(input_ids=ids).logits[:, :-1], -1).gather(-1, ids[:, 1:, None]).sum((1, 2))
        for one in (model.eval(), base)
    )
    forward = PairForward(model)
    torch.testing.assert_close(forward(answer, input_ids=ids), (own - reference).view(2, 2))
    model.train()
    train = [forward(answer, input_ids=ids) for _ in range(2)]
    assert not torch.equal(*train)  # its own dropout is on
    assert all(one.training for one in model.modules())
    assert all(one.requires_grad == ("lora" in name) for name, one in model.named_parameters())


BAD = {
    "pairs of answers train the adapters of a decoder": ["model.peft=null"],
    "'transformer.wpe.weight' trains beside the adapters": ["model.train=['*wpe*']"],
    "training.loss: cross_entropy does not suit data that is pairs": ["training.loss=cross_entropy"],
    "training.loss: dpo does not suit data that is no pairs": ["data.source=digits", "data.partition=iid", "model=mlp"],
    "evaluation.metrics: accuracy does not suit data that is pairs": ["evaluation.metrics=[accuracy]"],
    "training.class_weights: inverse is for samples with one class": ["training.class_weights=inverse"],
    "no field 'better'; fields are": ["data.source.chosen=better"],
    "task: preference has prompt, chosen and rejected": ["data.source.label=client"],
    "deals by class label, but every sample is a pair": ["data.partition={name: dirichlet, clients: 2}"],
    "no pair has a token of both answers": ["data.source.length=3"],
    "evaluation.generate: needs data.source corpus with task causal_lm": ["evaluation.generate={prompts: [a]}"],
}  # fmt: skip


@pytest.mark.parametrize("said", BAD)
def test_what_cannot_be_preferred_is_one_line(said: str, tmp_path: Path) -> None:
    with pytest.raises((ConfigError, DataError, ModelError), match=said) as error:
        Simulation(experiment(tmp_path, *BAD[said]))
    assert "\n" not in str(error.value)


def test_other_modules_do_not_take_pairs(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"pairs of answers \(task: preference\) are for a transformer"):
        Simulation(experiment(tmp_path), model=torch.nn.Linear(35, 2))
