"""Where a pretrained model is, and how it is recognised again."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from raysim.config.hugging_face import HuggingFaceConfig
from raysim.errors import ConfigError, ModelError
from raysim.files import looked_up
from raysim.models.extras import llm
from raysim.models.gguf import converted, sha256_of

CLASSES = {
    "causal_lm": "AutoModelForCausalLM",
    "sequence_classification": "AutoModelForSequenceClassification",
    "token_classification": "AutoModelForTokenClassification",
    "encoder": "AutoModel",
}
"""The library's class of a task."""
_FILES = ("config.json", "*.safetensors", "*.bin")


def place_of(config: HuggingFaceConfig) -> str:
    """What errors call the place."""
    if config.path is not None:
        return config.path
    return f"{config.hub} of the hub" if config.hub is not None else "model.config"


def origin_of(config: HuggingFaceConfig) -> dict[str, Any]:
    """How the library is told where a pretrained model is.

    Raises:
        ModelError: there is no such folder or file.
    """
    if config.path is None:
        revision = {"revision": config.fingerprint} if config.fingerprint else {}
        return {"pretrained_model_name_or_path": config.hub, **revision}
    path = _looked_up(config.path)
    if path.is_file():
        return {"pretrained_model_name_or_path": str(converted(path)), "local_files_only": True}
    return {"pretrained_model_name_or_path": str(path), "local_files_only": True}


def resolved(config: HuggingFaceConfig, engine: str) -> HuggingFaceConfig:
    """The section with its attention and its fingerprint made concrete.

    Args:
        engine: `training.engine`.

    Raises:
        ConfigError: the pretrained model is not the one that a run was started with.
        ModelError: there is none.
    """
    attention, found = config.attention, _fingerprint(config)
    if attention == "auto":
        attention = "sdpa" if engine != "rows" and _supports_sdpa(config) else "eager"
    if config.fingerprint not in ("", found):
        raise ConfigError(
            f"model: the pretrained files of {place_of(config)} are not those that the run was started with; name the "
            "same ones"
        )
    return config.model_copy(update={"attention": attention, "fingerprint": found})


def tokenizer_of(config: object) -> Any:
    """The tokenizer that a pretrained model comes with; None where it has none."""
    if not isinstance(config, HuggingFaceConfig) or config.config is not None:
        return None
    try:
        return llm("transformers").AutoTokenizer.from_pretrained(**origin_of(config))
    except (OSError, ValueError, KeyError):
        return None


def _supports_sdpa(config: HuggingFaceConfig) -> bool:
    transformers = llm("transformers")
    if config.config is not None:
        known, name = transformers.CONFIG_MAPPING, str(config.config.get("model_type"))
        if name not in known:
            return True  # refused where it is built
        settings = known[name]  # its `get` knows only those that were loaded before
    else:
        try:
            settings = type(transformers.AutoConfig.from_pretrained(**origin_of(config)))
        except Exception:  # told where it is built
            return True
    kind = getattr(transformers, CLASSES[config.task])._model_mapping.get(settings, None)
    return bool(getattr(kind, "_supports_sdpa", True))


def _fingerprint(config: HuggingFaceConfig) -> str:
    if config.config is not None:
        return ""
    if config.hub is not None:
        try:
            files = llm("transformers").utils.hub
            file = files.cached_file(config.hub, "config.json", revision=config.fingerprint or None)
            commit = files.extract_commit_hash(file, None)
        except (OSError, ValueError, KeyError) as error:
            line = str(error).splitlines()[0][:200]
            raise ModelError(f"model.hub: {config.hub} is not there, nor in the library's cache ({line})") from None
        return str(commit or "")
    path = _looked_up(config.path or "")
    if path.is_file():
        return sha256_of(path)
    digest = hashlib.sha256()
    for pattern in _FILES:
        for file in sorted(path.glob(pattern)):
            digest.update(f"{file.name} {sha256_of(file)}\n".encode())
    return digest.hexdigest()


def _looked_up(name: str) -> Path:
    path = looked_up(Path(name).expanduser())
    if path.is_file() and path.suffix == ".gguf":
        return path
    if not path.is_dir():
        raise ModelError(f"model.path: {path} is no folder and no .gguf file")
    if not (path / "config.json").is_file():
        raise ModelError(f"model.path: {path} has no config.json; name a folder that `save_pretrained` wrote")
    return path
