"""Homomorphic encryption: BFV's sum is that of the plain integers, and the server adds ciphertexts alone."""

from __future__ import annotations

import builtins
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from federations import digits, final_sha256
from masked_rounds import Cohort, digest, plain, rule_of, run

from raysim import Simulation
from raysim.aggregation import Field, build_rule
from raysim.config.server import AggregationConfig
from raysim.errors import ConfigError
from raysim.privacy.he.schemes import DEGREE, PRIMES, Bfv, Ckks, remainders
from raysim.privacy.he.sums import EncryptedSum

KEY = "aggregation.protection="


def prime(number: int) -> bool:
    """Miller and Rabin, with bases that suffice for 64 bits."""
    odd, twos = number - 1, 0
    while odd % 2 == 0:
        odd, twos = odd // 2, twos + 1

    def passes(base: int) -> bool:
        x = pow(base, odd, number)
        return x in (1, number - 1) or any((x := x * x % number) == number - 1 for _ in range(twos))

    return all(map(passes, (2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37)))


def test_the_moduli_are_primes_that_batching_takes() -> None:
    assert all(prime(one) and one % (2 * DEGREE) == 1 for one in PRIMES)
    assert PRIMES[0] * PRIMES[1] > 2**65


def test_two_remainders_give_any_integer_of_64_bits() -> None:
    values = np.random.default_rng(0).integers(-(2**63), 2**63, 5_000, dtype=np.int64)
    values[:4] = 0, -1, 2**63 - 1, -(2**63)
    assert np.array_equal(remainders(*(np.mod(values, one) for one in PRIMES)), values)


def test_encrypted_vectors_of_several_pieces_come_back() -> None:
    scheme = Bfv()
    public, secret = scheme.key_pairs()
    values = np.random.default_rng(0).integers(-(2**63), 2**63, DEGREE + 3, dtype=np.int64)
    text = tuple(tuple(one.serialize() for one in pieces) for pieces in scheme.encrypt(public, values, 2))
    assert [len(pieces) for pieces in text] == [2, 2]
    assert np.array_equal(scheme.decrypt(secret, text, len(values)), values)
    small = values >> np.int64(33)
    text = tuple(tuple(one.serialize() for one in pieces) for pieces in scheme.encrypt(public, small, 1))
    assert np.array_equal(scheme.decrypt(secret, text, len(small)), small)
    with pytest.raises(ValueError, match="secret"):
        scheme.decrypt(public, text, len(small))


@pytest.mark.parametrize("options", [{}, {"share": 0.1}, {"bits": 16, "clip": 1.0}])
def test_the_decrypted_sum_is_that_of_plain_integers(options: dict[str, Any]) -> None:
    cohort = Cohort(6)
    received = run(rule_of(name="bfv", **options), cohort, cuts=2)
    record: Any = received.records[0]
    assert isinstance(record, EncryptedSum)
    assert record.weight == record.clear.weight == 0
    assert sum(map(len, record.clear.totals.values())) == 0, "without columns of a model all is encrypted"
    if "bits" in options:
        expected = run(rule_of(name="unmasked", **options), cohort).total
        assert set(record.texts) == {"wide", "narrow"}
        assert [len(text) for text in record.texts.values()] == [2, 1], "a narrow sum fits one prime"
    else:
        expected = plain(cohort, np.arange(6))
    assert digest(received.total) == digest(expected)


def test_bytes_are_those_of_the_ciphertexts() -> None:
    cohort, rule = (
        Cohort(3, (Field("update", DEGREE + 100),)),
        rule_of(None, (Field("update", DEGREE + 100),), name="bfv"),
    )
    received = run(rule, cohort, cuts=3)
    record: Any = received.records[0]
    bound = rule.among(received.begun.peers, 0, 0, lambda *given: None)
    assert bound.message_bytes([DEGREE + 100], 0, cohort.clients[:1]) == sum(
        len(piece) for text in record.texts.values() for pieces in text for piece in pieces
    )


def test_ckks_is_near_and_another_sum_each_time() -> None:
    cohort = Cohort(4)
    first, second = (run(rule_of(name="ckks"), cohort).total.totals["update"] / 2.0**52 for _ in range(2))
    exact = plain(cohort, np.arange(4)).totals["update"] / 2.0**52
    assert 0 < np.abs(first - exact).max() < 1e-6
    assert not np.array_equal(first, second)
    assert Ckks().slots == DEGREE // 2


def recorded(folder: Path, *overrides: str) -> tuple[Simulation, list[dict[str, Any]]]:
    with Simulation(digits(folder, *overrides), directory=folder / "run") as simulation:
        simulation.run()
    return simulation, pq.read_table(folder / "run" / "rounds.parquet").to_pylist()


SELECTED = {"all": "", "a tenth": ", share: 0.1", "a layer": ', layers: ["*.bias"]'}


@pytest.mark.parametrize("chosen", SELECTED)
def test_the_model_is_that_of_the_plain_run(tmp_path: Path, chosen: str) -> None:
    run = ["rounds=2", "cohort=3"]
    assert final_sha256(digits(tmp_path, *run, f"{KEY}{{name: bfv{SELECTED[chosen]}}}")) == final_sha256(
        digits(tmp_path, *run)
    )


def test_the_most_sensitive_values_are_encrypted(tmp_path: Path) -> None:
    segments = [SimpleNamespace(name="a", start=0, size=10), SimpleNamespace(name="b", start=16, size=10)]
    columns = SimpleNamespace(size=32, trainable=32, segments=segments)
    scores = np.zeros(20)
    scores[[3, 12]] = 1, 2  # the values of columns 3 and 18
    np.save(tmp_path / "scores.npy", scores)
    protection = {"name": "bfv", "share": 0.1, "sensitivity": str(tmp_path / "scores.npy")}
    config, fields = AggregationConfig.model_validate({"protection": protection}), (Field("update", 32),)
    rule: Any = build_rule(config, fields, columns)  # type: ignore[arg-type]
    cohort = Cohort(2, fields)
    received = run(rule, cohort, cuts=1)
    kept = np.delete(np.arange(32), [3, 18])
    expected = plain(cohort, np.arange(2))
    record: Any = received.records[0]
    assert np.array_equal(record.clear.totals["update"], expected.totals["update"][kept])
    assert digest(received.total) == digest(expected)


def test_bytes_of_keys_records_and_decryption_are_recorded(tmp_path: Path) -> None:
    simulation, rows = recorded(tmp_path, "rounds=1", "cohort=3", KEY + "{name: bfv, share: 0.1}")
    (row,) = rows
    ciphertext, public = 131_208, 2 * 262_369
    ciphertext -= 1  # a piece that is not full is a byte shorter
    assert abs(row["he/keys"] / (3 * public) - 1) < 0.01
    columns, values = simulation._prepared.columns, simulation.parameters
    encrypted = round(0.1 * columns)
    assert row["he/decryption"] == 2 * ciphertext + 8 * (1 + encrypted)
    assert row["wire_up"] == 3 * (2 * ciphertext + 8 * (values - encrypted))
    assert row["wire_down"] == 3 * 4 * values + row["he/keys"] + row["he/decryption"]


def test_ckks_is_recorded_as_inexact(tmp_path: Path) -> None:
    recorded(tmp_path, "rounds=1", "cohort=3", KEY + "ckks")
    bits = json.loads((tmp_path / "run" / "environment.json").read_text())["bits"]
    assert bits["sums"] == "decrypted with an error of about 1e-8, another one each time"
    assert "aggregation.protection is ckks: sums are decrypted" in (tmp_path / "run" / "log.jsonl").read_text()


REFUSED = {
    "one": (["cohort=1", KEY + "bfv"], "protection: in a cohort of one the sum is the record of that one"),
    "floats": (["aggregation.exact=false", KEY + "bfv"], "bfv hides .* set aggregation.exact to true"),
    "both": ([KEY + '{name: bfv, share: 0.1, layers: ["*"]}'], "layers and share both choose what is encrypted"),
    "none": ([KEY + '{name: bfv, layers: ["9.*"]}'], r"protection.layers: '9.\*' matches no parameter; there are "),
    "bits": ([KEY + "{name: ckks, bits: 16, clip: 1}"], "bits is 16: ckks encrypts reals"),
    "scores": ([KEY + "{name: bfv, sensitivity: a.npy}"], "sensitivity says which values come first; set share"),
    "no file": ([KEY + "{name: bfv, share: 0.1, sensitivity: a.npy}"], "protection.sensitivity: a.npy: .*No such file"),
    "all": ([KEY + "{name: bfv, share: 1}"], "share.* less than 1"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_encrypted_is_refused_before_there_is_a_run_directory(tmp_path: Path, case: str) -> None:
    overrides, message = REFUSED[case]
    with pytest.raises(ConfigError, match=message) as error:
        Simulation(digits(tmp_path, *overrides), directory=tmp_path / "run")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "run").exists()


def test_without_the_library_one_line_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "tenseal":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ConfigError, match=r'needs tenseal; pip install "raysim-fl\[he\]"'):
        Simulation(digits(tmp_path, KEY + "bfv"))
