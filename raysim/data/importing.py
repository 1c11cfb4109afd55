"""`raysim data import`: put a data set of several files where every experiment finds it."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from raysim.data.sources import cifar10, mnist
from raysim.data.sources.files import data_home
from raysim.errors import DataError
from raysim.files import looked_up

IMPORTABLE = ("mnist", "cifar10")


def import_dataset(name: str, folder: str | Path) -> Path:
    """Copy MNIST's IDX files or CIFAR-10's binary batches from a folder into the data home, checking them first.

    The data home is `$RAYSIM_HOME`, by default `~/.local/share/raysim`. What was imported before is replaced.

    Returns:
        The folder that was written.

    Raises:
        DataError: no such data set or folder, a file is missing or damaged, or the data home cannot be written.
    """
    source = looked_up(Path(folder).expanduser())
    if name not in IMPORTABLE:
        raise DataError(f"cannot import {name!r}; valid are {', '.join(IMPORTABLE)}")
    if not source.is_dir():
        raise DataError(f"{source}: no such folder")
    if name == "mnist":
        mnist.read_mnist(source)
        files = list(mnist.find_mnist(source).values())
        target = data_home() / mnist.FOLDER
    else:
        cifar10.read_cifar10(source)
        batches, test = cifar10.find_cifar10(source)
        files = [*batches, test]
        target = data_home() / cifar10.FOLDER
    try:
        _replace(target, files)
    except OSError as error:
        raise DataError(f"{target}: cannot be written ({error.strerror}); set RAYSIM_HOME to another folder") from None
    return target


def _replace(target: Path, files: Sequence[Path]) -> None:
    """Put copies of the files into the folder, and nothing else, once all copies are complete.

    The folder itself stays: it may be a mount or a link.
    """
    target.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".import-", dir=target) as temporary:
        for file in files:
            shutil.copyfile(file, Path(temporary, file.name))
        for copy in Path(temporary).iterdir():
            copy.replace(target / copy.name)
    names = {file.name for file in files}
    for old in target.iterdir():
        if old.name not in names and old.is_file():
            old.unlink()
