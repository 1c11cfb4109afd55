"""A transformer as an ONNX file, beside the library's own model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformer_models import VOCABULARY, info_of, section

from raysim.arrays import Array
from raysim.config.hugging_face import HuggingFaceConfig
from raysim.errors import ModelError
from raysim.models import build_model
from raysim.models.onnx import save_onnx
from raysim.models.onnx_transformer import OnnxTransformer

RNG = np.random.default_rng(0)


def padded(batch: int, length: int) -> tuple[Array, Array]:
    """Token ids, and a mask by which every sequence ends with padding."""
    there = np.arange(length) < RNG.integers(1, length + 1, (batch, 1))
    return RNG.integers(0, VOCABULARY, (batch, length)), there.astype(np.int64)


def logits(model: Any, ids: Array, mask: Array) -> Array:
    """As the library computes them by itself."""
    with torch.no_grad():
        found: Array = model.eval()(
            input_ids=torch.from_numpy(ids), attention_mask=torch.from_numpy(mask)
        ).logits.numpy()
    return found


@pytest.mark.parametrize("family", ["gpt2", "llama", "bert"])
def test_what_is_written_computes_the_library_s_logits(family: str) -> None:
    task = "token_classification" if family == "bert" else "causal_lm"
    config = HuggingFaceConfig(**section(task, family, peft={"name": "lora", "r": 2}))
    model: Any = build_model(config, info_of(task), seed=0)
    ids, mask = padded(4, 20)  # longer than those that it is trained on
    with torch.no_grad():
        found = OnnxTransformer(model, info_of(task)).eval()(torch.from_numpy(ids), torch.from_numpy(mask)).numpy()
    there = mask.astype(bool)
    np.testing.assert_allclose(found[there], logits(model, ids, mask)[there], rtol=1e-4, atol=1e-6)


def test_an_onnx_file_takes_batches_of_any_size_and_length(tmp_path: Path) -> None:
    pytest.importorskip("onnxscript", reason="needs the extra onnx")
    from onnx.reference import ReferenceEvaluator

    model: Any = build_model(HuggingFaceConfig(**section("causal_lm", "gpt2", n_layer=1)), info_of("causal_lm"), seed=0)
    save_onnx(model, info_of("causal_lm"), tmp_path / "model.onnx")
    evaluator = ReferenceEvaluator(str(tmp_path / "model.onnx"))
    for batch, length in ((1, 20), (4, 1), (3, 7)):
        ids, mask = padded(batch, length)
        (found,) = evaluator.run(None, {"input_ids": ids, "attention_mask": mask})
        there = mask.astype(bool)
        np.testing.assert_allclose(found[there], logits(model, ids, mask)[there], rtol=1e-4, atol=1e-6)


def test_a_prompt_takes_positions_of_the_sequence() -> None:
    plain = build_model(HuggingFaceConfig(**section("causal_lm", "gpt2")), info_of("causal_lm"), seed=0)
    config = HuggingFaceConfig(**section("causal_lm", "gpt2", peft={"name": "prompt", "length": 3}))
    prompted = build_model(config, info_of("causal_lm"), seed=0)
    assert OnnxTransformer(plain, info_of("causal_lm")).longest == 24
    found = OnnxTransformer(prompted, info_of("causal_lm"))
    assert found.longest == 21
    ids = torch.arange(10).reshape(2, 5)
    assert found.eval()(ids, torch.ones_like(ids)).shape == (2, 5, VOCABULARY)


def test_a_family_without_masks_is_refused_in_a_line(tmp_path: Path) -> None:
    pytest.importorskip("onnxscript", reason="needs the extra onnx")
    import transformers

    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "max_position_embeddings": 24}
    model = transformers.FNetModel(transformers.FNetConfig(vocab_size=VOCABULARY, **sizes))
    with pytest.raises(ModelError, match=r"fnet is not supported.*no attention that a mask could part\)$"):
        save_onnx(model, info_of("encoder"), tmp_path / "model.onnx")
    assert not (tmp_path / "model.onnx").exists()
