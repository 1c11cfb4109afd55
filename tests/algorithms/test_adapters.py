"""Rules that aggregate LoRA adapters, against dense algebra in NumPy and a plain loop in torch, both float64."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from plain_federation import Plain, Run, experiment_of
from torch import Tensor, nn

from raysim.aggregation import NoClients, build_aggregation, build_rule
from raysim.algorithms import build_algorithm
from raysim.algorithms.adapters import Adapters
from raysim.algorithms.factors import Product
from raysim.algorithms.lora_pairs import ClientRanks, lora_pairs
from raysim.config import Experiment
from raysim.config.algorithm_base import DataFacts
from raysim.errors import ConfigError
from raysim.models import with_versions
from raysim.models.lora import LoraLinear
from raysim.training import ParameterLayout, RoundSetting

Vector = Any
RANKS = (2, 4, 8, 16)
FACTS = DataFacts(100, 8, "cross_entropy", samples=lambda: 500, largest=lambda: 50, seed=5)
SERVER: Any = None
"""No rule of these asks it."""
WEIGHTS = np.array([0.3, 0.05, 0.15, 0.1, 0.2, 0.05, 0.1, 0.05])


class Twofold(nn.Module):
    """Layers with adapters of rank 16 and of rank 8, and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = LoraLinear(24, 20, 16, 32.0), LoraLinear(20, 18, 8, 16.0)
        self.head = nn.Linear(18, 3)


LAYOUT = ParameterLayout(with_versions(Twofold()))
PAIRS = lora_pairs(LAYOUT, "fedit")
Layer = dict[str, Vector]
"""A, B and R of a layer, float64."""


def build(algorithm: Mapping[str, Any]) -> Any:
    return build_algorithm(Experiment.parse({"algorithm": dict(algorithm)}).algorithm.fitted(FACTS), LAYOUT)


def layers_of(row: Vector) -> list[Layer]:
    views = {name: one.numpy().astype(np.float64) for name, one in LAYOUT.views(torch.as_tensor(row)).items()}
    names = {"A": "lora_A", "B": "lora_B", "R": "residual"}
    return [{key: views[f"{layer}.{name}"] for key, name in names.items()} for layer in ("one", "two")]


def first_model(seed: int = 0) -> Vector:
    generator = np.random.default_rng(seed)
    row = np.zeros(LAYOUT.size, np.float32)
    for one in LAYOUT.segments:
        row[one.start : one.start + one.size] = 0.3 * generator.standard_normal(one.size)
    return row


class FakeClients(SimpleNamespace):
    """What `local` is given: eight clients, whose steps are random, and zero where a client's rank leaves nothing."""

    def descend(self, correct: Any = None) -> None:
        grad = torch.randn(self.rows.shape, generator=torch.Generator().manual_seed(self.setting.round)) * 0.2
        for i, rank in enumerate(self.ranks.tolist()):
            views = LAYOUT.views(grad[i])
            for name in ("one", "two"):
                views[f"{name}.lora_A"][rank:] = 0.0
                views[f"{name}.lora_B"][:, rank:] = 0.0
        used = np.concatenate([np.arange(s.start, s.start + s.size) for s in LAYOUT.parameters])
        grad = grad[:, : LAYOUT.trainable]
        if correct is not None:
            correct(grad, self.rows[:, : LAYOUT.trainable], self)
        self.rows[:, used] -= grad[:, used]
        self.trained = self.rows.clone()

    def update(self) -> Tensor:
        return self.rows.sub_(self.broadcast)


def eight_clients(model: Vector, number: int, ranks: Vector) -> Any:
    broadcast = torch.from_numpy(model.copy())
    setting, rows = RoundSetting(0, number, 0.1), broadcast.repeat(8, 1)
    return FakeClients(broadcast=broadcast, rows=rows, setting=setting, clients=np.arange(8), k=8, ranks=ranks)


def a_round(algorithm: Adapters, model: Vector, state: Any, number: int, ranks: Vector) -> tuple[Any, Any, list[Any]]:
    """A round of eight clients: the next model and state, and what the clients had before they sent it."""
    c = eight_clients(model, number, ranks)
    sent = algorithm.local(c)
    assert list(sent) == [field.name for field in algorithm.fields()]
    rule = build_rule(Experiment().aggregation, algorithm.fields())
    records = []
    for some in (np.array([5, 0, 2]), np.array([7, 1, 3, 4, 6])):  # two workers
        kept = rule.accumulator(number, torch.device("cpu"))
        assert kept.fold(some, WEIGHTS[some], {name: one[some] for name, one in sent.items()}) == [None] * len(some)
        records.append(kept.seal())
    finished = rule.finish(records, SERVER)
    mean = {one.name: finished.mean.mean(one, slice(0, one.size)) for one in finished.fields or rule.fields}
    return *algorithm.apply(model, state, mean), [layers_of(row) for row in c.trained]


def mean_of(values: Sequence[Vector]) -> Vector:
    return sum(weight * value for weight, value in zip(WEIGHTS / WEIGHTS.sum(), values, strict=True))


MIXED = {"ranks": list(RANKS)}
EXACT = ("fedex_lora", "flora", "flexlora", "hlora")
CASES: list[Any] = [
    pytest.param({"name": name, **ranks, "server_lr": lr, **road}, id="-".join([name, *ranks, str(lr), *road.values()]))
    for name in ("fedit", "ffa_lora", "rolora", *EXACT)
    for ranks, lr in (({}, 1.0), (MIXED, 1.0), (MIXED, 0.7))
    for road in ([{"products": "sums"}, {"products": "rows"}] if name in EXACT else [{}])
]


@pytest.mark.parametrize("given", CASES)
def test_a_rule_is_dense_algebra_to_a_millionth_in_every_round(given: dict[str, Any]) -> None:
    algorithm, lr, name = build(given), given["server_lr"], given["name"]
    ranks = np.array(RANKS * 2) if "ranks" in given else np.full(8, 16)
    model, state = first_model(), {}
    state = algorithm.init(model)
    for number in (1, 2, 3):
        before = layers_of(model)
        model, state, clients = a_round(algorithm, model, state, number, ranks)
        lost, whole = 0.0, 0.0
        for i, (old, new) in enumerate(zip(before, layers_of(model), strict=True)):
            mean = {half: mean_of([layers[i][half] for layers in clients]) for half in "AB"}
            product = mean_of([layers[i]["B"] @ layers[i]["A"] for layers in clients])
            lost += np.square(product - mean["B"] @ mean["A"]).sum()
            whole += np.square(product).sum()
            apart = {half: old[half] + lr * (mean[half] - old[half]) for half in "AB"}
            exact = old["B"] @ old["A"] + lr * (product - old["B"] @ old["A"])
            close = {"rtol": 0, "atol": 1e-6}
            if name in ("fedit", "fedex_lora"):
                for half in "AB":
                    np.testing.assert_allclose(new[half], apart[half], **close)
            if name in ("ffa_lora", "rolora"):
                moved, held = ("B", "A") if name == "ffa_lora" or number % 2 else ("A", "B")
                np.testing.assert_array_equal(new[held], old[held])
                np.testing.assert_allclose(new[moved], apart[moved], **close)
            if name in ("fedex_lora", "flora"):
                np.testing.assert_allclose(new["R"] + new["B"] @ new["A"], old["R"] + exact, **close)
            else:
                np.testing.assert_array_equal(new["R"], old["R"])
            if name == "flora":
                assert not new["B"].any()
                assert np.abs(new["A"]).max() <= 1 / np.sqrt(new["A"].shape[1])
                assert not np.allclose(new["A"], old["A"])
            if name in ("flexlora", "hlora"):
                left, values, right = np.linalg.svd(exact)
                rank = len(new["A"])
                for cut in {2, 4, min(8, rank), rank}:  # the first parts are the best of their rank
                    best = left[:, :cut] * values[:cut] @ right[:cut]
                    np.testing.assert_allclose(new["B"][:, :cut] @ new["A"][:cut], best, **close)
        if algorithm.recorded:
            np.testing.assert_allclose(state["lora/gap"], [np.sqrt(lost / whole)], rtol=1e-5)
        head = next(one for one in LAYOUT.segments if one.name == "head.weight")
        assert np.isfinite(model).all()
        assert model[head.start]


@pytest.mark.parametrize("products", ["sums", "rows"])
@pytest.mark.parametrize("name", EXACT)
def test_a_round_without_clients_changes_nothing(name: str, products: str) -> None:
    algorithm, model = build({"name": name, **MIXED, "products": products}), first_model()
    mean = {field.name: NoClients().mean(field, slice(0, field.size)) for field in algorithm.fields()}
    after, state = algorithm.apply(model, algorithm.init(model), mean)
    np.testing.assert_array_equal(after, model)
    assert state["lora/gap"] == 0


def test_the_gap_of_fedit_is_recorded_where_it_is_asked_for_and_changes_no_bit() -> None:
    ranks, found = np.array(RANKS * 2), []
    for measure in (False, True):
        algorithm = build({"name": "fedit", **MIXED, "measure_gap": measure})
        model, state, _ = a_round(algorithm, first_model(), algorithm.init(first_model()), 1, ranks)
        found.append(model)
        assert list(state) == (["lora/gap"] if measure else [])
    np.testing.assert_array_equal(*found)
    assert state["lora/gap"] > 0.01


def test_a_client_sends_zeros_beyond_its_rank_and_bytes_of_its_rank_alone() -> None:
    algorithm, ranks = build({"name": "flora", **MIXED}), np.array(RANKS * 2)
    c = eight_clients(first_model(), 1, ranks)
    sent = algorithm.local(c)
    rest = sum(one.size for one in LAYOUT.segments if "head" in one.name)
    for i, rank in enumerate(ranks):
        own = rank * (24 + 20) + min(rank, 8) * (20 + 18)
        assert int(sent["update"][i].count_nonzero()) == rest + own
        aggregation = build_aggregation(Experiment().aggregation, algorithm.fields(), LAYOUT)
        assert aggregation.dense(1, np.array([i])) == 4 * (rest + own)


def test_ranks_by_share_are_keyed_and_near_their_shares() -> None:
    values = {"name": "fedit", "ranks": [4, 8, 16], "shares": [0.5, 0.3, 0.2]}
    config: Any = Experiment.parse({"algorithm": values}).algorithm
    drawn = ClientRanks(config.fitted(FACTS)).of(np.arange(20_000))
    shares = {rank: float((drawn == rank).mean()) for rank in (4, 8, 16)}
    assert shares == pytest.approx({4: 0.5, 8: 0.3, 16: 0.2}, abs=0.015)
    again = ClientRanks(config.fitted(FACTS)).of(np.arange(20_000)[::-1])[::-1]
    np.testing.assert_array_equal(drawn, again)
    other = ClientRanks(config.model_copy(update={"seed": 6})).of(np.arange(20_000))
    assert (drawn != other).any()


@pytest.mark.parametrize("width", [1, 2, 3, 30])
def test_a_product_is_taken_apart_by_its_factors_as_its_matrix_is(width: int) -> None:
    random = np.random.default_rng(width)
    left, right = (torch.from_numpy(random.standard_normal(shape)) for shape in ((6, width), (width, 9)))
    factors, dense = Product(left, right), Product(torch.zeros(6, 1).double(), torch.zeros(1, 9).double(), left @ right)
    assert factors.square() == pytest.approx(dense.square(), rel=1e-12)
    for rank in {1, min(2, width), min(6, width)}:
        for one, other in zip(factors.leading(rank), dense.leading(rank), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)
    assert factors.plus(-1.0, left, right).square() == pytest.approx(0, abs=1e-20 * (1 + factors.square()))


def test_leading_factors_are_unique_and_zero_beyond_the_matrix() -> None:
    matrix = torch.from_numpy(np.random.default_rng(0).standard_normal((3, 7)))
    whole = Product(torch.zeros(3, 1).double(), torch.zeros(1, 7).double(), matrix)
    down, up = whole.leading(5)
    torch.testing.assert_close(up @ down, matrix)
    assert not down[3:].any()
    assert not up[:, 3:].any()
    assert all(row[row.abs().argmax()] > 0 for row in down[:3])
    torch.testing.assert_close(whole.times(-1.0).leading(5)[0], down)


# Whole rounds, against a plain loop of torch in float64


MODEL = "model={name: mlp_lora, hidden: [6], rank: 3, alpha: 3}"


class PlainLora(Plain):
    """A round of the zoo's `mlp_lora`, one client after the other."""

    def __init__(self, run: Run) -> None:
        super().__init__(run)
        self.layout = run.executor.worker.algorithm.layout
        module: Any = run.executor.server._build()
        self.frozen = [one.detach().double() for one in (module.hidden1.weight, module.hidden1.bias)]

    def trained(self, row: Vector, number: int, client: int, rank: int, held: str | None) -> dict[str, Vector]:
        """Where plain SGD arrives from a row, by name."""
        values = {k: v.double().clone() for k, v in self.layout.views(torch.from_numpy(row)).items()}
        values["hidden1.lora_A"][rank:] = 0
        values["hidden1.lora_B"][:, rank:] = 0
        moving = [k for k in values if k != "hidden1.residual" and not k.endswith(held or "nothing")]
        for index in self.batches(number, client):
            samples = self._samples[client]
            x, y = torch.from_numpy(samples.x[index]).double(), torch.from_numpy(samples.y[index])
            for name in moving:
                values[name].requires_grad_(True)
            version = values.get("hidden1.residual", torch.zeros(1, dtype=torch.float64))
            change = values["hidden1.lora_B"] @ values["hidden1.lora_A"] + version
            hidden = torch.relu(x @ (self.frozen[0] + change).T + self.frozen[1])
            output = hidden @ values["output.weight"].T + values["output.bias"]
            grads = torch.autograd.grad(nn.functional.cross_entropy(output, y.long()), [values[k] for k in moving])
            values = {k: v.detach() for k, v in values.items()}
            for name, grad in zip(moving, grads, strict=True):
                values[name] = values[name] - self.lr * grad
        return {k: v.numpy() for k, v in values.items()}


@pytest.mark.parametrize("rows", [None, 3], ids=["sequential", "rows"])
@pytest.mark.parametrize(
    "given",
    [
        {"name": "fedit", "ranks": [1, 2, 3]},
        {"name": "ffa_lora", "ranks": [3, 1]},
        {"name": "rolora"},
        {"name": "fedex_lora", "ranks": [1, 3], "products": "rows"},
        {"name": "flora", "ranks": [1, 2, 3]},
        {"name": "hlora", "ranks": [3, 1, 2]},
    ],
    ids=lambda given: given["name"],
)
def test_whole_rounds_are_those_of_a_plain_loop(given: dict[str, Any], rows: int | None) -> None:
    run = Run(experiment_of(given, MODEL), rows=rows)
    plain = PlainLora(run)
    a, b, r = "hidden1.lora_A", "hidden1.lora_B", "hidden1.residual"
    name, ranks = given["name"], given.get("ranks", [3])
    for number in (1, 2, 3):
        old = {k: v.numpy().astype(np.float64) for k, v in plain.layout.views(torch.from_numpy(run.model)).items()}
        held = {"ffa_lora": "lora_A", "rolora": "lora_A" if number % 2 else "lora_B"}.get(name)
        found = [
            (p, plain.trained(run.model, number, client, ranks[client % len(ranks)], held))
            for client, p in plain.cohort(number)
        ]
        total = sum(p for p, _ in found)
        mean = {k: sum(p * one[k] for p, one in found) / total for k in old}
        product = sum(p * (one[b] @ one[a]) for p, one in found) / total
        new = {k: v.numpy() for k, v in plain.layout.views(torch.from_numpy(run.rounds(1))).items()}
        close = {"rtol": 1e-5, "atol": 3e-6}
        for k in ("output.weight", "output.bias"):
            np.testing.assert_allclose(new[k], mean[k], **close)
        if name in ("fedit", "ffa_lora", "rolora", "fedex_lora"):
            for k in {a, b} - {k for k in (a, b) if held and k.endswith(held)}:
                np.testing.assert_allclose(new[k], mean[k], **close)
        if name in ("fedex_lora", "flora"):
            np.testing.assert_allclose(new[r] + new[b] @ new[a], old[r] + product, **close)
        if name == "hlora":
            np.testing.assert_allclose(new[b] @ new[a], best(product, 3), **close)


def best(matrix: Vector, rank: int) -> Vector:
    left, values, right = np.linalg.svd(matrix)
    return left[:, :rank] * values[:rank] @ right[:rank]


# What is refused


def of_embedding() -> nn.Module:
    module: Any = with_versions(Twofold())
    module.lora_embedding_A = nn.Parameter(torch.zeros(2, 9))
    return module


class Halved(nn.Module):
    """LoRA whose A is frozen."""

    def __init__(self) -> None:
        super().__init__()
        self.lora_A, self.lora_B = nn.Parameter(torch.zeros(2, 4)), nn.Parameter(torch.zeros(3, 3))


@pytest.mark.parametrize(
    ("module", "algorithm", "overrides", "line"),
    [
        (nn.Linear(4, 3), "fedit", [], "algorithm: fedit finds no LoRA pair in the model, which trains weight, bias;"),
        (nn.Linear(4, 3), "fedsa_lora", [], "algorithm: fedsa_lora finds no LoRA pair in the model"),
        (Halved(), "flexlora", [], "algorithm: flexlora is for pairs lora_A [r, d_in], lora_B [d_out, r] of linear "),
        (of_embedding(), "flora", [], "algorithm: flora is for pairs lora_A, lora_B of linear layers, and lora_emb"),
        (Twofold(), {"name": "fedit", "ranks": [4, 32]}, [], "algorithm.ranks: the largest is 32, and the model's"),
        (Twofold(), {"name": "fedit", "ranks": [4, 8]}, [], "algorithm.ranks: the largest is 8, and the model's"),
        (Twofold(), "hlora", [], "algorithm.ranks: hlora is for clients of mixed ranks; set it, or use flexlora"),
        (Twofold(), "ffa_lora", ["client.optimizer.weight_decay=0.1"], "client.optimizer.weight_decay: it would"),
        (Twofold(), "rolora", ["client.groups=[{match: ['*'], weight_decay: 0.1}]"], "client.optimizer.weight_decay:"),
        (Twofold(), "rolora", ["client.optimizer={name: adam, state: keep}"], "client.optimizer.state: what a clie"),
        (Twofold(), {"name": "flora", "products": "rows"}, ["aggregation.weights=learned"], "aggregation.weights: l"),
        (
            Twofold(), "fedex_lora", ["aggregation.stages=[measure, {name: clip, max_norm: 1}]"],
            "aggregation.stages[1]: fedex_lora adds up products of updates, which are not those of what clip leaves",
        ),
    ],
)  # fmt: skip
def test_what_a_rule_is_not_made_for_is_refused_in_one_line(
    module: nn.Module, algorithm: Any, overrides: list[str], line: str
) -> None:
    experiment = Experiment.parse({"algorithm": algorithm}).updated(overrides)
    with pytest.raises(ConfigError) as caught:
        build_algorithm(experiment.algorithm.fitted(FACTS), ParameterLayout(module)).check(experiment)
    assert str(caught.value).startswith(line)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("values", "line"),
    [
        ({"name": "fedit", "ranks": [4, 8], "shares": [0.5, 0.4]}, "shares: they sum to 0.9; they must sum to 1"),
        ({"name": "fedit", "ranks": [4, 8], "shares": [1]}, "shares: 1 of 2 ranks; give one for each rank"),
        ({"name": "fedit", "seed": 3}, "seed: nothing is drawn; leave it out, or set shares"),
        ({"name": "fedit", "ranks": [0]}, "algorithm.ranks"),
        ({"name": "fedit", "ranks": []}, "ranks: empty; give at least one, or leave it out"),
        ({"name": "fedsa_lora", "ranks": [4]}, "ranks"),
        ({"name": "flora", "server_momentum": 0.5}, "server_momentum"),
        ({"name": "fedit", "products": "rows"}, "products: there are none; leave it out, or set measure_gap"),
        ({"name": "ffa_lora", "products": "rows"}, "products"),
    ],
)
def test_nonsense_keys_are_refused_in_one_line(values: dict[str, Any], line: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Experiment.parse({"algorithm": values})
    assert line in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "names",
    [
        ("enc.q.lora_A.default.weight", "enc.q.lora_B.default.weight", "enc.q.base_layer.residual"),
        ("q.lora_A.weight", "q.lora_B.weight", "q.residual"),
        ("lora_A", "lora_B", "residual"),
    ],
)
def test_pairs_are_found_by_their_names(names: tuple[str, str, str]) -> None:
    module = nn.Module()
    for name, one in zip(names, (torch.zeros(2, 5), torch.zeros(4, 2), torch.zeros(4, 5)), strict=True):
        *path, leaf = name.split(".")
        here: Any = module
        for part in path:
            if not hasattr(here, part):
                here.add_module(part, nn.Module())
            here = getattr(here, part)
        if leaf == "residual":
            here.register_buffer(leaf, one)
        else:
            here.register_parameter(leaf, nn.Parameter(one))
    (pair,) = lora_pairs(ParameterLayout(module), "fedit")
    assert (pair.down.name, pair.up.name) == names[:2]
    assert pair.residual is not None
    assert (pair.rank, pair.inputs, pair.outputs, pair.residual.name) == (2, 5, 4, names[2])
