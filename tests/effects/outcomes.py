"""What comes out of a tiny run, whole: two runs whose configurations differ in a key with an effect differ in it."""

from __future__ import annotations

import copy
import hashlib
import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from safetensors.torch import save_file

from raysim import Experiment, Simulation
from raysim.config.loading import apply_overrides
from raysim.errors import RaysimError
from raysim.tracking import QuietObserver

BASE: dict[str, Any] = {
    "rounds": 3,
    "cohort": 2,
    "data": {"partition": {"name": "iid", "clients": 4}, "holdout": 0.2, "validation": 0.1, "source": "in_memory"},
    "client": {"batch_size": 5, "optimizer": {"lr": 0.3}},
    "training": {"engine": "sequential"},
    "execution": {"executor": "inprocess"},
    "tracking": {"report": False},
}
FOLDER = "<FOLDER>"
"""In a value: the folder of the files that `write_files` makes."""


class Notes(QuietObserver):
    """Keeps what people are told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def note(self, text: str, level: Any = "info") -> None:
        self.told.append(text)


def arrays(kind: str = "real") -> dict[str, Any]:
    """Some 60 samples of a kind: `real`, `numbers` to regress on, `two` classes, `images`, `tokens`, `holes`."""
    random = np.random.default_rng(7)
    x: Any = random.normal(size=(64, 4)).astype(np.float32)
    y: Any = np.argmax(x[:, :3] + random.normal(size=(64, 3)), axis=1)
    client: Any = np.repeat(np.arange(5), [28, 16, 12, 6, 2])
    if kind == "numbers":
        y = (3 * x[:, 0] + x[:, 1]).astype(np.float32)
    elif kind == "two":
        y = (y > 0).astype(int)
    elif kind == "images":
        x, y = random.integers(0, 256, (64, 1, 28, 28), dtype=np.uint8), np.arange(64) % 3
    elif kind == "photos":
        x, y = random.integers(0, 256, (64, 3, 32, 32), dtype=np.uint8), np.arange(64) % 3
    elif kind == "tokens":
        x = random.integers(0, 9, (64, 6))
        y = (x + 1) % 9
    elif kind == "holes":
        x[::7, 1] = np.nan
        x[client == 4] = np.nan
    return {"x": x, "y": y, "client": client}


def stub_report(runs: Sequence[Path], out: Path | None = None) -> Path:
    """Stands in for `write_report`, whose pictures take a second: only that there is one is looked at."""
    path = Path(out or runs[0] / "report.html")
    path.touch()
    return path


def linear() -> torch.nn.Module:
    """A module to hand over, the same each time."""
    module = torch.nn.Linear(4, 3)
    module.load_state_dict({"weight": torch.ones(3, 4), "bias": torch.zeros(3)})
    return module


def write_files(folder: Path) -> None:
    """Sources of every form that is read from files, a model's weights, and a table of groups."""
    found, random = arrays(), np.random.default_rng(1)
    x, y, client = found["x"], found["y"], found["client"]
    np.savez(folder / "a.npz", **found)
    np.savez(folder / "b.npz", x=x[::-1], y=y, client=client)
    np.savez(folder / "floats.npz", x=x, y=y.astype(np.float32))
    kinds = [["p", "q", "r", "?"][i % 4] for i in range(64)]
    columns = {"one": x[:, 0], "two": x[:, 1], "kind": kinds, "number": y.astype(float), "who": client, "label": y}
    for name, rows in (("a", slice(None)), ("b", slice(0, 40))):
        table = pa.table({key: list(values[rows]) for key, values in columns.items()})
        pq.write_table(table, folder / f"{name}.parquet")
        lines = [",".join(map(str, row.values())) for row in table.to_pylist()]
        (folder / f"{name}.csv").write_text("\n".join([",".join(columns), *lines]) + "\n")
    days = [f"2024-0{1 + i % 7}-{1 + i % 27:02d},20{i % 30:02d}-01-02,{i % 3}" for i in range(60)]
    (folder / "days.csv").write_text("\n".join(["day,other,label", *days]) + "\n")
    for name in ("a", "b"):
        texts = {owner: " ".join(random.choice(list("abcde fg"), 60)) for owner in ("x", "y", "z")} | {"w": "abcabc"}
        (folder / f"{name}.json").write_text(json.dumps(texts))
        for part, count in (("train", 60), ("t10k", 20)):
            pixels, labels = random.integers(0, 255, (count, 4, 4), np.uint8), np.arange(count, dtype=np.uint8) % 10
            for kind, values in (("images-idx3", pixels), ("labels-idx1", labels)):
                head = bytes([0, 0, 8, values.ndim]) + b"".join(size.to_bytes(4, "big") for size in values.shape)
                (folder / f"mnist-{name}").mkdir(exist_ok=True)
                (folder / f"mnist-{name}" / f"{part}-{kind}-ubyte").write_bytes(head + values.tobytes())
        cifar = folder / f"cifar-{name}"
        cifar.mkdir()
        for batch in ("data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5", "test_batch"):
            rows = random.integers(0, 255, (20, 3073), np.uint8)
            rows[:, 0] %= 10
            (cifar / f"{batch}.bin").write_bytes(rows.tobytes())
    for name, speeds in (("devices", (10, 3, 1)), ("slower", (5, 2, 1))):
        lines = [f"{device},{speed}" for device, speed in enumerate(speeds)]
        (folder / f"{name}.csv").write_text("\n".join(["device,speed", *lines]) + "\n")
    for name, start in (("windows", 0), ("later", 2000)):
        (folder / f"{name}.csv").write_text(f"device,start,end\n0,{start},{start + 900}\n1,{start + 30},5000\n")
    documents = [
        {
            key: "".join(random.choice(list("abcd "), size)) + "."
            for key, size in (("text", 9), ("more", 7), ("asked", 3))
        }
        | {"kind": "xyz"[i % 3], "group": i % 2, "other": i % 5 % 2}
        for i in range(48)
    ]
    (folder / "documents.jsonl").write_text("\n".join(map(json.dumps, documents)))
    (folder / "groups.csv").write_text("client,one,two\n0,a,x\n1,a,y\n2,b,y\n3,b,y\n")
    (folder / "other.csv").write_text("client,one\n0,a\n1,b\n2,b\n3,b\n")
    save_file({"0.weight": torch.ones(3, 4), "0.bias": torch.ones(3)}, folder / "softmax.safetensors")


def settings(overrides: Sequence[str]) -> dict[str, Any]:
    """The base with these overrides."""
    return apply_overrides(copy.deepcopy(BASE), list(overrides))


class Lab:
    """Runs configurations below one folder, each once."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.files = folder, folder / "files"
        self.files.mkdir()
        self.seen: dict[tuple[Look, tuple[str, ...]], Any] = {}
        self.outcome = lru_cache(maxsize=None)(self._outcome)

    def placed(self, overrides: Sequence[str]) -> tuple[tuple[str, ...], str]:
        """The overrides with the files' folder in its place, and the kind of data that a first `data:KIND` asks for."""
        kind = next((one.removeprefix("data:") for one in overrides if one.startswith("data:")), "real")
        rest = [one.replace(FOLDER, str(self.files)) for one in overrides if not one.startswith(("data:", "module:"))]
        return tuple(rest), kind

    def experiment(self, overrides: Sequence[str]) -> tuple[Experiment, Any]:
        """The experiment, and the arrays for it where its source is in memory."""
        rest, kind = self.placed(overrides)
        number = len(list(self.folder.iterdir()))
        values = settings(rest)
        values.setdefault("tracking", {}).setdefault("directory", str(self.folder / f"runs-{number}"))
        experiment = Experiment.parse(values)
        return experiment, arrays(kind) if experiment.data.source.name == "in_memory" else None

    def _outcome(self, overrides: tuple[str, ...]) -> Mapping[str, Any]:
        """All that a run leaves and says, but for its clocks; a refusal is an outcome, too."""
        notes = Notes()
        try:
            experiment, data = self.experiment(overrides)
            module = linear() if "module:given" in overrides else None
            with Simulation(experiment, model=module, data=data, progress=notes) as run:
                rounds = list(run)
                module = run.model()
        except RaysimError as error:
            return {"refused": re.sub(r"runs-\d+|experiment-[\d-]+", "…", str(error))}
        digest = hashlib.sha256()
        for name, tensor in sorted(module.state_dict().items()):
            digest.update(
                name.encode() + tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
            )
        environment = json.loads((run.directory / "environment.json").read_text())
        checkpoints = sorted(path.name for path in (run.directory / "checkpoints").glob("*"))
        elsewhere = experiment.tracking.checkpoints
        return {
            "model": digest.hexdigest(),
            "metrics": [{name: repr(value) for name, value in one.metrics.items()} for one in rounds],
            "clients": [_without(one.clients.to_pylist(), "seconds", "worker") for one in rounds],
            "bytes": [(one.row.transport_up, one.row.transport_down, one.row.clamped) for one in rounds],
            "bits": environment["bits"],
            "files": sorted(path.name for path in run.directory.iterdir()),
            "checkpoints": (checkpoints, sorted(os.listdir(elsewhere)) != [] if elsewhere else None),
            "where": [re.sub(r"-\d{8}-\d{6}.*|runs-\d+", "", part) for part in run.directory.parts[-2:]],
            "notes": notes.told,
            "generated": run.generated,
        }


def _without(rows: list[dict[str, Any]], *names: str) -> list[dict[str, Any]]:
    return [{key: repr(value) for key, value in row.items() if key not in names} for row in rows]


Look = Callable[[Lab, tuple[str, ...]], Any]
