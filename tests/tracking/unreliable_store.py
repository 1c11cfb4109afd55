"""An object store of Arrow's in-memory or local file system, which refuses to write when it is told to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pyarrow import fs


def _delegating(name: str) -> Callable[..., Any]:
    return lambda self, *args: getattr(self.below, name)(*args)


class UnreliableHandler(
    type("Delegating", (fs.FileSystemHandler,), {n: _delegating(n) for n in fs.FileSystemHandler.__abstractmethods__})
):
    """Passes everything on, but for files that are written once `budget` of them are."""

    def __init__(self, below: fs.FileSystem) -> None:
        self.below, self.budget = below, 1 << 30
        self.written: list[str] = []

    def get_type_name(self) -> str:
        return "unreliable"

    def create_dir(self, path: str, recursive: bool) -> None:
        self.below.create_dir(path, recursive=recursive)

    def get_file_info_selector(self, selector: fs.FileSelector) -> list[fs.FileInfo]:
        return self.below.get_file_info(selector)

    def open_output_stream(self, path: str, metadata: Any) -> Any:
        if self.budget <= 0:
            raise OSError("the store takes no more")
        self.budget -= 1
        self.written.append(path)
        return self.below.open_output_stream(path)
