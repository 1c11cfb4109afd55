"""Batches by length: the same samples as often, less padding, the same bits everywhere, and what is refused."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from corpora import write_lines
from federations import final_sha256

from raysim import Experiment, Simulation
from raysim.config.loading import apply_overrides
from raysim.data import DataInfo
from raysim.data.inputs import InputField, pack_inputs
from raysim.errors import ConfigError, ModelError
from raysim.execution.preparation.padding import padding
from raysim.execution.preparation.prepare import prepare_job
from raysim.models.calling import Calling
from raysim.tracking import RunDirectory, read_rounds
from raysim.training import BatchPlan, LengthGroups, LocalWork, Shard, Shards

LENGTH = 32


def samples(count: int, seed: int = 0) -> tuple[DataInfo, Shard, np.ndarray]:
    """Texts of 1 to 32 tokens."""
    lengths = np.random.default_rng(seed).integers(1, LENGTH + 1, count)
    mask = np.arange(LENGTH) < lengths[:, None]
    fields = (InputField("input_ids", "tokens", (LENGTH,), count=9), InputField("attention_mask", "flags", (LENGTH,)))
    x, placed = pack_inputs({"input_ids": mask.astype(np.int64), "attention_mask": mask}, fields)
    info = DataInfo("classification", x.shape[1:], "record", classes=2, vocabulary=9, inputs=placed)
    return info, Shard(torch.from_numpy(x), torch.zeros(count, dtype=torch.int64), None), lengths


@pytest.mark.parametrize("work", [LocalWork(4, epochs=3), LocalWork(4, steps=17), LocalWork(4, steps=9, repeats=2)])
def test_an_epoch_has_the_same_samples_in_batches_of_like_length(work: LocalWork) -> None:
    info, shard, lengths = samples(42)
    clients = np.array([3, 8])
    shards = Shards(shard, np.array([0, 23]), np.array([23, 19]))
    plan = BatchPlan.draw(0, 5, clients, shards.count, work)
    groups = LengthGroups(3, info)
    dealt = groups(plan, 0, 5, clients, shards, work)
    assert np.array_equal(dealt.count, plan.count)
    assert groups.tokens(dealt, shards).sum() < 0.85 * groups.tokens(plan, shards).sum()
    assert np.array_equal(groups.real_tokens(dealt, shards), groups.real_tokens(plan, shards))
    for i in range(2):
        per_epoch, steps, start = int(work.per_epoch(shards.count)[i]), int(plan.steps[i]), int(shards.start[i])
        whole = list(range(0, steps, work.repeats))
        for at in whole:  # visits of a batch see the same samples
            assert all(np.array_equal(dealt.index[at + v, i], dealt.index[at, i]) for v in range(work.repeats))
        cut = 0
        for first in range(0, len(whole), per_epoch):
            epoch = whole[first : first + per_epoch]
            seen, drawn = (
                np.concatenate([one.index[at, i, : one.count[at, i]] for at in epoch]) for one in (dealt, plan)
            )
            assert sorted(seen) == sorted(drawn)
            for begin in range(0, len(epoch), 3):
                batches = [lengths[start + dealt.index[at, i, : dealt.count[at, i]]] for at in epoch[begin : begin + 3]]
                spans = sorted((int(one.min()), int(one.max())) for one in batches)
                assert all(low[1] <= high[0] for low, high in pairwise(spans))
                cut += sum(min(LENGTH, -(-int(one.max()) // 8) * 8) * len(one) * work.repeats for one in batches)
        assert groups.tokens(dealt, shards)[i] == cut
    alone = Shards(shard, shards.start[1:], shards.count[1:])
    single = BatchPlan.draw(0, 5, clients[1:], alone.count, work)
    own = groups(single, 0, 5, clients[1:], alone, work)
    assert np.array_equal(own.index[:, 0], dealt.index[: len(own.index), 1])  # whoever else is in the block


def test_batches_come_in_another_order_each_round() -> None:
    info, shard, lengths = samples(40)
    shards, work = Shards(shard, np.array([0]), np.array([40])), LocalWork(4)
    orders = set()
    for turn in range(6):
        plan = BatchPlan.draw(0, turn, np.array([1]), shards.count, work)
        dealt = LengthGroups(10, info)(plan, 0, turn, np.array([1]), shards, work)
        orders.add(tuple(np.argsort(lengths[dealt.index[:, 0]].mean(1)).tolist()))
    assert len(orders) == 6


def test_a_cut_batch_has_the_logits_of_a_whole_one() -> None:
    transformers = pytest.importorskip("transformers")
    info, shard, lengths = samples(12, seed=1)
    config = transformers.BertConfig(
        vocab_size=9, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=16
    )
    torch.manual_seed(0)
    model = transformers.BertForSequenceClassification(config).eval()
    short = np.flatnonzero(lengths < 17)
    assert len(short) > 2
    with torch.no_grad():
        whole = _called(model, info, cut=False)(shard.x[short])
        seen: list[int] = []
        model.bert.embeddings.register_forward_hook(lambda module, args, output: seen.append(output.shape[1]))
        cut = _called(model, info, cut=True)(shard.x[short])
    torch.testing.assert_close(cut, whole, atol=1e-5, rtol=1e-4)
    assert seen[-1] == -(-int(lengths[short].max()) // 8) * 8 < LENGTH


def _called(model: Any, info: DataInfo, *, cut: bool) -> Any:
    model._forward_pre_hooks.clear()
    model._forward_pre_hooks_with_kwargs.clear()
    model._forward_hooks.clear()
    return Calling.of(model, info, cut=cut).attach(model)


def experiment(folder: Path, *overrides: str) -> Experiment:
    words = np.random.default_rng(0).integers(1, 30, 60)
    rows = [{"text": "ab "[i % 3] * int(size), "label": i % 2, "client": i % 4} for i, size in enumerate(words)]
    values: dict[str, Any] = {
        "name": "grouped",
        "rounds": 2,
        "cohort": 2,
        "data": {
            "source": {
                "name": "corpus",
                "path": str(write_lines(folder / "a.jsonl", rows)),
                "task": "classification",
                "label": "label",
                "tokenizer": "bytes",
                "length": LENGTH,
            },
            "partition": "natural",
            "test": 0.2,
        },
        "model": {
            "name": "hugging_face",
            "task": "encoder",
            "config": {
                "model_type": "bert",
                "hidden_size": 8,
                "intermediate_size": 8,
                "num_hidden_layers": 1,
                "num_attention_heads": 1,
            },
        },
        "client": {"batch_size": 3, "buckets": 2},
        "training": {"engine": "sequential"},
        "execution": {"executor": "inprocess"},
        "tracking": {"directory": str(folder / "runs"), "report": False},
    }
    return Experiment.parse(apply_overrides(values, list(overrides)))


def test_runs_have_fewer_tokens_and_say_how_many(tmp_path: Path) -> None:
    found = {}
    for buckets in ("2", "null"):
        with Simulation(experiment(tmp_path, f"client.buckets={buckets}")) as simulation:
            simulation.run()
        found[buckets] = sum(read_rounds(RunDirectory(simulation.directory))["tokens"].to_pylist())
    assert 0 < found["2"] < 0.9 * found["null"]


def test_a_plan_says_how_much_is_padding(tmp_path: Path) -> None:
    with_groups, without = (
        padding(prepare_job(experiment(tmp_path, f"client.buckets={one}"))) for one in ("2", "null")
    )
    assert with_groups is not None
    assert without is not None
    assert (with_groups.buckets, with_groups.chosen) == (2, True)
    assert (without.buckets, without.chosen) == (50, False)
    assert with_groups.plain == without.plain
    assert 0 < without.grouped < with_groups.grouped < with_groups.plain < 1
    assert padding(prepare_job(Experiment.parse({"execution": {"executor": "inprocess"}}))) is None


@pytest.mark.ray
def test_actors_come_to_the_same_bits(tmp_path: Path, ray_session: Any) -> None:
    expected = final_sha256(experiment(tmp_path))
    assert expected != final_sha256(experiment(tmp_path, "client.buckets=null"))
    on_ray = ["execution.executor=ray", "execution.actors=2"]
    assert final_sha256(experiment(tmp_path, *on_ray)) == expected


BAD = {
    "client.buckets: is for texts to classify that have an attention_mask": ["data.source.inputs=[]"],
    "client.buckets cuts what a transformer": ["model=test_length_groups:Bag"],
    "buckets sort samples into batches, and batch_size is full": ["client.batch_size=full"],
}


class Bag(torch.nn.Module):
    """Counts tokens."""

    def __init__(self, info: DataInfo) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(1, info.classes or 0)

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.layer(attention_mask.float().sum(1, keepdim=True))
        return found


@pytest.mark.parametrize("said", BAD)
def test_what_cannot_be_grouped_is_one_line(said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    with pytest.raises((ConfigError, ModelError), match=said) as error:
        Simulation(experiment(tmp_path, *BAD[said]))
    assert "\n" not in str(error.value)
