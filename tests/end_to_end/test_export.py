"""A run's transformer leaves raysim: as a folder that the library opens, and as adapters for the base."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from command_line import invoke
from federations import digits
from torch import Tensor
from transformer_models import LENGTH, VOCABULARY, federation, info_of, plain, section

from raysim import Simulation, export
from raysim.config.hugging_face import HuggingFaceConfig
from raysim.data import DataInfo
from raysim.errors import RaysimError

IDS = np.random.default_rng(9).integers(0, VOCABULARY, (3, LENGTH))


def finished(tmp_path: Path, family: str, *overrides: str) -> tuple[Path, Tensor, Any]:
    """A run of two rounds, and the logits of its model."""
    experiment, data = federation(tmp_path / "runs", family, "sequential", "rounds=2", *overrides)
    with Simulation(experiment, data=data) as simulation:
        simulation.run()
        return simulation.directory, plain(simulation.model(), IDS), data


@pytest.mark.parametrize(
    ("family", "algorithm"), [("gpt2", "fedavg"), ("llama", "fedavg"), ("bert", "fedavg"), ("gpt2", "fedex_lora")]
)
def test_a_merged_folder_is_the_trained_model(tmp_path: Path, family: str, algorithm: str) -> None:
    import transformers

    run, expected, data = finished(tmp_path, family, f"algorithm={algorithm}")
    folder = export(run, tmp_path / "merged", merged=True, data=data)
    kind = "SequenceClassification" if family == "bert" else "CausalLM"
    model = getattr(transformers, f"AutoModelFor{kind}").from_pretrained(folder)
    assert not [name for name, _ in model.named_parameters() if "lora" in name]
    torch.testing.assert_close(plain(model, IDS), expected, rtol=1e-4, atol=1e-5)


def test_adapters_fit_the_base_that_they_were_trained_on(tmp_path: Path) -> None:
    import peft
    import transformers

    base = transformers.LlamaForCausalLM(
        transformers.LlamaConfig(
            vocab_size=VOCABULARY, hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
            max_position_embeddings=24, bos_token_id=None, eos_token_id=None,
        )
    )  # fmt: skip
    base.save_pretrained(tmp_path / "base")
    run, expected, data = finished(tmp_path, "llama", f"model.path={tmp_path / 'base'}", "model.config=null")
    folder = export(run, tmp_path / "adapters", data=data)
    again = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "base")
    assert not torch.allclose(plain(again, IDS), expected, atol=1e-4)
    adapted = peft.PeftModel.from_pretrained(again, folder)
    torch.testing.assert_close(plain(adapted, IDS), expected, rtol=1e-4, atol=1e-5)


def test_adapters_of_a_module_that_peft_changed_and_of_an_encoder_are_found_by_peft(tmp_path: Path) -> None:
    import peft
    from safetensors.torch import load_file

    from raysim.models import build_model
    from raysim.models.merging import save_adapters

    info = info_of("encoder")
    config = HuggingFaceConfig(**section("encoder", "bert", peft={"name": "lora", "r": 2}))
    encoder: Any = build_model(config, info, seed=0)
    handed = peft.get_peft_model(
        build_model(HuggingFaceConfig(**section("causal_lm", "llama")), info_of("causal_lm"), seed=0),
        peft.LoraConfig(r=2),
    )
    for name, module in (("encoder", encoder), ("handed", handed)):
        save_adapters(module, tmp_path / name)
        written = load_file(tmp_path / name / "adapter_model.safetensors")
        base = encoder.backbone if name == "encoder" else handed.get_base_model()
        found = {key.replace(".default", "") for key, _ in base.named_parameters() if "lora_" in key}
        assert {key.removeprefix("base_model.model.") for key in written} == found
    assert set(load_file(tmp_path / "encoder" / "head.safetensors")) == {"head.weight", "head.bias"}


def test_a_merged_head_leaves_the_embeddings_that_it_was_tied_to(tmp_path: Path) -> None:
    import transformers

    peft = "model.peft={name: lora, r: 2, targets: [lm_head]}"
    run, expected, data = finished(tmp_path, "gpt2", peft)
    folder = export(run, tmp_path / "merged", merged=True, data=data)
    model = transformers.AutoModelForCausalLM.from_pretrained(folder)
    torch.testing.assert_close(plain(model, IDS), expected, rtol=1e-4, atol=1e-5)


def test_a_run_of_a_frozen_base_keeps_what_trains_and_knows_its_base(tmp_path: Path) -> None:
    from safetensors import safe_open

    run, _, data = finished(tmp_path, "gpt2")
    with safe_open(run / "model.safetensors", framework="pt") as file:
        assert all("lora_" in name for name in file.keys())  # noqa: SIM118 - not a mapping
        assert len(file.metadata()["base"]) == 64
    experiment, _ = federation(tmp_path / "runs", "gpt2", "sequential", f"model.weights={run / 'model.safetensors'}")
    with Simulation(experiment.updated(["rounds=1"]), data=data) as simulation:
        next(iter(simulation))
    other = experiment.updated(["seed=5"])
    with pytest.raises(RaysimError, match="what was trained on the frozen base"), Simulation(other, data=data):
        pass


@pytest.mark.parametrize(
    ("overrides", "arguments", "line"),
    [
        ((), ["--to", "FULL"], "is not empty; name another folder"),
        (("algorithm=fedex_lora",), ["--to", "NEW"], "has a version of its base, which adapters do not hold"),
        (("model.peft=null",), ["--to", "NEW"], "has no adapters; add --merged"),
        (
            ("model.peft={name: prompt, length: 2}",),
            ["--to", "NEW", "--merged"],
            "embeddings before the sequence have no form",
        ),
    ],
)
def test_what_cannot_be_written_is_one_line(
    tmp_path: Path, overrides: tuple[str, ...], arguments: list[str], line: str
) -> None:
    source = ["data.source={name: corpus, length: 20, min_characters: 30000}", "data.partition={name: natural}"]
    experiment, _ = federation(tmp_path / "runs", "gpt2", "sequential", "rounds=1", "cohort=1", *source, *overrides)
    with Simulation(experiment) as simulation:
        simulation.run()
    (tmp_path / "FULL").mkdir()
    (tmp_path / "FULL" / "file").touch()
    places = [str(tmp_path / one) if one.isupper() else one for one in arguments]
    found = invoke("export", str(simulation.directory), *places)
    assert found.exit_code == 2
    assert line in found.output
    assert not (tmp_path / "NEW" / "model.safetensors").exists()


def test_other_models_are_refused(tmp_path: Path) -> None:
    with Simulation(digits(tmp_path, "rounds=1")) as simulation:
        simulation.run()
    with pytest.raises(RaysimError, match="is no transformer of the Hugging Face library"):
        export(simulation.directory, tmp_path / "out", merged=True)


def test_an_onnx_file_computes_what_the_model_does(tmp_path: Path) -> None:
    pytest.importorskip("onnxscript", reason="needs the extra onnx")
    from onnx.reference import ReferenceEvaluator

    with Simulation(digits(tmp_path, "rounds=1")) as simulation:
        simulation.run()
        model = simulation.model().eval()
    result = invoke("export", str(simulation.directory), "--format", "onnx", "--to", str(tmp_path / "model.onnx"))
    assert (result.exit_code, result.stdout) == (0, f"{tmp_path / 'model.onnx'}\n")
    evaluator = ReferenceEvaluator(str(tmp_path / "model.onnx"))
    for batch in (1, 5):
        x = np.random.default_rng(batch).random((batch, 1, 8, 8), np.float32)
        (found,) = evaluator.run(None, {"x": x})
        np.testing.assert_allclose(found, model(torch.from_numpy(x)).detach().numpy(), rtol=1e-4, atol=1e-6)
    with pytest.raises(RaysimError, match="exists already and is not an ONNX model; give another name"):
        export(simulation.directory, tmp_path / "model.onnx", format="onnx")


def test_what_cannot_be_an_onnx_file_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from raysim.models import onnx

    class Branching(torch.nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x if float(x.sum()) > 0 else -x

    class Counting(torch.nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x / len(x)

    info = DataInfo("classification", (3,), "real", classes=3)
    monkeypatch.setattr(onnx, "find_spec", lambda library: None)
    with pytest.raises(RaysimError, match=r"^an ONNX file needs onnx; run `pip install 'raysim-fl\[onnx\]'`$"):
        onnx.save_onnx(Branching(), info, tmp_path / "model.onnx")
    monkeypatch.setattr(onnx, "find_spec", lambda library: object())
    with pytest.raises(RaysimError, match=r"takes several inputs$"):
        onnx.save_onnx(Branching(), replace(info, input_kind="record"), tmp_path / "model.onnx")
    pytest.importorskip("onnxscript", reason="needs the extra onnx")
    with pytest.raises(RaysimError, match="torch cannot write the model as ONNX"):
        onnx.save_onnx(Branching(), info, tmp_path / "model.onnx")
    with pytest.raises(RaysimError, match=r"the size of a batch for a constant; write x.shape\[0\] for len\(x\)"):
        onnx.save_onnx(Counting(), info, tmp_path / "model.onnx")
    assert not (tmp_path / "model.onnx").exists()
