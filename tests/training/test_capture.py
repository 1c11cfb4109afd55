"""The captured graph of a gradient against `torch.func.vmap` of it, and what is refused."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from three_clients import drawn
from torch import Tensor, nn
from torch.func import functional_call, vjp, vmap

from raysim.data import DataInfo
from raysim.training import CannotCapture, ParameterLayout
from raysim.training.capture import _SAME_ANYWHERE, aligned_bmm, capture, filled_bmm, in_whole_turns, room
from raysim.training.losses import mse
from raysim.training.rows import RowsEngine

CPU = torch.device("cpu")
BATCH = 5


class Attention(nn.Module):
    """One head over six positions of seven features."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.key, self.value = nn.Linear(7, 5), nn.Linear(7, 5), nn.Linear(7, 3)

    def forward(self, x: Tensor) -> Tensor:
        scores = self.query(x) @ self.key(x).transpose(-1, -2) / 5**0.5
        out: Tensor = (scores.softmax(-1) @ self.value(x)).mean(-2)
        return out


def dense(width: int, activation: nn.Module, outputs: int = 3) -> nn.Module:
    return nn.Sequential(nn.Linear(10, width), activation, nn.Linear(width, outputs))


MODULES: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "linear": (lambda: nn.Linear(10, 3), (10,)),
    "relu_13": (lambda: dense(13, nn.ReLU()), (10,)),
    "relu_7": (lambda: dense(7, nn.ReLU()), (10,)),
    "relu_32": (lambda: dense(32, nn.ReLU()), (10,)),
    "sigmoid_33": (lambda: dense(33, nn.Sigmoid()), (10,)),
    "tanh_7": (lambda: dense(7, nn.Tanh()), (10,)),
    "gelu_13": (lambda: dense(13, nn.GELU()), (10,)),
    "elu_9": (lambda: dense(9, nn.ELU()), (10,)),
    "silu_13": (lambda: dense(13, nn.SiLU()), (10,)),
    "softplus_13": (lambda: dense(13, nn.Softplus()), (10,)),
    "mish_13": (lambda: dense(13, nn.Mish()), (10,)),
    "logsigmoid_13": (lambda: dense(13, nn.LogSigmoid()), (10,)),
    "hardswish_13": (lambda: dense(13, nn.Hardswish()), (10,)),
    "selu_13": (lambda: dense(13, nn.SELU()), (10,)),
    "leaky_13": (lambda: dense(13, nn.LeakyReLU()), (10,)),
    "prelu_13": (lambda: dense(13, nn.PReLU()), (10,)),
    "glu_13": (lambda: nn.Sequential(nn.Linear(10, 26), nn.GLU(), nn.Linear(13, 3)), (10,)),
    "layernorm": (lambda: nn.Sequential(nn.Linear(10, 13), nn.LayerNorm(13), nn.ReLU(), nn.Linear(13, 3)), (10,)),
    "groupnorm": (
        lambda: nn.Sequential(
            nn.Conv2d(2, 6, 3), nn.GroupNorm(3, 6), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 3)
        ),
        (2, 7, 7),
    ),
    "conv": (
        lambda: nn.Sequential(
            nn.Conv2d(1, 3, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(27, 3)
        ),
        (1, 7, 7),
    ),
    "attention": (Attention, (6, 7)),
}
MODULE = pytest.mark.parametrize("name", MODULES)


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def gradient_of(module: nn.Module) -> Callable[..., tuple[Tensor, ...]]:
    """Gradients of the mean squared outputs of one client with these parameters and samples, and the mean."""
    names = [name for name, _ in module.named_parameters()]

    def of_one(*arguments: Tensor) -> tuple[Tensor, ...]:
        *values, x = arguments

        def mean(*given: Tensor) -> Tensor:
            out: Tensor = functional_call(module, dict(zip(names, given, strict=True)), (x,))
            return out.square().mean()

        loss, pull_back = vjp(mean, *values)[:2]
        return (*pull_back(torch.ones_like(loss)), loss)

    return of_one


def rows_of(module: nn.Module, shape: Sequence[int], k: int, seed: int = 0, *, kind: str = "real") -> list[Tensor]:
    """Parameters of k clients near the module's, as views of aligned rows, and samples of each."""
    layout = ParameterLayout(module)
    rows = torch.zeros(k, layout.size)
    for i, (view, value) in enumerate(zip(layout.views(rows).values(), module.parameters(), strict=True)):
        view.copy_(value.detach() + 0.1 * random(k, *value.shape, seed=seed + i))
    if kind == "tokens":
        x = torch.randint(11, (k, BATCH, *shape), generator=torch.Generator().manual_seed(seed))
    else:
        x = random(k, BATCH, *shape, seed=seed + 100)
    return [*layout.views(rows).values(), x]


def check_against_vmap(module: nn.Module, shape: Sequence[int], kind: str = "real") -> None:
    function = vmap(gradient_of(module))
    captured = capture(function, lambda k: rows_of(module, shape, k, kind=kind))
    for k in (2, 3, 4, 5, 6, 7, 16, 31):  # of which 3 and 5 are traced
        arguments = rows_of(module, shape, k, seed=k, kind=kind)
        expected, found = function(*arguments), captured(*arguments)
        assert len(found) == len(expected)
        for a, b in zip(found, expected, strict=True):
            assert a.shape == b.shape
            torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


@MODULE
def test_the_captured_graph_is_the_vectorised_gradient_for_every_number_of_clients(name: str) -> None:
    build, shape = MODULES[name]
    check_against_vmap(drawn(build), shape)


def test_tokens_and_an_embedding_are_captured() -> None:
    module = drawn(lambda: nn.Sequential(nn.Embedding(11, 5), nn.Flatten(), nn.Linear(20, 3)))
    check_against_vmap(module, (4,), "tokens")


@MODULE
def test_a_clients_bits_are_the_same_among_any_others(name: str) -> None:
    build, shape = MODULES[name]
    module = drawn(build)
    captured = capture(vmap(gradient_of(module)), lambda k: rows_of(module, shape, k))
    layout = ParameterLayout(module)

    def taken(arguments: Sequence[Tensor], order: list[int]) -> list[Tensor]:
        rows = torch.zeros(len(order), layout.size)
        views = list(layout.views(rows).values())
        for view, value in zip(views, arguments, strict=False):
            view.copy_(value[order])
        x = arguments[-1][order]
        return [*views, room(len(x), x.shape[1:], x).copy_(x)]

    for seed in range(0, 60, 10):  # the ends of tensors, where kernels differ, need not show with the first values
        arguments = rows_of(module, shape, 9, seed)
        together = captured(*taken(arguments, list(range(9))))
        for order in ([8, 3, 5], [4, 0], [7, 6, 5, 4, 3, 2, 1, 0, 8], [2, 2], *([8, last] for last in range(8))):
            found = captured(*taken(arguments, order))
            for a, b in zip(found, together, strict=True):
                assert torch.equal(a, b[order])


@pytest.mark.parametrize("k", [2, 3, 8])
@pytest.mark.parametrize(("m", "n", "p"), [(1, 1, 1), (10, 784, 10), (13, 5, 7), (16, 16, 16), (33, 10, 13), (2, 3, 8)])
def test_an_aligned_product_is_the_product(k: int, m: int, n: int, p: int) -> None:
    a, b = random(k, m, n, seed=1), random(k, n, p, seed=2)
    transposed = random(k, n, m, seed=3).transpose(1, 2), random(k, p, n, seed=4).transpose(1, 2)
    spread = random(k, m, n + 3, seed=5)[:, :, :n], random(k, n, p, seed=6)[:1].expand(k, n, p)
    for one, two in ((a, b), transposed, (a, transposed[1]), (transposed[0], b), spread):
        before = one.clone(), two.clone()
        for product in (aligned_bmm, filled_bmm):
            exact = torch.einsum("kmn,knp->kmp", one.double(), two.double()).float()
            torch.testing.assert_close(product(one, two), exact, rtol=1e-5, atol=1e-6 + 1e-7 * n)
        assert torch.equal(one, before[0])
        assert torch.equal(two, before[1])


@pytest.mark.parametrize(("m", "n", "p"), [(10, 784, 10), (13, 5, 7), (33, 10, 13), (20, 60, 10)])
def test_a_product_that_begins_on_boundaries_has_the_same_bits_at_every_place(m: int, n: int, p: int) -> None:
    one, two = random(1, m, n, seed=1), random(1, n, p, seed=2)
    alone = filled_bmm(one.expand(2, m, n).clone(), two.expand(2, n, p).clone())[0]
    for k in range(2, 10):
        found = filled_bmm(one.expand(k, m, n).clone(), two.expand(k, n, p).clone())
        assert torch.equal(found, alone.expand_as(found))


@given(st.integers(2, 9), st.integers(1, 70), st.booleans())
def test_an_operation_in_whole_turns_is_the_operation_with_the_same_bits_at_every_place(
    k: int, size: int, two: bool
) -> None:
    x = random(1, size, seed=size).expand(k, size).clone()
    sigmoid, power = torch.ops.aten.sigmoid.default, torch.ops.aten.pow.Tensor_Tensor
    if two:
        found, expected = in_whole_turns(power, x.abs() + 1, x), torch.pow(x.abs() + 1, x)
    else:
        found, expected = in_whole_turns(sigmoid, x), torch.sigmoid(x)
    assert found.shape == x.shape
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-7)
    assert torch.equal(found, found[:1].expand(k, size))


def test_an_operation_in_whole_turns_broadcasts() -> None:
    power = torch.ops.aten.pow.Tensor_Tensor
    a, b = random(3, 4, 1, seed=1).abs() + 1, random(3, 1, 5, seed=2)
    torch.testing.assert_close(in_whole_turns(power, a, b), torch.pow(a, b))
    scalar = torch.ops.aten.pow.Tensor_Scalar
    torch.testing.assert_close(in_whole_turns(scalar, a, 1.7), torch.pow(a, 1.7))


SPECIAL: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "addcmul": lambda a, b: torch.addcmul(a, a, b, value=0.3),
    "bitwise_and": lambda a, b: (a > 0) & (b > 0),
    "bitwise_not": lambda a, b: ~(a > 0),
    "clamp": lambda a, b: a.clamp(-0.5, 0.5),
    "clamp_min": lambda a, b: a.clamp_min(0.1),
    "fill": lambda a, b: torch.fill(a, 0.1),
    "full_like": lambda a, b: torch.full_like(a, 0.1),
    "hardtanh_backward": lambda a, b: torch.ops.aten.hardtanh_backward(a, b, -1.0, 1.0),
    "leaky_relu_backward": lambda a, b: torch.ops.aten.leaky_relu_backward(a, b, 0.1, False),
    "lerp": lambda a, b: torch.lerp(a, b, 0.3),
    "masked_fill": lambda a, b: a.masked_fill(b > 0, 0.1),
    "scalar_tensor": lambda a, b: torch.scalar_tensor(0.1),
    "threshold_backward": lambda a, b: torch.ops.aten.threshold_backward(a, b, 0.0),
    "where": lambda a, b: torch.where(a > 0, a, b),
    "_to_copy": lambda a, b: a.double(),
}
BINARY = {
    "add", "copy", "div", "eq", "ge", "gt", "le", "logical_and", "logical_or", "lt", "maximum", "minimum", "mul", "ne",
    "rsub", "sigmoid_backward", "sub", "tanh_backward",
}  # fmt: skip
POSITIVE = {"log", "log1p", "log2", "sqrt", "rsqrt"}


@pytest.mark.parametrize("name", sorted(_SAME_ANYWHERE))
def test_an_operation_that_is_left_as_it_is_has_the_same_bits_in_a_tensor_of_any_length(name: str) -> None:
    packet = getattr(torch.ops.aten, name)
    operation = SPECIAL[name] if name in SPECIAL else packet if name in BINARY else lambda a, b: packet(a)
    for scale in (1e-3, 1.0, 10.0):
        a, b = scale * random(4096, seed=1), scale * random(4096, seed=2)
        if name in POSITIVE:
            a = a.abs() + 0.01
        expected = operation(a, b)
        for size in range(1, 70):
            for start in (0, 16, 64):
                found = operation(a[start : start + size].clone(), b[start : start + size].clone())
                whole = expected if expected.ndim == 0 else expected[start : start + size]
                assert torch.equal(found, whole), size


@given(st.integers(1, 5), st.lists(st.integers(1, 9), max_size=3))
def test_room_begins_every_clients_part_on_a_boundary(k: int, shape: list[int]) -> None:
    found = room(k, shape, torch.zeros(1))
    assert found.shape == (k, *shape)
    assert all(one.is_contiguous() and one.data_ptr() % 64 == 0 for one in found)


class Deciding(nn.Module):
    """Looks at a value to decide what to compute."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(10, 3)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.linear(x)
        return out if out.sum().item() > 0 else -out


class Reassigning(nn.Module):
    """Puts another tensor in the place of its buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(10, 3)
        self.register_buffer("average", torch.zeros(10))

    def forward(self, x: Tensor) -> Tensor:
        self.average = 0.5 * self.average + 0.5 * x.mean(0)
        out: Tensor = self.linear(x - self.average)
        return out


class Writing(Reassigning):
    """Writes into its buffer."""

    def forward(self, x: Tensor) -> Tensor:
        self.average.mul_(0.5).add_(0.5 * x.detach().mean(0))
        out: Tensor = self.linear(x - self.average)
        return out


class Counting(nn.Module):
    """Counts its calls in an integer buffer, which is no part of a row."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(10, 3)
        self.register_buffer("calls", torch.tensor(0))

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        out: Tensor = self.linear(x) * self.calls
        return out


class Centred(nn.Module):
    """Samples influence each other, without any state."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(10, 3)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.linear(x - x.mean(0))
        return out


BUFFERS = "its forward pass changes"
REFUSED: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "dropout": (lambda: dense(8, nn.Dropout(0.5)), "draw random numbers in training"),
    "batch_norm": (lambda: dense(8, nn.BatchNorm1d(8)), BUFFERS),
    "batch_norm_without_statistics": (
        lambda: dense(8, nn.BatchNorm1d(8, track_running_stats=False)),
        "the samples of a batch influence each other",
    ),
    "centred": (Centred, "the samples of a batch influence each other"),
    "deciding": (Deciding, "looks at values to decide"),
    "reassigning": (Reassigning, BUFFERS),
    "writing": (Writing, BUFFERS),
    "counting": (Counting, BUFFERS),
}


def engine_of(module: nn.Module, batch: int = BATCH, rows: int = 4) -> RowsEngine:
    info = DataInfo("regression", (10,), "real", target_shape=(3,))
    return RowsEngine(module, ParameterLayout(module), mse, info, CPU, rows, batch)


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_vectorised_is_refused_with_its_reason(name: str) -> None:
    build, reason = REFUSED[name]
    with pytest.raises(CannotCapture) as caught:
        engine_of(drawn(build))
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)


def test_evaluating_after_a_refusal_finds_the_modules_own_values() -> None:
    for name in ("batch_norm", "reassigning", "writing", "counting"):
        module, untouched = drawn(REFUSED[name][0]), drawn(REFUSED[name][0])
        with pytest.raises(CannotCapture):
            engine_of(module)
        for key, value in untouched.state_dict().items():
            found = module.state_dict()[key]
            assert type(found) is type(value), key
            assert torch.equal(found, value), f"{name}: {key}"


def test_a_loss_that_nothing_can_be_vectorised_of_is_refused() -> None:
    def sorting(output: Tensor, target: Tensor) -> Tensor:
        return F.mse_loss(output, target, reduction="none") * output.sum().item()

    info = DataInfo("regression", (10,), "real", target_shape=(3,))
    module = drawn(lambda: nn.Linear(10, 3))
    with pytest.raises(CannotCapture, match="looks at values to decide"):
        RowsEngine(module, ParameterLayout(module), sorting, info, CPU, 4, BATCH)
