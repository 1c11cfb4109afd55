"""Compiled local steps: what a plain loop comes to, the same bits for any k, and what cannot be compiled says why."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from types import FunctionType

import numpy as np
import pytest
import torch
from three_clients import module
from torch import Tensor, nn

from raysim.config.client import AdamConfig, OptimizerConfig, SgdConfig
from raysim.data import DataInfo, Samples
from raysim.execution.preparation import engine_choice
from raysim.training import (
    BlockInputs,
    BlockResult,
    Clients,
    Correction,
    LocalUpdate,
    LocalWork,
    ParameterLayout,
    RoundSetting,
    Shard,
    Shards,
    Some,
    Trainer,
    VectorSizes,
    captured,
    row_optimizer,
    whole_step,
)
from raysim.training.losses import cross_entropy
from raysim.training.rows import RowsEngine
from raysim.training.unguarded import Compiled
from raysim.training.unguarded import compiled as compile_rows

pytestmark = pytest.mark.skipif(not engine_choice.has_compiler(), reason="needs a C++ compiler")

BATCH = 5
INFO = DataInfo("classification", (13,), "real", classes=4)
SIZES = [13, 11, 7, 6, 5, 2]
"""Three, three, two, two, one and one steps."""


T = 224
"""Columns of the parameters of `module`, with their padding."""


class Proximal:
    """Holds the weights near the broadcast model, and sends them."""

    correction: Correction | None
    plain = False
    sizes = VectorSizes()

    def __init__(self) -> None:
        self.correction = self.correct

    def local(self, c: Clients) -> Mapping[str, Tensor]:
        c.descend(self.correction)
        return {"row": c.rows.clone()}

    def correct(self, grad: Tensor, weights: Tensor, b: Some) -> None:
        grad.add_(weights - b.broadcast[: b.trainable], alpha=0.5)


class Anchored(Proximal):
    """Corrects by what a whole step can be compiled with, and sends the gradient of the whole shard."""

    plain = True

    def local(self, c: Clients) -> Mapping[str, Tensor]:
        anchor = c.full_gradient()
        c.descend(self.correction)
        return {"row": c.rows.clone(), "anchor": anchor}

    def correct(self, grad: Tensor, weights: Tensor, b: Some) -> None:
        grad.mul_(0.5)


class Halved(Proximal):
    """Halves the gradients."""

    def correct(self, grad: Tensor, weights: Tensor, b: Some) -> None:
        grad.mul_(0.5)


class Decaying(Proximal):
    """Corrects less from round to round: what it compiles to would be that of one round."""

    def correct(self, grad: Tensor, weights: Tensor, b: Some) -> None:
        grad.add_(weights, alpha=1 / b.setting.round)


class Controlled(Proximal):
    """Corrects by the server's vector and by what each client keeps, which lies among other vectors in its memory."""

    sizes = VectorSizes({"control": T}, {"own": T, "other": 3})

    def correct(self, grad: Tensor, weights: Tensor, b: Some) -> None:
        grad.add_(b.server["control"]).sub_(b.state["own"]).mul_(1 + b.state["other"][:, :1])


class Counting(Controlled):
    """Counts its calls in what clients keep."""

    def correct(self, grad: Tensor, weights: Tensor, b: Some) -> None:
        b.state["other"].add_(1)


class Plain(Proximal):
    """Corrects nothing."""

    def __init__(self) -> None:
        self.correction = None


class Summed(nn.Module):
    """Two parameters that are only ever added together: both have the same tensor as their gradient."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.other = nn.Parameter(torch.full((4, 13), 0.1)), nn.Parameter(torch.full((4, 13), 0.3))

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.linear(x, self.one + self.other)


@cache
def trainer(
    config: OptimizerConfig | None,
    clip_norm: float | None,
    rule: type[Proximal],
    *,
    compiled: bool,
    network: Callable[[], nn.Module] = module,
) -> Trainer:
    net = network()
    optimizer = None if config is None else row_optimizer(config)
    made = rule()
    update = LocalUpdate(optimizer, clip_norm, (made.correction,), rule.plain, rule.sizes)
    device = torch.device("cpu")
    engine = RowsEngine(
        net, ParameterLayout(net), cross_entropy, INFO, device, len(SIZES), BATCH, compiled=compiled, update=update
    )
    return Trainer(engine, update.optimizer, LocalWork(BATCH), clip_norm, made.local)


def shard(client: int) -> Shard:
    random = np.random.default_rng(client)
    x = random.standard_normal((SIZES[client], 13)).astype(np.float32)
    return Shard.load(Samples(x, random.integers(0, 4, SIZES[client])), torch.device("cpu"))


def trained(
    one: Trainer, clients: list[int], lr: float = 0.1, network: Callable[[], nn.Module] = module
) -> BlockResult:
    start = ParameterLayout(network()).pack(network())
    shards = Shards.join([shard(client) for client in clients])
    size, used = len(start), start != 0  # padding is zero
    memory = torch.randn((len(SIZES), 16 + size), generator=torch.Generator().manual_seed(3))[clients]
    state = {"own": memory[:, 16:].mul_(used), "other": memory[:, :3]}
    inputs = BlockInputs(server={"control": torch.linspace(-0.1, 0.1, size) * used}, state=state)
    return one.train(RoundSetting(1, 2, lr), start, np.array(clients, dtype=np.int64), shards, inputs)


def check_close(one: BlockResult, other: BlockResult) -> None:
    for name in other.sent:
        torch.testing.assert_close(one.sent[name], other.sent[name], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(one.loss, other.loss, rtol=1e-5)


def check_same(found: BlockResult, expected: BlockResult, block: list[int]) -> None:
    """The bits that these clients have among all."""
    for i, client in enumerate(block):
        for name in expected.sent:
            assert torch.equal(found.sent[name][i], expected.sent[name][client]), (client, block)
        assert found.loss[i] == expected.loss[client]


ADAMW = AdamConfig(name="adamw", weight_decay=0.05, epsilon=1e-2)
CASES = {
    "momentum": (SgdConfig(momentum=0.9), Proximal),
    "adamw": (ADAMW, Proximal),
    "vectors": (SgdConfig(momentum=0.9), Controlled),
    "apart-sgd": (SgdConfig(), Plain),
    "apart-adamw": (ADAMW, Plain),
}
CASE = pytest.mark.parametrize(("config", "rule"), CASES.values(), ids=CASES)


@CASE
def test_whole_compiled_steps_come_to_what_the_plain_loop_comes_to(
    config: OptimizerConfig, rule: type[Proximal]
) -> None:
    whole, plain = (trainer(config, None, rule, compiled=compiled) for compiled in (True, False))
    assert isinstance(whole.engine, RowsEngine)
    assert whole.engine.codes.not_whole == ""
    for lr in (0.1, 0.03):  # the learning rate is no part of the code
        check_close(trained(whole, list(range(6)), lr), trained(plain, list(range(6)), lr))


@CASE
def test_a_clients_bits_depend_on_no_neighbour_when_whole_steps_are_compiled(
    config: OptimizerConfig, rule: type[Proximal]
) -> None:
    whole = trainer(config, None, rule, compiled=True)
    expected = trained(whole, list(range(6)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(whole.engine, "shrinks", False)  # all rows take every step, as on a GPU
        check_same(trained(whole, list(range(6))), expected, list(range(6)))
    for block in ([0], [5], [1, 0, 4], [0, 2], [3, 5], [1, 3, 2, 5, 4], [0, 0, 0, 4]):
        check_same(trained(whole, block), expected, block)


def test_clipped_gradients_agree_however_much_of_the_step_is_compiled() -> None:
    clipped, plain = (trainer(SgdConfig(), 0.3, Proximal, compiled=compiled) for compiled in (True, False))
    check_close(trained(clipped, list(range(6))), trained(plain, list(range(6))))
    assert torch.equal(trained(clipped, [0]).sent["row"][0], trained(clipped, [0, 1, 2]).sent["row"][0])


def test_a_correction_that_looks_at_more_than_tensors_is_left_out_of_the_compiled_code() -> None:
    partly, plain = (trainer(SgdConfig(), None, Decaying, compiled=compiled) for compiled in (True, False))
    assert isinstance(partly.engine, RowsEngine)
    assert partly.engine.codes.not_whole == "its correction looks at b.setting"
    check_close(trained(partly, [0, 1, 2, 3, 4, 5]), trained(plain, [0, 1, 2, 3, 4, 5]))
    assert torch.equal(trained(partly, [0]).sent["row"][0], trained(partly, [0, 1, 2]).sent["row"][0])


def test_a_correction_that_changes_what_clients_keep_is_left_out_of_the_compiled_code() -> None:
    partly, plain = (trainer(SgdConfig(), None, Counting, compiled=compiled) for compiled in (True, False))
    assert isinstance(partly.engine, RowsEngine)
    assert partly.engine.codes.not_whole == "its correction changes what clients keep, or what the server sent"
    check_close(trained(partly, list(range(6))), trained(plain, list(range(6))))


def test_parameters_that_share_a_gradient_are_decayed_each_by_its_own_value() -> None:
    config = SgdConfig(momentum=0.9, nesterov=True, weight_decay=0.1)
    whole, plain = (trainer(config, None, Plain, compiled=compiled, network=Summed) for compiled in (True, False))
    assert isinstance(whole.engine, RowsEngine)
    assert whole.engine.codes.not_whole == ""
    check_close(*(trained(one, list(range(6)), network=Summed) for one in (whole, plain)))


def test_gradients_are_corrected_where_there_is_no_optimiser_as_well() -> None:
    whole, plain = (trainer(None, None, Halved, compiled=compiled) for compiled in (True, False))
    assert isinstance(whole.engine, RowsEngine)
    assert whole.engine.codes.not_whole == ""
    check_close(*(trained(one, list(range(6))) for one in (whole, plain)))


def test_a_step_is_compiled_once_in_a_process_and_one_that_computes_otherwise_by_itself(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[FunctionType] = []

    def not_compiled(function: FunctionType, first: Sequence[Tensor], second: Sequence[Tensor]) -> Compiled:
        seen.append(function)
        return Compiled(function)

    monkeypatch.setattr(whole_step, "compiled", not_compiled)
    monkeypatch.setattr(captured, "_known", {})
    momentum, adam = SgdConfig(momentum=0.9), AdamConfig(weight_decay=0.1)
    steps: list[tuple[OptimizerConfig, float | None]] = [
        (SgdConfig(), None), (SgdConfig(weight_decay=0.1), None), (momentum, None), (adam, None),
        (SgdConfig(momentum=0.9, nesterov=True), None), (AdamConfig(name="adamw", weight_decay=0.1), None),
        (AdamConfig(weight_decay=0.1, beta1=0.8), None), (momentum, 0.3), (momentum, 0.4), (SgdConfig(), 0.4),
    ]  # fmt: skip
    for again in (False, True):
        for config, clip_norm in steps:
            before = len(seen)
            trainer.__wrapped__(config, clip_norm, Plain, compiled=True)
            assert (len(seen) > before) != again, (config, clip_norm)


@pytest.mark.parametrize("clip_norm", [None, 0.01])
def test_the_gradient_of_a_whole_shard_is_neither_clipped_nor_corrected_however_much_is_compiled(
    clip_norm: float | None,
) -> None:
    compiled = trainer(SgdConfig(), clip_norm, Anchored, compiled=True)
    assert isinstance(compiled.engine, RowsEngine)
    assert clip_norm or compiled.engine.codes.not_whole == ""
    plain = trainer(SgdConfig(), None, Anchored, compiled=False)
    found, expected = (trained(one, list(range(6))).sent["anchor"] for one in (compiled, plain))
    assert (expected.norm(dim=1) > 0.1).all()
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    assert torch.equal(trained(compiled, [5]).sent["anchor"][0], found[5])


def test_code_for_one_number_of_rows_alone_is_refused_without_a_page_of_reports(
    capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    def step(rows: Tensor) -> None:
        rows.add_(torch.arange(int(rows.shape[0])).sum() if rows.shape[0] == 4 else 1)

    assert isinstance(step, FunctionType)
    with pytest.raises(Exception, match="Constraints violated"):
        compile_rows(step, [torch.zeros(4, 3)], [torch.zeros(3, 3)])
    assert "Constraints" not in capfd.readouterr().err
    assert "Constraints" not in caplog.text
