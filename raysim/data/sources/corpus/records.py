"""Where documents are read: JSON lines, JSON, Parquet, text files and Hugging Face data sets, one record at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from glob import glob
from importlib import resources
from pathlib import Path
from typing import Any, Literal

from raysim.config.parsing import Malformed, parse_json
from raysim.config.text import CorpusConfig
from raysim.data.sources.corpus.hub import hub_records, is_saved
from raysim.data.sources.files import first_line, opened, read_bytes
from raysim.errors import DataError
from raysim.files import looked_up

Format = Literal["jsonl", "json", "parquet", "text", "hub"]
Record = tuple[str, Mapping[str, Any]]
"""Where a document stands, as error messages name it, and its fields."""

BUNDLED, PAIRS = "shakespeare.parquet", "preferences.jsonl.gz"
_ENDINGS: Mapping[str, Format] = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".parquet": "parquet",
    ".txt": "text",
}
_ROWS = 1024
"""Rows of a Parquet file that are read at a time."""


def corpus_files(config: CorpusConfig) -> tuple[Format, list[Path]]:
    """The files of a corpus, in the order of their paths; none where it is a data set of the hub, by its name.

    Raises:
        DataError: there is no such file, a folder has none that can be read, or files of several formats.
    """
    if config.path is None:
        kind: Format = "jsonl" if config.task == "preference" else "parquet"
        name = PAIRS if config.task == "preference" else BUNDLED
        with resources.as_file(resources.files("raysim.data") / "bundled" / name) as bundled:
            return kind, [bundled]
    place = looked_up(Path(config.path).expanduser())
    if config.format == "hub" or (config.format == "auto" and is_saved(place)):
        return "hub", sorted(file for file in place.rglob("*") if file.is_file()) if place.is_dir() else []
    if config.split is not None:
        raise DataError("data.source.split: only a data set of format: hub has splits; remove it")
    files = _found(config, place)
    kinds = {_format(config, file) for file in files}
    if len(kinds) > 1:
        endings = sorted({_ending(file) for file in files})
        only = f"name one kind: {place}/*{endings[0]}"
        raise DataError(f"{place}: files of several formats ({', '.join(endings)}); {only}")
    return kinds.pop(), files


def _found(config: CorpusConfig, place: Path) -> list[Path]:
    if place.is_file():
        return [place]
    if place.is_dir():
        files = [file for file in place.rglob("*") if file.is_file() and not file.name.startswith(".")]
        known = [file for file in files if config.format != "auto" or _ending(file) in _ENDINGS]
        if not known:
            raise DataError(f"{place}: none of its {len(files)} files ends in {', '.join(_ENDINGS)} (or that and .gz)")
        return sorted(known)
    files = sorted(Path(name) for name in glob(str(place), recursive=True) if Path(name).is_file())
    if not files:
        raise DataError(
            f"{place}: no such file or folder; check data.source.path (relative to {Path.cwd()}), or set format: hub "
            "if it names a data set of Hugging Face"
        )
    return files


def _ending(file: Path) -> str:
    return Path(file.name.removesuffix(".gz")).suffix.lower()


def _format(config: CorpusConfig, file: Path) -> Format:
    if config.format != "auto":
        return config.format
    if _ending(file) not in _ENDINGS:
        raise DataError(f"{file}: its ending does not tell what it is; set data.source.format")
    return _ENDINGS[_ending(file)]


def records(config: CorpusConfig, kind: Format, files: Sequence[Path]) -> Iterator[Record]:
    """Every document of a corpus, in the order of the files; memory holds one, of `json` all of one file.

    Raises:
        DataError: a file is damaged or of another form.
        ConfigError: `format: hub` needs a package that is not installed.
    """
    if kind == "hub":
        yield from hub_records(config)
        return
    read = {"jsonl": _lines, "json": _json, "parquet": _parquet, "text": _text}[kind]
    for file in files:
        about = _about(file, config)
        for place, fields in read(file):
            yield place, {**about, **fields}


def origins(config: CorpusConfig, files: Sequence[Path]) -> Iterator[tuple[str, Path]]:
    """Each file, and what documents are told of where they come from."""
    for file in files:
        yield "/".join(_about(file, config).values()), file


def _about(file: Path, config: CorpusConfig) -> dict[str, str]:
    base = file.parent if config.path is None else Path(config.path).expanduser()
    while not base.is_dir():  # a file, or a pattern
        base = base.parent
    return {"file": str(file.relative_to(base)), "folder": file.parent.name}


def _lines(file: Path) -> Iterator[Record]:
    with opened(file) as stream:
        for number, line in enumerate(stream, start=1):
            if line.strip():
                yield f"{file}: line {number}", _object(line, f"{file}: line {number}")


def _object(text: bytes, place: str) -> Mapping[str, Any]:
    try:
        return _mapping(parse_json(text), place)
    except Malformed as error:
        raise DataError(f"{place}: no JSON ({error.reason}); a file of JSON lines has an object on each") from None


def _mapping(value: Any, place: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise DataError(f"{place}: expected an object with the fields of a document, got a {type(value).__name__}")
    return value


def _json(file: Path) -> Iterator[Record]:
    try:
        content = parse_json(read_bytes(file))
    except Malformed as error:
        raise DataError(f"{file}: no JSON ({error}); for an object a line set format: jsonl") from None
    if isinstance(content, dict):
        for owner, text in content.items():
            yield f"{file}: {owner!r}", {"client": owner, "text": text}
    elif isinstance(content, list):
        for number, value in enumerate(content, start=1):
            yield f"{file}: object {number}", _mapping(value, f"{file}: object {number}")
    else:
        raise DataError(f"{file}: expected {{client: text}} or a list of objects, got a {type(content).__name__}")


def _parquet(file: Path) -> Iterator[Record]:
    import pyarrow as pa
    from pyarrow import parquet

    try:
        number = 0
        with parquet.ParquetFile(file) as table:
            for batch in table.iter_batches(batch_size=_ROWS, use_threads=False):
                batch.validate(full=True)
                for fields in batch.to_pylist():
                    number += 1
                    yield f"{file}: row {number}", fields
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise DataError(f"{file}: not a readable Parquet file ({first_line(error)})") from None


def _text(file: Path) -> Iterator[Record]:
    try:
        yield str(file), {"text": read_bytes(file).decode("utf-8")}
    except UnicodeDecodeError as error:
        raise DataError(f"{file}: byte {error.start} is not UTF-8; save it as UTF-8") from None
