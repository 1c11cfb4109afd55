"""Many clients as rows: bits that depend on the client alone, and the results of one client at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache, cached_property, partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from three_clients import drawn
from torch import Tensor, nn

from raysim.config import Experiment
from raysim.config.client import AdamConfig, OptimizerConfig, SgdConfig
from raysim.data import DataInfo, Samples
from raysim.models.build import MODELS, build_model
from raysim.training import (
    BlockResult,
    CannotCapture,
    Clients,
    Engine,
    EngineChoice,
    LocalWork,
    ParameterLayout,
    RoundSetting,
    SequentialEngine,
    Shard,
    Shards,
    Trainer,
    build_engine,
    row_optimizer,
    torch_threads,
)
from raysim.training.losses import Loss, binary_cross_entropy, cross_entropy, huber, mse
from raysim.training.rows import RowsEngine

CPU = torch.device("cpu")
BATCH = 5
SETTING = RoundSetting(seed=3, round=2, lr=0.05)

PIXELS = DataInfo("classification", (1, 8, 8), "pixels", classes=10)
TOKENS = DataInfo("classification", (6,), "tokens", target_shape=(6,), classes=11, vocabulary=11)
FEATURES = DataInfo("regression", (10,), "real", target_shape=(3,))

CASES: dict[str, tuple[Callable[[], nn.Module], DataInfo, Loss]] = {
    "softmax": (lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 10)), PIXELS, cross_entropy),
    "mlp_13": (
        lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 13), nn.ReLU(), nn.Linear(13, 10)), PIXELS, cross_entropy,
    ),
    "sigmoid_33": (
        lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 33), nn.Sigmoid(), nn.Linear(33, 10)), PIXELS, cross_entropy,
    ),
    "conv": (
        lambda: nn.Sequential(
            nn.Conv2d(1, 3, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(48, 10)
        ),
        PIXELS,
        cross_entropy,
    ),
    "embedding": (lambda: nn.Sequential(nn.Embedding(11, 7), nn.Linear(7, 11)), TOKENS, cross_entropy),
    "layernorm_elu": (
        lambda: nn.Sequential(nn.Linear(10, 13), nn.LayerNorm(13), nn.ELU(), nn.Linear(13, 3)), FEATURES, mse,
    ),
}  # fmt: skip
CASE = pytest.mark.parametrize("case", CASES)

# Epsilon far above the gradients' last bits: Adam's first steps divide each gradient by its own magnitude, which would
# blow up what two correct engines may differ in where a gradient is almost zero.
OPTIMIZERS: dict[str, tuple[OptimizerConfig, float | None]] = {
    "sgd": (SgdConfig(), None),
    "decay": (SgdConfig(weight_decay=0.05), None),
    "momentum": (SgdConfig(momentum=0.9), None),
    "nesterov": (SgdConfig(momentum=0.9, nesterov=True, weight_decay=0.05), None),
    "adam": (AdamConfig(weight_decay=0.05, epsilon=1e-2), None),
    "adamw": (AdamConfig(name="adamw", weight_decay=0.05, epsilon=1e-2), None),
    "clipped": (SgdConfig(momentum=0.5), 0.3),
}
OPTIMIZER = pytest.mark.parametrize("optimizer", OPTIMIZERS)

SIZES = [11, 13, 11, 15, 12, 6, 10, 1, 5, 0]
"""Three, two, one and no steps an epoch; some last batches have a single sample."""


class Plain:
    """Sends the rows and the last gradients as they are."""

    def local(self, c: Clients) -> Mapping[str, Tensor]:
        last = torch.zeros_like(c.weights)
        for b in c.batches():
            grad = b.gradients()
            last[: b.k] = grad
            b.move(grad)
        return {"row": c.rows.clone(), "grad": last}


def samples_of(info: DataInfo, count: int, seed: int, *, weighted: bool = False) -> Samples:
    generator = np.random.default_rng(seed)
    shape, wanted = (count, *info.input_shape), (count, *info.target_shape)
    if info.input_kind == "pixels":
        x = generator.integers(0, 256, shape).astype(np.uint8)
    elif info.input_kind == "tokens":
        x = generator.integers(0, info.vocabulary or 1, shape).astype(np.uint8)
    else:
        x = generator.standard_normal(shape).astype(np.float32)
    y = generator.integers(0, info.classes, wanted) if info.classes else generator.standard_normal(wanted)
    weight = generator.uniform(0.1, 2.0, count).astype(np.float32) if weighted else None
    return Samples(x, y if info.classes else y.astype(np.float32), weight)


@cache
def rows_engine(case: str, rows: int) -> RowsEngine:
    build, info, loss = CASES[case]
    module = drawn(build)
    return RowsEngine(module, ParameterLayout(module), loss, info, CPU, rows, BATCH)


def trained(
    engine: Engine, broadcast: Tensor, clients: Sequence[int], shards: Sequence[Samples], optimizer: str = "sgd",
    work: LocalWork | None = None,
) -> BlockResult:  # fmt: skip
    config, clip_norm = OPTIMIZERS[optimizer]
    trainer = Trainer(engine, row_optimizer(config), work or LocalWork(BATCH, 2), clip_norm, Plain().local)
    loaded = [Shard.load(shard, CPU) for shard in shards]
    with torch.random.fork_rng(devices=[]):
        return trainer.train(SETTING, broadcast, np.array(clients, dtype=np.int64), Shards.join(loaded))


class Crowd:
    """Ten clients of a case, trained in blocks of any make-up."""

    def __init__(
        self, case: str, optimizer: str = "sgd", *, weighted: bool = False, work: LocalWork | None = None
    ) -> None:
        build, info, _ = CASES[case]
        self.case, self.optimizer, self.work = case, optimizer, work or LocalWork(BATCH, 2)
        module = drawn(build)
        self.broadcast = ParameterLayout(module).pack(module)
        self.shards = [samples_of(info, size, seed=i, weighted=weighted) for i, size in enumerate(SIZES)]
        self.steps = self.work.count(np.array(SIZES))

    def train(self, clients: Sequence[int], rows: int | None = None) -> BlockResult:
        """Train these, ordered by falling number of steps, on an engine of so many rows."""
        shards = [self.shards[client] for client in clients]
        engine = rows_engine(self.case, rows or len(SIZES))
        return trained(engine, self.broadcast, clients, shards, self.optimizer, self.work)

    def falling(self, clients: Sequence[int]) -> list[int]:
        """These clients, in an order that a block may have and that otherwise is as given."""
        return sorted(clients, key=lambda client: -int(self.steps[client]))

    def check(self, blocks: Sequence[Sequence[int]], rows: int | None = None) -> None:
        """In each of these blocks every client has the bits that it has among all."""
        place = {client: i for i, client in enumerate(self.falling(range(len(SIZES))))}
        for block in blocks:
            clients = self.falling(block)
            found = self.train(clients, rows)
            for i, client in enumerate(clients):
                for name in ("row", "grad"):
                    assert torch.equal(found.sent[name][i], self.whole.sent[name][place[client]]), (client, clients)
                np.testing.assert_array_equal(found.loss[i], self.whole.loss[place[client]])

    @cached_property
    def whole(self) -> BlockResult:
        """All of them in one block."""
        return self.train(self.falling(range(len(SIZES))))


@CASE
@pytest.mark.parametrize("weighted", [False, True])
def test_a_clients_bits_depend_on_no_neighbour_no_position_and_no_number_of_rows(case: str, weighted: bool) -> None:
    crowd = Crowd(case, weighted=weighted)
    blocks = [list(range(k)) for k in (2, 3, 5, 8, 9)] + [[client] for client in (0, 4, 7, 9)]
    crowd.check([*blocks, [9, 8, 7, 6, 5, 4, 3, 2, 1, 0], [2, 4], [4, 2, 7], [6, 0, 8, 9]])
    for rows in (1, 2, 3, 5):
        crowd.check([[(client + rows) % 10 for client in range(rows)]], rows)


@OPTIMIZER
def test_local_optimisers_keep_the_rows_apart(optimizer: str) -> None:
    crowd = Crowd("mlp_13", optimizer)
    crowd.check([[0], [7], [9], [4, 0], [2, 3, 1], [5, 8, 6], [8, 3, 6, 0, 1], [9, 7, 5, 3, 1]])
    crowd.check([[1], [8], [3, 0]], rows=2)


@cache
def to_the_end() -> RowsEngine:
    """An engine whose rows all take every step."""
    engine = rows_engine.__wrapped__("mlp_13", len(SIZES))
    engine.shrinks = False
    return engine


@OPTIMIZER
def test_rows_that_keep_company_to_the_end_have_the_bits_of_those_that_leave(optimizer: str) -> None:
    """As on a GPU, where all K rows take every step."""
    crowd = Crowd("mlp_13", optimizer)
    clients = crowd.falling(range(9))
    expected = crowd.train(clients)
    found = trained(to_the_end(), crowd.broadcast, clients, [crowd.shards[client] for client in clients], optimizer)
    for name, tensor in expected.sent.items():
        assert torch.equal(found.sent[name], tensor)
    np.testing.assert_array_equal(found.loss, expected.loss)


@pytest.mark.parametrize("work", [LocalWork(BATCH, 1, 4), LocalWork(BATCH, 3), LocalWork(BATCH, 1)])
def test_the_amount_of_work_keeps_the_rows_apart(work: LocalWork) -> None:
    Crowd("sigmoid_33", work=work).check([[0], [7], [4, 7], [2, 8, 1], [9, 0, 5, 6]])


@settings(max_examples=25)
@given(st.sampled_from(sorted(CASES)), st.permutations(range(10)), st.integers(1, 9), st.integers(0, 4))
def test_blocks_of_any_make_up_give_the_same_bits(case: str, order: list[int], k: int, extra: int) -> None:
    Crowd(case).check([order[:k]], rows=None if extra == 4 else k + extra)


def test_a_batch_of_several_sizes_has_the_mean_over_its_own_samples() -> None:
    """The filling of a short batch weighs nothing, wherever it comes from."""
    build, info, _ = CASES["mlp_13"]
    engine, module = rows_engine("mlp_13", 10), drawn(build)
    layout = ParameterLayout(module)
    for size in (1, 2, 5):
        shard = samples_of(info, size, seed=size)
        result = trained(engine, layout.pack(module), [1], [shard], work=LocalWork(BATCH, 1, 1))
        x, y = torch.from_numpy(shard.x) / 255, torch.from_numpy(shard.y)
        loss = F.cross_entropy(module(x), y)
        expected = torch.autograd.grad(loss, list(module.parameters()))
        assert result.loss[0] == pytest.approx(loss.item(), abs=1e-6)
        for view, grad in zip(layout.views(result.sent["grad"][0]).values(), expected, strict=True):
            torch.testing.assert_close(view, grad, rtol=1e-5, atol=1e-7)


@CASE
def test_padding_stays_zero_and_every_row_is_aligned(case: str) -> None:
    crowd, engine = Crowd(case, "adamw"), rows_engine(case, 10)
    result = crowd.train(crowd.falling(range(10)))
    layout = ParameterLayout(drawn(CASES[case][0]))
    padding = torch.ones(layout.size, dtype=torch.bool)
    for segment in layout.segments:
        padding[segment.start : segment.start + segment.size] = False
    assert not result.sent["row"][:, padding].any()
    assert not result.sent["grad"][:, padding[: layout.trainable]].any()
    assert all(row.data_ptr() % 64 == 0 for matrix in (engine.rows, engine.grad) for row in matrix)


def test_a_client_of_nans_leaves_its_neighbours_alone() -> None:
    crowd = Crowd("layernorm_elu")
    order = crowd.falling(range(10))
    expected = crowd.train(order)
    crowd.shards[3] = Samples(np.full_like(crowd.shards[3].x, np.nan), crowd.shards[3].y)
    found = crowd.train(order)
    for i, client in enumerate(order):
        if client == 3:
            assert found.sent["row"][i].isnan().any()
            assert np.isnan(found.loss[i])
        else:
            assert torch.equal(found.sent["row"][i], expected.sent["row"][i])
            np.testing.assert_array_equal(found.loss[i], expected.loss[i])


def test_a_client_without_samples_stays_at_the_broadcast_even_alone() -> None:
    crowd = Crowd("mlp_13")
    for block in ([9], [0, 9]):
        found = crowd.train(block)
        assert torch.equal(found.sent["row"][-1], crowd.broadcast)
        assert not found.sent["grad"][-1].any()
        assert np.isnan(found.loss[-1])


ZOO: dict[str, tuple[dict[str, object], DataInfo]] = {
    "softmax": ({}, PIXELS),
    "mlp": ({"hidden": [13, 9]}, PIXELS),
    "mlp_lora": ({"hidden": [13], "rank": 2}, PIXELS),
    "cnn": ({}, PIXELS),
    "cnn_cifar": ({"dropout": False}, PIXELS),
    "resnet18_gn": ({"width": 8}, PIXELS),
    "lstm_char": ({"hidden": 5, "embedding": 4}, TOKENS),
}
"""The zoo's models, small."""

PLACE = "depend on its place among the others, in the last bits"
REFUSALS = {
    "cnn": PLACE,
    "cnn_cifar": PLACE,
    "resnet18_gn": PLACE,
    "lstm_char": "computes in another way for another number of clients",
}
"""Why models may train one client at a time: of convolutions, the processor's kernels decide."""


def pseudo_huber(output: Tensor, target: Tensor) -> Tensor:
    """A loss of one's own, one value a sample."""
    return ((1 + (output - target).square()).sqrt() - 1).flatten(1).mean(1)


LOSSES: dict[str, tuple[Loss, DataInfo]] = {
    "cross_entropy": (cross_entropy, PIXELS),
    "binary_cross_entropy": (binary_cross_entropy, DataInfo("classification", (1, 8, 8), "pixels", classes=2)),
    "mse": (mse, DataInfo("regression", (1, 8, 8), "pixels", target_shape=(3,))),
    "huber": (partial(huber, delta=0.5), DataInfo("regression", (1, 8, 8), "pixels")),
    "custom": (pseudo_huber, DataInfo("regression", (1, 8, 8), "pixels", target_shape=(2,))),
}


def zoo_module(name: str, info: DataInfo, loss: str = "auto") -> nn.Module:
    config = Experiment.parse({"model": {"name": name, **ZOO[name][0]}}).model
    return build_model(config, info, seed=0, loss=loss)


@cache
def zoo_engines(name: str, loss: str = "cross_entropy") -> tuple[RowsEngine, SequentialEngine, Tensor] | str:
    """Both engines for a model of the zoo, and its first weights; or why it has no rows."""
    function, info = LOSSES[loss]
    info = ZOO[name][1] if loss == "cross_entropy" else info
    one, two = (zoo_module(name, info, loss) for _ in range(2))
    layout = ParameterLayout(one)
    broadcast = layout.pack(one)
    try:
        rows = RowsEngine(one, layout, function, info, CPU, 4, BATCH)
    except CannotCapture as refused:
        return str(refused)
    return rows, SequentialEngine(two, layout, function, info, CPU), broadcast


def check_engines_agree(name: str, optimizer: str, loss: str = "cross_entropy", *, weighted: bool = False) -> None:
    """After a round of four unequal clients, to 1e-5 of how far they went; or the reason why there are no rows."""
    engines = zoo_engines(name, loss)
    if isinstance(engines, str):
        assert REFUSALS.get(name, "no reason") in engines
        return
    rows, sequential, broadcast = engines
    info = rows.info
    clients, sizes = [4, 8, 1, 6], [11, 7, 6, 3]
    shards = [samples_of(info, size, seed=size, weighted=weighted) for size in sizes]
    together = trained(rows, broadcast, clients, shards, optimizer, LocalWork(BATCH, 1))
    assert together.sent["row"].shape[0] == 4
    for i, (client, shard) in enumerate(zip(clients, shards, strict=True)):
        alone = trained(sequential, broadcast, [client], [shard], optimizer, LocalWork(BATCH, 1))
        went = (alone.sent["row"][0] - broadcast).norm()
        assert went > 0
        assert (together.sent["row"][i] - alone.sent["row"][0]).norm() <= 1e-5 * went + 1e-7 * broadcast.norm()
        assert together.loss[i] == pytest.approx(alone.loss[0], rel=1e-5)


def test_every_model_of_the_zoo_is_compared() -> None:
    assert ZOO.keys() == MODELS.keys() - {"hugging_face"}, "whose module a configuration names"


@OPTIMIZER
@pytest.mark.parametrize("name", ZOO)
def test_rows_train_as_one_client_at_a_time(name: str, optimizer: str) -> None:
    check_engines_agree(name, optimizer)
    check_engines_agree(name, optimizer, weighted=True)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("name", ["softmax", "mlp", "cnn"])
def test_rows_train_as_one_client_at_a_time_with_every_loss(name: str, loss: str) -> None:
    check_engines_agree(name, "momentum", loss)
    check_engines_agree(name, "adam", loss, weighted=True)


def test_a_model_whose_modules_draw_or_loop_says_why_it_has_no_rows() -> None:
    assert zoo_engines("lstm_char") == f"it {REFUSALS['lstm_char']}"
    config = Experiment.parse({"model": "cnn_cifar"}).model
    module = build_model(config, PIXELS, seed=0)
    with pytest.raises(CannotCapture, match="draw random numbers in training"):
        RowsEngine(module, ParameterLayout(module), cross_entropy, PIXELS, CPU, 4, BATCH)


def test_an_empty_client_keeps_company_without_samples_of_its_own() -> None:
    """It may lie where nothing has been written yet."""
    crowd = Crowd("mlp_13")
    alone, engine = crowd.train([0]), rows_engine("mlp_13", 10)
    shard = Shard.load(crowd.shards[0], CPU)
    beyond = Shard(torch.full_like(shard.x, 255), torch.full_like(shard.y, 1 << 40), None)
    pool = Shards.join([shard, beyond]).pool
    shards = Shards(pool, np.array([0, len(shard)]), np.array([len(shard), 0]))
    trainer = Trainer(engine, row_optimizer(SgdConfig()), LocalWork(BATCH, 2), None, Plain().local)
    found = trainer.train(SETTING, crowd.broadcast, np.array([0, 9]), shards)
    assert torch.equal(found.sent["row"][0], alone.sent["row"][0])
    assert torch.equal(found.sent["row"][1], crowd.broadcast)
    assert not found.sent["grad"][1].any()


def weighted_positions(samples: Samples) -> Samples:
    """The samples with a weight for every target; the last one's is zero."""
    weight = np.random.default_rng(len(samples.y)).uniform(0, 2, samples.y.shape).astype(np.float32)
    weight[:, -1] = 0
    return Samples(samples.x, samples.y, weight)


def test_weights_of_positions_count_as_they_do_alone() -> None:
    """A weight for every target of a sample, and a loss for every target or for every sample."""
    info = DataInfo("classification", (6,), "tokens", target_shape=(6,), classes=11, vocabulary=11)
    build = CASES["embedding"][0]
    for loss in (cross_entropy, lambda output, target: cross_entropy(output, target).mean(1)):
        layout = ParameterLayout(drawn(build))
        broadcast = layout.pack(drawn(build))
        rows = RowsEngine(drawn(build), layout, loss, info, CPU, 3, BATCH)
        sequential = SequentialEngine(drawn(build), layout, loss, info, CPU)
        shards = [weighted_positions(samples_of(info, size, seed=size)) for size in (11, 7, 3)]
        together = trained(rows, broadcast, [0, 1, 2], shards)
        for i, shard in enumerate(shards):
            alone = trained(sequential, broadcast, [i], [shard])
            torch.testing.assert_close(together.sent["row"][i], alone.sent["row"][0], rtol=1e-5, atol=1e-6)
            assert together.loss[i] == pytest.approx(alone.loss[0], rel=1e-5)


def test_samples_of_weight_zero_alone_give_no_gradient_and_no_nan() -> None:
    crowd = Crowd("mlp_13", weighted=True)
    shard = crowd.shards[0]
    crowd.shards[0] = Samples(shard.x, shard.y, np.zeros_like(shard.weight))
    found = crowd.train([0, 1])
    assert torch.equal(found.sent["row"][0], crowd.broadcast)
    assert found.loss[0] == 0
    assert not torch.equal(found.sent["row"][1], crowd.broadcast)


@pytest.mark.parametrize(
    ("work", "threads", "reason"),
    [
        (LocalWork(None, 1), 1, "full batches are as long as the client's shard"),
        (LocalWork(BATCH, 1), 2, "several threads a client"),
    ],
)
def test_work_that_rows_cannot_do_is_refused(work: LocalWork, threads: int, reason: str) -> None:
    build, info, loss = CASES["softmax"]
    module = drawn(build)
    with torch_threads(threads), pytest.raises(CannotCapture, match=reason):
        build_engine(EngineChoice("rows", 4), module, ParameterLayout(module), loss, info, work)
