"""What the benchmark of a GPU trains: the workloads of `speed.py`, and a small GPT with LoRA."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from peers.workloads import WORKLOADS, Federation, Workload, prepare

from raysim import Experiment

TOY = {"clients": 6, "cohort": 3, "samples": 4}
GPT = {"n_embd": 256, "n_layer": 4, "n_head": 4, "n_positions": 64}
TOY_GPT = {"n_embd": 16, "n_layer": 1, "n_head": 2, "n_positions": 8}
VOCABULARY, GPT_CLIENTS, GPT_SAMPLES = 512, 8, 32


@dataclass(frozen=True, slots=True)
class Subject:
    """What is trained: the sections that name it, and its samples."""

    name: str
    cohort: int
    sections: dict[str, Any]
    data: Any

    def experiment(self, training: dict[str, Any], folder: str, execution: dict[str, Any], rounds: int) -> Experiment:
        """The run, without anything that is written or evaluated."""
        return Experiment.parse(
            {
                "rounds": rounds,
                "cohort": self.cohort,
                **self.sections,
                "training": training,
                "execution": execution,
                "evaluation": {"every": 0},
                "tracking": {"directory": folder, "report": False, "clients": False, "checkpoint_every": 0},
            }
        )


def subjects(folder: str, *, toy: bool) -> Iterator[Subject]:
    """The workloads and the GPT; the latter only where transformers and peft are installed."""
    for name in "ABCD":
        workload = replace(WORKLOADS[name], data="gaussian", samples=WORKLOADS[name].samples or 60)
        yield _of_workload(name, replace(workload, **TOY) if toy else workload, folder)
    try:
        yield _gpt(toy=toy)
    except ImportError as missing:
        print(f"no GPT: {missing}")


def _of_workload(name: str, workload: Workload, folder: str) -> Subject:
    place, _ = prepare(workload, Path(folder))
    federation = Federation.load(place)
    owners = np.repeat(np.arange(workload.clients), np.diff(federation.bounds))
    sections = {
        "data": {"partition": {"name": "natural"}, "test": 0.0, "cache": f"{folder}/shards", "label_histograms": False},
        "model": {"name": workload.model},
        "client": {"optimizer": {"name": "sgd", "lr": workload.lr}, "batch_size": workload.batch},
    }
    return Subject(name, workload.cohort, sections, {"x": federation.x, "y": federation.y, "client": owners})


def _gpt(*, toy: bool) -> Subject:
    import peft  # noqa: F401  # missing, it raises here
    import transformers  # noqa: F401  # likewise

    from raysim.data import DataInfo, Dataset, Pool

    sizes, clients, samples = (TOY_GPT, 3, 4) if toy else (GPT, GPT_CLIENTS, GPT_SAMPLES)
    length = sizes["n_positions"]
    ids = np.random.default_rng(0).integers(0, VOCABULARY, (clients * samples, length + 1)).astype(np.int32)
    ids[0, 0] = VOCABULARY - 1
    info = DataInfo("classification", (length,), "tokens", (length,), VOCABULARY, VOCABULARY)
    dropout = {"resid_pdrop": 0, "embd_pdrop": 0, "attn_pdrop": 0}
    sections = {
        "data": {"partition": {"name": "iid", "clients": clients}, "test": 0},
        "model": {
            "name": "hugging_face",
            "config": {"model_type": "gpt2", **sizes, **dropout},
            "peft": {"name": "lora", "targets": ["c_attn"]},
        },
        "client": {"batch_size": 4, "optimizer": {"name": "adamw", "lr": 0.001}},
    }
    return Subject("GPT", clients, sections, Dataset(Pool(ids[:, :-1], ids[:, 1:], "tokens", "random ids"), None, info))
