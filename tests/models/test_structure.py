"""A module is taken apart and built again, whatever it is made of."""

from __future__ import annotations

import copy
import threading
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from raysim.errors import ModelError
from raysim.models import Blueprint

X = torch.randn(4, 20, generator=torch.Generator().manual_seed(0))


class Patched(nn.Module):
    """Bound methods, hooks, a lambda, views of one tensor, tied weights and a recurrent layer."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(20, 20)
        self.tied = nn.Linear(20, 20)
        self.tied.weight = self.inner.weight
        self.inner.register_forward_hook(self.hook)
        self.double = lambda x: 2 * x
        self.under_another_name = types.MethodType(lambda self, x: self.tied(x), self)
        self.recurrent = nn.GRU(20, 3, batch_first=True)
        counted = torch.arange(6.0)
        self.register_buffer("few", counted[:3])
        self.register_buffer("wide", counted[3:].expand(4, 3), persistent=False)
        self.constants = [torch.ones(3)]

    def hook(self, module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
        return output + self.tied.bias

    def forward(self, x: Tensor) -> Tensor:
        states, _ = self.recurrent(self.under_another_name(self.inner(x))[:, None])
        found: Tensor = self.double(states[:, 0]) * self.few + self.wide + self.constants[0]
        return found


class Locked(nn.Linear):
    """Cannot be pickled, and says how it is copied."""

    def __init__(self) -> None:
        super().__init__(20, 3)
        self.lock = threading.Lock()

    def __deepcopy__(self, memo: dict[int, Any]) -> Locked:
        memo[id(self)] = found = Locked()
        found.weight, found.bias = copy.deepcopy(self.weight, memo), copy.deepcopy(self.bias, memo)
        return found


def normed() -> nn.Module:
    return nn.Sequential(parametrizations.weight_norm(nn.Linear(20, 7)), nn.Linear(7, 3))


def local() -> nn.Module:
    class Local(nn.Linear):
        pass

    return Local(20, 3)


MODULES: dict[str, Callable[[], nn.Module]] = {
    "patched": Patched,
    "own_deepcopy": Locked,
    "weight_norm": normed,
    "orthogonal": lambda: nn.Sequential(parametrizations.orthogonal(nn.Linear(20, 20)), nn.Linear(20, 3)),
    "spectral_norm": lambda: nn.Sequential(parametrizations.spectral_norm(nn.Linear(20, 7)), nn.Linear(7, 3)),
    "local_class": local,
    "traced": lambda: torch.fx.symbolic_trace(nn.Sequential(nn.Linear(20, 3), nn.ReLU())),
    "scripted": lambda: torch.jit.script(nn.Sequential(nn.Linear(20, 3), nn.ReLU())),
}


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("name", MODULES)
def test_a_module_of_any_kind_is_built_again_with_its_values_and_memory_of_its_own(name: str, frozen: bool) -> None:
    module = MODULES[name]().eval()
    for one in module.parameters():
        one.requires_grad_(not frozen)
    found = Blueprint.of(module).instantiate(share_frozen=False)
    assert torch.equal(found(X), module(X))
    assert list(found.state_dict()) == list(module.state_dict())
    mine = {tensor.data_ptr() for tensor in found.state_dict().values()}
    assert not mine & {tensor.data_ptr() for tensor in module.state_dict().values()}
    assert [one.requires_grad for one in found.parameters()] == [one.requires_grad for one in module.parameters()]
    if frozen and name != "scripted":  # whose copy is made in C++
        shared = Blueprint.of(module).instantiate()
        assert torch.equal(shared(X), module(X))
        theirs = {one.data_ptr() for one in module.parameters()}
        assert {one.data_ptr() for one in shared.parameters()} == theirs


def test_what_is_bound_tied_or_a_view_of_another_tensor_is_so_in_the_new_module() -> None:
    module = Patched()
    found: Any = Blueprint.of(module).instantiate()
    assert found.tied.weight is found.inner.weight
    assert found.under_another_name.__self__ is found
    assert [hook.__self__ for hook in found.inner._forward_hooks.values()] == [found]
    assert found.double is module.double
    assert found.few.untyped_storage().data_ptr() == found.wide.untyped_storage().data_ptr()
    assert found.wide.stride() == (0, 1)
    assert found.constants[0] is not module.constants[0]
    assert "wide" not in found.state_dict()


def test_on_meta_there_are_shapes_and_no_values() -> None:
    found = Blueprint.of(Patched()).on_meta()
    assert all(one.is_meta for one in [*found.parameters(), *found.buffers()])
    assert len(list(found.parameters())) == len(list(Patched().parameters()))


def test_a_module_that_can_neither_be_pickled_nor_copied_is_one_line() -> None:
    module = nn.Linear(20, 3)
    module.lock = threading.Lock()
    with pytest.raises(ModelError, match=r"^model Linear cannot be copied \(TypeError: cannot pickle '_thread\.lock'"):
        Blueprint.of(module)


def test_raysim_makes_no_deep_copy_of_a_module() -> None:
    rooms = Path(__file__).parents[2] / "raysim"
    found = [one for one in rooms.rglob("*.py") if "copy.deepcopy(" in one.read_text(encoding="utf-8")]
    of_values = {"config/loading.py", "tuning/keys.py", "adapters/flower/client.py", "adapters/scikit_learn.py"}
    assert {one.relative_to(rooms).as_posix() for one in found} <= of_values
