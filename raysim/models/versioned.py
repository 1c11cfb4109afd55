"""Versions of a frozen base: a buffer `residual` beside each layer with LoRA, which the layer adds to its weights.

A layer computes W x + s R x + s B A x, where R `[d_out, d_in]` is the residual, float32, zero at first, and s the
scaling of LoRA. R is a float buffer, hence a part of the model vector (`raysim.training.ParameterLayout`); W stays as
it is. No parameter changes its name.

A layer of peft keeps W in a base layer, whose class is exchanged for one that adds s R x. A layer that has `lora_A` and
`lora_B` itself registers the buffer itself, as None, and adds it where it is there.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from raysim.errors import ModelError

RESIDUAL = "residual"


def with_versions(module: nn.Module) -> nn.Module:
    """Give every layer with LoRA a residual of zeros, in place; one that has one keeps it.

    Raises:
        ModelError: there is no such layer, or one of a kind that has no versions; says which.
    """
    found = 0
    for name, layer in module.named_modules():
        if isinstance(pairs := getattr(layer, "lora_A", None), nn.ModuleDict):
            if len(pairs):
                _version_base(name, layer, len(pairs))
                found += 1
        elif _has_pair(layer):
            _version_itself(name, layer)
            found += 1
    if not found:
        raise ModelError(
            "the model has no layer with LoRA, and only the base of those has versions; add adapters to the model, or "
            "choose an algorithm that leaves the base as it is"
        )
    return module


def residual_names(module: nn.Module) -> set[str]:
    """Names of the residuals in a module."""
    layers = {name: layer for name, layer in module.named_modules() if layer._buffers.get(RESIDUAL) is not None}
    return {
        f"{name}.{RESIDUAL}".lstrip(".")
        for name, layer in layers.items()
        if isinstance(layer, _Versioned) or _has_pair(layer)
    }


def versioned_bases(module: nn.Module) -> list[Any]:
    """The base layers that add a version, each by its `version_scaling`."""
    return [one for one in module.modules() if isinstance(one, _Versioned)]


def _has_pair(layer: nn.Module) -> bool:
    """Whether a layer has an adapter itself."""
    return "lora_A" in layer._parameters or "lora_A" in layer._modules


class _Versioned(nn.Module):
    """A base layer that adds s R x."""

    residual: Tensor
    version_scaling: float

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = super().forward(x)
        change = functional.linear(x.to(self.residual.dtype), self.residual)
        return out + (self.version_scaling * change).to(out.dtype)


class VersionedLinear(_Versioned, nn.Linear):
    """`nn.Linear` with a residual."""


def __getattr__(name: str) -> Any:
    """`VersionedConv1D`, by whose name pickle finds it: transformers is imported where a model has such layers."""
    if name == "VersionedConv1D":
        return _versioned_conv()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


@cache
def _versioned_conv() -> type[nn.Module]:
    from transformers.pytorch_utils import Conv1D

    about = {"__module__": __name__, "__doc__": "GPT-2's transposed `Conv1D` with a residual."}
    made: type[nn.Module] = type("VersionedConv1D", (_Versioned, Conv1D), about)
    return made


def _version_base(name: str, layer: Any, adapters: int) -> None:
    """Exchange the class of the base layer of one of peft's layers."""
    base = layer.base_layer
    if isinstance(base, _Versioned):
        return
    if adapters > 1:
        raise ModelError(f"layer {name!r} has {adapters} adapters, and its base has one version; leave one of them")
    kind = type(base)
    if kind is nn.Linear:
        made: type[nn.Module] = VersionedLinear
        shape = tuple(base.weight.shape)
    elif kind.__name__ == "Conv1D" and kind.__module__.startswith("transformers."):
        made, shape = _versioned_conv(), tuple(base.weight.shape[::-1])
    else:
        raise ModelError(
            f"layer {name!r}: its base is a {kind.__name__}, and versions exist for Linear and Conv1D; adapt other "
            "layers, or use an algorithm that leaves the base as it is, e.g. fedit"
        )
    base.__class__ = made
    base.version_scaling = float(next(iter(layer.scaling.values())))
    base.register_buffer(RESIDUAL, torch.zeros(shape, device=base.weight.device))


def _version_itself(name: str, layer: nn.Module) -> None:
    """Fill the buffer of a layer that adds it itself."""
    if RESIDUAL not in layer._buffers:
        raise ModelError(
            f"layer {name!r} has lora_A and no residual; register it, `self.register_buffer('residual', None)`, and "
            "add it where it is not None (docs/large-models.md)"
        )
    if layer._buffers[RESIDUAL] is None:
        down, up = _matrix(layer, "lora_A"), _matrix(layer, "lora_B")
        layer._buffers[RESIDUAL] = torch.zeros((up.shape[0], down.shape[1]), device=down.device)


def _matrix(layer: nn.Module, name: str) -> Tensor:
    found = getattr(layer, name)
    weight: Tensor = found if isinstance(found, Tensor) else found.weight
    return weight


def base_with_version(base: nn.Module) -> None:
    """Add a layer's version to its weights, and make it a plain layer again; one without a version stays as it is."""
    if not isinstance(base, _Versioned):
        return
    weight: Any = base.weight
    change = base.version_scaling * base.residual
    weight += (change if isinstance(base, nn.Linear) else change.T).to(weight.dtype)
    del base._buffers[RESIDUAL]
    base.__class__ = type(base).__mro__[2]
