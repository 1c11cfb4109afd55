"""Small transformers, one a family, and samples for each task."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from raysim import Experiment
from raysim.arrays import Array
from raysim.config.loading import apply_overrides
from raysim.data import DataInfo
from raysim.data.inputs import InputField

LENGTH, VOCABULARY, CLASSES = 12, 40, 3
SIZES: dict[str, dict[str, Any]] = {
    "gpt2": {"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 24},
    "llama": {
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "max_position_embeddings": 24,
    },
    "bert": {
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "max_position_embeddings": 24,
    },
}
CAUSAL = ("gpt2", "llama")
TASKS = (
    ("causal_lm", "gpt2"),
    ("causal_lm", "llama"),
    ("encoder", "bert"),
    ("sequence_classification", "bert"),
    ("token_classification", "bert"),
)


def section(task: str, family: str, **keys: Any) -> dict[str, Any]:
    """A `model` section; keys of the library's configuration are told apart by what the section knows."""
    from raysim.config.hugging_face import HuggingFaceConfig

    own = {key: value for key, value in keys.items() if key in HuggingFaceConfig.model_fields}
    given = {key: value for key, value in keys.items() if key not in own}
    if not {"path", "hub", "config"} & set(own):
        own["config"] = {"model_type": family, **SIZES[family], **given}
    return {"name": "hugging_face", "task": task, **own}


def info_of(task: str) -> DataInfo:
    """What samples of a task look like."""
    shape = (LENGTH,)
    if task == "causal_lm":
        return DataInfo("classification", shape, "tokens", shape, VOCABULARY, VOCABULARY)
    target = shape if task == "token_classification" else ()
    return DataInfo("classification", shape, "tokens", target, CLASSES, VOCABULARY)


def record(info: DataInfo, packed: Array, fields: tuple[InputField, ...]) -> DataInfo:
    """The same samples as records of several inputs."""
    return replace(info, input_shape=packed.shape[1:], input_kind="record", inputs=fields)


def plain(model: nn.Module, ids: Array) -> Tensor:
    """Logits as the library computes them by itself."""
    found: Any
    with torch.no_grad():
        found = model.eval()(input_ids=torch.from_numpy(np.ascontiguousarray(ids)))
    logits: Tensor = found.logits
    return logits


def federation(directory: Path, family: str, engine: str = "sequential", *overrides: str) -> tuple[Experiment, Any]:
    """Four rounds of three of five clients, adapters with dropout; and the samples."""
    generator = np.random.default_rng(0)
    ids = generator.integers(0, VOCABULARY, (90, LENGTH))
    if family == "bert":
        mask = np.arange(LENGTH) < generator.integers(4, LENGTH + 1, (90, 1))
        data: dict[str, Any] = {"x": {"input_ids": ids, "attention_mask": mask}, "y": np.arange(90) % CLASSES}
        task = "sequence_classification"
    else:
        data, task = {"x": ids, "y": np.roll(ids, -1, 1)}, "causal_lm"
    dropout = 0.0 if engine == "rows" else 0.1
    keys = {"gpt2": ("resid_pdrop", "embd_pdrop", "attn_pdrop"), "bert": ("hidden_dropout_prob",)}
    rates: dict[str, Any] = dict.fromkeys(keys.get(family, ()), dropout)
    if engine == "rows":
        rates["num_hidden_layers"] = 1  # a larger graph takes long to capture
    values = {
        "name": family,
        "rounds": 4,
        "cohort": 3,
        "data": {"partition": {"name": "iid", "clients": 5}, "test": 0.1},
        "model": section(task, family, peft={"name": "lora", "r": 2, "dropout": dropout}, **rates),
        "client": {"batch_size": 4, "steps": 2, "optimizer": {"name": "adamw", "lr": 0.01}},
        "training": {"engine": engine},
        "execution": {"executor": "inprocess"},
        "tracking": {"directory": str(directory), "checkpoint_every": 2, "report": False},
    }
    return Experiment.parse(apply_overrides(values, list(overrides))), data
