"""What a store says of itself: `manifest.json`, the last file written and the first one read."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from raysim.config.parsing import parse_json
from raysim.data.federation import DataInfo, ServerPart
from raysim.data.inputs import InputField
from raysim.data.left_out import LeftOut
from raysim.data.named_targets import TargetField
from raysim.data.scaling import TargetScaling
from raysim.data.store.columns import Column, FileEntry
from raysim.errors import DataError
from raysim.files import write_text

FORMAT = "raysim shards"
FORMAT_VERSION = 1
"""Raise it when the files' layout or meaning changes."""
MANIFEST = "manifest.json"
STORES = "shards"
"""Folder of a cache in which the stores are."""
TRAIN, INDEX, HISTOGRAMS, TESTS = "train.arrow", "index.arrow", "histograms.arrow", "tests.arrow"
SERVER_FILES: Mapping[ServerPart, str] = {"validation": "validation.arrow", "test": "test.arrow"}


@dataclass(frozen=True, slots=True)
class Manifest:
    """Content of `manifest.json`."""

    info: DataInfo
    clients: int
    samples: Mapping[str, int]
    """Samples of the parts `train`, `holdout`, `validation` and `test`."""
    files: Mapping[str, FileEntry]
    """By file name."""
    data: Mapping[str, Any]
    """The data configuration that was built, and its seed."""
    transforms: Any = None
    """Statistics of the training part that the transforms used."""
    left_out: tuple[LeftOut, ...] = ()
    """What the source had and the shards have not."""
    counts: Mapping[str, int] = field(default_factory=dict)
    """What the source counted, by name: documents, tokens."""

    @property
    def fingerprint(self) -> str:
        """SHA-256 over the samples and every client's share: independent of paths and of how files are cut."""
        columns = {
            name: {key: (column.dtype, column.shape, column.sha256) for key, column in entry.columns.items()}
            for name, entry in sorted(self.files.items())
            if name != HISTOGRAMS  # they follow from the samples
        }
        info = asdict(self.info)
        del info["class_names"]  # other names are no other samples
        for key in ("inputs", "scaling", "targets"):  # stores without these keep the fingerprint that they always had
            if not info[key]:
                del info[key]
        return hashlib.sha256(json.dumps([info, columns]).encode()).hexdigest()

    def write(self, folder: Path) -> None:
        """Write it into the folder."""
        values = {"format": FORMAT, "version": FORMAT_VERSION, "fingerprint": self.fingerprint, **asdict(self)}
        values["class_names"] = values["info"].pop("class_names")
        write_text(folder / MANIFEST, json.dumps(values, indent=1, ensure_ascii=False) + "\n")

    @classmethod
    def read(cls, folder: Path) -> Manifest:
        """Read the manifest of a store.

        Raises:
            DataError: there is none, it is damaged, or it belongs to something else or to another version.
        """
        path = folder / MANIFEST
        try:
            values = parse_json(path.read_bytes())
        except FileNotFoundError:
            raise DataError(
                f"{folder}: not a shard store ({MANIFEST} is missing); on a cluster, data.cache must be a folder that "
                f"every node sees"
            ) from None
        except (OSError, ValueError) as error:
            raise DataError(f"{path}: cannot be read ({error}); {_rebuild(folder)}") from None
        if not isinstance(values, dict) or values.get("format") != FORMAT:
            ours = folder.parent.name == STORES or (folder / TRAIN).exists()
            raise DataError(
                f"{path}: not the manifest of a shard store; {_rebuild(folder) if ours else 'name another folder'}"
            )
        if values.get("version") != FORMAT_VERSION:
            raise DataError(
                f"{path}: format version {values.get('version')}, this raysim reads {FORMAT_VERSION}; "
                f"{_rebuild(folder)}"
            )
        try:
            manifest = _parse(values)
        except (KeyError, TypeError, ValueError, AttributeError, pa.ArrowException) as error:
            raise DataError(f"{path}: damaged ({type(error).__name__}: {error}); {_rebuild(folder)}") from None
        if manifest.fingerprint != values.get("fingerprint"):
            raise DataError(f"{path}: damaged (the fingerprint does not fit the files); {_rebuild(folder)}")
        return manifest


def _rebuild(folder: Path) -> str:
    return f"delete the folder {folder}, it is built again when needed"


def _parse(values: Mapping[str, Any]) -> Manifest:
    info = dict(values["info"])
    info["input_shape"], info["target_shape"] = tuple(info["input_shape"]), tuple(info["target_shape"])
    info["inputs"] = tuple(InputField.from_json(one) for one in info.get("inputs", ()))
    info["targets"] = tuple(TargetField.from_json(one) for one in info.get("targets", ()))
    if info.get("scaling") is not None:
        info["scaling"] = TargetScaling.from_json(info["scaling"])
    files = {}
    for name, entry in values["files"].items():
        if name not in (TRAIN, INDEX, HISTOGRAMS, TESTS, *SERVER_FILES.values()):
            raise ValueError(f"{name!r} is no file of a store")  # nor is a path that leads elsewhere
        columns = {
            key: Column(column["dtype"], tuple(column["shape"]), column["sha256"])
            for key, column in entry["columns"].items()
        }
        for column in columns.values():
            column.arrow_type()  # refuses what is no type of plain values
        files[name] = FileEntry(entry["bytes"], tuple(entry["batches"]), columns)
    names = values["class_names"]
    info["class_names"] = None if names is None else tuple(names)
    return Manifest(
        DataInfo(**info),
        values["clients"],
        values["samples"],
        files,
        values["data"],
        values["transforms"],
        tuple(LeftOut.from_json(entry) for entry in values.get("left_out", ())),
        {str(name): int(count) for name, count in values.get("counts", {}).items()},
    )
