"""A GGUF file as a folder of the Hugging Face library, converted once and kept in the cache."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import torch

from raysim.data.store.cache import build_once, cache_folder
from raysim.errors import ModelError
from raysim.models.extras import llm

_CHUNK = 16 << 20


def converted(path: Path) -> Path:
    """The folder with the model and the tokenizer of a GGUF file, in float32; written when it is first asked for.

    Raises:
        ModelError: the extra is not installed, or the file cannot be read.
        DataError: the cache cannot be written.
    """
    llm("gguf")
    transformers = llm("transformers")
    folder = cache_folder(None) / "models" / sha256_of(path)[:32]
    if folder.exists():
        return folder
    place = {"pretrained_model_name_or_path": str(path.parent), "gguf_file": path.name, "local_files_only": True}
    try:
        model = transformers.AutoModelForCausalLM.from_pretrained(
            **place, **_in_float(transformers), dtype=torch.float32
        )
        tokenizer = transformers.AutoTokenizer.from_pretrained(**place)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise ModelError(f"{path}: cannot be read as GGUF ({str(error).splitlines()[0][:200]})") from None

    quantizer = getattr(model, "hf_quantizer", None)
    if quantizer is not None:  # its weights are plain floats, and may be saved
        quantizer.remove_quantization_config(model)

    def write(to: Path) -> None:
        model.save_pretrained(to)
        tokenizer.save_pretrained(to)

    build_once(folder, write)
    return folder


def _in_float(transformers: Any) -> dict[str, Any]:
    """How newer versions of the library are told not to keep the file's blocks as they are; older ones never do."""
    config = getattr(transformers, "GgufConfig", None)
    return {} if config is None else {"quantization_config": config(dequantize=True)}


def sha256_of(path: Path) -> str:
    """SHA-256 of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(_CHUNK):
            digest.update(piece)
    return digest.hexdigest()
