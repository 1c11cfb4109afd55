"""What quantised layers take of memory, before there is a GPU to quantise them on."""

from __future__ import annotations

from typing import Any

from torch import nn

_BLOCK = 64
"""Weights of 4 bits that share a float32 scale (Dettmers et al., "QLoRA", NeurIPS 2023, section 3)."""


def quantised_bytes(module: nn.Module, bits: int) -> dict[str, int]:
    """Bytes of each frozen weight that bitsandbytes quantises, by name; all others keep their type.

    These are the weights of linear layers, but for the layer of the output embeddings and for those tied to an
    embedding. Scales of blocks (4 bits) or of rows (8 bits) are counted.

    Args:
        module: a transformer that is not quantised yet, on any device.
    """
    heads = {id(found) for one in module.modules() if (found := _output(one)) is not None}
    stored = dict[str, int]()
    for name, parameter in module.named_parameters():  # of what is tied, the embedding's name comes first
        owner, _, key = name.rpartition(".")
        layer = module.get_submodule(owner)
        if key == "weight" and not parameter.requires_grad and _linear(layer) and id(layer) not in heads:
            outputs = parameter.shape[0 if isinstance(layer, nn.Linear) else 1]
            scales = -(-parameter.numel() // _BLOCK) if bits == 4 else outputs
            stored[name] = parameter.numel() * bits // 8 + 4 * scales
    return stored


def _output(module: nn.Module) -> nn.Module | None:
    """The layer of the output embeddings, under its adapters."""
    get: Any = getattr(module, "get_output_embeddings", None)
    layer: Any = get() if callable(get) else None
    found: nn.Module | None = getattr(layer, "base_layer", layer)
    return found


def _linear(layer: nn.Module) -> bool:
    return isinstance(layer, nn.Linear) or any(one.__name__ == "Conv1D" for one in type(layer).__mro__)
