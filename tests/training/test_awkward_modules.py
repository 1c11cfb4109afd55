"""Modules of every kind: as rows they train as one client at a time does, or there are no rows, with a reason."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from test_rows import BATCH, CPU, drawn, samples_of, trained
from torch import Tensor, nn

from raysim.data import DataInfo
from raysim.execution.preparation.engine_choice import has_compiler
from raysim.training import CannotCapture, EngineChoice, LocalWork, ParameterLayout, SequentialEngine, build_engine
from raysim.training.losses import cross_entropy
from raysim.training.rows import RowsEngine

REAL = DataInfo("classification", (20,), "real", classes=3)
TOKENS = DataInfo("classification", (6,), "tokens", classes=3, vocabulary=11)
SERIES = DataInfo("classification", (6, 4), "real", classes=3)
VOLUME = DataInfo("classification", (1, 4, 4, 4), "real", classes=3)

Part = nn.Module | nn.Parameter | Tensor
ELSEWHERE = "computes in another way for another number of clients"


class Net(nn.Module):
    """Parts by name, tensors as buffers, and a forward pass that is given."""

    def __init__(self, forward: Callable[[Net, Tensor], Tensor], **parts: Part) -> None:
        super().__init__()
        self.compute = forward
        for name, part in parts.items():
            if isinstance(part, Tensor) and not isinstance(part, nn.Parameter):
                self.register_buffer(name, part)
            else:
                setattr(self, name, part)

    def forward(self, x: Tensor) -> Tensor:
        return self.compute(self, x)


class Clamp(torch.autograd.Function):
    """A function with a backward pass of its own, in the old style."""

    @staticmethod
    def forward(ctx: object, x: Tensor) -> Tensor:
        return x.clamp(-1, 1)

    @staticmethod
    def backward(ctx: object, grad: Tensor) -> Tensor:
        return grad


def number(value: float) -> nn.Parameter:
    return nn.Parameter(torch.tensor(value))


def weights(*shape: int, frozen: bool = False) -> nn.Parameter:
    return nn.Parameter(0.3 * torch.randn(shape), requires_grad=not frozen)


def dense(inputs: int = 20, outputs: int = 3) -> nn.Linear:
    return nn.Linear(inputs, outputs)


def weight_tied() -> nn.Module:
    one, other = dense(20, 20), dense(20, 20)
    other.weight = one.weight
    return nn.Sequential(one, nn.Tanh(), other, dense())


def heads(net: Net, x: Tensor) -> Tensor:
    q = net.q(x).view(len(x), 6, 2, 2).transpose(1, 2)
    attended = (q @ q.transpose(-1, -2)).softmax(-1) @ q
    return net.f(attended.transpose(1, 2).reshape(len(x), -1))


MODULES: dict[str, tuple[Callable[[], nn.Module], DataInfo]] = {
    "temperature": (lambda: Net(lambda s, x: s.f(x) * s.t, f=dense(), t=number(1.0)), REAL),
    "rezero": (
        lambda: Net(lambda s, x: s.f(x + s.t * s.g(x).relu()), f=dense(), g=dense(20, 20), t=number(0.0)), REAL,
    ),
    "logit_scale": (
        lambda: Net(lambda s, x: F.normalize(s.f(x), dim=-1) * s.t.exp().sigmoid(), f=dense(), t=number(1.0)), REAL,
    ),
    "number_as_buffer": (lambda: Net(lambda s, x: s.f(x) * s.t.sigmoid(), f=dense(), t=torch.tensor(1.5)), REAL),
    "whole_number_as_buffer": (lambda: Net(lambda s, x: s.f(x) * s.t.exp(), f=dense(), t=torch.tensor(2)), REAL),
    "frozen_number": (
        lambda: Net(lambda s, x: s.f(x) * s.t.sigmoid(), f=dense(), t=number(0.2).requires_grad_(False)), REAL,
    ),
    "viewed_constant": (
        lambda: Net(lambda s, x: s.f(x[:, s.order.view(4, 5).t().reshape(20)]), f=dense(), order=torch.arange(20)),
        REAL,
    ),
    "constant_with_nan": (
        lambda: Net(lambda s, x: torch.where(torch.tensor([True] * 3), s.f(x), torch.tensor([torch.nan])), f=dense()),
        REAL,
    ),
    "reinterpreted_constant": (
        lambda: Net(lambda s, x: s.f(x) * s.c.view(torch.float32), f=dense(), c=torch.ones(3).view(torch.int32)), REAL,
    ),
    "frozen_base": (
        lambda: Net(
            lambda s, x: s.f((s.g(x) @ s.w.view(13, 13)).sigmoid()), f=dense(13),
            g=dense(20, 13).requires_grad_(False), w=weights(169, frozen=True),
        ),
        REAL,
    ),
    "positions": (
        lambda: Net(
            lambda s, x: s.f((s.e(x) + s.p(s.ids[:, : x.shape[1]])).mean(1)), f=dense(5), e=nn.Embedding(11, 5),
            p=nn.Embedding(9, 5), ids=torch.arange(9).expand(1, -1),
        ),
        TOKENS,
    ),
    "padding_index": (
        lambda: Net(lambda s, x: s.f(s.e(x).mean(1)), f=dense(5), e=nn.Embedding(11, 5, padding_idx=0)), TOKENS,
    ),
    "tied": (weight_tied, REAL),
    "used_twice_and_unused": (
        lambda: Net(
            lambda s, x: s.f(F.linear(s.g(x).relu(), s.g.weight.t())), f=dense(), g=dense(20, 20), unused=dense(2, 2),
            empty=nn.Parameter(torch.zeros(0)),
        ),
        REAL,
    ),
    "parameter_list": (
        lambda: Net(lambda s, x: s.f(x * s.p[0] + s.p[1]), f=dense(), p=nn.ParameterList([weights(20), weights(1)])),
        REAL,
    ),
    "orthogonal": (
        lambda: nn.Sequential(nn.utils.parametrizations.orthogonal(dense(20, 20)), nn.Tanh(), dense()), REAL,
    ),
    "complex_views": (
        lambda: Net(
            lambda s, x: s.f(
                torch.view_as_real(torch.view_as_complex(x.view(-1, 10, 2)) * torch.view_as_complex(s.w)).flatten(1)
            ),
            f=dense(), w=weights(10, 2),
        ),
        REAL,
    ),
    "fourier": (lambda: Net(lambda s, x: s.f(torch.fft.rfft(x * s.w).abs()), f=dense(11), w=weights(20)), REAL),
    "einsum": (lambda: Net(lambda s, x: torch.einsum("bi,oi->bo", x, s.w) + s.b, w=weights(3, 20), b=weights(3)), REAL),
    "prelu_and_norms": (
        lambda: nn.Sequential(
            nn.LayerNorm(20, elementwise_affine=False), dense(20, 12), nn.PReLU(), nn.GroupNorm(3, 12),
            nn.RMSNorm(12), dense(12),
        ),
        REAL,
    ),
    "scans_and_orders": (
        lambda: Net(
            lambda s, x: s.f(s.g(x).cumsum(1).gather(1, x.argsort(1)).topk(5, dim=1).values), f=dense(5),
            g=dense(20, 20),
        ),
        REAL,
    ),
    "decisions_by_shape": (
        lambda: Net(lambda s, x: s.f(x) if x.shape[1] == 20 else s.g(x), f=dense(), g=dense()), REAL,
    ),
    "conv1d": (
        lambda: Net(lambda s, x: s.f(s.c(x.transpose(1, 2)).relu().mean(-1)), f=dense(5), c=nn.Conv1d(4, 5, 3)), SERIES,
    ),
    "conv3d": (lambda: nn.Sequential(nn.Conv3d(1, 2, 3), nn.ReLU(), nn.Flatten(), dense(16)), VOLUME),
    "heads": (lambda: Net(heads, f=dense(24), q=dense(4, 4)), SERIES),
    "attention_weights": (
        lambda: Net(
            lambda s, x: s.f(s.a(x, x, x)[0].mean(1)), f=dense(4), a=nn.MultiheadAttention(4, 2, batch_first=True)
        ),
        SERIES,
    ),
    "gru": (
        lambda: Net(lambda s, x: s.f(s.r(x[:, :3])[0][:, -1]), f=dense(5), r=nn.GRU(4, 5, batch_first=True)), SERIES,
    ),
}  # fmt: skip

REFUSED: dict[str, tuple[Callable[[], nn.Module], DataInfo, str]] = {
    "weight_norm": (
        lambda: nn.Sequential(nn.utils.parametrizations.weight_norm(dense(20, 7)), dense(7)), REAL, ELSEWHERE,
    ),
    "spectral_norm": (
        lambda: nn.Sequential(nn.utils.parametrizations.spectral_norm(dense(20, 7)), dense(7)), REAL,
        "torch cannot vectorise it",
    ),
    "bilinear": (lambda: Net(lambda s, x: s.f(x[:, :8], x[:, 8:]), f=nn.Bilinear(8, 12, 3)), REAL, ELSEWHERE),
    "lstm": (
        lambda: Net(lambda s, x: s.f(s.r(x[:, :2])[0][:, -1]), f=dense(5), r=nn.LSTM(4, 5, batch_first=True)), SERIES,
        ELSEWHERE,
    ),
    "embedding_bag": (
        lambda: Net(lambda s, x: s.f(s.e(x)), f=dense(5), e=nn.EmbeddingBag(11, 5)), TOKENS, ELSEWHERE,
    ),
    "sparse_gradients": (
        lambda: Net(lambda s, x: s.f(s.e(x).mean(1)), f=dense(5), e=nn.Embedding(11, 5, sparse=True)), TOKENS,
        "torch cannot vectorise it",
    ),
    "renormalised_embedding": (
        lambda: Net(lambda s, x: s.f(s.e(x).mean(1)), f=dense(5), e=nn.Embedding(11, 5, max_norm=1.0)), TOKENS,
        "its forward pass changes",
    ),
    "values_decide": (
        lambda: Net(lambda s, x: s.f(x) if s.f(x).sum() > -1e9 else x[:, :3], f=dense()), REAL, "looks at values",
    ),
    "old_autograd_function": (
        lambda: Net(lambda s, x: s.f(Clamp.apply(x)), f=dense()), REAL, "torch cannot vectorise it",
    ),
}  # fmt: skip

SIZES = [11, 7, 6, 3]
WORK = LocalWork(BATCH, 2)


def check_as_one_at_a_time(build: Callable[[], nn.Module], info: DataInfo, *, compiled: bool = False) -> None:
    layout = ParameterLayout(drawn(build))
    broadcast = layout.pack(drawn(build))
    choice = EngineChoice("rows", len(SIZES), compiled=compiled)
    rows = build_engine(choice, drawn(build), layout, cross_entropy, info, WORK)
    assert isinstance(rows, RowsEngine)
    assert bool(rows.codes.all) == compiled
    sequential = SequentialEngine(drawn(build), layout, cross_entropy, info, CPU)
    shards = [samples_of(info, size, seed=size) for size in SIZES]
    together = trained(rows, broadcast, range(len(SIZES)), shards)
    for client, shard in enumerate(shards):
        alone = trained(sequential, broadcast, [client], [shard])
        went = (alone.sent["row"][0] - broadcast).norm()
        assert went > 0
        assert (together.sent["row"][client] - alone.sent["row"][0]).norm() <= 1e-5 * went + 1e-7 * broadcast.norm()
        assert together.loss[client] == pytest.approx(alone.loss[0], rel=1e-5)


@pytest.mark.parametrize("name", MODULES)
def test_an_awkward_module_trains_as_rows_as_one_client_at_a_time(name: str) -> None:
    check_as_one_at_a_time(*MODULES[name])


@pytest.mark.skipif(not has_compiler(), reason="needs a C++ compiler")
def test_numbers_and_views_of_constants_are_compiled_as_well() -> None:
    def forward(net: Net, x: Tensor) -> Tensor:
        return net.f(x[:, net.order.view(4, 5).reshape(20)]) * net.t.exp() * net.b

    def build() -> Net:
        return Net(forward, f=dense(), order=torch.arange(20), t=number(0.1), b=torch.tensor(1.5))

    check_as_one_at_a_time(build, REAL, compiled=True)


@pytest.mark.parametrize("name", REFUSED)
def test_what_has_no_rows_says_why_and_trains_one_client_at_a_time(name: str) -> None:
    build, info, reason = REFUSED[name]
    layout = ParameterLayout(drawn(build))
    with pytest.raises(CannotCapture) as caught:
        build_engine(EngineChoice("rows", 4), drawn(build), layout, cross_entropy, info, WORK)
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)
    engine = build_engine(EngineChoice("sequential"), drawn(build), layout, cross_entropy, info, WORK)
    broadcast = layout.pack(drawn(build))
    found = trained(engine, broadcast, [1], [samples_of(info, 11, seed=1)])
    assert found.sent["row"].isfinite().all()
    assert (found.sent["row"][0] - broadcast).norm() > 0


@pytest.mark.parametrize("steps", ["gradients", "descend"])
def test_sparse_gradients_are_those_of_a_dense_embedding(steps: str) -> None:
    def rows(sparse: bool) -> Tensor:
        def build() -> Net:
            return Net(lambda s, x: s.f(s.e(x).mean(1)), f=dense(5), e=nn.Embedding(11, 5, sparse=sparse))

        module = drawn(build)
        engine = SequentialEngine(module, ParameterLayout(module), cross_entropy, TOKENS, CPU)
        start = ParameterLayout(module).pack(drawn(build))
        optimizer = {"gradients": "momentum", "descend": "sgd"}[steps]
        return trained(engine, start, [1], [samples_of(TOKENS, 11, seed=1)], optimizer).sent["row"]

    assert torch.equal(rows(sparse=True), rows(sparse=False))
