"""Building: keyed weights, files of weights, modules in memory, counting without memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from raysim.config.model import (
    CnnConfig,
    CustomModelConfig,
    InMemoryModelConfig,
    MlpConfig,
    Resnet18GnConfig,
    SoftmaxConfig,
)
from raysim.data import DataInfo
from raysim.errors import ConfigError, ModelError
from raysim.models import build_model, fingerprint, model_on_meta
from raysim.models.on_meta import on_meta

DIGITS = DataInfo("classification", (64,), "real", classes=10)


def same(a: nn.Module, b: nn.Module) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


def test_the_same_seed_gives_the_same_weights_and_another_seed_others() -> None:
    torch.manual_seed(1)
    first = build_model(MlpConfig(), DIGITS, seed=3)
    torch.manual_seed(2)
    assert same(first, build_model(MlpConfig(), DIGITS, seed=3))
    assert not same(first, build_model(MlpConfig(), DIGITS, seed=4))


def test_the_global_generator_is_not_moved() -> None:
    before = torch.random.get_rng_state()
    build_model(MlpConfig(), DIGITS, seed=3)
    model_on_meta(CustomModelConfig(name=f"{__name__}:Peeking"), DIGITS)
    assert torch.equal(before, torch.random.get_rng_state())


def test_counting_takes_no_memory() -> None:
    info = DataInfo("classification", (3, 32, 32), "pixels", classes=10)
    model = model_on_meta(Resnet18GnConfig(width=1024), info)
    assert {p.device.type for p in model.parameters()} == {"meta"}
    assert sum(p.numel() for p in model.parameters()) > 2**31


def test_nothing_is_drawn_where_there_are_no_values_and_everything_elsewhere() -> None:
    drawn: list[str] = []

    class Recording(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            drawn.append(str(func))
            return func(*args, **(kwargs or {}))

    with Recording(), on_meta():
        embedding = nn.Embedding(5, 4)
        found = [nn.init.normal_(embedding.weight), embedding.weight.data.normal_(), nn.init.normal_(torch.empty(2))]
    assert "aten.empty.memory_format" in drawn
    assert "aten.normal_.default" not in drawn
    assert [one.shape for one in found] == [(5, 4), (5, 4), (2,)]
    assert {one.device.type for one in found} == {"meta"}
    with on_meta():
        assert nn.init.normal_(torch.zeros(9, device="cpu")).any()


# Modules of a user's own


class Sized(nn.Linear):
    def __init__(self, input_shape: tuple[int, ...], classes: int, *, bias: bool = True) -> None:
        super().__init__(input_shape[0], classes, bias=bias)


class Peeking(nn.Linear):
    def __init__(self) -> None:
        super().__init__(64, 10)
        self.scale = self.weight.abs().max().item()


def with_info(info: DataInfo, width: int = 3) -> nn.Module:
    return nn.Sequential(nn.Linear(info.input_shape[0], width), nn.Linear(width, info.classes or 1))


def wants_depth(depth: int) -> nn.Module:
    return nn.Linear(depth, depth)


def double() -> nn.Module:
    return nn.Linear(64, 10).double()


def lazy() -> nn.Module:
    return nn.LazyLinear(10)


def frozen() -> nn.Module:
    return nn.Linear(64, 10).requires_grad_(False)


def any_keyword(**keywords: object) -> nn.Module:
    assert not keywords
    return nn.Linear(64, 10)


def nothing() -> None:
    return None


instance = nn.Linear(64, 10)
number = 3


def custom(name: str, **args: object) -> CustomModelConfig:
    return CustomModelConfig(name=f"{__name__}:{name}", args=args)


def test_a_factory_gets_what_it_asks_for_from_the_data_and_the_rest_from_args() -> None:
    assert build_model(custom("Sized"), DIGITS, seed=0).weight.shape == (10, 64)
    assert build_model(custom("Sized", classes=4, bias=False), DIGITS, seed=0).weight.shape == (4, 64)
    assert build_model(custom("with_info", width=5), DIGITS, seed=0)[1].weight.shape == (10, 5)
    build_model(custom("any_keyword"), DIGITS, seed=0)


def test_a_factorys_weights_are_a_function_of_the_seed() -> None:
    assert same(build_model(custom("Sized"), DIGITS, seed=1), build_model(custom("Sized"), DIGITS, seed=1))
    assert not same(build_model(custom("Sized"), DIGITS, seed=1), build_model(custom("Sized"), DIGITS, seed=2))


def test_a_factory_that_looks_at_values_is_counted_all_the_same() -> None:
    assert sum(p.numel() for p in model_on_meta(custom("Peeking"), DIGITS).parameters()) == 650
    assert next(model_on_meta(custom("Sized"), DIGITS).parameters()).device.type == "meta"


@pytest.mark.parametrize(
    ("config", "error", "line"),
    [
        (custom("absent"), ConfigError, "model.name: module .* has no 'absent'"),
        (custom("number"), ModelError, "model.name: .*:number' is a int, not a function that returns an nn.Module"),
        (custom("instance"), ModelError, "model.name: .*:instance' is a Linear, not a function"),
        (custom("nothing"), ModelError, "model.name: .*:nothing' returned a NoneType, not an nn.Module"),
        (custom("wants_depth"), ModelError, "model.args: .*:wants_depth' cannot be called .*'depth'"),
        (custom("Sized", width=3), ModelError, "model.args: .*:Sized' cannot be called .*'width'"),
        (custom("double"), ModelError, r"parameter 'weight' is torch.float64; make it float32 with `.float\(\)`"),
        (custom("lazy"), ModelError, "parameter 'weight' is lazy; run one batch"),
        (custom("frozen"), ModelError, "has no trainable parameters"),
        (InMemoryModelConfig(), ModelError, "in_memory needs the module itself"),
    ],
)
def test_what_cannot_be_built_is_one_line(
    config: CustomModelConfig | InMemoryModelConfig, error: type[Exception], line: str
) -> None:
    with pytest.raises(error, match=line) as caught:
        build_model(config, DIGITS, seed=0)
    assert "\n" not in str(caught.value)


def test_an_error_in_a_factory_names_it_and_keeps_the_users_error() -> None:
    with pytest.raises(ModelError, match=r"^model.name: \w+:with_info: TypeError: ") as caught:
        build_model(custom("with_info", width="wide"), DIGITS, seed=0)
    assert isinstance(caught.value.__cause__, TypeError)


def test_a_module_without_values_is_refused_with_a_remedy() -> None:
    with pytest.raises(ModelError, match=r"model Linear: 'weight' is on the meta device, .*`.to_empty\("):
        build_model(InMemoryModelConfig(), DIGITS, seed=0, module=nn.Linear(64, 10, device="meta"))


def test_a_module_in_memory_is_returned_as_it_is() -> None:
    module = nn.Linear(64, 10)
    assert build_model(InMemoryModelConfig(), DIGITS, seed=0, module=module) is module
    assert model_on_meta(InMemoryModelConfig(), DIGITS, module=module) is module
    with pytest.raises(ModelError, match=r"model Linear: .*float64; .*`.float\(\)`"):
        build_model(InMemoryModelConfig(), DIGITS, seed=0, module=nn.Linear(2, 2).double())


# Weights from a file


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(4, 4, bias=False)
        self.second = nn.Linear(4, 4, bias=False)
        self.second.weight = self.first.weight
        self.register_buffer("steps", torch.zeros(1, dtype=torch.int64))


def test_weights_come_back_from_a_safetensors_file(tmp_path: Path) -> None:
    source = build_model(MlpConfig(hidden=(5,)), DIGITS, seed=1)
    file = tmp_path / "start.safetensors"
    save_file(source.state_dict(), file)
    config = MlpConfig(hidden=(5,), weights=str(file))
    assert same(source, build_model(config, DIGITS, seed=2))
    assert next(model_on_meta(config, DIGITS).parameters()).is_meta


def test_half_precision_weights_are_converted(tmp_path: Path) -> None:
    file = tmp_path / "start.safetensors"
    save_file({"output.weight": torch.full((10, 64), 0.5).half(), "output.bias": torch.ones(10).double()}, file)
    model = build_model(SoftmaxConfig(weights=str(file)), DIGITS, seed=0)
    assert model.output.weight.dtype == torch.float32
    assert model.output.weight.eq(0.5).all()
    assert model.output.bias.eq(1).all()


@pytest.mark.parametrize("names", [("first.weight",), ("second.weight",)])
def test_tied_weights_may_be_stored_under_either_name(tmp_path: Path, names: tuple[str, ...]) -> None:
    file = tmp_path / "tied.safetensors"
    save_file({name: torch.eye(4) for name in names} | {"steps": torch.ones(1, dtype=torch.int64)}, file)
    model = build_model(CustomModelConfig(name=f"{__name__}:Tied", weights=str(file)), DIGITS, seed=0)
    assert torch.equal(model.first.weight, torch.eye(4))
    assert model.second.weight is model.first.weight


@pytest.mark.parametrize(
    ("tensors", "line"),
    [
        ({"output.weight": torch.zeros(10, 64)}, "lacks tensor 'output.bias' of model softmax"),
        ({"w": torch.zeros(1)}, "lacks tensor 'output.weight' and 1 more of model softmax; it has tensor 'w' instead"),
        (
            {"output.weight": torch.zeros(10, 64), "output.bias": torch.zeros(10), "a": torch.zeros(1)},
            "has tensor 'a', which model softmax has not",
        ),
        (
            {"output.weight": torch.zeros(10, 63), "output.bias": torch.zeros(10)},
            r"tensor 'output.weight' has shape \[10, 63\], but model softmax wants \[10, 64\]",
        ),
        (
            {"output.weight": torch.zeros(10, 64), "output.bias": torch.zeros(10, dtype=torch.int64)},
            "tensor 'output.bias' is I64, but model softmax wants torch.float32",
        ),
    ],
)
def test_a_file_that_does_not_fit_names_itself_and_the_tensor(
    tmp_path: Path, tensors: dict[str, torch.Tensor], line: str
) -> None:
    file = tmp_path / "start.safetensors"
    save_file(tensors, file)
    with pytest.raises(ModelError, match=rf"start\.safetensors: {line}") as caught:
        build_model(SoftmaxConfig(weights=str(file)), DIGITS, seed=0)
    assert "\n" not in str(caught.value)
    with pytest.raises(ModelError, match=line):
        model_on_meta(SoftmaxConfig(weights=str(file)), DIGITS)


def test_a_file_that_cannot_be_read_names_itself_and_the_key(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"absent: no such file \(model.weights\)"):
        build_model(SoftmaxConfig(weights=str(tmp_path / "absent")), DIGITS, seed=0)
    save_file({"output.weight": torch.zeros(10, 64)}, tmp_path / "whole")
    (tmp_path / "cut").write_bytes((tmp_path / "whole").read_bytes()[:-8])
    with pytest.raises(ModelError, match=r"cut: cannot be read as safetensors"):
        build_model(SoftmaxConfig(weights=str(tmp_path / "cut")), DIGITS, seed=0)
    (tmp_path / "text").write_bytes(b"not safetensors at all")
    with pytest.raises(ModelError, match=r"text: cannot be read as safetensors .*\(model.weights\)"):
        build_model(SoftmaxConfig(weights=str(tmp_path / "text")), DIGITS, seed=0)


# Fingerprints


def test_equal_modules_have_equal_fingerprints() -> None:
    assert fingerprint(build_model(MlpConfig(), DIGITS, seed=0)) == fingerprint(
        build_model(MlpConfig(), DIGITS, seed=0)
    )
    assert len(fingerprint(Tied())) == 64


def test_anything_that_changes_training_changes_the_fingerprint() -> None:
    def module(**changes: object) -> nn.Module:
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(2, 2), changes.get("activation", nn.ReLU()), nn.BatchNorm1d(2))
        if "bump" in changes:
            model.state_dict()[changes["bump"]].add_(1)
        if "freeze" in changes:
            model[0].bias.requires_grad_(False)
        return model

    prints = [
        fingerprint(m)
        for m in (
            module(),
            module(activation=nn.Tanh()),
            module(bump="0.weight"),
            module(bump="2.running_mean"),
            module(bump="2.num_batches_tracked"),
            module(freeze=True),
            nn.Sequential(*module().children(), nn.Identity()),
        )
    ]
    assert len(set(prints)) == len(prints)
    assert prints[0] == fingerprint(module())


def test_a_large_model_is_not_needed_to_know_that_it_does_not_fit() -> None:
    with pytest.raises(ModelError, match="model cnn takes images"):
        model_on_meta(CnnConfig(), DIGITS)
