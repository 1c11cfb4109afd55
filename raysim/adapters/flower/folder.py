"""The folder of a run of an app: how it is found and made, its settings, and Flower's log in it."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from raysim.adapters.flower.apps import FlowerApp
from raysim.adapters.flower.library import library
from raysim.adapters.flower.randomness import node_ids
from raysim.config.flower import FlowerConfig
from raysim.config.parsing import as_yaml
from raysim.files import looked_up, replacing, storing, write_text
from raysim.rounds.environment import environment
from raysim.tracking import RunDirectory

RUN_FILE = "flower.yaml"
"""What tells the directory of such a run from others."""


def is_flower_run(path: str | Path) -> bool:
    """Whether a folder is the run directory of an app of Flower."""
    return (looked_up(path) / RUN_FILE).is_file()


def new_folder(directory: str | Path | None, parent: str | Path, name: str) -> Path:
    """Make the run directory.

    Args:
        directory: the folder; None: a new one below `parent`, called by the name and the time.

    Raises:
        RaysimError: it holds something, or the disk refuses.
    """
    if directory is not None:
        RunDirectory.refuse_taken(directory)
        folder = Path(directory)
    else:
        stem = f"{name}-{time.strftime('%Y%m%d-%H%M%S')}"
        below = looked_up(parent).expanduser()
        tries = (below / (stem if i == 1 else f"{stem}-{i}") for i in range(1, 1000))
        folder = next(path for path in tries if not path.exists())
    with storing(folder, "cannot make the run directory"):
        folder.mkdir(parents=True, exist_ok=True)
    return folder


def write_settings(folder: Path, app: FlowerApp, config: FlowerConfig, nodes: int) -> None:
    """Write what a resume needs, the environment, and the ids of the nodes."""
    values = {
        "app": app.where,
        "flwr": library().version,
        "nodes": nodes,
        "run_config": dict(app.config),
        "config": config.to_dict(),
    }
    with storing(folder):
        write_text(folder / RUN_FILE, as_yaml(values))
        found = environment({"flwr": library().version})
        write_text(folder / "environment.json", json.dumps(found, indent=2, default=str) + "\n")
        with replacing(folder / "nodes.json") as temporary:
            temporary.write_text(json.dumps(node_ids(config.seed, nodes)) + "\n", encoding="utf-8")


@contextmanager
def flower_logs(file: Path) -> Iterator[None]:
    """Have Flower's log in a file; warnings also where they were, which is the standard error."""
    logger = logging.getLogger("flwr")
    levels = [(handler, handler.level) for handler in logger.handlers]
    with storing(file):
        own = logging.FileHandler(file, encoding="utf-8")
    own.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    for handler, level in levels:
        handler.setLevel(max(level, logging.ERROR))
    logger.addHandler(own)
    try:
        yield
    finally:
        logger.removeHandler(own)
        own.close()
        for handler, level in levels:
            handler.setLevel(level)
