"""The `corpus` source: documents to token files, once; samples are made of them when the store is written."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from raysim.arrays import Array, Bools, Int64
from raysim.config.text import CorpusConfig
from raysim.data.dataset import Dataset, Pool
from raysim.data.federation import DataInfo
from raysim.data.inputs import InputField, pack_inputs
from raysim.data.lazy import LazyArray
from raysim.data.left_out import GRAVE, LeftOut, listed
from raysim.data.sources.arrays import compact
from raysim.data.sources.corpus.documents import documents
from raysim.data.sources.corpus.hub import hub_identity
from raysim.data.sources.corpus.records import corpus_files, records
from raysim.data.sources.corpus.sequences import Sequences, Windows, packed, single
from raysim.data.sources.corpus.token_files import (
    FOLDER,
    NO_OWNER,
    TokenFiles,
    content_hash,
    open_tokens,
    write_tokens,
)
from raysim.data.sources.corpus.tokenizers import load_tokenizer, tokenizer_identity
from raysim.data.store.cache import build_once
from raysim.errors import DataError

_OF_TOKENS = ("format", "split", "text", "prompt", "response", "template", "label", "client", "end_of_text", "task")
"""Keys that decide which ids a document has, beside its text and the tokenizer."""


def load_corpus(config: CorpusConfig, folder: Path) -> Dataset:
    """Samples of a corpus; those of a language model are made when they are read.

    Args:
        config: the section `data.source`.
        folder: of the cache, where tokenised corpora are kept.

    Raises:
        DataError: there are no such files, no such field or no such tokenizer; a document is damaged; no owner has
            enough text; there is one class.
        ConfigError: an optional package is missing.
    """
    files = open_tokens(_tokenised(config, folder))
    kept, left_out = _kept(config, files)
    origin = config.path or "bundled Shakespeare"
    if not kept.any():
        most = int(_written(files).max(initial=0))
        raise DataError(
            f"{origin}: no owner has {config.min_characters:,} characters of text (the most is {most:,}); lower "
            "data.source.min_characters"
        )
    counts = {
        "documents": int(kept.sum()),
        "tokens": int(files.length[kept].sum()),
        "token ids": files.vocabulary,
    }
    if not files.unowned:
        counts["owners"] = len(np.unique(files.owner[kept]))
    if config.task == "classification":
        windows = single(files, kept, config.length, ahead=0)
        sequences = Sequences(files, windows, config.length)
        rows = np.arange(len(windows.start))
        names, labels = _labels(files, windows, origin)
        x, info = _inputs(config, files, sequences, sequences.labelled_ids, rows, origin)
        info = replace(info, classes=len(names))
        pool = Pool(x, labels, info.input_kind, origin, _owners(files, windows, rows))
    else:
        names = None
        make = packed if config.packed else _documents_alone
        windows = make(files, kept, config.length)
        sequences = Sequences(files, windows, config.length, apart="segments" in config.beside)
        rows = np.arange(len(windows.start))
        learned = sequences.targets(rows) > 0
        if not learned.any():
            none = f"no sample of {config.length:,} tokens has one to learn"
            raise DataError(f"{origin}: {none}; raise data.source.length")
        left_out += _without_targets(learned)
        rows = rows[learned]
        x, info = _inputs(config, files, sequences, sequences.ids, rows, origin)
        info = replace(info, target_shape=(config.length,), classes=files.vocabulary)
        y = _lazy(sequences.next_ids, rows, config, _smallest(files), origin)
        full = int(sequences.targets(rows).sum()) == len(rows) * config.length
        weight = None if full else _lazy(sequences.weight, rows, config, np.dtype(np.float32), origin)
        pool = Pool(x, y, info.input_kind, origin, _owners(files, windows, rows), weight)
    if not config.packed:
        cut, truncated = _truncated(files, kept, config)
        counts["truncated tokens"] = truncated
        left_out += cut
    return Dataset(pool, None, info, names, tuple(left_out), counts)


def corpus_identity(config: CorpusConfig) -> str | None:
    """What the samples depend on beside the configuration: files by path, size and time of change, and the tokenizer.

    Returns:
        None where files are missing; loading says which.
    """
    try:
        _, files = corpus_files(config)
    except DataError:
        return None
    states = [(str(file.absolute()), file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    found = repr(states) if files else hub_identity(config)
    return f"{found} {tokenizer_identity(config)}"


def _tokenised(config: CorpusConfig, folder: Path) -> Path:
    """The folder with the corpus's tokens, which are made unless they are there."""
    kind, files = corpus_files(config)
    content = content_hash(files) if files else hub_identity(config)
    chosen = config.model_dump(mode="json", include=set(_OF_TOKENS))
    key = json.dumps([_code(), content, chosen, tokenizer_identity(config)], sort_keys=True)
    tokens = folder / FOLDER / hashlib.sha256(key.encode()).hexdigest()[:32]
    if not tokens.exists():
        tokenizer = load_tokenizer(config)
        build_once(
            tokens,
            lambda made: write_tokens(made, documents(config, records(config, kind, files)), tokenizer, config),
        )
    return tokens


@cache
def _code() -> str:
    """SHA-256 of the code that writes tokens: those of another version are not reused."""
    digest = hashlib.sha256()
    for file in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(file.read_bytes())
    return digest.hexdigest()


def _documents_alone(files: TokenFiles, kept: Bools, length: int) -> Windows:
    return single(files, kept, length, ahead=1)


def _inputs(
    config: CorpusConfig,
    files: TokenFiles,
    sequences: Sequences,
    ids: Callable[[Int64], Array],
    rows: Int64,
    origin: str,
) -> tuple[LazyArray, DataInfo]:
    """What a sample has for the model: its ids alone, or a record of them and of what is asked for beside."""
    shape = (config.length,)
    if not config.beside:
        x = _lazy(ids, rows, config, _smallest(files), origin)
        return x, DataInfo("classification", shape, "tokens", vocabulary=files.vocabulary)
    makers: dict[str, Callable[[Int64], Array]] = {
        "input_ids": ids,
        "attention_mask": sequences.mask,
        "segments": sequences.segments,
        "position_ids": sequences.position_ids,
    }
    fields = (
        InputField("input_ids", "tokens", shape, count=files.vocabulary),
        *(InputField(name, "flags" if name == "attention_mask" else "integers", shape) for name in config.beside),
    )
    empty, placed = pack_inputs({one.name: makers[one.name](rows[:0]) for one in fields}, fields)

    def made(chosen: Int64) -> Array:
        return pack_inputs({one.name: makers[one.name](chosen) for one in fields}, fields)[0]

    x = LazyArray(made, rows, empty.shape[1:], empty.dtype, origin)
    return x, DataInfo("classification", x.row_shape, "record", vocabulary=files.vocabulary, inputs=placed)


def _owners(files: TokenFiles, windows: Windows, rows: Int64) -> Array | None:
    return None if files.unowned else np.array(files.owners)[files.owner[windows.document[rows]]]


def _lazy(
    make: Callable[[Int64], Array], rows: Int64, config: CorpusConfig, dtype: np.dtype[Any], origin: str
) -> LazyArray:
    return LazyArray(lambda chosen: make(chosen).astype(dtype, copy=False), rows, (config.length,), dtype, origin)


def _smallest(files: TokenFiles) -> np.dtype[Any]:
    """The smallest integer type that holds every id."""
    return compact(np.array([files.vocabulary - 1])).dtype


def _labels(files: TokenFiles, windows: Windows, origin: str) -> tuple[tuple[str, ...], Int64]:
    """Names of the classes, in sorted order (of numbers, where all are), and the class of each sample."""
    numbers = all(name.lstrip("-").isdecimal() for name in files.labels)
    names = sorted(files.labels, key=int) if numbers else sorted(files.labels)
    if len(names) < 2:
        raise DataError(f"{origin}: every document is of class {names[0]!r}; at least two classes are needed")
    place = np.array([names.index(name) for name in files.labels], dtype=np.int64)
    return tuple(names), place[files.label[windows.document]]


def _written(files: TokenFiles) -> Int64:
    """Characters of each owner; without owners those of all documents."""
    if files.unowned:
        return np.array([int(files.characters.sum())])
    owned = files.owner != NO_OWNER
    written: Int64 = np.bincount(files.owner[owned], files.characters[owned], len(files.owners)).astype(np.int64)
    return written


def _kept(config: CorpusConfig, files: TokenFiles) -> tuple[Bools, list[LeftOut]]:
    """The documents to take, and what is said of the others."""
    every = len(files.length) + files.empty
    left_out = []
    if files.empty:
        why = "they have no text" if config.response is None else "they have no response"
        grave = files.empty > GRAVE * every
        left_out.append(LeftOut("data.source", "source", files.empty, every, "documents", why, grave))
    written = _written(files)
    if files.unowned:
        return np.full(len(files.length), bool(written[0] >= config.min_characters)), left_out
    unowned = int((files.owner == NO_OWNER).sum())
    if unowned:
        grave = unowned > GRAVE * every
        left_out.append(LeftOut("data.source.client", "source", unowned, every, "documents", "no owner", grave))
    enough = written >= config.min_characters
    if not enough.all():
        names = listed(files.owners[at] for at in np.flatnonzero(~enough).tolist())
        why = f"fewer than {config.min_characters:,} characters: {names}"
        few = int((~enough).sum())
        left_out.append(LeftOut("data.source.min_characters", "source", few, len(enough), "owners", why))
    return np.append(enough, False)[files.owner], left_out


def _without_targets(learned: Bools) -> list[LeftOut]:
    missing = int((~learned).sum())
    if not missing:
        return []
    why = "they hold nothing of a response; raise data.source.length"
    grave = missing > GRAVE * len(learned)
    return [LeftOut("data.source.length", "source", missing, len(learned), "samples", why, grave)]


def _truncated(files: TokenFiles, kept: Bools, config: CorpusConfig) -> tuple[list[LeftOut], int]:
    """Tokens of documents that are longer than a sample."""
    room = config.length + (config.task == "causal_lm")
    beyond = np.maximum(files.length[kept] - room, 0)
    lost, every = int(beyond.sum()), int(files.length[kept].sum())
    if not lost:
        return [], 0
    why = f"{int((beyond > 0).sum()):,} of {len(beyond):,} documents are longer than {room:,} tokens"
    return [LeftOut("data.source.length", "source", lost, every, "tokens", why, lost > GRAVE * every)], lost
