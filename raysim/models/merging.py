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
        raise ModelError("model.peft: embeddings before the sequence cannot be merged into weights; export without it")
    merge(module)
    inner: Any = module.backbone if isinstance(module, Encoder) else module
    if hasattr(inner, "get_base_model"):
        inner = inner.get_base_model()
    inner.save_pretrained(folder)
    if isinstance(module, Encoder):
        save_file({name: one.detach().contiguous() for name, one in module.head.state_dict().items()}, folder / HEAD)


def save_adapters(module: nn.Module, folder: Path) -> None:
    """Write what trains beside the base: adapters for `PeftModel.from_pretrained`, and all else as `head.safetensors`.

    Raises:
        ModelError: the model has no adapters, or versions of its base.
        OSError: the disk refuses.
    """
    settings = getattr(module.backbone if isinstance(module, Encoder) else module, "peft_config", None)
    if not settings:
        raise ModelError(f"model {type(module).__name__} has no adapters; add --merged to write all of it")
    if residual_names(module):
        raise ModelError("the model has a version of its base, which adapters do not hold; add --merged")
    folder.mkdir(parents=True, exist_ok=True)
    kept, rest = dict[str, Tensor](), dict[str, Tensor]()
    for name, one in module.named_parameters():
        if one.requires_grad:
            adapter = any(marker in name for marker in _MARKERS)
            short = f"base_model.model.{name.removeprefix('backbone.').replace('.default', '')}" if adapter else name
            (kept if adapter else rest)[short] = one.detach().contiguous()
    save_file(kept, folder / "adapter_model.safetensors")
    settings["default"].save_pretrained(folder)
    if rest:
        save_file(rest, folder / HEAD)


def merge(module: nn.Module) -> None:
    """Add every adapter, and every version of the base, to the weights, and put the plain layers back."""
    kind = llm("peft.tuners.tuners_utils").BaseTunerLayer
    with torch.no_grad():
        for name, layer in [(name, one) for name, one in module.named_modules() if isinstance(one, kind)]:
            base_with_version(layer.get_base_layer())
            layer.merge(safe_merge=True)
            holder, _, key = name.rpartition(".")
            setattr(module.get_submodule(holder), key, layer.get_base_layer())
