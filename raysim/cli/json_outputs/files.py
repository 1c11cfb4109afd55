"""Outputs of commands that say where something is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class ReportOutput:
    """A report was written.

    Attributes:
        report: the HTML file; its pictures are beside it.
    """

    report: Path


@dataclass(frozen=True, slots=True)
class ExportOutput:
    """The model of a run was written.

    Attributes:
        path: the folder that the Hugging Face library loads, or the ONNX file.
        format: `hugging_face` or `onnx`.
        merged: whether a folder holds the whole model, not the adapters alone.
    """

    path: Path
    format: str
    merged: bool


@dataclass(frozen=True, slots=True)
class RebuildOutput:
    """A model was made again.

    Attributes:
        model: the .safetensors file.
    """

    model: Path


@dataclass(frozen=True, slots=True)
class ImportOutput:
    """A data set is where experiments find it.

    Attributes:
        name: of the data set.
        folder: that holds its files.
    """

    name: str
    folder: Path


@dataclass(frozen=True, slots=True)
class InitOutput:
    """A project was made.

    Attributes:
        template: that it was made from.
        folder: of the project.
        next: the command that runs it, typed in that folder.
    """

    template: str
    folder: Path
    next: str


@dataclass(frozen=True, slots=True)
class ServeOutput:
    """A page is served, until the command is ended.

    Attributes:
        url: of the page, with the token where one is asked for.
        host: that it listens on.
        port: likewise.
        token: that a browser must give; null on loopback.
        folder: that the runs are in.
    """

    url: str
    host: str
    port: int
    token: str | None
    folder: Path


@dataclass(frozen=True, slots=True)
class CompletionOutput:
    """A script for a shell.

    Attributes:
        shell: bash, zsh or fish.
        script: its text.
    """

    shell: str
    script: str


@dataclass(frozen=True, slots=True)
class SchemaOutput:
    """A JSON schema.

    Attributes:
        of: `experiment` for that of a configuration, or the command whose output it describes.
        schema: itself; null where it was written to a file.
        file: that it was written to.
    """

    of: str
    schema: Mapping[str, object] | None
    file: Path | None
