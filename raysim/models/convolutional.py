"""Small convolutional networks on images, channels first."""

from __future__ import annotations

from collections import OrderedDict

from torch import nn

from raysim.config.model import CnnCifarConfig, CnnConfig
from raysim.data.federation import DataInfo
from raysim.errors import ModelError
from raysim.models.outputs import head

ImageShape = tuple[int, int, int]
"""Channels, height, width."""


def images(model: str, info: DataInfo, *, smallest: int = 1) -> tuple[ImageShape, OrderedDict[str, nn.Module]]:
    """The images' shape and the layers that bring a batch into it.

    Samples of shape `(height, width)` are taken as images of one channel.

    Raises:
        ModelError: the samples are no images, or are smaller than `smallest` pixels on a side.
    """
    shape = info.input_shape
    if info.input_kind == "tokens" or len(shape) not in (2, 3):
        raise ModelError(
            f"model {model} takes images of shape (channels, height, width), but the samples have shape {shape}; "
            "use softmax or mlp"
        )
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    if len(shape) == 2:
        layers["channel"] = nn.Unflatten(1, (1, shape[0]))
        shape = (1, *shape)
    channels, height, width = shape
    if min(height, width) < smallest:
        raise ModelError(
            f"model {model} takes images of at least {smallest}x{smallest} pixels, but the samples have shape "
            f"{info.input_shape} (channels come first); use softmax or mlp"
        )
    return (channels, height, width), layers


def cnn(config: CnnConfig, info: DataInfo, outputs: tuple[int, ...]) -> nn.Module:
    """McMahan et al.'s MNIST CNN: two 5x5 convolutions, 512 units; 1,663,370 parameters on 28x28x1.

    McMahan et al. 2017, "Communication-Efficient Learning of Deep Networks from Decentralized Data", section 3.

    Raises:
        ModelError: the samples are no images of at least 4x4 pixels.
    """
    (channels, height, width), layers = images(config.name, info, smallest=4)
    layers["conv1"] = nn.Conv2d(channels, 32, 5, padding=2)
    layers["relu1"] = nn.ReLU()
    layers["pool1"] = nn.MaxPool2d(2)
    layers["conv2"] = nn.Conv2d(32, 64, 5, padding=2)
    layers["relu2"] = nn.ReLU()
    layers["pool2"] = nn.MaxPool2d(2)
    layers["flatten"] = nn.Flatten()
    layers["hidden"] = nn.Linear(64 * (height // 4) * (width // 4), 512)
    layers["relu3"] = nn.ReLU()
    layers.update(head(512, outputs))
    return nn.Sequential(layers)


def cnn_cifar(config: CnnCifarConfig, info: DataInfo, outputs: tuple[int, ...]) -> nn.Module:
    """pfl-research's small CIFAR-10 CNN: two 3x3 convolutions, max pooling, dropout, 128 units; 1.63M parameters.

    Granqvist et al. 2024, "pfl-research: simulation framework for accelerating research in private federated
    learning", the CIFAR-10 benchmark.

    Raises:
        ModelError: the samples are no images of at least 6x6 pixels.
    """
    (channels, height, width), layers = images(config.name, info, smallest=6)
    layers["conv1"] = nn.Conv2d(channels, 32, 3)
    layers["relu1"] = nn.ReLU()
    layers["conv2"] = nn.Conv2d(32, 64, 3)
    layers["relu2"] = nn.ReLU()
    layers["pool"] = nn.MaxPool2d(2)
    if config.dropout:
        layers["dropout1"] = nn.Dropout(0.25)
    layers["flatten"] = nn.Flatten()
    layers["hidden"] = nn.Linear(64 * ((height - 4) // 2) * ((width - 4) // 2), 128)
    layers["relu3"] = nn.ReLU()
    if config.dropout:
        layers["dropout2"] = nn.Dropout(0.5)
    layers.update(head(128, outputs))
    return nn.Sequential(layers)
