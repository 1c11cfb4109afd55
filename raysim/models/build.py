"""From the configuration's `model` section to a module: the zoo's registry and the keyed draw of the weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from raysim import keyed
from raysim.config.model import CustomModelConfig, InMemoryModelConfig, ModelConfig
from raysim.data.federation import DataInfo
from raysim.data.room import check_room
from raysim.errors import ModelError
from raysim.models.blueprint import Blueprint
from raysim.models.convolutional import cnn, cnn_cifar
from raysim.models.dense import mlp, softmax
from raysim.models.exclusive import exclusive_torch
from raysim.models.factory import from_import_string
from raysim.models.fit import check_trainable, check_values
from raysim.models.hugging_face import hugging_face
from raysim.models.lora import mlp_lora
from raysim.models.on_meta import on_meta
from raysim.models.outputs import output_shape
from raysim.models.recurrent import lstm_char
from raysim.models.resnet import resnet18_gn
from raysim.models.versioned import with_versions
from raysim.models.weights import check_weights, load_weights
from raysim.user_code import user_code

Builder = Callable[[Any, DataInfo, tuple[int, ...]], nn.Module]
"""(the model's section, what a sample looks like, one sample's output shape) to a module."""

MODELS: dict[str, Builder] = {
    "softmax": softmax,
    "mlp": mlp,
    "mlp_lora": mlp_lora,
    "cnn": cnn,
    "cnn_cifar": cnn_cifar,
    "resnet18_gn": resnet18_gn,
    "lstm_char": lstm_char,
    "hugging_face": hugging_face,
}


def list_models() -> dict[str, str]:
    """Name and one-line description of every model of the zoo."""
    return {name: (builder.__doc__ or "").splitlines()[0] for name, builder in MODELS.items()}


def build_model(
    config: ModelConfig,
    info: DataInfo,
    *,
    seed: int,
    loss: str = "auto",
    module: nn.Module | None = None,
    versions: bool = False,
) -> nn.Module:
    """Build the model on the CPU with weights that are a function of the seed, or from the configured file.

    The global generator is neither read nor moved.

    Args:
        config: the configuration's `model` section.
        info: what a sample looks like.
        seed: the experiment's seed.
        loss: the configuration's `training.loss`; `binary_cross_entropy` wants one output a target.
        module: the user's own, for `in_memory`; returned as it is, or as a copy where there are versions.
        versions: whether the base has versions (`with_versions`).

    Raises:
        ConfigError: an import string names nothing.
        ModelError: the model cannot be built for these data, the weights do not fit, or it has no versions.
    """
    if isinstance(config, InMemoryModelConfig):
        model = _in_memory(module, versions)
        check_trainable(model)
        return model
    if not isinstance(config, CustomModelConfig):
        _check_room(config, info, loss)
    with exclusive_torch(), torch.device("cpu"):
        # `torch.manual_seed` would reach beyond the fork, to the generators of every GPU.
        torch.default_generator.manual_seed(keyed.integer(seed, keyed.Purpose.MODEL))
        model = _construct(config, info, loss)
    check_values(model, name=config.name)
    check_trainable(model, name=config.name)
    if versions:
        with_versions(model)
    if config.weights is not None:
        load_weights(model, config.weights, name=config.name)
    return model


def model_on_meta(
    config: ModelConfig,
    info: DataInfo,
    *,
    loss: str = "auto",
    module: nn.Module | None = None,
    versions: bool = False,
) -> nn.Module:
    """The model without weights, to plan with: takes no memory; of a file of weights the header is checked.

    A module of the user's own is returned as it is, or as a copy where there are versions; a user's function that
    cannot do without values is called on the CPU.

    Raises:
        ConfigError: an import string names nothing.
        ModelError: the model cannot be built for these data, or the file of weights does not fit.
    """
    if isinstance(config, InMemoryModelConfig):
        return _in_memory(module, versions)
    with exclusive_torch():
        try:
            with on_meta():
                model = _construct(config, info, loss)
        except ModelError as error:
            if not error.users:
                raise
            with torch.device("cpu"):
                model = _construct(config, info, loss)
    if versions:
        with_versions(model)
    if config.weights is not None:
        check_weights(model, config.weights, name=config.name)
    return model


def _construct(config: Any, info: DataInfo, loss: str) -> nn.Module:
    if isinstance(config, CustomModelConfig):
        return from_import_string(config, info)
    return MODELS[config.name](config, info, output_shape(info, loss))


def _check_room(config: ModelConfig, info: DataInfo, loss: str) -> None:
    """Refuse a model of the zoo that memory cannot hold, before any of it is allocated."""
    try:
        with exclusive_torch(), on_meta():
            parameters = sum(tensor.numel() for tensor in _construct(config, info, loss).parameters())
    except RuntimeError as error:  # a tensor of more bytes than a number can hold
        raise ModelError(f"model {config.name}: cannot be built ({str(error).splitlines()[0][:200]})") from None
    what = f"a model of {parameters:,} parameters"
    check_room(4 * parameters, f"model {config.name}", what, "make its layers smaller", error=ModelError)


def _in_memory(module: nn.Module | None, versions: bool) -> nn.Module:
    if module is None:
        raise ModelError("model: in_memory needs the module itself; pass it as Simulation(…, model=module)")
    with user_code("model", ModelError):
        check_values(module)
    return with_versions(Blueprint.of(module).instantiate()) if versions else module
