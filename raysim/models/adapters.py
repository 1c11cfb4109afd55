"""Adapters (peft) in a transformer, and which of its parameters train."""

from __future__ import annotations

import warnings
from collections.abc import Sequence, Set
from fnmatch import fnmatchcase
from functools import partial
from typing import Any

import torch
from torch import nn

from raysim.config.hugging_face import HuggingFaceConfig, Ia3Config, LoraConfig
from raysim.errors import ModelError
from raysim.models.extras import llm


def add_adapters(model: Any, config: LoraConfig | Ia3Config) -> None:
    """Put adapters into the layers of a model, whose other parameters keep their names.

    Raises:
        ModelError: no layer has such a name, or the rank is above that of a layer.
    """
    peft = llm("peft")
    targets = None if config.targets is None else list(config.targets)
    layers = ", ".join(sorted({name.rpartition(".")[2] for name, one in model.named_modules() if _linear(one)}))
    kind = getattr(model.config, "model_type", "")
    if targets is None and kind not in _known(peft, config):
        raise ModelError(f"model.peft.targets: peft knows no layers of {kind} models; name some of {layers}")
    ends = [name for name, one in model.named_modules() if not list(one.children())]
    for target in targets or ():
        if not any(name == target or name.endswith(f".{target}") for name in ends):
            raise ModelError(f"model.peft.targets: no layer is called {target!r}; the layers are {layers}")
    try:
        settings = _settings(peft, config, targets)
        with warnings.catch_warnings():  # of GPT-2's transposed layers, which peft recognises
            warnings.filterwarnings("ignore", message="fan_in_fan_out is set to False")
            warnings.filterwarnings("ignore", category=FutureWarning)
            peft.inject_adapter_in_model(settings, model)
    except ValueError as error:
        raise ModelError(f"model.peft.targets: {str(error).splitlines()[0][:200]}; the layers are {layers}") from None
    if isinstance(config, LoraConfig):
        _check_rank(model, config.r)


def _settings(peft: Any, config: LoraConfig | Ia3Config, targets: list[str] | None) -> Any:
    if isinstance(config, LoraConfig):
        return peft.LoraConfig(
            r=config.r,
            lora_alpha=config.alpha,
            lora_dropout=config.dropout,
            target_modules=targets,
            use_rslora=config.rank_stabilised,
        )
    forward = None if config.feedforward is None else list(config.feedforward)
    return peft.IA3Config(target_modules=targets, feedforward_modules=forward)


def _known(peft: Any, config: LoraConfig | Ia3Config) -> Sequence[str]:
    method = "LORA" if isinstance(config, LoraConfig) else "IA3"
    found: dict[str, Any] = getattr(peft.utils, f"TRANSFORMERS_MODELS_TO_{method}_TARGET_MODULES_MAPPING")
    return list(found)


def _linear(module: nn.Module) -> bool:
    weight = getattr(module, "weight", None)
    return isinstance(weight, torch.Tensor) and weight.ndim == 2 and not isinstance(module, nn.Embedding)


def _check_rank(model: nn.Module, rank: int) -> None:
    for name, parameter in model.named_parameters():
        if ".lora_A." in name and parameter.ndim == 2:
            other = model.get_parameter(name.replace(".lora_A.", ".lora_B."))
            most = min(parameter.shape[1], other.shape[0])
            if rank > most:
                layer = name.partition(".lora_A.")[0]
                raise ModelError(
                    f"model.peft.r: rank {rank} is above that of layer {layer} ([{other.shape[0]}, "
                    f"{parameter.shape[1]}]); at most {most}"
                )


def choose_trained(model: nn.Module, config: HuggingFaceConfig, head: Sequence[str]) -> None:
    """Say which parameters train, and give those that do not the type that the base has.

    Args:
        head: beginnings of names of parameters that are new, and train beside adapters.

    Raises:
        ModelError: a pattern matches no parameter or changes nothing, or nothing is left to train.
    """
    adapters = {"lora": "lora_", "ia3": "ia3_l", "prompt": "soft_prompt"}
    marker = "" if config.peft is None else adapters[config.peft.name]
    names = [name for name, _ in model.named_parameters()]
    free = {name for name, one in model.named_parameters() if one.is_floating_point()}
    default = {name for name in free if marker in name or name.startswith(tuple(head))}
    trained, frozen = _matching(names, config.train, "train"), _matching(names, config.freeze, "freeze")
    _check_effect(config.train, "train", free - default - frozen, "train anyway, or cannot")
    _check_effect(config.freeze, "freeze", default | trained & free, "do not train anyway")
    training = (default | trained) & free - frozen
    dtype = getattr(torch, config.dtype)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in training)
        if parameter.is_floating_point():
            wanted = torch.float32 if parameter.requires_grad else dtype
            if parameter.dtype != wanted:
                parameter.data = parameter.data.to(wanted)
    if dtype != torch.float32:
        for name, layer in model.named_modules():
            if marker not in name and any(one.requires_grad for one in layer.parameters(recurse=False)):
                layer.register_forward_pre_hook(_in_full)
                if not name.startswith(tuple(one.rstrip(".") for one in head)) or not head:
                    layer.register_forward_hook(partial(_back, dtype))
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise ModelError("model.freeze: nothing is left to train")


def _in_full(layer: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
    """The inputs of a layer that trains, in its own type."""
    return tuple(_cast(one, torch.float32) for one in args)


def _back(dtype: torch.dtype, layer: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
    """Its output, in the type of the layers around it."""
    return _cast(output, dtype)


def _cast(value: Any, dtype: torch.dtype) -> Any:
    return value.to(dtype) if isinstance(value, torch.Tensor) and value.is_floating_point() else value


def _matching(names: Sequence[str], patterns: Sequence[str], key: str) -> set[str]:
    found = set[str]()
    for pattern in patterns:
        matching = {name for name in names if fnmatchcase(name, pattern)}
        if not matching:
            raise ModelError(f"model.{key}: {pattern!r} matches no parameter; there are {', '.join(names[:4])}, …")
        found |= matching
    return found


def _check_effect(patterns: Sequence[str], key: str, changed: Set[str], why: str) -> None:
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in changed):
            raise ModelError(f"model.{key}: {pattern!r} has no effect, for the parameters that it matches {why}")
