"""Models of fully connected layers; images are flattened."""

from __future__ import annotations

import math
from collections import OrderedDict

from torch import nn

from raysim.config.model import MlpConfig, SoftmaxConfig
from raysim.data.federation import DataInfo
from raysim.errors import ModelError
from raysim.models.outputs import head


def softmax(config: SoftmaxConfig, info: DataInfo, outputs: tuple[int, ...]) -> nn.Module:
    """Multinomial logistic regression; with one output, linear regression.

    Raises:
        ModelError: the samples are tokens.
    """
    layers = flat(config.name, info)
    layers.update(head(math.prod(info.input_shape), outputs, bias=config.bias))
    return nn.Sequential(layers)


def mlp(config: MlpConfig, info: DataInfo, outputs: tuple[int, ...]) -> nn.Module:
    """ReLU multi-layer perceptron; McMahan's 2NN is `hidden: [200, 200]`.

    Raises:
        ModelError: the samples are tokens.
    """
    layers = flat(config.name, info)
    width = math.prod(info.input_shape)
    for i, units in enumerate(config.hidden, start=1):
        layers[f"hidden{i}"] = nn.Linear(width, units)
        layers[f"relu{i}"] = nn.ReLU()
        if config.dropout > 0:
            layers[f"dropout{i}"] = nn.Dropout(config.dropout)
        width = units
    layers.update(head(width, outputs))
    return nn.Sequential(layers)


def flat(model: str, info: DataInfo) -> OrderedDict[str, nn.Module]:
    """The layers so far: one that flattens images, where there are any.

    Raises:
        ModelError: the samples are tokens.
    """
    if info.input_kind == "tokens":
        raise ModelError(f"model {model} takes numbers, but the samples are tokens; use lstm_char or a model of yours")
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    if len(info.input_shape) != 1:
        layers["flatten"] = nn.Flatten()
    return layers
