"""Small corpora and tokenizers for tests, and samples of a corpus as plain loops make them."""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from raysim.config.text import CorpusConfig
from raysim.data.dataset import Dataset
from raysim.data.lazy import gathered
from raysim.data.sources import load_source

CHAT = (
    "{% for m in messages %}<s>{{ m.role }}: {{ m.content }}</s>{% endfor %}"
    "{% if add_generation_prompt %}<s>assistant: {% endif %}"
)


def write_lines(path: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    """JSON lines, gzipped where the name ends in `.gz`."""
    content = "".join(json.dumps(row) + "\n" for row in rows).encode()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


def load(cache: Path, **options: Any) -> Dataset:
    """A corpus, with its cache in a folder."""
    return load_source(CorpusConfig(**options), seed=0, cache=cache)


def arrays(data: Dataset) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """x, y and weight of the training pool, made."""
    pool = data.train
    weight = None if pool.weight is None else gathered(pool.weight)
    return gathered(pool.x), gathered(pool.y), weight  # type: ignore[arg-type]


def byte_tokenizer() -> Any:
    """A tokenizer of the library `tokenizers` with few ids: bytes, some pairs of them, three special tokens."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=280,
        special_tokens=["<s>", "</s>", "<pad>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    made.train_from_iterator(["the cat sat on the mat; the dog ate the hat"] * 9, trainer)
    made.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    return made


def save_tokenizer(folder: Path, *, chat: bool = True) -> Path:
    """The same as a folder of `transformers`."""
    from transformers import PreTrainedTokenizerFast

    names = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"}
    fast = PreTrainedTokenizerFast(tokenizer_object=byte_tokenizer(), chat_template=CHAT if chat else None, **names)
    fast.save_pretrained(folder)
    return folder
