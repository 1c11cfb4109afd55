"""How fast transformers train in raysim, and how large their messages are.

    python large_model_speed.py speed            # raysim and a bare peft loop, by turns: tokens a CPU second
    python large_model_speed.py speed --large    # the same with 125M parameters
    python large_model_speed.py rows             # adapters of 8 clients as rows, and one client after the other
    python large_model_speed.py wire             # GPT-Neo-1.3B's messages in several formats, to the byte

Times are CPU seconds of this process; set OMP_NUM_THREADS=1.
"""

from __future__ import annotations

import argparse
import math
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

SIZES = {
    "4 layers x 256": ({"n_embd": 256, "n_layer": 4, "n_head": 4}, 40),
    "12 layers x 768 (125M)": ({"n_embd": 768, "n_layer": 12, "n_head": 12}, 4),
}
"""GPT-2s, and local steps of a turn."""
VOCABULARY, BATCH, LENGTH = 50257, 4, 64
TINY = {"n_embd": 32, "n_layer": 2, "n_head": 2}
TINY_VOCABULARY, TINY_LENGTH, TINY_STEPS, CLIENTS = 96, 32, 20, 8
WAYS: dict[str, dict[str, Any]] = {
    "one client after the other": {"engine": "sequential"},
    "rows": {"engine": "rows", "rows": CLIENTS, "compile": False},
    "rows, compiled": {"engine": "rows", "rows": CLIENTS, "compile": True},
}


def speed(turns: int, *, large: bool) -> None:
    """Tokens a CPU second of raysim's local steps and of a bare loop over the same module, by turns."""
    import peft
    import transformers

    for name, (sizes, steps) in list(SIZES.items())[large : large + 1]:
        dropout = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
        config = transformers.GPT2Config(vocab_size=VOCABULARY, n_positions=LENGTH, **sizes, **dropout)
        ids = np.random.default_rng(0).integers(0, VOCABULARY, (BATCH * steps, LENGTH + 1)).astype(np.int32)
        ids[0, 0] = VOCABULARY - 1
        bare, ours = [], []
        for _ in range(turns):
            torch.manual_seed(0)
            adapters = peft.LoraConfig(r=8, target_modules=["c_attn"], fan_in_fan_out=True)
            model = peft.get_peft_model(transformers.GPT2LMHeadModel(config), adapters)
            bare.append(ids[:, 1:].size / bare_loop(model, torch.from_numpy(ids).long()))
            ours.append(ids[:, 1:].size / round_seconds(settings(1, {"engine": "sequential"}), ids, model)[0])
            print(f"  bare {bare[-1]:,.0f}, raysim {ours[-1]:,.0f}", flush=True)
        a, b = statistics.median(bare), statistics.median(ours)
        print(f"{name}: bare {a:,.0f}, raysim {b:,.0f} tokens a CPU second, medians of {turns}; {b / a:.3f} of it")


def rows(turns: int) -> None:
    """Tokens a CPU second of a tiny GPT with LoRA, eight clients a round, by engine; by turns."""
    shape = (CLIENTS * BATCH * TINY_STEPS, TINY_LENGTH + 1)
    ids = np.random.default_rng(0).integers(0, TINY_VOCABULARY, shape).astype(np.int32)
    ids[0, 0] = TINY_VOCABULARY - 1
    dropout = {"resid_pdrop": 0, "embd_pdrop": 0, "attn_pdrop": 0}
    config = {"model_type": "gpt2", "n_positions": TINY_LENGTH, **TINY, **dropout}
    model = {"name": "hugging_face", "config": config, "peft": {"name": "lora", "targets": ["c_attn"]}}
    found: dict[str, list[float]] = {way: [] for way in WAYS}
    for _ in range(turns):
        for way, training in WAYS.items():
            for _ in range(2 if not found[way] and training.get("compile") else 1):  # the first one compiles
                seconds = round_seconds({**settings(CLIENTS, training), "model": model}, ids, None)[0]
            found[way].append(ids[:, 1:].size / seconds)
    plain = statistics.median(found["one client after the other"])
    for way, each in found.items():
        middle = statistics.median(each)
        print(f"{way}: {middle:,.0f} tokens a CPU second, median of {turns}; {middle / plain:.2f}", flush=True)


def settings(clients: int, training: dict[str, Any]) -> dict[str, Any]:
    """Two rounds of all clients, of an epoch each."""
    return {
        "rounds": 2,
        "cohort": clients,
        "data": {"partition": {"name": "iid", "clients": clients}, "test": 0},
        "client": {"batch_size": BATCH, "optimizer": {"name": "adamw", "lr": 0.001}},
        "training": training,
        "evaluation": {"every": 0},
        "execution": {"executor": "inprocess"},
        "tracking": {"report": False},
    }


def bare_loop(model: Any, ids: torch.Tensor) -> float:
    """CPU seconds of an epoch in peft's own way."""
    model.train()
    optimizer = torch.optim.AdamW([one for one in model.parameters() if one.requires_grad], lr=1e-3)
    began = time.process_time()
    for start in range(0, len(ids), BATCH):
        x, y = ids[start : start + BATCH, :-1], ids[start : start + BATCH, 1:]
        logits = model(input_ids=x, use_cache=False).logits
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), y.flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return time.process_time() - began


def round_seconds(values: dict[str, Any], ids: np.ndarray[Any, Any], model: Any) -> tuple[float, float]:
    """CPU seconds of the second round of a run, and its loss; the first round loads shards and warms up."""
    shape, most = (ids.shape[1] - 1,), int(ids.max()) + 1
    info = DataInfo("classification", shape, "tokens", shape, most, most)
    data = Dataset(Pool(ids[:, :-1], ids[:, 1:], "tokens", "random ids"), None, info)
    with tempfile.TemporaryDirectory() as folder:
        place = [f"data.cache={folder}", f"tracking.directory={Path(folder) / 'runs'}"]
        with Simulation(Experiment.parse(values).updated(place), model=model, data=data) as simulation:
            rounds = iter(simulation)
            next(rounds)
            began = time.process_time()
            second = next(rounds)
            return time.process_time() - began, second.metrics["train/loss"]


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
    """Print one of the measurements."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["speed", "rows", "wire"])
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--large", action="store_true", help="125M parameters")
    given = parser.parse_args()
    torch.set_num_threads(1)
    if given.what == "speed":
        speed(given.turns, large=given.large)
    elif given.what == "rows":
        rows(given.turns)
    else:
        wire()


if __name__ == "__main__":
    main()
