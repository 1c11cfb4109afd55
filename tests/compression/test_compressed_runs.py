"""Compression in whole runs: the same bits after a resume, and bytes of every round in the tables."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from federations import broken_off, digits, final_sha256

from raysim import Simulation
from raysim.errors import ConfigError, RunError

STAGES = "aggregation.stages="


def compress(codec: str, more: str = "") -> str:
    return f"{{name: compress, codec: {codec}, dense_below: 17{more}}}"


CHAINS = {
    "top-k with error feedback": [compress("{name: topk, fraction: 0.05}", ", feedback: {name: ef14, decay: 0.9}")],
    "low rank of differences": [compress("{name: powersgd, rank: 2}", ", feedback: ef21")],
    "rotated integers of four bits": ["{name: rotate, block: 64}", compress("int4")],
    "sketch": ["{name: sketch, rows: 3, width: 150, fraction: 0.01, momentum: 0.5}"],
    "both ways": [compress("qsgd"), "{name: downlink, codec: {name: topk, fraction: 0.1}, dense_below: 17}"],
}


def stages(chain: str) -> str:
    return STAGES + f"[{', '.join(CHAINS[chain])}]"


@pytest.mark.parametrize("chain", CHAINS)
def test_a_resume_comes_to_the_bits_of_one_run(tmp_path: Path, chain: str) -> None:
    experiment = digits(tmp_path, stages(chain))
    expected = final_sha256(experiment)
    run, found = broken_off(experiment, after=2)
    assert found == expected
    rows = pq.read_table(run / "rounds.parquet").to_pylist()
    assert all(0 < row["wire_up"] < row["cohort"] * 4 * 1210 for row in rows)


def test_bytes_are_recorded_of_each_client_and_add_up_to_those_of_the_round(tmp_path: Path) -> None:
    with Simulation(digits(tmp_path, stages("both ways")), directory=tmp_path / "run") as simulation:
        simulation.run()
    table = pq.read_table(tmp_path / "run" / "rounds.parquet").to_pylist()
    clients = pq.read_table(tmp_path / "run" / "clients.parquet").to_pylist()
    seen: set[int] = set()
    for row in table:
        own = [client for client in clients if client["round"] == row["round"]]
        for name in ("wire_up", "wire_down"):
            assert sum(client[name] for client in own) == row[name]
        for client in own:
            assert (client["wire_down"] == 4 * 1210 + 8) == (client["client"] not in seen)
        seen |= {client["client"] for client in own}


def rounds(experiment: Any) -> list[Any]:
    with Simulation(experiment) as simulation:
        return [committed.row for committed in simulation]


def test_bytes_of_a_round_are_those_of_its_clients(tmp_path: Path) -> None:
    """A network of 64 x 16 + 16 x 10 weights in 8 bits with a unit a block of 512, and 26 biases in 32."""
    message = 5 + (64 * 16 + 16 * 10) + 4 * 3 + 4 * 26
    for row in rounds(digits(tmp_path, "rounds=2", STAGES + f"[{compress('int8')}]")):
        assert row.wire_up == row.cohort * message
        assert row.wire_down == row.cohort * 4 * 1210


def test_a_compressed_model_goes_whole_to_new_clients_and_as_messages_to_others(tmp_path: Path) -> None:
    everybody = ["cohort=6", "rounds=4", "selection=round_robin"]
    found = rounds(digits(tmp_path, *everybody, STAGES + "[{name: downlink, codec: fp16, dense_below: 0}]"))
    clock = 6 * 4 * 2  # the number of bytes sent so far, which clients read
    assert [row.wire_down - clock for row in found] == [6 * 4 * 1210, *[6 * (5 + 2 * 1210)] * 3]


def test_what_is_known_before_training_is_what_is_recorded(tmp_path: Path) -> None:
    experiment = digits(
        tmp_path, "rounds=2", STAGES + f"[{', '.join([CHAINS['rotated integers of four bits'][0], compress('int4')])}]"
    )
    with Simulation(experiment) as simulation:
        aggregation = simulation._prepared.aggregation
        for committed in simulation:
            clients = committed.clients["client"].to_numpy()
            most, known = aggregation.most_bytes(committed.number, clients)
            assert known
            assert most.sum() == committed.row.wire_up


def test_a_resume_with_another_codec_is_refused_in_one_line(tmp_path: Path) -> None:
    with Simulation(digits(tmp_path, "rounds=2", stages("sketch")), directory=tmp_path / "run") as simulation:
        simulation.run()
    for chain in ("both ways", "top-k with error feedback"):
        with pytest.raises(RunError, match=r"aggregation\.stages") as refused:
            Simulation.resume(tmp_path / "run", overrides=["rounds=3", stages(chain)])
        assert "\n" not in str(refused.value)


FACTORS = ["model={name: mlp_lora, hidden: [16], rank: 2}", "algorithm={name: fedex_lora}"]


def test_products_are_of_the_factors_that_were_sent(tmp_path: Path) -> None:
    """Cast to 16 bits and back, factors give the products that they have in 16 bits: another model."""
    found = [
        final_sha256(digits(tmp_path, "rounds=2", *FACTORS, STAGES + f"[{stage}]"))
        for stage in ("measure", compress("bf16"))
    ]
    assert found[0] != found[1]


@pytest.mark.parametrize(
    ("overrides", "reason"),
    [
        ([STAGES + "[{name: compress, codec: {name: topk, fraction: 0}}]"], "fraction"),
        ([STAGES + "[{name: compress, codec: {name: topk, fraction: 0.0001}}]"], "top-k of nothing"),
        ([STAGES + "[{name: compress, codec: majority, feedback: ef14}]"], "set codec to sign"),
        ([STAGES + "[{name: downlink, codec: majority}]"], "majority"),
        ([STAGES + "[{name: rotate, block: 100}]"], "expected a power of two"),
        ([STAGES + "[{name: compress, codec: zip}]"], "topk"),
        (["aggregation.protection=secagg", STAGES + "[{name: compress, codec: int8}]"], "works on the road"),
        ([*FACTORS, "algorithm.products=sums", STAGES + "[{name: compress, codec: int8, dense_below: 17}]"], "to rows"),
        ([*FACTORS, STAGES + "[{name: randk, dense_below: 17}]"], "takes 'update' of every client"),
        (["algorithm=fedkseed", STAGES + "[{name: downlink, codec: int8}]"], "sends clients no model"),
    ],
    ids=str,
)
def test_what_cannot_be_compressed_is_refused_before_there_is_a_run_directory(
    tmp_path: Path, overrides: list[str], reason: str
) -> None:
    with pytest.raises(ConfigError, match=reason) as refused:
        Simulation(digits(tmp_path, *overrides), directory=tmp_path / "run")
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "run").exists()
