"""A base has versions: a residual beside each layer with LoRA, which changes nothing but what the layer adds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from raysim.config.model import CustomModelConfig, InMemoryModelConfig, MlpLoraConfig
from raysim.data import DataInfo
from raysim.errors import ModelError
from raysim.models import Blueprint, build_model, model_on_meta, with_versions
from raysim.models.lora import LoraLinear
from raysim.training import ParameterLayout

INFO = DataInfo("classification", (6,), "real", classes=3)
X = torch.randn(4, 6, generator=torch.Generator().manual_seed(0))
Make = Callable[[], nn.Module]


def of_peft(transposed: bool = False) -> nn.Module:
    peft = pytest.importorskip("peft")
    torch.manual_seed(1)
    first: nn.Module = nn.Linear(6, 5)
    if transposed:
        from transformers.pytorch_utils import Conv1D

        first = Conv1D(5, 6)
    net = nn.Sequential(first, nn.Tanh(), nn.Linear(5, 3))
    config = peft.LoraConfig(
        r=2, lora_alpha=6, target_modules=["0"], init_lora_weights=False, fan_in_fan_out=transposed
    )
    module: nn.Module = peft.get_peft_model(net, config).base_model.model
    return module


def own() -> nn.Module:
    torch.manual_seed(1)
    layer = LoraLinear(6, 5, 2, 6.0)
    nn.init.normal_(layer.lora_B)
    return nn.Sequential(layer, nn.Tanh(), nn.Linear(5, 3))


MODULES: list[Any] = [
    pytest.param(of_peft, id="peft"),
    pytest.param(lambda: of_peft(transposed=True), id="peft-transposed"),
    pytest.param(own, id="own"),
]
RESIDUALS = ("0.base_layer.residual", "0.residual")


def filled(module: nn.Module) -> Tensor:
    """The module's residual, with values in it."""
    (residual,) = (one for name, one in module.named_buffers() if name in RESIDUALS)
    return residual.copy_(torch.linspace(-1, 1, residual.numel()).view_as(residual))


@pytest.mark.parametrize("make", MODULES)
def test_a_layer_adds_its_residual_times_the_scaling_of_its_adapter(make: Make) -> None:
    plain, module = make(), with_versions(make())
    assert torch.equal(module(X), plain(X))
    residual = filled(module)
    layer: Any = plain[0]  # type: ignore[index]
    a, b = ((one if isinstance(one, nn.Parameter) else one["default"].weight) for one in (layer.lora_A, layer.lora_B))
    first = plain[0](X).double() + 3.0 * X.double() @ residual.double().T  # type: ignore[index]
    expected = plain[2](plain[1](first.float()))  # type: ignore[index]
    assert residual.shape == (b.shape[0], a.shape[1])
    torch.testing.assert_close(module(X), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("make", MODULES)
def test_no_parameter_changes_its_name_and_the_residual_is_behind_the_trainable_columns(make: Make) -> None:
    plain, module = make(), with_versions(make())
    assert [name for name, _ in module.named_parameters()] == [name for name, _ in plain.named_parameters()]
    assert type(module[0]) is type(plain[0])  # type: ignore[index]
    before, after = ParameterLayout(plain), ParameterLayout(module)
    assert after.parameters == before.parameters
    assert [one.name for one in after.buffers if one.name in RESIDUALS]
    assert with_versions(module) is module
    assert ParameterLayout(module).segments == after.segments


@pytest.mark.parametrize("make", MODULES)
def test_a_module_with_versions_is_built_again_here_and_in_another_process(make: Make) -> None:
    import pickle

    from ray import cloudpickle

    module = with_versions(make())
    filled(module)
    for blueprint in (Blueprint.of(module), Blueprint.of(module, cloudpickle.CloudPickler)):
        there = pickle.loads(cloudpickle.dumps(blueprint)) if blueprint.travels else blueprint
        again = there.instantiate()
        assert type(getattr(again[0], "base_layer", None)) is type(getattr(module[0], "base_layer", None))  # type: ignore[index]
        assert torch.equal(again(X), module(X))


def test_the_builder_gives_versions_to_whoever_asks() -> None:
    config = MlpLoraConfig(hidden=(5,), rank=2)
    assert not dict(build_model(config, INFO, seed=3).named_buffers())
    module, meta = build_model(config, INFO, seed=3, versions=True), model_on_meta(config, INFO, versions=True)
    assert {name: tuple(one.shape) for name, one in meta.named_buffers()} == {"hidden1.residual": (5, 6)}
    assert not dict(module.named_buffers())["hidden1.residual"].any()


def test_a_module_that_was_handed_over_is_left_as_it_is() -> None:
    module = own()
    built = build_model(InMemoryModelConfig(), INFO, seed=0, module=module, versions=True)
    assert not dict(module.named_buffers())
    assert dict(built.named_buffers())
    assert built[0].weight.data_ptr() == module[0].weight.data_ptr()  # type: ignore[index,union-attr,operator]


def test_a_file_of_weights_may_lack_versions_and_may_have_them(tmp_path: Path) -> None:
    config = MlpLoraConfig(hidden=(5,), rank=2)
    source = build_model(config, INFO, seed=3, versions=True)
    filled_in = dict(source.state_dict())
    filled_in["hidden1.residual"] = torch.ones(5, 6)
    for name, tensors, expected in (
        ("without", {k: v for k, v in filled_in.items() if "residual" not in k}, 0.0),
        ("with", filled_in, 1.0),
    ):
        save_file(tensors, tmp_path / f"{name}.safetensors")
        given = config.model_copy(update={"weights": str(tmp_path / f"{name}.safetensors")})
        module = build_model(given, INFO, seed=9, versions=True)
        assert dict(module.named_buffers())["hidden1.residual"].eq(expected).all()
        assert torch.equal(module.get_parameter("hidden1.weight"), source.get_parameter("hidden1.weight"))


class Bare(nn.Module):
    """LoRA without a place for a residual."""

    def __init__(self) -> None:
        super().__init__()
        self.lora_A, self.lora_B = nn.Linear(6, 2, bias=False), nn.Linear(2, 3, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.lora_B(self.lora_A(x))
        return out


def of_convolution() -> nn.Module:
    peft = pytest.importorskip("peft")
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten())
    module: nn.Module = peft.get_peft_model(net, peft.LoraConfig(r=2, target_modules=["0"])).base_model.model
    return module


def twice_adapted() -> nn.Module:
    peft = pytest.importorskip("peft")
    config = peft.LoraConfig(r=2, target_modules=["0"])
    model = peft.get_peft_model(nn.Sequential(nn.Linear(6, 3)), config)
    model.add_adapter("other", config)
    module: nn.Module = model.base_model.model
    return module


@pytest.mark.parametrize(
    ("make", "line"),
    [
        (lambda: nn.Linear(6, 3), "the model has no layer with LoRA"),
        (lambda: nn.Sequential(Bare()), "layer '0' has lora_A and no residual; register it"),
        (of_convolution, "layer '0': its base is a Conv2d, and versions exist for Linear and Conv1D"),
        (twice_adapted, "layer '0' has 2 adapters, and its base has one version"),
    ],
)
def test_a_module_without_versions_is_refused_in_one_line(make: Make, line: str) -> None:
    with pytest.raises(ModelError, match=line) as caught:
        with_versions(make())
    assert "\n" not in str(caught.value)


def test_a_rank_above_a_layers_is_refused() -> None:
    with pytest.raises(ModelError, match=r"model\.rank: 6 is above the rank of hidden layer 1, 5 x 6; use at most 5"):
        build_model(MlpLoraConfig(hidden=(5,), rank=6), INFO, seed=0)


def test_a_function_of_the_users_gets_versions_too() -> None:
    module = build_model(CustomModelConfig(name=f"{__name__}:own"), INFO, seed=0, versions=True)
    assert dict(module.named_buffers())
