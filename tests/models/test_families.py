"""Families of transformers: those that are named as supported have the library's logits, others say what they are."""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from raysim.config.hugging_face import HuggingFaceConfig
from raysim.data import DataInfo
from raysim.data.inputs import InputField, pack_inputs
from raysim.errors import ModelError
from raysim.models import Calling, check_fit
from raysim.models.build import build_model, model_on_meta
from raysim.models.pretrained import resolved
from raysim.models.transformer_inputs import TRIED, unsupported
from raysim.training import continued

pytestmark = pytest.mark.skipif(find_spec("transformers") is None, reason="needs transformers")

LENGTH, VOCABULARY = 12, 40
PLAIN: dict[str, Any] = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "max_position_embeddings": 24,
}
GROUPED = {**PLAIN, "num_key_value_heads": 1}
HEADED = {**GROUPED, "head_dim": 8}
GPT = {"n_embd": 16, "n_layer": 1, "n_head": 2, "n_positions": 24}
PADDED = {**PLAIN, "max_position_embeddings": 30, "pad_token_id": 1}
EMBEDDED = {**PLAIN, "embedding_size": 16}
CONTINUE: dict[str, dict[str, Any]] = {
    "gpt2": GPT,
    "gpt_neo": {
        "hidden_size": 16,
        "num_layers": 2,
        "num_heads": 2,
        "attention_types": [[["global", "local"], 1]],
        "max_position_embeddings": 24,
    },
    "gpt_neox": PLAIN,
    "gptj": {**GPT, "rotary_dim": 4},
    "llama": GROUPED,
    "mistral": GROUPED,
    "mixtral": {**GROUPED, "num_local_experts": 2},
    "qwen2": GROUPED,
    "qwen3": HEADED,
    "gemma": HEADED,
    "gemma2": HEADED,
    "phi": PLAIN,
    "phi3": {**PLAIN, "pad_token_id": 0},
    "opt": {
        "hidden_size": 16,
        "ffn_dim": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "max_position_embeddings": 24,
        "word_embed_proj_dim": 16,
    },
    "falcon": {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2},
    "olmo": PLAIN,
    "granite": GROUPED,
    "smollm3": {**GROUPED, "pad_token_id": 0},
}
CLASSIFY: dict[str, dict[str, Any]] = {
    "bert": PLAIN,
    "roberta": PADDED,
    "xlm-roberta": PADDED,
    "camembert": PADDED,
    "distilbert": {"dim": 16, "hidden_dim": 32, "n_layers": 1, "n_heads": 2, "max_position_embeddings": 24},
    "albert": EMBEDDED,
    "electra": EMBEDDED,
    "mpnet": PADDED,
    "mobilebert": EMBEDDED,
    "convbert": EMBEDDED,
    "ernie": PLAIN,
    "big_bird": PLAIN,
    "modernbert": {**PLAIN, "pad_token_id": 0, "cls_token_id": 1, "sep_token_id": 2},
}
OTHERS: dict[str, dict[str, Any]] = {
    "deberta-v2": PLAIN,
    "esm": {**PADDED, "max_position_embeddings": 40},
    "fnet": {key: value for key, value in PLAIN.items() if key != "num_attention_heads"},
    "bloom": {"hidden_size": 16, "n_layer": 1, "n_head": 2},
    "mamba": {"hidden_size": 16, "num_hidden_layers": 1, "state_size": 4},
    "xlnet": {"d_model": 16, "n_layer": 1, "n_head": 2, "d_inner": 32},
}
IDS = np.random.default_rng(0).integers(3, VOCABULARY, (4, LENGTH))
REAL = np.arange(LENGTH) < np.array([[12], [7], [5], [12]])


def made(family: str, settings: dict[str, Any], task: Any) -> tuple[HuggingFaceConfig, DataInfo, torch.Tensor]:
    config = resolved(HuggingFaceConfig(config={"model_type": family, **settings}, task=task), "sequential")
    if task == "causal_lm":
        info = DataInfo("classification", (LENGTH,), "tokens", (LENGTH,), VOCABULARY, VOCABULARY)
        return config, info, torch.from_numpy(IDS)
    fields = (
        InputField("input_ids", "tokens", (LENGTH,), count=VOCABULARY),
        InputField("attention_mask", "flags", (LENGTH,)),
    )
    x, placed = pack_inputs({"input_ids": IDS, "attention_mask": REAL}, fields)
    info = DataInfo("classification", x.shape[1:], "record", classes=3, vocabulary=VOCABULARY, inputs=placed)
    return config, info, torch.from_numpy(x)


@pytest.mark.parametrize("family", [*CONTINUE, *CLASSIFY])
def test_a_supported_family_has_the_logits_of_the_library(family: str) -> None:
    causal = family in CONTINUE
    config, info, x = made(family, CONTINUE.get(family) or CLASSIFY[family], "causal_lm" if causal else
                           "sequence_classification")  # fmt: skip
    check_fit(model_on_meta(config, info), info)
    called, plain = (build_model(config, info, seed=0).eval() for _ in range(2))
    Calling.of(called, info).attach(called)
    assert unsupported(plain) is None
    with torch.no_grad():
        found = called(x)
        if causal:
            expected = plain(input_ids=x).logits
            other = x.clone()
            other[:, 8:] = 5
            assert torch.equal(called(other)[:, :8], found[:, :8])
            prompt = IDS[0, :3].tolist()
            written = continued(called, info, prompt, np.zeros(9), 0, None, torch.device("cpu"))
            for ids in (prompt + list(written[:n]) for n in range(len(written))):
                assert written[len(ids) - 3] == int(plain(input_ids=torch.tensor([ids])).logits[0, -1].argmax())
        else:
            alone = (torch.from_numpy(IDS[i : i + 1, : REAL[i].sum()]) for i in range(len(IDS)))
            expected = torch.cat([plain(input_ids=one).logits for one in alone])
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-4)


def test_all_that_are_named_were_tried() -> None:
    assert [re.split(", ", names) for names in TRIED.values()] == [list(CONTINUE), list(CLASSIFY)]
    page = (Path(__file__).parents[2] / "docs" / "large-models.md").read_text(encoding="utf-8")
    assert all(f"| {names} |" in page for names in TRIED.values())


@pytest.mark.parametrize("family", OTHERS)
def test_another_family_is_named_with_those_that_are_supported(family: str) -> None:
    task = "causal_lm" if family in ("bloom", "mamba", "xlnet") else "sequence_classification"
    config, info, _ = made(family, OTHERS[family], task)
    with pytest.raises(
        ModelError, match=f"the family {family} is not supported; use for texts to continue gpt2"
    ) as error:
        check_fit(model_on_meta(config, info), info)
    assert "\n" not in str(error.value)
