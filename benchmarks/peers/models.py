"""The models in plain torch, layer by layer those of raysim's zoo, and the one way in which all sides evaluate them."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from peers.workloads import Workload


def build(workload: Workload) -> nn.Sequential:
    """The workload's model with torch's default initial weights."""
    if workload.model == "softmax":
        return nn.Sequential(nn.Linear(math.prod(workload.shape), 10))
    if workload.model == "mlp":
        return nn.Sequential(
            nn.Linear(math.prod(workload.shape), 200), nn.ReLU(), nn.Linear(200, 200), nn.ReLU(), nn.Linear(200, 10)
        )
    return nn.Sequential(
        nn.Conv2d(3, 32, 3),
        nn.ReLU(),
        nn.Conv2d(32, 64, 3),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Dropout(0.25),
        nn.Flatten(),
        nn.Linear(64 * 14 * 14, 128),
        nn.ReLU(),
        nn.Dropout(0.5),
        nn.Linear(128, 10),
    )


def parameters(model: nn.Module) -> int:
    """Trainable values."""
    return sum(parameter.numel() for parameter in model.parameters())


@torch.no_grad()
def accuracy(model: nn.Module, x: Tensor, y: Tensor, batch: int = 1000) -> float:
    """Share of samples whose largest logit is their label; computes the mean loss too, as raysim does."""
    training = model.training
    model.eval()
    correct, loss = 0, torch.zeros(())
    for inputs, labels in zip(x.split(batch), y.split(batch), strict=True):
        logits = model(inputs)
        loss += nn.functional.cross_entropy(logits, labels, reduction="sum")
        correct += int((logits.argmax(1) == labels).sum())
    model.train(training)
    return correct / len(y)
