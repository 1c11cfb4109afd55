"""A frozen base is one file a node: bit for bit as it was, mapped by every process, and never written to."""

from __future__ import annotations

import hashlib
import pickle
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from raysim.errors import DataError, RunError
from raysim.models import Blueprint, FrozenWatch
from raysim.models.base_store import ALIGNMENT, BaseFile


class Adapted(nn.Module):
    """A frozen base of several types, tied to itself, and a head that is trained."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.base = nn.Linear(33, 33)
        self.again = self.base
        self.coarse = nn.Parameter(torch.randn(7, 3).to(torch.bfloat16))
        self.scale = nn.Parameter(torch.tensor(1.5))
        self.turned = nn.Parameter(torch.randn(33, 5).t())  # not one value after the other
        self.requires_grad_(False)
        self.head = nn.Linear(33, 3)
        self.register_buffer("mask", torch.arange(33) % 2)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.head(self.again(self.base(x)) * self.mask * self.scale)
        return found


FROZEN = ("base.weight", "base.bias", "coarse", "scale")


def tensors() -> dict[str, Tensor]:
    module = Adapted()
    return {name: module.get_parameter(name) for name in FROZEN}


def traveller(cache: Path | None) -> Blueprint:
    """The blueprint as another process receives it."""
    blueprint = Blueprint.of(Adapted(), pickle.Pickler)
    found: Blueprint = pickle.loads(pickle.dumps(blueprint if cache is None else blueprint.with_file(cache)))
    return found


def test_tensors_come_back_from_their_file_to_the_bit_where_torch_would_have_allocated_them(tmp_path: Path) -> None:
    given = tensors()
    file = BaseFile.keep(given, tmp_path)
    mapped, plain = file.map(), load_file(file.path)
    for name, tensor in given.items():
        assert torch.equal(mapped[name], tensor)
        assert mapped[name].dtype == tensor.dtype
        assert mapped[name].data_ptr() % ALIGNMENT == 0
        assert torch.equal(plain[name], tensor)  # a safetensors file like any other
    assert hashlib.sha256(Path(file.path).read_bytes()).hexdigest()[:32] == Path(file.path).parent.name
    assert file.bytes == Path(file.path).stat().st_size


def test_a_base_that_is_there_is_found_again_and_nothing_lies_beside_it(tmp_path: Path) -> None:
    file = BaseFile.keep(tensors(), tmp_path)
    written = Path(file.path).stat().st_mtime_ns
    assert BaseFile.keep(tensors(), tmp_path) == file
    assert Path(file.path).stat().st_mtime_ns == written
    assert [one for one in tmp_path.rglob("*") if one.is_file()] == [Path(file.path)]
    other = tensors() | {"scale": torch.tensor(2.5)}
    assert BaseFile.keep(other, tmp_path) != file


def test_a_damaged_file_is_written_again_where_the_base_is_at_hand(tmp_path: Path) -> None:
    file = BaseFile.keep(tensors(), tmp_path)
    path = Path(file.path)
    sound = path.read_bytes()
    for damaged in (sound[:-1] + b"\1", sound[:100]):
        path.write_bytes(damaged)
        assert BaseFile.keep(tensors(), tmp_path) == file
        assert path.read_bytes() == sound


@pytest.mark.parametrize(
    ("damage", "line"),
    [
        (lambda path: path.unlink(), "frozen base is not there; on a cluster, data.cache must be a folder that every"),
        (lambda path: path.write_bytes(path.read_bytes()[:2000]), "it has 2000 bytes"),
        (lambda path: path.write_bytes(bytes(path.stat().st_size)), "cannot be read as the model's frozen base"),
    ],
)
def test_a_file_that_is_gone_or_damaged_is_one_line(tmp_path: Path, damage: Any, line: str) -> None:
    blueprint = traveller(tmp_path)
    assert blueprint.file is not None
    damage(Path(blueprint.file.path))
    with pytest.raises(DataError, match=line) as caught:
        blueprint.instantiate()
    assert "\n" not in str(caught.value)


def test_a_cache_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "bases").write_text("in the way")
    with pytest.raises(DataError, match=r"set data\.cache to another folder"):
        BaseFile.keep(tensors(), tmp_path)


@pytest.mark.parametrize("in_file", [False, True])
def test_modules_of_another_process_have_the_same_values_and_one_base(tmp_path: Path, in_file: bool) -> None:
    blueprint, plain = traveller(tmp_path if in_file else None), Adapted()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        one, other = blueprint.instantiate(), blueprint.instantiate()
    for name, tensor in plain.state_dict().items():
        assert torch.equal(one.state_dict()[name], tensor)
        assert one.state_dict()[name].stride() == tensor.stride()
    for name, parameter in one.named_parameters():
        assert parameter.requires_grad == plain.get_parameter(name).requires_grad
        assert (parameter.data_ptr() == other.get_parameter(name).data_ptr()) != parameter.requires_grad
    assert one.again is one.base
    assert one.mask.data_ptr() != other.mask.data_ptr()
    apart = blueprint.instantiate(share_frozen=False)
    assert apart.get_parameter("base.weight").data_ptr() != one.get_parameter("base.weight").data_ptr()
    assert torch.equal(one(torch.ones(1, 33)), plain(torch.ones(1, 33)))
    assert blueprint.on_meta().get_parameter("base.weight").shape == (33, 33)


def test_a_base_in_a_file_does_not_travel(tmp_path: Path) -> None:
    module = nn.Sequential(nn.Linear(500, 500).requires_grad_(False), nn.Linear(500, 3))
    blueprint = Blueprint.of(module, pickle.Pickler)
    assert len(pickle.dumps(blueprint)) > 4 * 500 * 500
    assert len(pickle.dumps(blueprint.with_file(tmp_path))) < 4 * 500 * 10


def test_a_write_to_a_mapped_base_is_noticed_and_does_not_reach_the_file(tmp_path: Path) -> None:
    blueprint = traveller(tmp_path)
    assert blueprint.file is not None
    before = Path(blueprint.file.path).read_bytes()
    module = blueprint.instantiate()
    watch = FrozenWatch(module)
    watch.check()
    with torch.no_grad():
        module.get_parameter("coarse").mul_(2)
    with pytest.raises(RunError, match=r"parameter 'coarse' is frozen"):
        watch.check()
    assert Path(blueprint.file.path).read_bytes() == before


def test_a_blueprint_for_its_own_process_does_not_travel() -> None:
    assert not Blueprint.of(Adapted()).travels
    assert Blueprint.of(Adapted(), pickle.Pickler).travels
