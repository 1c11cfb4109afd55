"""GGUF files, as the library writes them out of packed blocks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from raysim.models.gguf import converted

gguf = pytest.importorskip("gguf")
transformers = pytest.importorskip("transformers")

WIDTH, INNER, HEADS = 32, 64, 2
WORDS = ["<|endoftext|>", *"abcdefgh"]


@pytest.fixture
def packed(tmp_path: Path) -> tuple[Path, dict[str, np.ndarray]]:
    """A llama of one layer whose matrices are 8-bit blocks, and what the blocks stand for."""
    file = tmp_path / "tiny.gguf"
    writer = gguf.GGUFWriter(file, "llama")
    writer.add_block_count(1)
    writer.add_context_length(16)
    writer.add_embedding_length(WIDTH)
    writer.add_feed_forward_length(INNER)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10000.0)
    writer.add_vocab_size(len(WORDS))
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(WORDS)
    writer.add_token_scores([0.0] * len(WORDS))
    writer.add_token_types([gguf.TokenType.CONTROL, *[gguf.TokenType.NORMAL] * 8])
    writer.add_token_merges([])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(0)
    random, held = np.random.default_rng(0), {}
    matrices = {"token_embd": (len(WORDS), WIDTH), "output": (len(WORDS), WIDTH)}
    matrices |= {f"blk.0.attn_{one}": (WIDTH, WIDTH) for one in ("q", "k", "v", "output")}
    matrices |= {f"blk.0.ffn_{one}": (INNER, WIDTH) for one in ("gate", "up")} | {"blk.0.ffn_down": (WIDTH, INNER)}
    for name, shape in matrices.items():
        blocks = gguf.quants.quantize(random.normal(size=shape).astype(np.float32), gguf.GGMLQuantizationType.Q8_0)
        writer.add_tensor(f"{name}.weight", blocks, raw_dtype=gguf.GGMLQuantizationType.Q8_0)
        held[name] = gguf.quants.dequantize(blocks, gguf.GGMLQuantizationType.Q8_0)
    for name in ("output_norm", "blk.0.attn_norm", "blk.0.ffn_norm"):
        writer.add_tensor(f"{name}.weight", np.ones(WIDTH, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file, held


def test_a_packed_file_becomes_a_folder_of_plain_floats(
    packed: tuple[Path, dict[str, np.ndarray]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAYSIM_CACHE", str(tmp_path / "cache"))
    file, held = packed
    folder = converted(file)
    assert converted(file) == folder, "once"
    model = transformers.AutoModelForCausalLM.from_pretrained(folder)
    assert getattr(model.config, "quantization_config", None) is None
    found = {name: one.detach().numpy() for name, one in model.named_parameters()}
    np.testing.assert_array_equal(found["model.embed_tokens.weight"], held["token_embd"])
    np.testing.assert_array_equal(found["model.layers.0.mlp.down_proj.weight"], held["blk.0.ffn_down"])
    np.testing.assert_array_equal(found["model.layers.0.self_attn.v_proj.weight"], held["blk.0.attn_v"])
    assert transformers.AutoTokenizer.from_pretrained(folder).convert_tokens_to_ids("c") == 3
