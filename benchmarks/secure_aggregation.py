"""What secure aggregation and homomorphic encryption cost: milliseconds and bytes of each phase.

    python benchmarks/secure_aggregation.py masks                 # 1M values, 100 clients, 20 neighbours: a minute
    python benchmarks/secure_aggregation.py encryption            # 1M values, 10 clients
    python benchmarks/secure_aggregation.py flower flwr.whl       # Flower's masks, from a wheel of it

One round without training, in this process. Times are processor milliseconds of one client or of the server.
"""

from __future__ import annotations

import importlib.util
import sys
import tempfile
import time
import zipfile
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from raysim.aggregation import Field, Question, WeightedMean, build_rule, combine
from raysim.config.server import AggregationConfig
from raysim.privacy.secagg.words import formats, message_bytes, pack, word_bits

SIZE, SEED, ROUND = 1_000_000, 1, 1
CPU = torch.device("cpu")
FIELDS = (Field("update", SIZE),)
COLUMNS: Any = SimpleNamespace(size=SIZE, trainable=SIZE)


class Spent:
    """Processor seconds by phase."""

    def __init__(self) -> None:
        self.of: dict[str, float] = defaultdict(float)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Add what is spent inside."""
        began = time.process_time()
        yield
        self.of[name] += time.process_time() - began


def update(client: int) -> torch.Tensor:
    """A client's update `[1, SIZE]`."""
    generator = torch.Generator().manual_seed(client)
    return torch.randn(1, SIZE, generator=generator) * 0.1


def one_round(config: dict[str, Any], clients: int, lost: int = 0) -> tuple[Spent, Any, list[Any]]:
    """A round of these clients, of whom the last `lost` do not send a record."""
    rule: Any = build_rule(AggregationConfig.model_validate({"protection": config}), FIELDS, COLUMNS)
    spent, cohort = Spent(), np.arange(clients)

    def ask(question: Question) -> list[bytes]:
        with spent.phase(question.stage):
            found: list[bytes] = rule.protocol.answer(SEED, question)
        return found

    with spent.phase("begin"):
        begun = rule.protocol.begin(SEED, ROUND, cohort, ask)
    bound = rule.among(begun.peers, SEED, ROUND, lambda *given: None)
    weight = np.array([1 / clients])
    records: list[Any] = []
    for client in range(clients - lost):
        sent = {"update": update(client)}
        accumulator = bound.accumulator(ROUND, CPU)
        with spent.phase("record"):
            accumulator.fold(np.array([client]), weight, sent)
            record = accumulator.seal()
        with spent.phase("plain record"):
            plain = WeightedMean(FIELDS).accumulator(ROUND, CPU)
            plain.fold(np.array([client]), weight, sent)
            plain.seal()
        if client == 0 and hasattr(record, "totals"):
            check_packed(rule, record, clients)
        with spent.phase("server: add"):
            records = [combine([*records, record])]
    contributed = np.arange(clients - lost, dtype=np.int32)
    with spent.phase("end"):
        opening = rule.protocol.end(SEED, ROUND, begun, contributed, ask)
    with spent.phase("server: open"):
        opened = rule.opened(records, opening, SEED)
    return spent, opening, [int(bound.message_bytes([SIZE], ROUND, cohort[:1])[0]), opened]


def check_packed(rule: Any, record: Any, clients: int) -> None:
    """Encode a record for the wire, and compare its length with what is counted."""
    fields = formats(rule._config, FIELDS, clients)
    bits = {".weight": 64} | {field.name: word_bits(field) for field in fields}
    began = time.process_time()
    text = pack({".weight": np.array([record.weight], np.uint64)} | dict(record.totals), bits)
    print(f"    packed in {1e3 * (time.process_time() - began):.0f} ms: {len(text):,} bytes")
    assert len(text) == message_bytes(fields, [SIZE])


def masks() -> None:
    """SecAgg+ of 100 clients, five of whom are lost after the others masked their records."""
    for bits in ({"bits": 16, "clip": 1.0}, {}):
        config = {"name": "secagg_plus", "neighbours": 20, **bits}
        clients, lost = 100, 5
        print(f"SecAgg+, {clients} clients, {lost} of them lost, 20 neighbours, {bits.get('bits', 64)} bits")
        spent, opening, (record, _) = one_round(config, clients, lost)
        for phase, count in (("advertise", clients), ("share", clients), ("record", clients - lost)):
            print(f"    {phase}: {1e3 * spent.of[phase] / count:.1f} ms a client")
        print(f"    a plain record: {1e3 * spent.of['plain record'] / (clients - lost):.1f} ms a client")
        print(f"    unmask: {1e3 * spent.of['unmask'] / (clients - lost):.1f} ms a client")
        print(f"    server: {1e3 * spent.of['server: open']:.0f} ms to take all masks off the sum")
        print(f"    record: {record:,} bytes, {record / (2 * SIZE):.3f} of 16 bits a value")
        for name, value in opening.metrics.items():
            print(f"    {name}: {value / clients:,.0f} bytes a client, both ways")
    bits_of_many = formats(
        AggregationConfig.model_validate({"protection": config | {"bits": 16, "clip": 1.0}}).protection, FIELDS, 1000
    )
    print(f"at 1,000 clients: {message_bytes(bits_of_many, [SIZE]) / (2 * SIZE):.3f} of 16 bits a value")


def encryption() -> None:
    """BFV, of all values and of a tenth of them, and CKKS."""
    clients = 10
    exact = WeightedMean(FIELDS).accumulator(ROUND, CPU)
    for client in range(clients):
        exact.fold(np.array([client]), np.array([1 / clients]), {"update": update(client)})
    plain: Any = exact.seal()
    for config in (
        {"name": "bfv"},
        {"name": "bfv", "share": 0.1},
        {"name": "bfv", "bits": 16, "clip": 1.0},
        {"name": "ckks"},
    ):
        spent, opening, (record, opened) = one_round(config, clients)
        off = np.abs(opened[0].totals["update"] - plain.totals["update"]).max() / 2.0**52
        ms = {name: 1e3 * seconds for name, seconds in spent.of.items()}
        print(f"{config}: keys {ms['begin']:.0f} ms, encrypt {ms['record'] / clients:.0f} ms a client")
        print(f"    add {ms['server: add'] / (clients - 1):.0f} ms a record, decrypt {ms['server: open']:.0f} ms")
        print(
            f"    record: {record:,} bytes a client; {', '.join(f'{k} {v:,.0f}' for k, v in opening.metrics.items())}"
        )
        if config.get("bits") is None:
            print(f"    the sum is {'that of the plain run, bit for bit' if off == 0 else f'off by at most {off:.1e}'}")


def flower(wheel: str) -> None:
    """The masks of one client with 20 neighbours, as Flower makes them."""
    with tempfile.TemporaryDirectory() as folder:
        name = "flwr/common/secure_aggregation/secaggplus_utils.py"
        lines = zipfile.ZipFile(wheel).read(name).decode().splitlines()
        text = "\n".join(line for line in lines if not line.startswith("from flwr"))  # types, which annotations name
        (place := Path(folder) / "utils.py").write_text("from __future__ import annotations\n" + text)
        spec = importlib.util.spec_from_file_location("utils", place)
        assert spec is not None
        assert spec.loader is not None
        utils = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(utils)
        make = partial(utils.pseudo_rand_gen, num_range=1 << 32, dimensions_list=[(SIZE,)])
        began = time.process_time()
        total = np.zeros(SIZE, np.int64)
        for neighbour in range(21):
            total += make(bytes([neighbour]) * 32)[0]
        print(f"Flower's masks of a client with 20 neighbours: {1e3 * (time.process_time() - began):.0f} ms")
        folded = make(b"\1\0\0\0" + bytes(28))[0], make(bytes(28) + b"\1\0\0\0")[0]
        print(f"two of its 256-bit seeds give the same mask: {bool((folded[0] == folded[1]).all())}")


if __name__ == "__main__":
    torch.set_num_threads(1)
    {"masks": masks, "encryption": encryption, "flower": flower}[sys.argv[1]](*sys.argv[2:])
