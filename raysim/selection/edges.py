"""Which edge of a hierarchy each client belongs to: found once for a federation, from configuration and seed."""

from __future__ import annotations

import hashlib
import heapq
from pathlib import Path
from weakref import WeakKeyDictionary

import numpy as np
import pyarrow as pa
import pyarrow.csv as pc
import pyarrow.parquet as pq

from raysim import keyed
from raysim.arrays import Int32, Int64
from raysim.config import Experiment
from raysim.config.edges import FileAssignConfig, HierFavgConfig, SizeAssignConfig
from raysim.data import Federation
from raysim.errors import ConfigError

_KEY = "algorithm.assign"


def edges_of(experiment: Experiment, federation: Federation) -> Int32 | None:
    """The edge of each client, `[population]`; None where there is no hierarchy.

    Raises:
        ConfigError: a file that names them is missing or damaged, or does not fit the clients.
    """
    config = experiment.algorithm
    if not isinstance(config, HierFavgConfig):
        return None
    known = _FOUND.get(federation)
    if known is None or known[0] != (experiment.seed, config):
        known = (experiment.seed, config), _assigned(experiment.seed, config, federation)
        _FOUND[federation] = known
    return known[1]


_FOUND: WeakKeyDictionary[Federation, tuple[tuple[int, HierFavgConfig], Int32]] = WeakKeyDictionary()


def edge_bits(experiment: Experiment) -> dict[str, str]:
    """What the bits of a run depend on besides its configuration: the contents of the file that names the edges."""
    config = experiment.algorithm
    if not isinstance(config, HierFavgConfig) or not isinstance(config.assign, FileAssignConfig):
        return {}
    return {f"{_KEY}.path": hashlib.sha256(_file(config.assign.path).read_bytes()).hexdigest()}


def _assigned(seed: int, config: HierFavgConfig, federation: Federation) -> Int32:
    population, edges = federation.population, config.edges
    if isinstance(config.assign, FileAssignConfig):
        return _read(config.assign, edges, population)
    key = keyed.bits(seed, keyed.Purpose.EDGE, np.arange(population))
    found = np.empty(population, dtype=np.int32)
    if isinstance(config.assign, SizeAssignConfig):
        sizes = federation.sizes("train")
        emptiest = [(0, edge) for edge in range(edges)]
        for client in np.lexsort((key, -sizes)).tolist():
            held, edge = emptiest[0]
            found[client] = edge
            heapq.heapreplace(emptiest, (held + int(sizes[client]), edge))
        return found
    found[np.argsort(key, kind="stable")] = np.arange(population) % edges
    return found


def _read(config: FileAssignConfig, edges: int, population: int) -> Int32:
    path = config.path
    try:
        file = _file(path)
        table = pq.read_table(file) if file.suffix == ".parquet" else pc.read_csv(file)
    except (OSError, pa.ArrowInvalid) as error:
        raise ConfigError(f"{_KEY}.path: {path} cannot be read ({str(error).splitlines()[0]})") from None
    for name in ("client", config.column):
        if name not in table.column_names:
            raise ConfigError(f"{_KEY}: {path} has no column {name!r}, but {', '.join(table.column_names[:8])}")
        if table[name].null_count or "" in table[name].to_pylist():
            raise ConfigError(f"{_KEY}: {path} has a row without {name!r}; fill it in")
    clients = table["client"].to_numpy()
    if not np.array_equal(np.sort(clients), np.arange(population)):
        raise ConfigError(
            f"{_KEY}: {path} must have a row for each of the {population:,} clients, by their numbers from 0; it has "
            f"{len(clients):,}, {_unlike(clients, population)}"
        )
    names, place = np.unique(np.asarray(table[config.column].to_pylist()), return_inverse=True)
    if len(names) != edges:
        raise ConfigError(f"algorithm.edges: {edges}, but {path} names {len(names)} of them; set it to that")
    found = np.empty(population, dtype=np.int32)
    found[clients] = place
    return found


def _unlike(clients: Int64, population: int) -> str:
    """What is wrong with the numbers of clients in a file."""
    if clients.dtype.kind not in "iu":
        return "which are no whole numbers"
    numbers, count = np.unique(clients, return_counts=True)
    if (count > 1).any():
        return f"client {numbers[count > 1][0]} twice"
    missing = np.setdiff1d(np.arange(population), numbers)
    return f"without client {missing[0]}" if len(missing) else f"with client {numbers[-1]}"


def _file(path: str) -> Path:
    file = Path(path).expanduser()
    if not file.is_file():
        raise ConfigError(f"{_KEY}.path: no such file: {path}")
    return file
