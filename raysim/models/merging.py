"""A trained transformer as a folder of the Hugging Face library: whole, with adapters merged, or the adapters alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from raysim.errors import ModelError
from raysim.models.extras import llm
from raysim.models.transformer_inputs import is_transformer
from raysim.models.versioned import base_with_version, residual_names
from raysim.models.wrapped import Encoder, Prompted

_PEFT = "base_model.model."
"""Before the names of parameters in a file of adapters."""
_PROMPT = "model.peft: embeddings before the sequence have no form of the library's; model.safetensors has them"
_MARKERS = ("lora_", "ia3_l")
HEAD = "head.safetensors"
"""Beside an encoder's folder: the linear layer behind it."""


def save_transformer(module: nn.Module, folder: Path) -> None:
    """Write a transformer with its adapters merged into its weights, for `from_pretrained`.

    An encoder is written without the linear layer behind it, which comes as `head.safetensors`.

    Args:
        module: the caller's own; changed.

    Raises:
        ModelError: it is no transformer of the library, or has trained embeddings before the sequence.
        OSError: the disk refuses.
    """
    if not is_transformer(module):
        raise ModelError(
            f"model {type(module).__name__} is no transformer of the Hugging Face library; the run's "
            "model.safetensors has all of it, for load_state_dict"
        )
    if isinstance(module, Prompted):
        raise ModelError(_PROMPT)
    merge(module)
    _inner(module).save_pretrained(folder)
    if isinstance(module, Encoder):
        save_file({name: one.detach().contiguous() for name, one in module.head.state_dict().items()}, folder / HEAD)


def save_adapters(module: nn.Module, folder: Path) -> None:
    """Write what trains beside the base: adapters for `PeftModel.from_pretrained`, and all else as `head.safetensors`.

    Raises:
        ModelError: the model has no adapters, or versions of its base.
        OSError: the disk refuses.
    """
    if isinstance(module, Prompted):
        raise ModelError(_PROMPT)
    settings = getattr(module, "peft_config", None)
    if not settings:
        raise ModelError(f"model {type(module).__name__} has no adapters; add --merged to write all of it")
    if residual_names(module):
        raise ModelError("the model has a version of its base, which adapters do not hold; add --merged")
    ((adapter, chosen),) = settings.items()
    folder.mkdir(parents=True, exist_ok=True)
    kept, rest = dict[str, Tensor](), dict[str, Tensor]()
    for name, one in module.named_parameters():
        if one.requires_grad and any(marker in name for marker in _MARKERS):
            short = name.removeprefix(_PEFT).removeprefix("backbone.").replace(f".{adapter}", "")
            kept[f"{_PEFT}{short}"] = one.detach().contiguous()
        elif one.requires_grad:
            rest[name] = one.detach().contiguous()
    save_file(kept, folder / "adapter_model.safetensors")
    chosen.save_pretrained(folder)
    if rest:
        save_file(rest, folder / HEAD)


def _inner(module: Any) -> Any:
    """The library's own model."""
    inner = module.backbone if isinstance(module, Encoder) else module
    return inner.get_base_model() if hasattr(inner, "get_base_model") else inner


def merge(module: nn.Module) -> None:
    """Add every adapter, and every version of the base, to the weights, and put the plain layers back."""
    kind = llm("peft.tuners.tuners_utils").BaseTunerLayer
    with torch.no_grad():
        for name, layer in [(name, one) for name, one in module.named_modules() if isinstance(one, kind)]:
            base = layer.get_base_layer()
            base_with_version(base)
            if sum(one is base.weight for _, one in module.named_parameters(remove_duplicate=False)) > 1:
                base.weight = nn.Parameter(base.weight.clone(), requires_grad=False)  # tied to another layer's
                _inner(module).config.tie_word_embeddings = False
            layer.merge(safe_merge=True)
            holder, _, key = name.rpartition(".")
            setattr(module.get_submodule(holder), key, layer.get_base_layer())
