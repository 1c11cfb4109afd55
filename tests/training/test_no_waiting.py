"""Local steps ask the device for no value: on a GPU each such question would wait for everything before it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from federations import digits
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from raysim import Simulation
from raysim.training.step import Step

_ASKS = ("_local_scalar_dense", "nonzero", "masked_select", "is_nonzero", "equal", "unique")


class NobodyAsks(TorchDispatchMode):
    """Fails at operations whose outcome the host has to see: values, and what a mask of booleans selects."""

    seen = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None) -> Any:
        name = func.overloadpacket.__name__
        self.seen += 1
        assert not name.startswith(_ASKS), f"{name} in a local step"
        if name.startswith(("index", "_index_put")) and isinstance(args[1], list | tuple):
            masks = [one for one in tree_leaves(args[1]) if isinstance(one, Tensor) and one.dtype == torch.bool]
            assert not masks, f"{name} with a mask in a local step"
        return func(*args, **(kwargs or {}))


ROWS = "training={engine: rows, rows: 3, compile: false}"


@pytest.mark.parametrize(
    "work",
    [
        ["algorithm=fedavg", "client.optimizer={name: adam, lr: 0.01}", "client.clip_norm=1.0"],
        ["algorithm=scaffold", ROWS],
        ["algorithm=fedrep", ROWS],
        ["algorithm=ditto"],
        ["algorithm=mime", "rounds=2", ROWS],
    ],
    ids=lambda work: work[0],
)
def test_no_local_step_waits_for_the_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, work: list[str]) -> None:
    modes: list[NobodyAsks] = []

    def watched(call: Callable[..., Any]) -> Callable[..., Any]:
        def within(*arguments: Any, **named: Any) -> Any:
            with NobodyAsks() as mode:
                modes.append(mode)
                return call(*arguments, **named)

        return within

    for name in ("take", "gradients", "peek", "move"):
        monkeypatch.setattr(Step, name, watched(getattr(Step, name)))
    with Simulation(digits(tmp_path, "rounds=1", *work)) as simulation:
        simulation.run()
    assert sum(mode.seen for mode in modes) > 50


def test_questions_are_noticed() -> None:
    values = torch.arange(3.0)
    for ask in (lambda: values[1].item(), lambda: values[values > 1], lambda: values.masked_select(values > 1)):
        with NobodyAsks(), pytest.raises(AssertionError, match="in a local step"):
            ask()
