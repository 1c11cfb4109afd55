"""Files of every kind that a user can point at, keyed mutations of each: read, or refused in a line.

`RAYSIM_MUTATIONS=10` tries ten times as many (see `tests/end_to_end/test_hostile_configurations.py`).
"""

from __future__ import annotations

import gzip
import json
import os
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow as pa
import pytest
import torch
from federations import digits
from mutations import mutated_bytes
from pyarrow import csv, parquet
from safetensors.numpy import save_file

from raysim import Simulation
from raysim.config.sources import IdxConfig, NpzConfig, TableConfig, TextConfig
from raysim.config.text import CorpusConfig
from raysim.data.sources import load_source
from raysim.data.sources.corpus.sequences import Sequences, packed
from raysim.data.sources.corpus.token_files import open_tokens
from raysim.data.store import ArrowFederation
from raysim.errors import RaysimError
from raysim.models.weights import load_weights
from raysim.tracking import CheckpointFolder, RunDirectory, read_clients, read_rounds

TIMES = int(os.environ.get("RAYSIM_MUTATIONS", "1"))
ROWS = 40
X = np.arange(ROWS * 3, dtype=np.float32).reshape(ROWS, 3)
Y = np.arange(ROWS) % 3
TABLE = pa.table({"a": X[:, 0], "b": [f"c{v}" for v in Y], "who": [f"w{v % 5}" for v in range(ROWS)], "y": Y})
TEXTS = {f"role {n}": "To be, or not to be, that is the question. " * 3 for n in range(4)}


def idx(array: np.ndarray) -> bytes:
    return b"\0\0\x08" + bytes([array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Good files of every kind, the shard store of a federation, and a run that stopped half way."""
    folder = tmp_path_factory.mktemp("originals")
    csv.write_csv(TABLE, folder / "table.csv")
    (folder / "table.csv.gz").write_bytes(gzip.compress((folder / "table.csv").read_bytes(), mtime=0))
    parquet.write_table(TABLE, folder / "table.parquet")
    np.savez(folder / "data.npz", x=X, y=Y)
    np.savez_compressed(folder / "packed.npz", x=X, y=Y, client=np.arange(ROWS) % 4)
    (folder / "x.idx").write_bytes(idx(np.zeros((ROWS, 4, 4), np.uint8)))
    (folder / "y.idx").write_bytes(idx(Y.astype(np.uint8)))
    (folder / "x.idx.gz").write_bytes(gzip.compress((folder / "x.idx").read_bytes(), mtime=0))
    (folder / "texts.json").write_text(json.dumps(TEXTS))
    parquet.write_table(pa.table({"client": list(TEXTS), "text": list(TEXTS.values())}), folder / "texts.parquet")
    (folder / "documents.jsonl").write_text("\n".join(json.dumps({"client": n, "text": t}) for n, t in TEXTS.items()))
    (folder / "documents.jsonl.gz").write_bytes(gzip.compress((folder / "documents.jsonl").read_bytes(), mtime=0))
    (folder / "text.txt").write_text("".join(TEXTS.values()))
    load_source(CorpusConfig(path=str(folder / "documents.jsonl")), seed=0, cache=folder / "cache")
    (tokenised,) = (folder / "cache" / "tokens").iterdir()
    tokenised.rename(folder / "tokenised")
    save_file({"weight": np.zeros((2, 3), np.float32), "bias": np.zeros(2, np.float32)}, folder / "w.safetensors")
    simulation = Simulation(digits(folder), directory=folder / "run")
    with simulation:
        for done in simulation:
            if done.number == 2:
                break
    from raysim.execution.preparation.prepare import prepare_job

    shutil.copytree(prepare_job(digits(folder)).job.federation.path, folder / "store")
    return folder


def table(path: Path) -> None:
    name = "parquet" if path.suffix == ".parquet" else "csv"
    load_source(TableConfig(name=name, path=str(path), label="y", client="who"), seed=0)


def pair(path: Path) -> None:
    load_source(IdxConfig(features=str(path), labels=str(path.parent / "y.idx")), seed=0)


def corpus(path: Path) -> None:
    with TemporaryDirectory() as cache:
        load_source(CorpusConfig(path=str(path)), seed=0, cache=Path(cache))


def tokens(path: Path) -> None:
    files = open_tokens(path.parent)
    windows = packed(files, files.test == 0, 8)
    Sequences(files, windows, 8).weight(np.arange(len(windows.start)))


def weights(path: Path) -> None:
    load_weights(torch.nn.Linear(3, 2), str(path), name="linear")


def store(path: Path) -> None:
    federation = ArrowFederation(path.parent)
    federation.verify()
    for client in range(federation.population):
        federation.shard(client).x.sum()


def run(path: Path) -> None:
    found = RunDirectory.open(next(parent for parent in path.parents if (parent / "config.yaml").exists()))
    found.experiment()
    found.read_environment()
    read_rounds(found)
    list(read_clients(found))
    CheckpointFolder(found).latest()


KINDS: dict[str, Callable[[Path], object]] = {
    "table.csv": table,
    "table.csv.gz": table,
    "table.parquet": table,
    "data.npz": lambda path: load_source(NpzConfig(path=str(path)), seed=0),
    "packed.npz": lambda path: load_source(NpzConfig(path=str(path)), seed=0),
    "x.idx": pair,
    "x.idx.gz": pair,
    "texts.json": lambda path: load_source(TextConfig(path=str(path)), seed=0),
    "texts.parquet": lambda path: load_source(TextConfig(path=str(path)), seed=0),
    "documents.jsonl": corpus,
    "documents.jsonl.gz": corpus,
    "text.txt": corpus,
    "tokenised/documents.npy": tokens,
    "tokenised/turns.npy": tokens,
    "tokenised/names.json": tokens,
    "w.safetensors": weights,
    "store/manifest.json": store,
    "store/index.arrow": store,
    "store/train.arrow": store,
    "run/config.yaml": run,
    "run/environment.json": run,
    "run/rounds.parquet": run,
    "run/clients.parquet": run,
    "run/checkpoints/round-000002/manifest.json": run,
    "run/checkpoints/round-000002/layout.json": run,
    "run/checkpoints/round-000002/server.safetensors": run,
}


@pytest.mark.parametrize("number", range(2 * TIMES))
@pytest.mark.parametrize("name", KINDS)
def test_a_mutated_file_is_read_or_refused_in_a_line(originals: Path, name: str, number: int) -> None:
    path = originals / name
    good = path.read_bytes()
    key = number * len(KINDS) + list(KINDS).index(name)
    lines: list[str] = []
    path.write_bytes(mutated_bytes(good, key))
    try:
        KINDS[name](path)
    except RaysimError as error:
        lines = str(error).split("\n")
    finally:
        path.write_bytes(good)
    assert all(len(line) < 2200 for line in lines), lines


def test_the_originals_are_read(originals: Path) -> None:
    for name, read in KINDS.items():
        read(originals / name)
