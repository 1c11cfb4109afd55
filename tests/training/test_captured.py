"""A gradient is captured once for modules of known classes, and anew where anything may be different."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor, nn

from raysim.data import DataInfo
from raysim.training import ParameterLayout, captured
from raysim.training.capture import Vectorised, capture
from raysim.training.losses import Loss, cross_entropy
from raysim.training.rows import RowsEngine

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def seen(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Vectorised]]:
    """Graphs that are captured, none of which is known yet."""
    found: list[Vectorised] = []

    def noted(*given: object, **named: object) -> Vectorised:
        found.append(capture(*given, **named))
        return found[-1]

    monkeypatch.setattr(captured, "capture", noted)
    monkeypatch.setattr(captured, "_known", {})
    return found


def engine(module: nn.Module, *, loss: Loss = cross_entropy, batch: int = 4, features: int = 6) -> RowsEngine:
    info = DataInfo("classification", (features,), "real", classes=3)
    return RowsEngine(module, ParameterLayout(module), loss, info, CPU, 3, batch)


def layered(activation: nn.Module, width: int = 5, features: int = 6) -> nn.Module:
    return nn.Sequential(nn.Linear(features, width), activation, nn.Linear(width, 3))


def test_engines_of_one_structure_share_a_graph_whatever_its_values(seen: list[Vectorised]) -> None:
    torch.manual_seed(0)
    one, other = engine(layered(nn.Tanh())), engine(layered(nn.Tanh()))
    assert len(seen) == 1
    assert one._gradient is other._gradient
    assert not torch.equal(one.rows, other.rows) or one.rows is not other.rows


def frozen() -> nn.Module:
    module = layered(nn.Tanh())
    module[0].bias.requires_grad_(False)
    return module


def hooked() -> nn.Module:
    module = layered(nn.Tanh())
    module[0].register_forward_hook(lambda part, given, output: output * 2)
    return module


def swapped() -> nn.Module:
    module = layered(nn.Tanh())
    module[1].forward = torch.sin
    return module


@pytest.mark.parametrize(
    "build",
    [
        lambda: engine(layered(nn.Sigmoid())),
        lambda: engine(layered(nn.LeakyReLU(0.1))),
        lambda: engine(layered(nn.Tanh(), width=7)),
        lambda: engine(layered(nn.Tanh()), batch=3),
        lambda: engine(layered(nn.Tanh(), features=7), features=7),
        lambda: engine(frozen()),
        lambda: engine(hooked()),
        lambda: engine(swapped()),
    ],
)
def test_whatever_may_compute_otherwise_is_captured_anew(
    seen: list[Vectorised], build: Callable[[], RowsEngine]
) -> None:
    known = {engine(layered(nn.Tanh()))._gradient, engine(layered(nn.LeakyReLU(0.2)))._gradient}
    found = build()
    assert found._gradient is seen[-1]
    assert found._gradient not in known


def test_what_a_user_wrote_is_captured_anew_each_time(seen: list[Vectorised]) -> None:
    class Scaled(nn.Linear):
        factor = 2.0

        def forward(self, x: Tensor) -> Tensor:
            return self.factor * super().forward(x)

    def own_loss(output: Tensor, target: Tensor) -> Tensor:
        return cross_entropy(output, target)

    engine(Scaled(6, 3))
    Scaled.factor = 3.0
    engine(Scaled(6, 3))
    assert len(seen) == 2
    for _ in range(2):
        engine(layered(nn.Tanh()), loss=own_loss)
    assert len(seen) == 4


def test_few_graphs_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(captured, "_MOST", 2)
    for width in (2, 3, 4):
        engine(layered(nn.Tanh(), width))
    assert len(captured._known) == 2
