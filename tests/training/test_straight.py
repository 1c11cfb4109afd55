"""Captured graphs by torch's own functions, and steps without what changes no bit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from older_torch import lacking
from test_rows import CASES, CPU, rows_engine
from three_clients import drawn
from torch import Tensor

from raysim.training import ParameterLayout, shorter, straight
from raysim.training import rows as rows_module
from raysim.training.capture import Vectorised, aligned_bmm, capture
from raysim.training.rows import RowsEngine
from raysim.training.shorter import descend


def centred(x: Tensor) -> tuple[Tensor, ...]:
    return ((x - x.amax(1, keepdim=True)).exp().sum(1).log(),)


def example(k: int) -> list[Tensor]:
    return [torch.linspace(-3, 3, 5 * k).view(k, 5)]


def code_of(function: Vectorised) -> str:
    module: Any = function.__self__  # type: ignore[attr-defined]
    return str(module.code)


def engine_of(case: str) -> RowsEngine:
    build, info, loss = CASES[case]
    module = drawn(build)
    return RowsEngine(module, ParameterLayout(module), loss, info, CPU, 3, 5)


def test_operations_are_torchs_own_functions_and_come_to_the_same_bits() -> None:
    captured = capture(centred, example)
    fast = straight.straight(captured, example(3))
    assert "torch.ops" in code_of(captured)
    assert "torch.ops" not in code_of(fast)
    for k in (1, 2, 7):
        assert torch.equal(fast(*example(k))[0], captured(*example(k))[0])
    assert straight.straight(captured, example(3)) is fast


@pytest.mark.parametrize("other", [torch.log2, lambda x: x.log().clone(), lambda x: None])
def test_a_function_that_does_anything_else_does_not_take_an_operations_place(
    monkeypatch: pytest.MonkeyPatch, other: Callable[[Tensor], Any]
) -> None:
    known = straight._function_of
    monkeypatch.setattr(straight, "_function_of", lambda target: other if "log" in str(target) else known(target))
    fast = straight.straight(capture(centred, example), example(3))
    assert "torch.ops.aten.log" in code_of(fast)
    assert "torch.ops.aten.exp" not in code_of(fast)


def test_a_torch_without_what_the_trial_takes_keeps_the_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    captured = capture(centred, example)
    lacking(monkeypatch, "torch.utils._python_dispatch", "TorchDispatchMode")
    assert straight.straight(captured, example(3)) is captured


@pytest.mark.parametrize("case", ["softmax", "mlp_13", "conv"])
def test_a_client_alone_has_a_companion_only_where_it_changes_a_bit(monkeypatch: pytest.MonkeyPatch, case: str) -> None:
    alone = engine_of(case)
    monkeypatch.setattr(rows_module, "shorter", lambda *given: (2, False))
    beside = engine_of(case)
    assert alone._width(1) in (1, 2)
    assert beside._width(1) == 2
    given = alone._examples.all(2)
    both, one = alone._fast(*given), [x[:1] for x in given]
    if alone._width(1) == 1:
        assert all(torch.equal(a[0], b[0]) for a, b in zip(alone._fast(*one), both, strict=True))


def test_a_gradient_that_is_another_one_for_one_client_keeps_the_companion(monkeypatch: pytest.MonkeyPatch) -> None:
    def other_alone(gradient: Vectorised) -> Vectorised:
        return lambda *given: [one + 1e-7 * (len(one) == 1) for one in gradient(*given)]  # type: ignore[return-value]

    engine = rows_engine("softmax", 3)
    engine.rows[:] = torch.linspace(-0.1, 0.1, engine.rows.shape[1])
    given = engine.rows, engine._examples, engine._batches
    assert shorter.shorter(engine._fast, *given) == (engine._fewest, True)
    assert shorter.shorter(other_alone(engine._fast), *given) == (2, True)


def test_parameters_are_not_moved_by_gradients_that_lie_in_their_own_memory() -> None:
    engine = rows_engine("softmax", 3)

    def mirrored(*given: Tensor) -> Sequence[Tensor]:
        weight, bias = given[:2]
        return weight, bias, given[-1].sum(1)

    given = engine.rows, engine._examples, engine._batches
    assert not shorter.shorter(mirrored, *given)[1]  # type: ignore[arg-type]


def test_descent_moves_the_clients_and_not_their_companions() -> None:
    values = torch.ones(2, 3)

    def slope(x: Tensor) -> tuple[Tensor, ...]:
        return torch.full_like(x, 2.0), torch.tensor([5.0, 6.0])

    assert descend(slope, [values], [values[:1]], [], 0.25).tolist() == [5.0]
    assert values.tolist() == [[0.5] * 3, [1.0] * 3]


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize(("m", "n"), [(10, 10), (16, 32), (5, 7)])
def test_products_of_moved_matrices_have_the_bits_of_aligned_ones(m: int, n: int, *, transposed: bool) -> None:
    a, b = torch.linspace(-1, 1, 3 * m * n).view(3, m, n), torch.linspace(2, -1, 3 * n * 9).view(3, n, 9)
    if transposed:
        a = a.transpose(1, 2).contiguous().transpose(1, 2)
    assert torch.equal(straight._bmm(a, b), aligned_bmm(a, b))
    moved = straight._moved(a, 16)
    assert torch.equal(moved, a)
    assert moved.stride(0) % 16 == 0
    assert (moved.stride(2) == 1) != transposed
