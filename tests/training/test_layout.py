"""One flat vector for all that is trainable."""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from raysim.errors import ModelError
from raysim.training import ParameterLayout

SHAPES = st.lists(st.lists(st.integers(1, 5), max_size=3).map(tuple), max_size=5)


class Values(nn.Module):
    """Parameters and float buffers of given shapes."""

    def __init__(self, parameters: list[tuple[int, ...]], buffers: list[tuple[int, ...]], seed: int = 0) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        for i, shape in enumerate(parameters):
            self.register_parameter(f"p{i}", nn.Parameter(torch.randn(shape, generator=generator)))
        for i, shape in enumerate(buffers):
            self.register_buffer(f"b{i}", torch.randn(shape, generator=generator))


def values_of(module: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def same(one: dict[str, Tensor], two: dict[str, Tensor]) -> bool:
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


@given(SHAPES.filter(len), SHAPES)
def test_a_module_survives_being_packed_and_unpacked(
    parameters: list[tuple[int, ...]], buffers: list[tuple[int, ...]]
) -> None:
    module, other = Values(parameters, buffers), Values(parameters, buffers, seed=1)
    layout = ParameterLayout(module)
    row = layout.pack(module)
    assert row.shape == (layout.size,)
    assert row.dtype == torch.float32
    layout.unpack(row, other)
    assert same(values_of(other), values_of(module))
    assert torch.equal(layout.pack(other), row)


@given(SHAPES.filter(len), SHAPES, st.integers(1, 4))
def test_every_parameter_and_every_row_starts_on_a_boundary_of_64_bytes(
    parameters: list[tuple[int, ...]], buffers: list[tuple[int, ...]], rows: int
) -> None:
    layout = ParameterLayout(Values(parameters, buffers))
    matrix = torch.zeros(rows, layout.size)
    assert layout.size % 32 == layout.trainable % 32 == 0
    for i in range(rows):
        assert matrix[i].data_ptr() % 64 == 0
        for name, view in layout.views(matrix[i]).items():
            assert view.data_ptr() % 64 == 0, name
            assert view.data_ptr() >= matrix[i].data_ptr()


@given(SHAPES.filter(len), SHAPES)
def test_segments_are_disjoint_in_order_and_the_rest_is_zero(
    parameters: list[tuple[int, ...]], buffers: list[tuple[int, ...]]
) -> None:
    module = Values(parameters, buffers)
    layout = ParameterLayout(module)
    covered = torch.zeros(layout.size, dtype=torch.bool)
    end = 0
    for segment in layout.segments:
        assert segment.start >= end
        end = segment.start + segment.size
        covered[segment.start : end] = True
    assert end <= layout.size
    assert [segment.name for segment in layout.parameters] == [name for name, _ in module.named_parameters()]
    assert [segment.name for segment in layout.buffers] == [name for name, _ in module.named_buffers()]
    assert all(segment.start < layout.trainable for segment in layout.parameters)
    assert all(segment.start >= layout.trainable for segment in layout.buffers)
    assert not layout.pack(module)[~covered].any()
    assert layout.count == sum(parameter.numel() for parameter in module.parameters())


@given(SHAPES.filter(len), SHAPES, st.integers(1, 3))
def test_views_of_many_rows_are_the_rows_views(
    parameters: list[tuple[int, ...]], buffers: list[tuple[int, ...]], rows: int
) -> None:
    module = Values(parameters, buffers)
    layout = ParameterLayout(module)
    matrix = torch.randn(rows, layout.size, generator=torch.Generator().manual_seed(0))
    together = layout.views(matrix)
    for i in range(rows):
        for name, view in layout.views(matrix[i]).items():
            assert together[name].shape == (rows, *view.shape)
            assert torch.equal(together[name][i], view)
            assert together[name][i].data_ptr() == view.data_ptr()
    gradients = layout.views(matrix[:, : layout.trainable])
    assert list(gradients) == [name for name, _ in module.named_parameters()]


@given(SHAPES.filter(len), SHAPES)
def test_a_bound_module_and_its_row_are_the_same_memory(
    parameters: list[tuple[int, ...]], buffers: list[tuple[int, ...]]
) -> None:
    module = Values(parameters, buffers)
    layout = ParameterLayout(module)
    row = layout.pack(module)
    before = values_of(module)
    layout.bind(row, module)
    assert same(values_of(module), before)
    with torch.no_grad():
        for tensor in (*module.parameters(), *module.buffers()):
            tensor.add_(1.0)
    assert torch.equal(layout.pack(module), row)
    row.mul_(2.0)
    assert all(torch.equal(tensor, 2 * (before[name] + 1)) for name, tensor in values_of(module).items())


def test_a_bound_module_trains_into_its_row_and_the_padding_stays_zero() -> None:
    module = nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.BatchNorm1d(5), nn.Linear(5, 2))
    layout = ParameterLayout(module)
    row = layout.pack(module)
    layout.bind(row, module)
    padding = torch.ones(layout.size, dtype=torch.bool)
    for segment in layout.segments:
        padding[segment.start : segment.start + segment.size] = False
    before = row.clone()
    optimizer = torch.optim.Adam(module.parameters(), weight_decay=0.1)
    inputs = torch.randn(3, 4, 3, generator=torch.Generator().manual_seed(0))
    for x in inputs:
        module(x).square().sum().backward()
        optimizer.step()
    assert not torch.equal(row, before)
    assert not row[padding].any()
    module.eval()
    with torch.no_grad():
        assert torch.equal(module(torch.ones(1, 3)), copy.deepcopy(module)(torch.ones(1, 3)))


def test_tied_parameters_are_there_once_and_stay_tied() -> None:
    module = nn.Sequential(nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False))
    module[1].weight = module[0].weight
    layout = ParameterLayout(module)
    assert [segment.name for segment in layout.parameters] == ["0.weight"]
    assert (layout.count, layout.size) == (16, 32)
    row = torch.arange(32.0)
    layout.bind(row, module)
    assert module[0].weight.data_ptr() == module[1].weight.data_ptr() == row.data_ptr()


def test_frozen_parameters_and_integer_buffers_stay_in_the_module() -> None:
    module = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))
    module[0].weight.requires_grad_(False)
    layout = ParameterLayout(module)
    assert [segment.name for segment in layout.parameters] == ["0.bias", "1.weight", "1.bias"]
    assert [segment.name for segment in layout.buffers] == ["1.running_mean", "1.running_var"]
    assert (layout.trainable, layout.size) == (64, 96)
    frozen = module[0].weight.clone()
    layout.bind(torch.zeros(layout.size), module)
    assert torch.equal(module[0].weight, frozen)
    module[1].num_batches_tracked.fill_(7)
    layout.unpack(torch.ones(layout.size), module)
    assert module[1].num_batches_tracked == 7


def test_a_scalar_parameter_has_a_column_of_its_own() -> None:
    module = Values([(), (2,)], [()])
    layout = ParameterLayout(module)
    views = layout.views(torch.arange(float(layout.size)))
    assert views["p0"].shape == views["b0"].shape == ()
    assert (views["p0"].item(), views["p1"].tolist(), views["b0"].item()) == (0.0, [16.0, 17.0], 32.0)


@pytest.mark.parametrize("kind", [torch.float64, torch.float16, torch.bfloat16])
def test_trainable_parameters_must_be_float32(kind: torch.dtype) -> None:
    module = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2).to(kind))
    with pytest.raises(ModelError) as caught:
        ParameterLayout(module)
    assert str(caught.value) == f"parameter '1.weight' is {kind}; trainable ones must be float32: use .float()"
    for parameter in module[1].parameters():
        parameter.requires_grad_(False)
    assert ParameterLayout(module).count == 6


def test_a_module_with_nothing_to_train_is_refused() -> None:
    for module in (nn.Flatten(), nn.Linear(2, 2).requires_grad_(False)):
        with pytest.raises(ModelError, match="no trainable parameter"):
            ParameterLayout(module)


def test_the_fingerprint_is_that_of_the_names_and_shapes() -> None:
    def fingerprint(parameters: list[tuple[int, ...]], buffers: list[tuple[int, ...]], seed: int = 0) -> str:
        return ParameterLayout(Values(parameters, buffers, seed)).fingerprint

    one = fingerprint([(2, 3), (4,)], [(2,)])
    assert one == fingerprint([(2, 3), (4,)], [(2,)], seed=1)
    others = [
        fingerprint([(3, 2), (4,)], [(2,)]),
        fingerprint([(6,), (4,)], [(2,)]),
        fingerprint([(2, 3), (4,), (2,)], []),
        fingerprint([(4,), (2, 3)], [(2,)]),
    ]
    assert len({one, *others}) == 5
    renamed = Values([(2, 3), (4,)], [(2,)])
    renamed.register_parameter("q", renamed._parameters.pop("p1"))
    assert ParameterLayout(renamed).fingerprint != one


def test_a_module_without_weights_has_the_same_layout() -> None:
    with torch.device("meta"):
        meta = nn.Sequential(nn.Linear(3, 5), nn.BatchNorm1d(5))
    real = nn.Sequential(nn.Linear(3, 5), nn.BatchNorm1d(5))
    assert ParameterLayout(meta).fingerprint == ParameterLayout(real).fingerprint


def test_buffers_that_are_no_state_of_the_module_do_not_travel() -> None:
    module = nn.Linear(3, 2)
    module.register_buffer("table", torch.ones(7), persistent=False)
    module.register_buffer("statistics", torch.ones(5))
    assert [segment.name for segment in ParameterLayout(module).buffers] == ["statistics"]
