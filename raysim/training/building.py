"""The engines by name."""

from __future__ import annotations

from typing import Literal

import torch
from torch import nn

from raysim.data import DataInfo
from raysim.training.batches import LocalWork
from raysim.training.capture import CannotCapture
from raysim.training.engine import Engine, SequentialEngine
from raysim.training.layout import ParameterLayout
from raysim.training.losses import Loss
from raysim.training.rows import RowsEngine

EngineName = Literal["sequential", "rows"]


def build_engine(
    name: EngineName,
    rows: int,
    compiled: bool,
    module: nn.Module,
    layout: ParameterLayout,
    loss: Loss,
    info: DataInfo,
    work: LocalWork,
    device: torch.device,
) -> Engine:
    """The engine that was chosen.

    Args:
        rows: K, of the engines that train several clients at once.
        compiled: whether `torch.compile` compiles the gradient.
        module: the engine's from now on.

    Raises:
        CannotCapture: the model, or the work, is not for this engine; says why.
    """
    if name == "sequential":
        return SequentialEngine(module, layout, loss, info, device)
    if work.batch_size is None:
        raise CannotCapture("full batches are as long as the client's shard")
    if device.type == "cpu" and torch.get_num_threads() > 1:
        raise CannotCapture("several threads a client would share out its work by the number of its neighbours")
    return RowsEngine(module, layout, loss, info, device, rows, work.batch_size, compiled)
