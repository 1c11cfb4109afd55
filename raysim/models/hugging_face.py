"""Transformers of the Hugging Face library: from a folder, a hub, a GGUF file, or drawn from a configuration."""

from __future__ import annotations

import difflib
from typing import Any

import torch
from torch import nn

from raysim.config.hugging_face import HuggingFaceConfig, SoftPromptConfig
from raysim.data.federation import DataInfo
from raysim.errors import ModelError
from raysim.models.adapters import add_adapters, choose_trained
from raysim.models.extras import llm
from raysim.models.pretrained import CLASSES, origin_of, place_of
from raysim.models.wrapped import SOFT_PROMPT, Encoder, Prompted
from raysim.user_code import told

_SPECIAL = ("bos_token_id", "eos_token_id", "pad_token_id")


def hugging_face(config: HuggingFaceConfig, info: DataInfo, outputs: tuple[int, ...]) -> nn.Module:
    """A transformer of the Hugging Face library, whole or with adapters (extra `llm`).

    On the meta device (`torch.device("meta")`) no weight is read.

    Raises:
        ModelError: the library is not there, the path is no model, or the configuration does not fit it or the data.
    """
    transformers = llm("transformers")
    _check_targets(config, info)
    on_meta = torch.get_default_device().type == "meta"
    settings = _configuration(transformers, config, info)
    if config.task in ("sequence_classification", "token_classification"):
        settings.num_labels = outputs[-1] if outputs else 1
    attention = None if config.attention == "auto" else config.attention
    kind = getattr(transformers, CLASSES[config.task])
    if config.bits is not None and config.config is not None and not on_meta:
        raise ModelError("model.bits: pretrained layers are quantised; give model.path or model.hub to train")
    quantised = {} if on_meta else _quantised(transformers, config)
    try:
        if config.config is not None or on_meta:
            model = kind.from_config(settings, attn_implementation=attention, dtype=torch.float32)
        else:
            model = kind.from_pretrained(
                **origin_of(config),
                config=settings,
                attn_implementation=attention,
                dtype=getattr(torch, config.dtype) if config.peft is not None else torch.float32,
                **quantised,
            )
    except Exception as error:  # the library, and what checks its configurations, may raise anything
        raise ModelError(f"model: {place_of(config)} cannot be loaded ({told(error)[:240]})") from None
    head = [] if config.task == "causal_lm" else _new_parameters(model)
    if config.task == "encoder":
        model, head = Encoder(model, outputs), ["head."]
    if config.task == "sequence_classification" and _is_causal(model):
        if isinstance(config.peft, SoftPromptConfig):
            raise ModelError("model.peft: a decoder that classifies reads its last token by its id, which a prompt has "
                             "not; use lora or ia3, or task: encoder")  # fmt: skip
        if settings.pad_token_id is None:
            raise ModelError("model: a decoder that classifies needs to know the id of padding; set pad_token_id in "
                             "its configuration, or use task: encoder")  # fmt: skip
    if isinstance(config.peft, SoftPromptConfig):
        model, head = Prompted(model, config.peft.length), [SOFT_PROMPT, *(f"backbone.{one}" for one in head)]
    elif config.peft is not None:
        add_adapters(model, config.peft)
    choose_trained(model, config, head)
    module: nn.Module = model.train()  # pretrained models come in evaluation mode, adapters do not
    return module


def _check_targets(config: HuggingFaceConfig, info: DataInfo) -> None:
    if info.preferences and config.task == "causal_lm":
        return
    wanted = {"causal_lm": 1, "token_classification": 1, "sequence_classification": 0, "encoder": 0}[config.task]
    if len(info.target_shape) != wanted or (info.classes is None and wanted):
        each = "a class for every position" if wanted else "one target a sample"
        raise ModelError(
            f"model.task: {config.task} predicts {each}, but the data's targets have shape {list(info.target_shape)}"
        )


def _configuration(transformers: Any, config: HuggingFaceConfig, info: DataInfo) -> Any:
    if config.config is None:
        origin = origin_of(config)
        try:
            return transformers.AutoConfig.from_pretrained(**origin)
        except Exception as error:  # the library may raise anything
            raise ModelError(f"model: {place_of(config)} is no model ({told(error)[:240]})") from None
    values = dict(config.config)
    known = transformers.CONFIG_MAPPING
    kind = values.pop("model_type", None)
    if not isinstance(kind, str) or kind not in known:
        close = difflib.get_close_matches(str(kind), list(known.keys()), n=3)
        remedy = f"did you mean {' or '.join(close)}?" if close else "e.g. gpt2, llama or bert"
        raise ModelError(f"model.config.model_type: {kind!r} is unknown to transformers; {remedy}")
    default = known[kind]()
    for key in values:
        if not hasattr(default, key):
            close = difflib.get_close_matches(key, list(default.to_dict()), n=1)
            remedy = f"; did you mean {close[0]!r}?" if close else ""
            raise ModelError(f"model.config.{key}: {kind} models have no such key{remedy}")
    none: dict[str, Any] = dict.fromkeys(_SPECIAL)  # ids of a vocabulary that is not the data's
    size = {"vocab_size": info.vocabulary} if info.vocabulary is not None else {}
    try:
        return known[kind](**{**none, **size, **values})
    except Exception as error:  # the library may raise anything
        raise ModelError(f"model.config: {told(error)[:240]}") from None


def _is_causal(model: nn.Module) -> bool:
    return any(getattr(one, "is_causal", False) is True for one in model.modules())


def _new_parameters(model: Any) -> list[str]:
    """Beginnings of the names of a classifier's own layers, outside of the pretrained part."""
    inside = f"{model.base_model_prefix}."
    return sorted({name.partition(".")[0] + "." for name, _ in model.named_parameters() if not name.startswith(inside)})


def _quantised(transformers: Any, config: HuggingFaceConfig) -> dict[str, Any]:
    if config.bits is None:
        return {}
    if not torch.cuda.is_available():
        raise ModelError("model.bits: quantised layers need a GPU, and this process sees none; remove it")
    llm("bitsandbytes", install="bitsandbytes")
    settings = (
        transformers.BitsAndBytesConfig(load_in_8bit=True)
        if config.bits == 8
        else transformers.BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.bfloat16
        )
    )
    return {"quantization_config": settings}
