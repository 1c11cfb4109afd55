"""The network that all clients train. Any `torch.nn.Module` will do."""

from __future__ import annotations

from torch import nn


def convolutions(input_shape: tuple[int, ...], classes: int, channels: int = 8) -> nn.Module:
    """Two convolutions over signals of any length; `input_shape` and `classes` are filled in from the data."""
    return nn.Sequential(
        nn.Conv1d(input_shape[0], channels, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool1d(2),
        nn.Conv1d(channels, 2 * channels, 5, padding=2),
        nn.ReLU(),
        nn.AdaptiveAvgPool1d(1),
        nn.Flatten(),
        nn.Linear(2 * channels, classes),
    )
