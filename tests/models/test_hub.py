"""Models and tokenizers by their names on a hub: a cache that looks like the library's, and no network."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from corpora import save_tokenizer, write_lines
from federations import sha256

from raysim import Experiment, Simulation
from raysim.config.hugging_face import HuggingFaceConfig
from raysim.errors import ConfigError, ModelError
from raysim.models.hugging_face import hugging_face
from raysim.models.pretrained import resolved

transformers = pytest.importorskip("transformers")

OLD, NEW = "a" * 40, "b" * 40


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The cache of a hub that has one model, `nobody/tiny`, with its tokenizer."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    model = tmp_path / "hub" / "models--nobody--tiny"
    snapshot = model / "snapshots" / OLD
    (model / "refs").mkdir(parents=True)
    (model / "refs" / "main").write_text(OLD)
    torch.manual_seed(0)
    settings = transformers.GPT2Config(
        vocab_size=280, n_embd=8, n_layer=1, n_head=2, n_positions=16, bos_token_id=0, eos_token_id=1
    )
    transformers.GPT2LMHeadModel(settings).save_pretrained(snapshot)
    save_tokenizer(snapshot)
    return model


def experiment(folder: Path, **keys: Any) -> Experiment:
    path = write_lines(folder / "a.jsonl", [{"text": f"the cat sat on mat {number}"} for number in range(12)])
    values: dict[str, Any] = {
        "name": "by-name",
        "rounds": 2,
        "cohort": 2,
        "data": {
            "source": {"name": "corpus", "path": str(path), "tokenizer": "nobody/tiny", "length": 8},
            "partition": {"name": "iid", "clients": 3},
        },
        "model": {"name": "hugging_face", "hub": "nobody/tiny", "peft": {"name": "lora", "r": 2}},
        "client": {"steps": 1},
        "training": {"engine": "sequential"},
        "evaluation": {"every": 0},
        "execution": {"executor": "inprocess"},
        "tracking": {"directory": str(folder / "runs"), "report": False},
    }
    return Experiment.parse({**values, **keys})


def test_a_run_goes_on_with_the_revision_that_it_was_begun_with(hub: Path, tmp_path: Path) -> None:
    with Simulation(experiment(tmp_path)) as whole:
        whole.run()
        expected = sha256(whole.model())
    with Simulation(experiment(tmp_path, rounds=1)) as simulation:
        simulation.run()
        assert isinstance(simulation.experiment.model, HuggingFaceConfig)
        assert simulation.experiment.model.fingerprint == OLD
    newer = hub / "snapshots" / NEW
    shutil.copytree(hub / "snapshots" / OLD, newer)
    other = transformers.GPT2LMHeadModel.from_pretrained(newer)
    torch.nn.init.zeros_(other.transformer.h[0].attn.c_attn.weight)
    other.save_pretrained(newer)
    (hub / "refs" / "main").write_text(NEW)
    assert resolved(HuggingFaceConfig(hub="nobody/tiny"), "sequential").fingerprint == NEW
    with Simulation.resume(simulation.directory, overrides=["rounds=2"]) as resumed:
        resumed.run()
        assert sha256(resumed.model()) == expected
    shutil.rmtree(hub / "snapshots" / OLD)
    with pytest.raises(ModelError, match=r"model\.hub: nobody/tiny is not there, nor in the library's cache") as error:
        Simulation.resume(simulation.directory, overrides=["rounds=3"])
    assert "\n" not in str(error.value)


@pytest.mark.usefixtures("hub")
def test_a_name_that_no_hub_has_is_one_line(tmp_path: Path) -> None:
    model = {"name": "hugging_face", "hub": "nobody/nothing"}
    with pytest.raises(ModelError, match=r"model\.hub: nobody/nothing is not there") as error:
        Simulation(experiment(tmp_path, model=model))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.usefixtures("hub")
def test_quantised_layers_say_which_package_they_need(bits: int, monkeypatch: pytest.MonkeyPatch) -> None:
    from raysim.data import DataInfo

    config = HuggingFaceConfig(hub="nobody/tiny", peft="lora", bits=bits)
    info = DataInfo("classification", (8,), "tokens", (8,), 280, 280)
    with pytest.raises(ModelError, match=r"model\.bits: quantised layers need a GPU, and this process sees none"):
        hugging_face(config, info, (8, 280))
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setitem(__import__("sys").modules, "bitsandbytes", None)
    with pytest.raises((ConfigError, ModelError), match=r"needs bitsandbytes; run `pip install bitsandbytes`") as error:
        hugging_face(config, info, (8, 280))
    assert "\n" not in str(error.value)
