"""What is trained: the workloads, their data, and the cohort of every round, which are the same for all sides.

A federation is a folder of plain NumPy files, made once. A client's samples lie together and are shuffled already, so
a side that goes through them in order trains on as random a batch as one that shuffles.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

SEED = 0
ROUNDS_DRAWN = 2000
"""Cohorts kept with a federation; no run may have more rounds."""
_VERSION = 1
"""Raise it when the samples or cohorts of an unchanged workload change."""


@dataclass(frozen=True, slots=True)
class Workload:
    """A federation, a model, and the work of a round. Plain SGD, one local epoch, averages weighted by samples."""

    title: str
    data: Literal["mnist", "gaussian", "virtual"]
    """`mnist`: two labels a client, power-law sizes; `gaussian`: normal features, `samples` for every client."""
    model: Literal["softmax", "mlp", "cnn_cifar", "wide"]
    shape: tuple[int, ...]
    """Of a sample."""
    clients: int
    cohort: int
    samples: int
    """Of each client."""
    lr: float
    rounds: int
    """Timed rounds, after `warmup` others."""
    warmup: int = 2
    batch: int = 10
    more: int = 1
    """raysim is timed over so many times the rounds: small ones it delivers many at a time, so that a short span would
    hold a few deliveries of work that began before it, and miss others."""
    evaluated: bool = False
    """Whether the model is evaluated on the test set after every round."""

    @property
    def unequal(self) -> bool:
        """Whether clients have different numbers of samples."""
        return self.data == "mnist"


_MNIST = Workload(
    "MNIST softmax 784→10, 10 of 1000 clients of power-law size",
    "mnist",
    "softmax",
    (784,),
    1000,
    10,
    0,
    0.03,
    100,
    20,
    more=8,
)
WORKLOADS = {
    "A": _MNIST,
    "Ae": Workload(**{**asdict(_MNIST), "title": f"{_MNIST.title}, evaluated each round", "evaluated": True}),
    "B": Workload(
        "softmax 60→10, 100 of 1000 clients of 60", "gaussian", "softmax", (60,), 1000, 100, 60, 0.1, 40, 20, more=25
    ),
    "C": Workload("784-200-200-10, 10 of 100 clients of 600", "gaussian", "mlp", (784,), 100, 10, 600, 0.1, 20, 10),
    "D": Workload(
        "pfl's CNN on 3x32x32, 50 of 1000 clients of 50", "gaussian", "cnn_cifar", (3, 32, 32), 1000, 50, 50, 0.05, 5, 1
    ),
}


@dataclass(frozen=True, slots=True)
class Federation:
    """The samples of all clients, in memory.

    Attributes:
        x: `[n, *shape]` float32, client after client.
        y: `[n]` int64.
        bounds: `[clients + 1]`: client k has the samples `bounds[k]` to `bounds[k + 1] - 1`.
        x_test, y_test: the server's test set; empty where there is none.
        cohorts: `[rounds, cohort]`, ascending ids; the first round's first.
    """

    x: Array
    y: Array
    bounds: Array
    x_test: Array
    y_test: Array
    cohorts: Array

    @classmethod
    def load(cls, folder: str | Path) -> Federation:
        """Read a federation that `prepare` made."""
        return cls(*(np.load(Path(folder) / f"{name}.npy") for name in cls.__dataclass_fields__))

    def span(self, client: int) -> tuple[int, int]:
        """First sample of a client, and the one after its last."""
        return int(self.bounds[client]), int(self.bounds[client + 1])


def prepare(workload: Workload, cache: Path) -> tuple[Path, str]:
    """Make a workload's federation below `cache` unless it is there; its folder, and what its samples are."""
    mnist = mnist_folder() if workload.data == "mnist" else None
    source = "MNIST" if mnist else "synthetic data of MNIST's shape" if workload.data == "mnist" else "synthetic data"
    fields = ("data", "shape", "clients", "cohort", "samples")
    key = json.dumps([_VERSION, source, *(getattr(workload, field) for field in fields)])
    folder = cache / "federations" / hashlib.sha256(key.encode()).hexdigest()[:16]
    if not folder.exists():
        temporary = folder.with_name(f".{folder.name}.{os.getpid()}")
        temporary.mkdir(parents=True)
        try:
            for name, array in {**_samples(workload, mnist), "cohorts": _cohorts(workload)}.items():
                np.save(temporary / f"{name}.npy", array)
            temporary.rename(folder)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    return folder, source


def mnist_folder() -> Path | None:
    """MNIST's folder below `$RAYSIM_DATA`, if it is there."""
    folder = Path(os.environ.get("RAYSIM_DATA", "")) / "mnist"
    return folder if "RAYSIM_DATA" in os.environ and folder.is_dir() else None


def power_law_shards(labels: Array, clients: int, random: np.random.Generator) -> list[Array]:
    """Deal samples as Li et al. 2020 deal MNIST: neighbouring labels k and k+1, five of each, the rest by a power law.

    Every label's spare samples are shared by its holders in proportion to lognormal(0, 2) draws, rounded down.

    Returns:
        The positions of each client's samples, shuffled; each sample is dealt at most once.
    """
    classes = int(labels.max()) + 1
    shares: list[list[Array]] = [[] for _ in range(clients)]
    for label in range(classes):
        owners = [client for client in range(clients) if label in (client % classes, (client + 1) % classes)]
        pool = random.permutation(np.flatnonzero(labels == label))
        draws = random.lognormal(0.0, 2.0, len(owners))
        counts = 5 + np.floor((len(pool) - 5 * len(owners)) * draws / draws.sum()).astype(int)
        for owner, part in zip(owners, np.split(pool, np.cumsum(counts))[:-1], strict=True):
            shares[owner].append(part)
    return [random.permutation(np.concatenate(parts)) for parts in shares]


def _samples(workload: Workload, mnist: Path | None) -> dict[str, Array]:
    random = np.random.default_rng(SEED)
    if workload.data == "gaussian":
        x, y = _gaussian(workload.clients * workload.samples, workload.shape, random)
        bounds = np.arange(workload.clients + 1) * workload.samples
        return {"x": x, "y": y, "bounds": bounds, "x_test": x[:0], "y_test": y[:0]}
    if mnist is None:
        x, y = _gaussian(70_000, workload.shape, random)
        x, x_test, y, y_test = x[:60_000], x[60_000:], y[:60_000], y[60_000:]
    else:
        x, y = _idx(mnist, "train")
        x_test, y_test = _idx(mnist, "t10k")
    shards = power_law_shards(y, workload.clients, random)
    order = np.concatenate(shards)
    bounds = np.cumsum([0, *map(len, shards)])
    return {"x": x[order], "y": y[order], "bounds": bounds, "x_test": x_test, "y_test": y_test}


def _gaussian(count: int, shape: tuple[int, ...], random: np.random.Generator) -> tuple[Array, Array]:
    """Normal features, labelled by a random linear rule that a model can learn."""
    x = random.standard_normal((count, *shape), dtype=np.float32)
    flat = x.reshape(count, -1)
    return x, np.argmax(flat @ random.standard_normal((flat.shape[1], 10), dtype=np.float32), axis=1).astype(np.int64)


def _idx(folder: Path, part: str) -> tuple[Array, Array]:
    """Images of an IDX pair as float32 in 0..1, flattened, and their labels."""
    images, labels = (_read(folder, f"{part}-{kind}") for kind in ("images-idx3-ubyte", "labels-idx1-ubyte"))
    y = np.frombuffer(labels, np.uint8, offset=8).astype(np.int64)
    return np.frombuffer(images, np.uint8, offset=16).reshape(len(y), -1).astype(np.float32) / np.float32(255), y


def _read(folder: Path, name: str) -> bytes:
    plain = folder / name
    return plain.read_bytes() if plain.exists() else gzip.decompress((folder / f"{name}.gz").read_bytes())


def _cohorts(workload: Workload) -> Array:
    """raysim's own draws: the other sides are told whom to train, so that all of them train the same clients."""
    from raysim import Experiment
    from raysim.selection.cohort import draw_cohort

    experiment = Experiment.parse({"seed": SEED, "cohort": workload.cohort})
    rounds = range(1, ROUNDS_DRAWN + 1)
    return np.stack([draw_cohort(experiment, workload.clients, number) for number in rounds]).astype(np.int32)
