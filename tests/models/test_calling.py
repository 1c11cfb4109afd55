"""Modules that take several inputs, or return more than a tensor, are called with one tensor and give one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from federations import DIGITS, sha256
from torch import Tensor, nn

from raysim import Experiment, Simulation
from raysim.config.loading import apply_overrides
from raysim.data import DataInfo
from raysim.data.inputs import InputField, pack_inputs
from raysim.errors import ModelError
from raysim.models import Calling, check_fit
from raysim.models.calling import one_tensor

FIELDS = (InputField("image", "real", (4,)), InputField("age", "real", ()))


def info() -> DataInfo:
    _, fields = pack_inputs(some(1), FIELDS)
    return DataInfo("classification", (5,), "record", (), 3, inputs=fields)


def some(n: int) -> dict[str, Any]:
    generator = np.random.default_rng(0)
    return {"image": generator.normal(size=(n, 4)).astype("f"), "age": generator.normal(size=n).astype("f")}


class ByKeyword(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(5, 3)

    def forward(self, image: Tensor, age: Tensor) -> Any:
        return self.layer(torch.cat([image, age[:, None]], 1))


class ByMapping(ByKeyword):
    def forward(self, inputs: Mapping[str, Tensor]) -> Any:  # type: ignore[override]
        return {"logits": super().forward(inputs["image"], inputs["age"]), "hidden": inputs["image"]}


@dataclass
class Found:
    scores: Tensor
    note: str = "one tensor"


class ByKeywords(ByKeyword):
    def forward(self, **inputs: Tensor) -> Any:  # type: ignore[override]
        return Found(super().forward(inputs["image"], inputs["age"]))


@pytest.mark.parametrize("kind", [ByKeyword, ByMapping, ByKeywords])
def test_inputs_go_in_by_name_and_one_tensor_comes_out(kind: type[nn.Module]) -> None:
    packed, _ = pack_inputs(given := some(6), FIELDS)
    torch.manual_seed(0)
    module = kind()
    expected = module.layer(torch.from_numpy(np.concatenate([given["image"], given["age"][:, None]], 1)))
    assert check_fit(module, info()) == (3,)
    Calling.of(module, info()).attach(module)
    assert torch.equal(module(torch.from_numpy(packed)), expected)


@pytest.mark.parametrize("engine", ["sequential", "rows"])
def test_they_train_to_the_model_of_the_same_network_on_one_tensor(tmp_path: Path, engine: str) -> None:
    """Words in, hooks around the pass: not a bit of the model is another one."""
    given, y = some(80), np.arange(80) % 3
    joined = np.concatenate([given["image"], given["age"][:, None]], 1)

    def trained(module: nn.Module, x: Any) -> str:
        values = apply_overrides(DIGITS, [f"tracking.directory={tmp_path}", f"training.engine={engine}"])
        values["data"]["partition"] = {"name": "iid", "clients": 6}
        with Simulation(Experiment.parse(values), model=module, data={"x": x, "y": y}) as simulation:
            simulation.run()
            return sha256(simulation.model())

    found = []
    for kind, x in ((ByKeyword, given), (ByMapping, given), (Joined, joined)):
        torch.manual_seed(0)
        found.append(trained(kind(), x))
    assert found[0] == found[1] == found[2]


class Joined(ByKeyword):
    def forward(self, x: Tensor) -> Any:  # type: ignore[override]
        return self.layer(x)


def test_a_forward_pass_that_lacks_an_input_is_refused() -> None:
    class OnlyImage(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 3)

        def forward(self, image: Tensor, other: Tensor) -> Any:
            return self.layer(image)

    with pytest.raises(ModelError, match="takes image, other, but the data has the inputs image, age; let it take age"):
        check_fit(OnlyImage(), info())


def test_a_mapping_without_a_clear_output_is_refused() -> None:
    class Two(ByKeyword):
        def forward(self, image: Tensor, age: Tensor) -> Any:
            return {"a": image, "b": image}

    with pytest.raises(ModelError, match="to a dict; it must return one tensor, or a mapping"):
        check_fit(Two(), info())


def test_the_tensor_of_an_output() -> None:
    a, b = torch.zeros(1), torch.ones(1)
    assert one_tensor({"loss": a, "logits": b}) is b
    assert one_tensor({"out": b, "aux": a}) is b
    assert one_tensor({"anything": a, "name": "text"}) is a
    assert one_tensor(Found(b)) is b
    assert one_tensor((a, b)) == (a, b)
