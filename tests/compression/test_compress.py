"""The stage that encodes updates: what is folded, what clients keep, bytes, and the chains that are refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from chains import FIELDS, LAYOUT, chain, rows, step

from raysim.aggregation import Aggregation, Field, SendContext, build_aggregation
from raysim.compression import build_codec
from raysim.compression.compress import Compress
from raysim.compression.messages import HEADER, write_message
from raysim.config.server import AggregationConfig
from raysim.errors import ConfigError

SHAPES = [(5, 7), (5,), (3, 5), (3,)]
VALUES = 58
TOPK = {"name": "topk", "fraction": 0.1}


def compress(codec: Any, **more: Any) -> dict[str, Any]:
    return {"name": "compress", "codec": codec, "dense_below": 0, **more}


class Clients:
    """Clients of a chain, each of which keeps its vectors."""

    def __init__(self, aggregation: Aggregation) -> None:
        self.aggregation = aggregation
        self.kept: dict[int, dict[str, torch.Tensor]] = {}

    def send(self, updates: torch.Tensor, round_number: int = 1, steps: Any = None, clients: Any = None) -> Any:
        """The records that are folded, and the bytes of each message."""
        clients = np.arange(len(updates)) if clients is None else np.array(clients)
        steps = np.ones(len(updates), np.int64) if steps is None else np.array(steps)
        vectors = self.aggregation.client_state()
        state = {
            one.name: torch.stack(
                [self.kept.get(client, {}).get(one.name, torch.zeros(one.size)) for client in clients.tolist()]
            )
            for one in vectors
        }
        found, wire = self.aggregation.client(
            {"update": updates.clone()}, SendContext(0, round_number, clients, steps, state=state)
        )
        for i in np.flatnonzero(steps).tolist():
            self.kept[int(clients[i])] = {name: vector[i].clone() for name, vector in state.items()}
        return found["update"], wire.up


def compact(row: torch.Tensor) -> Any:
    return np.concatenate([row[one.start : one.start + one.size].numpy() for one in LAYOUT.segments])


def test_a_record_is_what_the_codec_makes_of_all_layers_together_and_as_long_as_its_bytes() -> None:
    updates, codec = rows(3), build_codec(codec_config(TOPK), SHAPES)
    found, up = Clients(chain(compress(TOPK))).send(updates)
    for i in range(3):
        code = codec.compress(compact(updates[i]), never, np.empty(0, np.float32))
        assert np.array_equal(compact(found[i]), codec.restore(code))
        assert int((found[i] != 0).sum()) == 6
        assert up[i] == len(write_message(codec, code, np.empty(0, np.float32)))


def codec_config(codec: Any) -> Any:
    return AggregationConfig.model_validate({"stages": [compress(codec)]}).stages[0].codec  # type: ignore[union-attr]  # it is that of compress


def never() -> np.random.Generator:
    raise AssertionError("top-k draws nothing")


@pytest.mark.parametrize(
    "codec",
    [TOPK, "qsgd", "int8", "int4", "sign", "majority", "fp16", "bf16", {"name": "powersgd", "rank": 1}],
    ids=str,
)
@pytest.mark.parametrize("feedback", [None, "ef14", "ef21"])
def test_what_is_counted_are_the_bytes_that_a_client_would_send(
    monkeypatch: pytest.MonkeyPatch, codec: Any, feedback: Any
) -> None:
    if codec == "majority":
        feedback = None  # which is refused
    stage = compress(codec, feedback=feedback, exclude=["0.bias"])
    aggregation = chain("measure", stage)
    own = aggregation.stages[1]
    assert isinstance(own, Compress)
    (part,) = own._parts
    codes: list[Any] = []
    plain = type(part.codec).compress
    monkeypatch.setattr(type(part.codec), "compress", lambda *given: codes.append(plain(*given)) or codes[-1])
    clients = Clients(aggregation)
    for number in (1, 2):
        updates = rows(3, seed=number)
        codes.clear()
        found, up = clients.send(updates, number, steps=[3, 0, 1])
        bias = np.zeros(5, np.float32)
        messages = [len(write_message(part.codec, code, bias)) for code in codes]
        # Beside it there is the norm that `measure` sends, 4 bytes.
        assert up.tolist() == [messages[0] + 4, HEADER + 4, messages[1] + 4]
        assert (found[1] == updates[1]).all()
        assert (found[0, 48:53] == updates[0, 48:53]).all(), "layers that are left out are sent as they are"
        assert not found[0][~torch.from_numpy(used())].any(), "padding stays zero"
        most, known = aggregation.most_bytes(number, np.arange(3))
        assert (up <= most).all()
        assert known is (codec != TOPK)
        assert not known or up[0] == up[2] == most[0]


def used() -> Any:
    found = np.zeros(LAYOUT.size, dtype=bool)
    for one in LAYOUT.segments:
        found[one.start : one.start + one.size] = True
    return found


@pytest.mark.parametrize("decay", [1.0, 0.5])
def test_error_feedback_is_the_loop_of_the_paper(decay: float) -> None:
    """Karimireddy et al. 2019, algorithm 2, with an error that fades while a client is away."""
    clients = Clients(chain(compress(TOPK, feedback={"name": "ef14", "decay": decay})))
    error, last = np.zeros(VALUES, np.float32), 0
    for number in (1, 2, 3, 7, 8):
        update = rows(1, seed=number)
        error *= np.float32(decay ** max(0, number - 1 - last))
        p = compact(update[0]) + error
        kept = np.argsort(-np.abs(p), kind="stable")[:6]
        message = np.zeros_like(p)
        message[kept] = p[kept]
        error, last = p - message, number
        found, _ = clients.send(update, number)
        assert np.array_equal(compact(found[0]), message)


def test_differences_come_to_the_update_where_it_stays_the_same() -> None:
    """EF21, Richtárik et al. 2021, algorithm 2: g ← g + C(u - g)."""
    clients, update = Clients(chain(compress(TOPK, feedback="ef21"))), rows(1)
    x, g = compact(update[0]), np.zeros(VALUES, np.float32)
    for number in range(1, 12):
        difference = x - g
        kept = np.argsort(-np.abs(difference), kind="stable")[:6]
        g[kept] += difference[kept]
        found, up = clients.send(update, number)
        assert np.array_equal(compact(found[0]), g)
    assert np.array_equal(g, x)
    assert up[0] == HEADER + 4, "then nothing is left to send"


def test_a_client_without_steps_sends_nothing_and_keeps_what_it_has() -> None:
    clients = Clients(chain(compress(TOPK, feedback="ef14")))
    clients.send(rows(1), 1)
    kept = clients.kept[0]["stages.compress.kept"].clone()
    assert kept.any()
    found, up = clients.send(torch.zeros(1, LAYOUT.size), 2, steps=[0])
    assert not found.any()
    assert up.tolist() == [HEADER]
    assert torch.equal(clients.kept[0]["stages.compress.kept"], kept)


def test_an_update_that_is_not_finite_stays_so_and_is_left_out_by_the_fold() -> None:
    clients, updates = Clients(chain(compress(TOPK, feedback="ef14"))), rows(2)
    updates[0, 3] = float("nan")
    found, _ = clients.send(updates)
    assert torch.isnan(found[0, 3])
    assert not clients.kept[0]["stages.compress.kept"].any()
    assert int((found[1] != 0).sum()) == 6


def test_rows_are_encoded_apart() -> None:
    for codec in ("int4", {"name": "powersgd", "rank": 1}):
        together, _ = Clients(chain(compress(codec, feedback="ef14"))).send(rows(3))
        alone = Clients(chain(compress(codec, feedback="ef14")))
        assert all(torch.equal(alone.send(rows(3)[i : i + 1], clients=[i])[0][0], together[i]) for i in range(3))


def test_all_fields_of_data_are_encoded_and_numbers_about_them_are_not() -> None:
    config = AggregationConfig.model_validate({"stages": [compress("fp16")]})
    fields = (
        *FIELDS,
        Field("control", LAYOUT.trainable),
        Field("loss", 2, statistic=True),
        Field("one", 9, constant=True),
    )
    aggregation = build_aggregation(config, fields, LAYOUT)
    updates = rows(1)
    given = {
        "update": updates,
        "control": updates[:, : LAYOUT.trainable].clone(),
        "loss": torch.rand(1, 2),
        "one": torch.rand(1, 9),
    }
    before = {name: tensor.clone() for name, tensor in given.items()}
    found, wire = aggregation.client(given, SendContext(0, 1, np.arange(1), np.ones(1, np.int64)))
    for name in ("update", "control"):
        assert torch.equal(found[name], before[name].half().float())
    assert all(torch.equal(found[name], before[name]) for name in ("loss", "one"))
    assert wire.up.tolist() == [2 * (HEADER + 2 * VALUES) + 4 * 11]


def test_the_majority_is_the_sign_of_the_weighted_mean_times_a_step() -> None:
    aggregation = chain(compress({"name": "majority", "step": 0.25}, exclude=["0.bias"]))
    mean = rows(1)[0].numpy().astype(np.float64)
    found, _, _ = step(aggregation, {"update": mean}, aggregation.init(mean.astype(np.float32)))
    coded = used() & ~((np.arange(LAYOUT.size) >= 48) & (np.arange(LAYOUT.size) < 53))
    assert np.array_equal(found["update"][coded], 0.25 * np.sign(mean[coded]))
    assert np.array_equal(found["update"][~coded], mean[~coded])


def quadratic(feedback: str | None, fraction: float = 0.01, rounds: int = 2000) -> float:
    """The distance from the optimum of a quadratic in 200 dimensions, of which two clients with opposed gradients see
    halves, after steps of top-1 % messages; over what it was."""
    n, generator = 200, np.random.default_rng(0)
    codec = build_codec(codec_config({"name": "topk", "fraction": fraction}), [(n,)])
    # Both have a large gradient, of opposite sign, in the same two columns, which is all that a message holds.
    pull, optimum = np.zeros((2, n), np.float32), generator.standard_normal(n).astype(np.float32)
    pull[:, :2] = [[8, 8], [-8, -8]]
    model, error = np.zeros(n, np.float32), np.zeros((2, n), np.float32)
    for _ in range(rounds):
        step_of = []
        for i in range(2):
            update = -np.float32(0.004) * (model - optimum + pull[i])
            p = update + error[i] * (feedback is not None)
            message = codec.restore(codec.compress(p, never, np.empty(0, np.float32)))
            error[i] = p - message
            step_of.append(message)
        model = model + (step_of[0] + step_of[1]) / 2
    return float(np.linalg.norm(model - optimum) / np.linalg.norm(optimum))


def test_one_percent_stalls_on_a_quadratic_without_feedback_and_converges_with_it() -> None:
    assert quadratic(None) > 0.99
    assert quadratic("ef14") < 0.02


REFUSED = {
    "a top-k of nothing": (
        [compress({"name": "topk", "fraction": 0.001})],
        "compress: fraction 0.001 of 58 values is a top-k of nothing",
    ),
    "no layer": ([{"name": "compress", "codec": "int8"}], "compress: no layer is left to compress; lower dense_below"),
    "no such layer": (
        [compress("int8", include=["lora*"])],
        r"compress: 'lora\*' matches no parameter; there are 0.weight",
    ),
    "two codecs": ([compress("int8"), {**compress("int4")}], "compress2 changes what compress has encoded"),
    "a clip inside": ([compress("int8"), {"name": "clip", "max_norm": 1}], "clip changes what compress has encoded"),
    "noise on top-k": (
        [{"name": "clip", "max_norm": 1}, compress(TOPK), {"name": "gaussian", "noise_multiplier": 1}],
        "compress: which columns a client sends depends on its data, .*: gaussian needs another, such as randk",
    ),
    "noise and feedback": (
        [
            {"name": "clip", "max_norm": 1},
            compress("int8", feedback="ef14"),
            {"name": "gaussian", "noise_multiplier": 1},
        ],
        "compress: what a client keeps of its messages acts in later rounds",
    ),
    "noise on rounded values": (
        [{"name": "clip", "max_norm": 1}, compress("int8"), {"name": "gaussian", "noise_multiplier": 1}],
        "compress: what is rounded may be longer than the bound",
    ),
}


@pytest.mark.parametrize("refused", REFUSED)
def test_chains_without_meaning_are_refused(refused: str) -> None:
    stages, reason = REFUSED[refused]
    with pytest.raises(ConfigError, match=rf"aggregation.stages\[\d\]: .*{reason}"):
        chain(*stages)


def test_masks_take_no_codec() -> None:
    for codec in (TOPK, "int8", "sign"):
        with pytest.raises(ConfigError, match=r"compress works on the road rows or sum, but .* aggregation.protection"):
            chain(compress(codec), protection="secagg")
