"""Secure aggregation in whole runs, in process: the model of the plain run, and one line for what cannot be."""

from __future__ import annotations

import builtins
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from federations import digits, final_sha256

from raysim import Simulation
from raysim.errors import ConfigError, RunError
from raysim.execution.server.server import Server

KEY = "aggregation.protection="
MASKED = {"secagg": "name: secagg", "secagg_plus": "name: secagg_plus, neighbours: 2"}
DROPOUT = ", threshold: 0.51, dropout: {upload: 0.2, unmask: 0.1}"
NARROW = ", bits: 16, clip: 0.5"


def protected(name: str, options: str = "") -> str:
    return f"{KEY}{{{name}{options}}}"


@pytest.mark.parametrize("algorithm", ["fedavg", "scaffold", "qfedavg"])
@pytest.mark.parametrize("name", MASKED)
def test_the_model_is_that_of_the_plain_run(tmp_path: Path, name: str, algorithm: str) -> None:
    run = ["rounds=2", f"algorithm={algorithm}", "aggregation.stages=[{name: clip, max_norm: 0.5}]"]
    plain = final_sha256(digits(tmp_path, *run))
    assert final_sha256(digits(tmp_path, *run, protected(MASKED[name]))) == plain


@pytest.mark.parametrize("options", ["", DROPOUT, NARROW, NARROW + DROPOUT])
def test_masks_change_nothing_about_the_same_integers(tmp_path: Path, options: str) -> None:
    run = ["rounds=2", "cohort=6"]
    unmasked = options.replace(", threshold: 0.51", "").replace(", unmask: 0.1", "")
    expected = final_sha256(digits(tmp_path, *run, protected("name: unmasked", unmasked)))
    assert final_sha256(digits(tmp_path, *run, protected(MASKED["secagg"], options))) == expected
    assert (expected == final_sha256(digits(tmp_path, *run))) == (not options)


def test_bytes_of_every_phase_are_recorded(tmp_path: Path) -> None:
    with Simulation(
        digits(tmp_path, protected(MASKED["secagg"], DROPOUT), "cohort=6", "rounds=2"), directory=tmp_path / "run"
    ) as one:
        one.run()
        values = one.parameters
    dropped = 0
    for row in pq.read_table(tmp_path / "run" / "rounds.parquet").to_pylist():
        parts = [row[f"secagg/{name}"] for name in ("keys", "shares", "unmasking")]
        assert all(part > 0 for part in parts)
        records, models = row["cohort"] * 8 * (values + 1), row["cohort"] * 4 * values
        assert row["wire_up"] + row["wire_down"] == records + models + sum(parts)
        dropped += row["dropped"]
    assert dropped > 0
    reasons = pq.read_table(tmp_path / "run" / "clients.parquet")["dropped"].drop_null().to_pylist()
    assert set(reasons) == {"it dropped out before it sent its record"}


def test_a_narrow_record_is_short(tmp_path: Path) -> None:
    with Simulation(digits(tmp_path, protected(MASKED["secagg"], NARROW), "rounds=1")) as simulation:
        (committed,) = simulation
        words = 8 + -(-simulation.parameters * 18 // 8)
        assert committed.row.wire_up > committed.row.cohort * words
        protocol = sum(value for name, value in committed.metrics.items() if name.startswith("secagg/"))
        models = committed.row.cohort * 4 * simulation.parameters
        assert committed.row.wire_up + committed.row.wire_down == committed.row.cohort * words + models + protocol


def test_the_server_gets_masked_sums_and_only_what_opens_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[Any, Any]] = []
    apply = Server.apply

    def spy(
        self: Server,
        number: int,
        expected: Any,
        state: Any,
        model: Any,
        *records: Any,
        opening: Any = None,
        **more: Any,
    ) -> Any:
        seen.append(([{name: one.copy() for name, one in record.totals.items()} for record in records], opening))
        return apply(self, number, expected, state, model, *records, opening=opening, **more)

    monkeypatch.setattr(Server, "apply", spy)
    final_sha256(digits(tmp_path, "rounds=1"))
    final_sha256(digits(tmp_path, "rounds=1", KEY + "secagg"))
    (plain, nothing), (masked, opening) = seen
    assert nothing is None
    assert (plain[0]["update"] != masked[0]["update"].view("int64")).mean() > 0.99
    assert set(opening.shares) == {0, 1, 2, 3}


def test_too_few_survivors_end_the_run_in_one_line(tmp_path: Path) -> None:
    lost = KEY + "{name: secagg, dropout: {upload: 0.9}}"
    with pytest.raises(RunError, match=r"round 1: secure aggregation: \d of 6 clients sent a record, and 4 must"):
        final_sha256(digits(tmp_path, lost, "cohort=6"))


def test_a_value_out_of_range_leaves_its_client_out_of_the_run(tmp_path: Path) -> None:
    large = ["client.optimizer.lr=30000", "client.steps=2", "rounds=1", KEY + "secagg"]
    with pytest.raises(RunError, match=r"every client was dropped.* have no room in a masked sum"):
        final_sha256(digits(tmp_path, *large))


REFUSED = {
    "cohort of one": (["cohort=1", KEY + "secagg"], "protection: in a cohort of one the sum is the record of that one"),
    "floats": (["aggregation.exact=false", KEY + "secagg"], "secagg hides .* set aggregation.exact to true"),
    "learned": (
        ["aggregation.weights=learned", "data.validation=0.1", KEY + "secagg"],
        "secagg hides .* learned weights try them one by one",
    ),
    "rows": (
        [
            "model={name: mlp_lora, hidden: [6], rank: 2}",
            "algorithm={name: flora, products: rows}",
            KEY + "secagg_plus",
        ],
        "server takes 'update' of every client",
    ),
    "stage": (
        ["aggregation.stages=['prototype_stages:TopK']", KEY + "secagg"],
        r"stages\[0\]: TopK works on the road rows or sum, but with this aggregation.protection records travel",
    ),
    "neighbours": ([KEY + "{name: secagg_plus, neighbours: 4}"], "neighbours: 4 of a cohort of 4; expected fewer"),
    "odd": ([KEY + "{name: secagg_plus, neighbours: 3}"], "neighbours.* multiple of 2"),
    "threshold": ([KEY + "{name: secagg, threshold: 0.5}"], "threshold.* greater than 0.5"),
    "bits": ([KEY + "{name: secagg, bits: 48, clip: 1}"], "bits is 48; expected 64, or 2 to 32"),
    "no clip": ([KEY + "{name: secagg, bits: 16}"], "16 bits need a largest magnitude of a value; set clip"),
    "clip": ([KEY + "{name: secagg, clip: 1}"], "clip is for 32 bits or fewer"),
    "name": ([KEY + "masks"], "protection: unknown name 'masks'; did you mean 'unmasked'"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_masked_is_refused_before_there_is_a_run_directory(tmp_path: Path, case: str) -> None:
    overrides, message = REFUSED[case]
    with pytest.raises(ConfigError, match=message) as error:
        Simulation(digits(tmp_path, *overrides), directory=tmp_path / "run")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "run").exists()


def test_without_the_library_one_line_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "cryptography":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ConfigError, match=r'needs cryptography; pip install "raysim-fl\[secagg\]"'):
        Simulation(digits(tmp_path, KEY + "secagg"))
