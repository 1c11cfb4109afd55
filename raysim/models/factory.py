"""Models that a user's function makes."""

from __future__ import annotations

import inspect
from itertools import chain
from typing import Any

from torch import nn

from raysim.config import load
from raysim.config.model import CustomModelConfig
from raysim.data.federation import DataInfo
from raysim.errors import ModelError
from raysim.user_code import user_code

_BY_KEYWORD = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


def from_import_string(config: CustomModelConfig, info: DataInfo) -> nn.Module:
    """Call the function (or class) that `model.name` names with `model.args`.

    Its parameters named `info`, `input_shape` or `classes` are filled in from the data, unless `args` gives them.

    Raises:
        ConfigError: there is no such function.
        ModelError: it cannot be called with these arguments, fails, or does not return an `nn.Module` on the CPU.
    """
    function = load(config.name, key="model.name")
    if isinstance(function, nn.Module) or not callable(function):
        raise ModelError(
            f"model.name: {config.name!r} is a {type(function).__name__}, not a function that returns an nn.Module; "
            "name the function or the class"
        )
    arguments = _arguments(function, config, info)
    with user_code(f"model.name: {config.name}", ModelError):
        model = function(**arguments)
        if not isinstance(model, nn.Module):
            raise ModelError(f"model.name: {config.name!r} returned a {type(model).__name__}, not an nn.Module")
        devices = [tensor.device for tensor in chain(model.parameters(), model.buffers())]
    elsewhere = next((device for device in devices if device.type not in ("cpu", "meta")), None)
    if elsewhere is not None:
        # Weights drawn on a device come from that device's generator, which is not keyed.
        raise ModelError(f"model.name: {config.name!r} put the model on {elsewhere}; leave it on the CPU")
    return model


def _arguments(function: Any, config: CustomModelConfig, info: DataInfo) -> dict[str, Any]:
    arguments = dict(config.args)
    try:
        signature = inspect.signature(function)
    except ValueError:  # a callable written in C need not have one
        return arguments
    from_data = {"info": info, "input_shape": info.input_shape, "classes": info.classes}
    accepted = {name for name, parameter in signature.parameters.items() if parameter.kind in _BY_KEYWORD}
    arguments = {name: value for name, value in from_data.items() if name in accepted} | arguments
    try:
        signature.bind(**arguments)
    except TypeError as error:
        raise ModelError(f"model.args: {config.name!r} cannot be called with them: {error}") from None
    return arguments
