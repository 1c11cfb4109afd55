"""ResNet-18 for small images, with group instead of batch normalisation.

He et al. 2016, "Deep Residual Learning for Image Recognition"; the normalisation as in Hsieh et al. 2020, "The Non-IID
Data Quagmire of Decentralized Machine Learning": batch statistics of skewed clients do not average.
"""

from __future__ import annotations

from torch import Tensor, nn

from raysim.config.model import Resnet18GnConfig
from raysim.data.federation import DataInfo
from raysim.errors import ModelError
from raysim.models.convolutional import images
from raysim.models.outputs import head


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions around a shortcut, `[n, inputs, h, w]` to `[n, channels, h / stride, w / stride]`."""

    def __init__(self, inputs: int, channels: int, stride: int, groups: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, channels, 3, stride, padding=1, bias=False)
        self.norm1 = nn.GroupNorm(groups, channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm2 = nn.GroupNorm(groups, channels)
        self.relu = nn.ReLU()
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != channels:
            self.shortcut = nn.Sequential(
                nn.Conv2d(inputs, channels, 1, stride, bias=False), nn.GroupNorm(groups, channels)
            )

    def forward(self, x: Tensor) -> Tensor:
        inner = self.relu(self.norm1(self.conv1(x)))
        out: Tensor = self.relu(self.norm2(self.conv2(inner)) + self.shortcut(x))
        return out


def resnet18_gn(config: Resnet18GnConfig, info: DataInfo, outputs: tuple[int, ...]) -> nn.Module:
    """ResNet-18 for small images with group normalisation; 11,173,962 parameters on 32x32x3.

    The stem is a 3x3 convolution without pooling; four stages of two blocks, of `width` times 1, 2, 4 and 8 channels.

    Raises:
        ModelError: the samples are no images, or `groups` does not divide `width`.
    """
    if config.width % config.groups:
        raise ModelError(f"model.groups: {config.groups} groups do not divide model.width ({config.width} channels)")
    (channels, _, _), layers = images(config.name, info)
    layers["stem"] = nn.Conv2d(channels, config.width, 3, padding=1, bias=False)
    layers["norm"] = nn.GroupNorm(config.groups, config.width)
    layers["relu"] = nn.ReLU()
    inputs = config.width
    for stage in range(4):
        width = config.width * 2**stage
        layers[f"stage{stage + 1}"] = nn.Sequential(
            ResidualBlock(inputs, width, 1 if stage == 0 else 2, config.groups),
            ResidualBlock(width, width, 1, config.groups),
        )
        inputs = width
    layers["pool"] = nn.AdaptiveAvgPool2d(1)
    layers["flatten"] = nn.Flatten()
    layers.update(head(inputs, outputs))
    return nn.Sequential(layers)
