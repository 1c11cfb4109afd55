"""Secure aggregation: the sum of the masked records is that of the plain ones, and nothing else can be seen."""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from masked_rounds import CPU, ROUND, SEED, Cohort, digest, plain, rule_of, run

from raysim.aggregation import Field, Question
from raysim.config.protection import DropoutConfig
from raysim.errors import RunError
from raysim.privacy.secagg import shamir
from raysim.privacy.secagg.dropout import Dropout
from raysim.privacy.secagg.graph import Graph
from raysim.privacy.secagg.keys import SEED_BYTES, add_masks
from raysim.privacy.secagg.words import NarrowPoint, formats, from_words, message_bytes, pack, to_words, word_bits

STAGES = ("advertise", "share", "upload", "unmask")
NARROW = {"bits": 16, "clip": 1.0}


@st.composite
def rounds(draw: st.DrawFn, *, within: bool) -> tuple[dict, int, dict[str, list[int]]]:
    """A protection, a cohort and who drops out when: as many as the threshold allows, or any number."""
    plus = draw(st.booleans())
    count = draw(st.integers(10, 200 if plus else 40))
    config = {"name": "secagg_plus", "neighbours": 8} if plus else {"name": "secagg"}
    config["threshold"] = draw(st.sampled_from([0.51, 0.6, 0.75]))
    if draw(st.booleans()):
        config |= NARROW
    degree = 8 if plus else count - 1
    most = degree - math.ceil(config["threshold"] * degree) if within else count // 2
    leaving: dict[str, list[int]] = {}
    for position in draw(st.lists(st.integers(0, count - 1), max_size=max(most, 0), unique=True)):
        leaving.setdefault(draw(st.sampled_from(STAGES)), []).append(position)
    return config, count, leaving


@given(case=rounds(within=True))
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_the_sum_of_masked_records_is_that_of_plain_ones_whoever_drops_out(case: tuple) -> None:
    config, count, leaving = case
    cohort = Cohort(count)
    masked = run(rule_of(leaving, **config), cohort)
    gone = {one for stage in STAGES[:3] for one in leaving.get(stage, ())}
    assert masked.contributed == [one for one in range(count) if one not in gone]
    if config.get("bits") == 16:
        unmasked = {"name": "unmasked", **NARROW}
        assert digest(masked.total) == digest(run(rule_of(leaving, **unmasked), cohort, cuts=1).total)
    else:
        assert digest(masked.total) == digest(plain(cohort, masked.contributed))


@given(case=rounds(within=False))
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_beyond_the_threshold_a_round_fails_in_one_line_and_never_sooner(case: tuple) -> None:
    config, count, leaving = case
    rule, threshold = rule_of(leaving, **config), config["threshold"]
    graph = Graph(SEED, ROUND, count, config.get("neighbours"))

    def without(*stages: str) -> set[int]:
        return set(range(count)) - {one for stage in stages for one in leaving.get(stage, ())}

    needed, each = math.ceil(threshold * count - 1e-9), math.ceil(threshold * graph.degree - 1e-9)
    keys, shared, sent, answering = (without(*STAGES[:i]) for i in (1, 2, 3, 4))
    enough = min(len(keys), len(shared), len(sent)) >= needed
    enough &= all(len(keys & set(graph.of(one).tolist())) >= each for one in keys)
    enough &= all(len(answering & set(graph.of(one).tolist())) >= each for one in shared)
    if enough:
        run(rule, Cohort(count))
    else:
        with pytest.raises(RunError, match=r"round 3: secure aggregation: \d+ of \d+ .* and \d+ must") as error:
            run(rule, Cohort(count))
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("count", [10, 200])
@pytest.mark.parametrize("stage", STAGES)
def test_a_tenth_may_drop_out_at_any_one_stage(count: int, stage: str) -> None:
    cohort, leaving = Cohort(count), {stage: list(range(0, count, 10))}
    masked = run(rule_of(leaving, name="secagg_plus", neighbours=8, threshold=0.51), cohort)
    assert digest(masked.total) == digest(plain(cohort, masked.contributed))


def test_integers_are_the_same_however_clients_are_leased() -> None:
    cohort = Cohort(12)
    for config in ({"name": "secagg"}, {"name": "secagg_plus", "neighbours": 4, **NARROW}):
        found = {digest(run(rule_of(**config), cohort, cuts=cuts).total) for cuts in (1, 5, 12)}
        assert len(found) == 1


def uniform(words: np.ndarray) -> bool:
    """Whether the bytes of these words are as uniform as random ones: chi-square over 256 values, six deviations."""
    counts = np.bincount(words.view(np.uint8), minlength=256)
    expected = counts.sum() / 256
    statistic = float(((counts - expected) ** 2 / expected).sum())
    return abs(statistic - 255) < 6 * math.sqrt(2 * 255)


def test_what_the_aggregator_receives_tells_nothing_of_a_single_client() -> None:
    fields = (Field("update", 20_000),)
    cohort, rule = Cohort(6, fields), rule_of({"upload": [4]}, fields, name="secagg")
    received = run(rule, cohort, cuts=6)
    assert received.contributed == [0, 1, 2, 3, 5]
    alone = [record for record in received.records if len(record.positions)]
    assert [record.positions.tolist() for record in alone] == [[0], [1], [2], [3], [5]]
    secrets = {position: shamir.join(shares) for position, shares in received.opening.shares.items()}
    for record in alone:
        (position,) = record.positions.tolist()
        own = plain(cohort, [position])
        assert not uniform(own.totals["update"])
        assert uniform(record.totals["update"])
        assert record.weight > 2**53, "the weight is masked, too"
        # Of this client the aggregator gets the seed of the self mask, and no key of the others.
        opened = record.totals["update"].copy()
        seed = secrets[position].to_bytes(shamir.SHARE_BYTES, "big")[-SEED_BYTES:]
        add_masks(opened, 1, [(seed, -1)])
        assert uniform(opened)
    both = np.stack([record.totals["update"] for record in alone])
    assert uniform(both.sum(0)), "the self masks, and those shared with the client that is gone, are still on the sum"
    assert digest(received.total) == digest(plain(cohort, received.contributed))


def test_words_of_a_narrow_record_are_uniform_and_of_their_bits() -> None:
    fields = (Field("update", 20_000),)
    received = run(rule_of(None, fields, name="secagg", **NARROW), Cohort(8, fields), cuts=8)
    words = received.records[0].totals["update"]
    assert words.dtype == np.uint32
    assert words.max() < 2**19
    assert uniform((words >> np.uint32(3)).astype(np.uint16))


def test_a_client_hands_out_one_secret_of_another_and_never_both() -> None:
    rule, cohort = rule_of(name="secagg"), Cohort(5)
    ask = partial(rule.protocol.answer, SEED)
    begun = rule.protocol.begin(SEED, ROUND, cohort.clients, ask)
    rule.protocol.end(SEED, ROUND, begun, np.arange(5, dtype=np.int32), ask)
    rule.protocol.end(SEED, ROUND, begun, np.arange(5, dtype=np.int32), ask)  # the same question, again
    with pytest.raises(RunError, match=r"round 3: the client at position \d is asked for both secrets .* and refuses"):
        rule.protocol.end(SEED, ROUND, begun, np.arange(4, dtype=np.int32), ask)


def test_a_client_refuses_to_open_a_sum_of_too_few_and_shares_that_were_changed() -> None:
    rule, cohort = rule_of(name="secagg"), Cohort(5)
    ask = partial(rule.protocol.answer, SEED)
    begun = rule.protocol.begin(SEED, ROUND, cohort.clients, ask)
    everyone, own = np.arange(5), begun.mail.to(0, [1, 2, 3, 4])

    def question(survivors: np.ndarray, mail: bytes) -> Question:
        common = (begun.peers.keys, everyone, survivors)
        return Question(ROUND, "unmask", everyone[:1], cohort.clients[:1], cohort.clients, common, (mail,))

    with pytest.raises(RunError, match="only 1 records are said to have arrived"):
        ask(question(everyone[:1], own))
    with pytest.raises(RunError, match="share of the client at position 1 was changed on its way"):
        ask(question(everyone, bytes([own[0] ^ 1]) + own[1:]))
    assert len(ask(question(everyone, own))[0]) == 4 * shamir.SHARE_BYTES


def test_any_threshold_of_shares_gives_the_secret_and_fewer_do_not() -> None:
    secret, points = 2**256 - 12345, list(range(1, 8))
    shares = list(zip(points, shamir.split(secret, 4, points, b"key"), strict=True))
    for start in range(4):
        assert shamir.join(shares[start : start + 4]) == secret
    assert shamir.join(shares[:3]) != secret
    assert shamir.split(secret, 4, points, b"key") != shamir.split(secret, 4, points, b"another key")
    with pytest.raises(ValueError, match="2 shares cannot reach a threshold of 4"):
        shamir.split(secret, 4, [1, 2], b"key")


def test_the_prime_is_one() -> None:
    for base in (2, 3, 5, 7, 11, 13):  # Miller and Rabin
        odd, twos = shamir.PRIME - 1, 0
        while odd % 2 == 0:
            odd, twos = odd // 2, twos + 1
        x = pow(base, odd, shamir.PRIME)
        assert x in (1, shamir.PRIME - 1) or any((x := x * x % shamir.PRIME) == shamir.PRIME - 1 for _ in range(twos))


def test_masks_are_aes_in_counter_mode_whatever_the_pieces() -> None:
    from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

    for dtype, size in ((np.uint64, 50_001), (np.uint32, 70_003)):
        key, nonce = bytes(range(16)), (5).to_bytes(8, "big") + bytes(8)
        stream = Cipher(algorithms.AES(key), modes.CTR(nonce)).encryptor().update(bytes(size * dtype().itemsize))
        words = np.arange(size, dtype=dtype)
        add_masks(words, 5, [(key, 1)])
        assert np.array_equal(words, np.arange(size, dtype=dtype) + np.frombuffer(stream, dtype))
        add_masks(words, 5, [(key, -1)])
        assert np.array_equal(words, np.arange(size, dtype=dtype))


def test_the_graph_is_regular_symmetric_and_of_the_round() -> None:
    graph = Graph(SEED, 1, 50, 8)
    near = [set(graph.of(one).tolist()) for one in range(50)]
    assert all(len(one) == 8 and i not in one for i, one in enumerate(near))
    assert all(i in near[j] for i, one in enumerate(near) for j in one)
    assert near != [set(Graph(SEED, 2, 50, 8).of(one).tolist()) for one in range(50)]
    assert set(Graph(SEED, 1, 5, 8).of(2).tolist()) == {0, 1, 3, 4}


def test_the_configured_share_drops_out_at_each_stage() -> None:
    dropout = Dropout(DropoutConfig(advertise=0.1, share=0.2, upload=0.3, unmask=0.4))
    clients = np.arange(20_000)
    for stage, share in zip(STAGES, (0.1, 0.2, 0.3, 0.4), strict=True):
        lost = dropout.lost(SEED, 1, stage, clients, clients)
        assert abs(len(lost) / len(clients) - share) < 0.02
        assert not np.array_equal(lost, dropout.lost(SEED, 2, stage, clients, clients))


@pytest.mark.parametrize("config", [{"name": "secagg"}, {"name": "secagg_plus", "neighbours": 4, **NARROW}])
def test_bytes_are_those_of_messages_that_could_be_sent(config: dict) -> None:
    cohort, rule = Cohort(12), rule_of(**config)
    received = run(rule, cohort, cuts=12)
    fields = formats(rule._config, cohort.fields, 12)
    record = received.records[0]
    bits = {".weight": 64} | {one.name: word_bits(one) for one in fields}
    vectors = {".weight": np.array([record.weight], np.uint64)} | dict(record.totals)
    packed = pack(vectors, bits)
    assert len(packed) == message_bytes(fields, [one.size for one in fields])
    if "bits" in config:
        assert bits["update"] == 20
        read = np.unpackbits(np.frombuffer(packed[8:], np.uint8)[: 300 * 20 // 8], bitorder="little").reshape(300, 20)
        assert np.array_equal(read @ (1 << np.arange(20)), record.totals["update"])
    degree = 4 if "neighbours" in config else 11
    opening = received.opening
    assert opening.metrics["secagg/keys"] == 12 * 64 + 12 * degree * 64
    assert opening.metrics["secagg/shares"] == 2 * 12 * degree * (2 * 33 + 16)
    assert opening.metrics["secagg/unmasking"] == 12 * degree * 33 + 12 * 2 * 2
    assert opening.up + opening.down == sum(opening.metrics.values())


def test_values_are_clipped_and_rounded_at_random_without_bias() -> None:
    form = NarrowPoint(bits=4, clip=1.0, cohort=10)
    values = torch.full((40_000,), 0.123)
    units = form.rounded(values, 0.1, (SEED, ROUND, 5, 0), 0)
    assert set(units.tolist()) == {0, 1}, "7 · .123 = .861 units"
    assert abs(float(units.double().mean()) - 0.861) < 0.01
    assert not torch.equal(units, form.rounded(values, 0.1, (SEED, ROUND, 6, 0), 0))
    assert torch.equal(units[100:], form.rounded(values[100:], 0.1, (SEED, ROUND, 5, 0), 100))
    edge = form.rounded(torch.tensor([3.0, -3.0]), 0.1, (SEED, ROUND, 5, 0), 0)
    assert edge.tolist() == [7, -7]


@pytest.mark.parametrize("bits", [17, 32, 40, 64])
def test_words_keep_signs(bits: int) -> None:
    values = np.array([0, 1, -1, 2**16 - 1, -(2**16)], dtype=np.int64)
    assert np.array_equal(from_words(to_words(values.copy(), bits), bits), values)


def test_the_narrow_mean_is_near_the_exact_one() -> None:
    cohort = Cohort(30)
    found = run(rule_of(name="secagg_plus", bits=16, clip=4.0), cohort).mean
    exact = cohort.weights @ cohort.sent["update"].double().numpy()
    assert np.abs(found["update"] - exact).max() < 4.0 / 2**15
    assert np.allclose(found["length"], cohort.weights @ cohort.sent["length"].double().numpy(), atol=1e-12)


def test_a_value_out_of_range_leaves_its_client_out() -> None:
    cohort, rule = Cohort(5), rule_of(name="secagg")
    cohort.sent["update"][3, 7] = 3000.0
    begun = rule.protocol.begin(SEED, ROUND, cohort.clients, partial(rule.protocol.answer, SEED))
    accumulator = rule.among(begun.peers, SEED, ROUND, lambda *given: None).accumulator(ROUND, CPU)
    reasons = accumulator.fold(np.arange(5), cohort.weights, cohort.sent)
    assert [reason is None for reason in reasons] == [True, True, True, False, True]
    assert "update has 1 values beyond ±2048, which have no room in a masked sum" in str(reasons[3])


def test_what_a_stage_adds_to_the_integers_is_in_the_sum() -> None:
    cohort = Cohort(10)

    def integers(totals, clients, fields, count) -> None:  # type: ignore[no-untyped-def]
        assert count == 10
        totals["update"] += 1000 * int(clients.sum())

    with_noise = run(rule_of(name="secagg"), cohort, integers=integers).total.totals["update"]
    without = plain(cohort, np.arange(10)).totals["update"]
    assert np.array_equal(with_noise - without, np.full(300, 1000 * int(cohort.clients.sum())))
