"""Transformers of the Hugging Face library: built, called, adapted, refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformer_models
from torch import Tensor, nn
from transformer_models import CAUSAL, SIZES, TASKS, info_of, section

from raysim.config.hugging_face import HuggingFaceConfig
from raysim.data.inputs import InputField, pack_inputs
from raysim.errors import ModelError, RaysimError
from raysim.models import Blueprint, Calling, build_model, check_fit, model_on_meta, resolved
from raysim.models.quantised import quantised_bytes


def built(task: str, family: str, **keys: Any) -> nn.Module:
    info = info_of(task)
    return build_model(HuggingFaceConfig(**section(task, family, **keys)), info, seed=0)


def called(module: nn.Module, info: Any, x: Any) -> Tensor:
    one = Blueprint.of(module, calling=Calling.of(module, info)).instantiate().eval()
    with torch.no_grad():
        found: Tensor = one(torch.as_tensor(x))
    return found


@pytest.mark.parametrize("peft", [None, {"name": "lora", "r": 2}, {"name": "ia3"}, {"name": "prompt", "length": 3}])
@pytest.mark.parametrize(("task", "family"), TASKS)
def test_every_task_and_adapter_fits_its_data_with_and_without_weights(task: str, family: str, peft: Any) -> None:
    if task == "encoder" and peft is not None and peft["name"] == "prompt":
        return  # refused, see below
    info, config = info_of(task), HuggingFaceConfig(**section(task, family, peft=peft))
    meta = model_on_meta(config, info)
    assert all(one.is_meta for one in meta.parameters())
    shape = check_fit(meta, info)
    model = build_model(config, info, seed=0)
    assert check_fit(model, info) == shape
    assert shape == (*info.target_shape, info.classes)
    trained = {name for name, one in model.named_parameters() if one.requires_grad}
    assert {name for name, one in meta.named_parameters() if one.requires_grad} == trained
    if peft is not None:
        marker = {"lora": "lora_", "ia3": "ia3_l", "prompt": "soft_prompt"}[peft["name"]]
        assert any(marker in name for name in trained)
        heads = ("classifier", "head", "score", "backbone.classifier")
        assert all(marker in name or name.startswith(heads) for name in trained)


@pytest.mark.parametrize("family", CAUSAL)
def test_padding_changes_no_logit_of_a_token(family: str) -> None:
    """A sequence alone, in the library's own way, against the same one padded on either side."""
    model, info = built("causal_lm", family), info_of("causal_lm")
    generator = np.random.default_rng(0)
    ids = generator.integers(0, 40, (3, 12))
    length = np.array([12, 7, 4])
    for side in ("right", "left"):
        mask = np.arange(12) < length[:, None] if side == "right" else np.arange(12) >= 12 - length[:, None]
        positions = np.maximum(np.cumsum(mask, 1) - 1, 0)
        packed, fields = pack_inputs(
            {"input_ids": ids, "attention_mask": mask, "position_ids": positions},
            [
                InputField("input_ids", "tokens", (12,), count=40),
                InputField("attention_mask", "flags", (12,)),
                InputField("position_ids", "integers", (12,), count=12),
            ],
        )
        found = called(model, transformer_models.record(info, packed, fields), packed)
        for row in range(3):
            alone = transformer_models.plain(model, ids[row][mask[row]][None])
            torch.testing.assert_close(found[row][torch.from_numpy(mask[row])], alone[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("positions", [True, False], ids=["given", "made"])
@pytest.mark.parametrize("family", CAUSAL)
def test_packed_documents_have_the_logits_that_they_have_alone(family: str, positions: bool) -> None:
    model, info = built("causal_lm", family), info_of("causal_lm")
    ids = np.random.default_rng(1).integers(0, 40, (1, 12))
    segments = np.array([[1, 1, 1, 1, 1, 2, 2, 2, 3, 3, 3, 3]])
    place = np.array([[0, 1, 2, 3, 4, 0, 1, 2, 0, 1, 2, 3]])
    wanted = [InputField("input_ids", "tokens", (12,), count=40), InputField("segments", "integers", (12,), count=13)]
    wanted += [InputField("position_ids", "integers", (12,), count=12)] if positions else []
    packed, fields = pack_inputs({"input_ids": ids, "segments": segments, "position_ids": place}, wanted)
    found = called(model, transformer_models.record(info, packed, fields), packed)[0]
    for document in (1, 2, 3):
        here = segments[0] == document
        alone = transformer_models.plain(model, ids[:, here])[0]
        torch.testing.assert_close(found[torch.from_numpy(here)], alone, rtol=1e-4, atol=1e-5)


def test_positions_of_roberta_begin_where_its_own_do() -> None:
    keys = {"model_type": "roberta", "max_position_embeddings": 14, "pad_token_id": 1, **SIZES["bert"]}
    keys["max_position_embeddings"] = 14
    for attention in ("eager", "sdpa"):
        config = HuggingFaceConfig(config=keys, task="token_classification", attention=attention)
        info = info_of("token_classification")
        model = build_model(config, info, seed=0)
        ids = np.random.default_rng(5).integers(2, 40, (2, 12))
        torch.testing.assert_close(called(model, info, ids), transformer_models.plain(model, ids), rtol=1e-4, atol=1e-5)


def test_a_model_that_would_see_the_next_token_is_refused() -> None:
    info = info_of("causal_lm")
    with pytest.raises(ModelError, match="its attention is not known to be causal"):
        check_fit(built("causal_lm", "bert"), info)
    assert check_fit(built("causal_lm", "bert", is_decoder=True), info) == (12, 40)


def test_an_encoder_pools_tokens_and_not_padding() -> None:
    model, info = built("encoder", "bert"), info_of("encoder")
    ids = np.random.default_rng(2).integers(0, 40, (2, 12))
    mask = np.arange(12) < np.array([[5], [9]])
    packed, fields = pack_inputs(
        {"input_ids": ids, "attention_mask": mask},
        [InputField("input_ids", "tokens", (12,), count=40), InputField("attention_mask", "flags", (12,))],
    )
    found = called(model, transformer_models.record(info, packed, fields), packed)
    backbone, head = model.backbone.eval(), model.head
    for row, length in enumerate((5, 9)):
        with torch.no_grad():
            hidden = backbone(input_ids=torch.from_numpy(ids[row : row + 1, :length])).last_hidden_state
            torch.testing.assert_close(found[row], head(hidden.mean(1))[0], rtol=1e-4, atol=1e-5)


def test_a_soft_prompt_is_the_library_with_embeddings_put_before() -> None:
    model, info = built("causal_lm", "llama", peft={"name": "prompt", "length": 3}), info_of("causal_lm")
    ids = torch.from_numpy(np.random.default_rng(3).integers(0, 40, (2, 12)))
    found = called(model, info, ids)
    backbone = model.backbone.eval()
    with torch.no_grad():
        own = backbone.get_input_embeddings()(ids)
        embeds = torch.cat([model.soft_prompt.expand(2, -1, -1), own], 1)
        torch.testing.assert_close(found, backbone(inputs_embeds=embeds).logits[:, 3:], rtol=1e-4, atol=1e-5)


def test_a_soft_prompt_is_of_the_kind_that_the_sequence_begins_with() -> None:
    model = built("sequence_classification", "bert", peft={"name": "prompt", "length": 3})
    info, generator = info_of("sequence_classification"), np.random.default_rng(3)
    ids, kinds = generator.integers(0, 40, (2, 12)), generator.integers(0, 2, (2, 12))
    packed, fields = pack_inputs(
        {"input_ids": ids, "token_type_ids": kinds},
        [InputField("input_ids", "tokens", (12,), count=40), InputField("token_type_ids", "integers", (12,), count=2)],
    )
    found = called(model, transformer_models.record(info, packed, fields), packed)
    backbone = model.backbone.eval()
    with torch.no_grad():
        own = backbone.get_input_embeddings()(torch.from_numpy(ids))
        embeds = torch.cat([model.soft_prompt.expand(2, -1, -1), own], 1)
        types = torch.from_numpy(np.concatenate([np.repeat(kinds[:, :1], 3, 1), kinds], 1))
        expected = backbone(inputs_embeds=embeds, token_type_ids=types).logits
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_an_adapter_changes_the_output_once_its_second_matrix_is_not_zero() -> None:
    model, info = built("causal_lm", "gpt2", peft={"name": "lora", "r": 2, "alpha": 4.0}), info_of("causal_lm")
    ids = np.random.default_rng(4).integers(0, 40, (2, 12))
    before = called(model, info, ids)
    with torch.no_grad():
        for name, one in model.named_parameters():
            if "lora_B" in name:
                one.fill_(0.5)
    assert not torch.allclose(before, called(model, info, ids))


def test_adapters_are_drawn_from_the_seed_and_nothing_else() -> None:
    info, config = info_of("causal_lm"), HuggingFaceConfig(**section("causal_lm", "llama", peft="lora"))
    torch.manual_seed(1)
    first = build_model(config, info, seed=3)
    torch.manual_seed(2)
    again, other = build_model(config, info, seed=3), build_model(config, info, seed=4)
    same = [torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True)]
    assert all(same)
    assert not all(torch.equal(a, b) for a, b in zip(first.parameters(), other.parameters(), strict=True))


def test_a_frozen_base_has_the_type_that_was_asked_for_and_what_trains_is_float32() -> None:
    model = built("causal_lm", "llama", peft="lora", dtype="bfloat16", train=["*norm*"])
    for name, one in model.named_parameters():
        trains = "lora_" in name or "norm" in name
        assert one.requires_grad == trains
        assert one.dtype == (torch.float32 if trains else torch.bfloat16)
    info = info_of("causal_lm")
    assert check_fit(model, info) == (12, 40)


def test_logits_beyond_the_vocabulary_of_the_data_are_dropped() -> None:
    model, info = built("causal_lm", "gpt2", vocab_size=64), info_of("causal_lm")
    assert model.config.vocab_size == 64
    assert check_fit(model, info) == (12, 40)


@pytest.mark.parametrize(
    ("keys", "line"),
    [
        ({"path": "nowhere"}, "model.path: .*nowhere is no folder and no .gguf file"),
        ({"path": "."}, r"model.path: .* has no config.json"),
        (
            {"config": {"model_type": "gtp2"}},
            "model.config.model_type: 'gtp2' is unknown to transform",
        ),
        ({"config": {"model_type": "gpt2", "n_layers": 2}}, "model.config.n_layers: gpt2 models have no such key; did"),
        ({"config": {"model_type": "t5"}}, "cannot be loaded|encoder-decoder"),
        ({"peft": {"name": "lora", "targets": ["nothing"]}}, "model.peft.targets: .*nothing"),
        ({"peft": {"name": "lora", "targets": ["c_attn", "typo"]}}, "model.peft.targets: no layer is called 'typo'"),
        ({"n_head": 0}, "model: model.config cannot be loaded|model.config: "),
        ({"n_embd": "many"}, "model.config"),
        ({"peft": {"name": "ia3", "targets": ["c_attn"], "feedforward": ["c_fc"]}}, "model.peft.targets: "),
        ({"peft": {"name": "lora", "r": 1000}}, r"model.peft.r: rank 1000 is above that of layer .*; at most"),
        ({"freeze": ["nothing.*"]}, "model.freeze: 'nothing.*' matches no parameter; there are "),
        ({"peft": "lora", "train": ["nothing"]}, "model.train: 'nothing' matches no parameter"),
        ({"freeze": ["*"]}, "model.freeze: nothing is left to train"),
        (
            {"peft": "lora", "freeze": ["*wte*"]},
            "model.freeze: '.wte.' has no effect, for the parameters that it matches",
        ),
        ({"peft": "lora", "train": ["*lora_A*"]}, "model.train: '.lora_A.' has no effect, for the parameters that it "),
        ({"peft": "lora", "train": ["*ln_f*"], "freeze": ["*ln_f*"]}, "model.train: '.ln_f.' has no effect"),
        ({"vocab_size": 39}, "its vocabulary has 39 tokens, the data's tokenizer 40"),
        ({"n_positions": 11}, "it has 11 positions, the data's sequences are 12 long"),
    ],
)
def test_what_does_not_fit_is_one_line(keys: dict[str, Any], line: str) -> None:
    def checked() -> None:
        config, info = HuggingFaceConfig(**section("causal_lm", "gpt2", **keys)), info_of("causal_lm")
        resolved(config, "auto")
        check_fit(model_on_meta(config, info), info)

    with pytest.raises(RaysimError, match=line) as caught:
        checked()
    assert "\n" not in str(caught.value)


def test_a_task_that_does_not_suit_the_targets_is_refused() -> None:
    config = HuggingFaceConfig(**section("sequence_classification", "gpt2"))
    with pytest.raises(ModelError, match=r"model\.task: sequence_classification predicts one target a sample"):
        model_on_meta(config, info_of("causal_lm"))


@pytest.mark.parametrize(
    ("keys", "line"),
    [
        ({"bits": 4, "path": "somewhere"}, "bits needs peft"),
        ({"dtype": "bfloat16"}, "none is frozen; add peft or freeze"),
        ({"train": ["head.*"]}, "train names what trains beside adapters"),
        ({"task": "encoder", "peft": "prompt"}, "an encoder would pool the prompt"),
    ],
)
def test_keys_that_do_not_go_together_are_refused(keys: dict[str, Any], line: str) -> None:
    with pytest.raises(ValueError, match=line):
        HuggingFaceConfig(**section(keys.pop("task", "causal_lm"), "gpt2", **keys))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_quantised_layers_need_a_gpu(tmp_path: Path) -> None:
    built("causal_lm", "gpt2").save_pretrained(tmp_path)
    config = HuggingFaceConfig(path=str(tmp_path), peft="lora", bits=4)
    model_on_meta(config, info_of("causal_lm"))
    with pytest.raises(ModelError, match=r"model\.bits: quantised layers need a GPU"):
        build_model(config, info_of("causal_lm"), seed=0)
    with pytest.raises(ModelError, match=r"model\.bits: pretrained layers are quantised"):
        built("causal_lm", "gpt2", peft="lora", bits=4)


@pytest.mark.parametrize(
    ("task", "family", "kept"),
    [("causal_lm", "gpt2", ("wte", "wpe", "ln_")), ("causal_lm", "llama", ("embed_tokens", "norm", "lm_head"))],
)
@pytest.mark.parametrize("bits", [4, 8])
def test_embeddings_and_the_head_are_not_quantised(task: str, family: str, kept: tuple[str, ...], bits: int) -> None:
    keys: dict[str, Any] = {"tie_word_embeddings": False} if family == "llama" else {}
    model = model_on_meta(HuggingFaceConfig(**section(task, family, peft="lora", **keys)), info_of(task))
    found = quantised_bytes(model, bits)
    for name, one in model.named_parameters():
        in_type = one.requires_grad or name.endswith("bias") or any(part in name for part in kept)
        assert (name in found) != in_type, name
        if name in found:
            scales = 4 * -(-one.numel() // 64) if bits == 4 else 4 * one.shape[0 if family == "llama" else 1]
            assert found[name] == one.numel() * bits // 8 + scales


def test_one_origin_is_asked_for() -> None:
    for keys in ({}, {"path": "a", "hub": "b"}):
        with pytest.raises(ValueError, match="takes one of path, hub and config"):
            HuggingFaceConfig(**keys)


def test_a_folder_is_read_and_recognised_again(tmp_path: Path) -> None:
    first = built("causal_lm", "gpt2")
    first.save_pretrained(tmp_path / "base")
    config = HuggingFaceConfig(path=str(tmp_path / "base"), peft="lora")
    kept = resolved(config, "auto")
    assert kept.fingerprint
    assert kept.attention == "sdpa"
    assert resolved(config, "rows").attention == "eager"
    model = build_model(kept, info_of("causal_lm"), seed=0)
    by_name = dict(first.named_parameters())
    for name, one in model.named_parameters():
        if not one.requires_grad:
            assert torch.equal(one, by_name[name.replace(".base_layer", "")])
    with torch.no_grad():
        next(first.parameters()).add_(1)
    first.save_pretrained(tmp_path / "base")
    with pytest.raises(RaysimError, match="are not those that the run was started with"):
        resolved(kept, "auto")


def test_a_missing_extra_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    from raysim.models import extras

    def missing(name: str) -> Any:
        raise ModuleNotFoundError(name)

    monkeypatch.setattr(extras.importlib, "import_module", missing)
    with pytest.raises(ModelError, match=r"needs transformers; run `pip install 'raysim-fl\[llm\]'`"):
        built("causal_lm", "gpt2")
