"""Samples of a corpus in a transformer: documents that are packed into one sample do not see each other."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from corpora import arrays, load, write_lines

from raysim.data.inputs import unpack_inputs
from raysim.models.calling import Calling

TEXTS = ["the cat sat", "on the mat", "and the dog ate the hat", "?"]


@pytest.mark.parametrize("inputs", [["segments", "position_ids"], []])
def test_a_packed_document_is_foretold_as_if_it_were_alone(tmp_path, inputs) -> None:
    transformers = pytest.importorskip("transformers")
    path = write_lines(tmp_path / "a.jsonl", [{"text": text} for text in TEXTS])
    data = load(tmp_path / "cache", path=str(path), tokenizer="bytes", length=64, inputs=inputs)
    x, y, weight = arrays(data)
    assert len(x) == 1
    torch.manual_seed(0)
    config = transformers.GPT2Config(
        vocab_size=256, n_positions=64, n_embd=16, n_layer=2, n_head=2, bos_token_id=0, eos_token_id=0
    )
    model = transformers.GPT2LMHeadModel(config).eval()
    alone = []
    for text in TEXTS:
        ids = torch.tensor([[*text.encode(), 0]])
        alone.append(model(ids).logits[0].detach().numpy())
    plain = transformers.GPT2LMHeadModel(config).eval()
    plain.load_state_dict(model.state_dict())
    called = Calling.of(plain, data.info).attach(plain)
    given = torch.from_numpy(x) if inputs else torch.from_numpy(x).long()
    packed = called(given)[0].detach().numpy()
    together = np.concatenate(alone)[: int(sum(len(one) for one in alone)) - 1]
    same = np.allclose(packed[: len(together)], together, atol=1e-5)
    assert same == bool(inputs)  # without segments, a document sees what stands before it
    if inputs:
        segments = unpack_inputs(x, data.info.inputs)["segments"][0]
        assert segments.max() == len(TEXTS)
        assert weight is not None
        learned = [[*text[1:].encode(), 0] for text in TEXTS]  # all but the first token of each
        assert y[0][weight[0] > 0].tolist() == [i for ids in learned for i in ids]
