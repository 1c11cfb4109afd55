"""A virtual environment for every peer, made on first use below a cache folder: never in the repository."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

TORCH = "torch==2.13.0"


@dataclass(frozen=True, slots=True)
class Recipe:
    """What an environment holds.

    Attributes:
        packages: pinned, installed with what they depend on.
        alone: pinned, installed without their dependencies and whatever Python they ask for.
        pythons: interpreters to prefer, where this machine has one of them.
    """

    packages: tuple[str, ...]
    alone: tuple[str, ...] = ()
    pythons: tuple[str, ...] = ()


RECIPES = {
    "pfl": Recipe(("pfl[pytorch]==0.6.0", TORCH)),
    # It asks for Python 3.14, and its documentation recommends the free-threaded build.
    "blazefl": Recipe((TORCH, "numpy>=2.3.1", "tqdm>=4.67.1"), ("blazefl==3.0.0",), ("python3.14t", "python3.14")),
    # 1.42.0 asks for a release of certifi that did not exist when this was written.
    "flower": Recipe(("flwr[simulation]==1.41.0", TORCH)),
}
"""By side; raysim and plain torch run with the interpreter that runs the benchmark."""


_refused: dict[str, str] = {}
"""Sides that could not be installed, and why: once is enough."""


class NotInstallable(Exception):
    """A side's packages cannot be had here."""


def interpreter(side: str, cache: Path) -> Path:
    """The interpreter to run a side with; makes its environment if it is not there.

    Raises:
        NotInstallable: pip failed; carries its last line.
    """
    recipe = RECIPES.get(side)
    if recipe is None:
        return Path(sys.executable)
    base = next((found for name in recipe.pythons if (found := shutil.which(name))), sys.executable)
    key = hashlib.sha256(json.dumps([asdict(recipe), base, sys.version]).encode()).hexdigest()[:12]
    folder = cache / "environments" / f"{side}-{key}"
    if side in _refused:
        raise NotInstallable(_refused[side])
    if not (folder / "complete").exists():
        print(f"{side}: making {folder}", file=sys.stderr, flush=True)
        try:
            _make(side, recipe, base, folder)
        except NotInstallable as reason:
            _refused[side] = str(reason)
            raise
    return folder / "bin" / "python"


def _make(side: str, recipe: Recipe, base: str, folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    _run([base, "-m", "venv", str(folder)])
    install = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    _run([*install, *recipe.packages])
    if recipe.alone:
        _run([*install, "--no-deps", "--ignore-requires-python", *recipe.alone])
    if side == "blazefl" and base == sys.executable:
        backport(next((folder / "lib").glob("python*")) / "site-packages" / "blazefl")
    (folder / "complete").touch()


def backport(package: Path) -> None:
    """Make BlazeFL 3.0 importable by Pythons before 3.14: annotations stay unevaluated, two functions lose their `[T]`.

    Nothing that runs is changed. Its thread pool then works under the global interpreter lock.
    """
    for path in package.rglob("*.py"):
        source = re.sub(r"^(def \w+)\[\w+\]\(", r"\1(", path.read_text(), flags=re.MULTILINE)
        path.write_text(f"from __future__ import annotations\n{source}")


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = (done.stderr or done.stdout).strip().splitlines() or ["it failed without a word"]
        raise NotInstallable(lines[-1])
