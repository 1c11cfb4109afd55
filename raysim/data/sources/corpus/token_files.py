"""A corpus tokenised once: a folder of the cache with all ids in one file, which is mapped, never loaded.

`tokens.i32` has the ids of all documents as int32, those to test on last, owner after owner; `documents.npy` how long
each document is and whose, `turns.npy` what of it is a prompt; `names.json` the names of owners and labels, what the
tokenizer says of itself, and the SHA-256 of them.
"""

from __future__ import annotations

import hashlib
import json
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from raysim.arrays import Array, Int32, Int64
from raysim.config.parsing import parse_json
from raysim.config.text import CorpusConfig
from raysim.data.sources.corpus.documents import Document
from raysim.data.sources.corpus.encoding import batches, encoded
from raysim.data.sources.corpus.tokenizers import CODES, CharacterTokenizer, Tokenizer
from raysim.errors import DataError
from raysim.files import write_text

TOKENS, DOCUMENTS, TURNS, NAMES = "tokens.i32", "documents.npy", "turns.npy", "names.json"
FOLDER = "tokens"
"""Folder of a cache in which corpora are."""
_PIECE = 1 << 18
"""Tokens that are moved at a time."""
NO_OWNER = -1


@dataclass(frozen=True, slots=True)
class TokenFiles:
    """A tokenised corpus: what there is to train on, then what there is to test on, in both owner after owner."""

    tokens: Int32
    """`[tokens]`, mapped."""
    length: Int64
    """`[documents]` tokens of each."""
    turns: Int64
    """`[documents]` how many turns each has, an even number."""
    lengths_of_turns: Int64
    """`[turns]` tokens of each turn, document after document: not learned, learned, not learned, …."""
    owner: Int64
    """`[documents]` index into `owners`; `NO_OWNER` where it has none."""
    label: Int64
    """`[documents]` index into `labels`; -1 where documents have none."""
    characters: Int64
    """`[documents]` characters of its text."""
    test: Int64
    """`[documents]` 1 for those of the test part, 0 for those to train on."""
    owners: tuple[str, ...]
    labels: tuple[str, ...]
    empty: int
    """Documents without text, which are left out."""
    unowned: bool
    """Whether no owners are named where there is something to train on."""
    vocabulary: int
    end: int | None
    pad: int
    suffix: Int32
    """Ids that end a sample to classify, however it is truncated."""
    letters: tuple[int, ...] = ()
    """Of the tokenizer `characters`: the code point of each id but 0, which ends a text."""


def write_tokens(folder: Path, found: Iterable[Document], tokenizer: Tokenizer, config: CorpusConfig) -> None:
    """Tokenise documents into a folder; memory holds a batch of them, and a few numbers of each.

    Raises:
        DataError: what reading the documents raises; no document has text.
    """
    kept = _DocumentNumbers()
    unsorted = folder / f"unsorted-{TOKENS}"
    seen = np.zeros(CODES, np.bool_)
    with unsorted.open("wb") as file:
        for batch in batches(kept.with_text(found)):
            for (ids, turns), document in zip(encoded(batch, tokenizer, config), batch, strict=True):
                _check(ids, tokenizer, document)
                if isinstance(tokenizer, CharacterTokenizer):
                    seen[ids] = True
                file.write(ids.tobytes())
                kept.add(document, len(ids), turns)
    if config.test is not None and kept.training == len(kept):
        raise DataError(f"{config.test}: there is no document with text in it; remove data.source.test")
    if not kept.training:
        raise DataError(f"{config.path}: the corpus is empty; none of its {kept.empty:,} documents has text")
    numbers = kept.numbers()
    kinds = numbers["label"] if config.task == "causal_lm" else np.zeros(len(kept), np.int64)
    order = np.lexsort((kinds, numbers["owner"], numbers["test"]))
    mapping = None
    vocabulary, letters = tokenizer.vocabulary, list[int]()
    if isinstance(tokenizer, CharacterTokenizer):
        seen[0] = True  # which ends a text
        mapping = (np.cumsum(seen) - 1).astype(np.int32)
        vocabulary, letters = int(seen.sum()), np.flatnonzero(seen)[1:].tolist()
    if mapping is None and bool((np.diff(order) == 1).all()):
        unsorted.rename(folder / TOKENS)
    else:
        _sort(unsorted, folder / TOKENS, numbers["length"], order, mapping)
        unsorted.unlink()
    np.save(folder / DOCUMENTS, np.stack([values[order] for values in numbers.values()]))
    counts = numbers["turns"]
    in_order = _ranges((np.cumsum(counts) - counts)[order], counts[order])
    np.save(folder / TURNS, kept.lengths_of_turns()[in_order])
    names: dict[str, Any] = {
        "owners": list(kept.owners),
        "labels": list(kept.labels),
        "empty": kept.empty,
        "unowned": kept.unowned,
        "vocabulary": vocabulary,
        "end": tokenizer.end,
        "pad": tokenizer.pad,
        "letters": letters,
        "suffix": tokenizer.suffix.tolist(),
    }
    names["sha256"] = _checksum(folder, names)
    write_text(folder / NAMES, json.dumps(names, ensure_ascii=False))


def open_tokens(folder: Path) -> TokenFiles:
    """A tokenised corpus, its ids mapped.

    Raises:
        DataError: a file is missing or damaged.
    """
    try:
        names = dict(parse_json((folder / NAMES).read_bytes()))
        if names.pop("sha256", None) != _checksum(folder, names):
            raise ValueError("the SHA-256 is not the one that was written")
        columns, lengths = (np.load(folder / name, allow_pickle=False) for name in (DOCUMENTS, TURNS))
        tokens = np.asarray(np.memmap(folder / TOKENS, np.int32, mode="r"))
    except (OSError, ValueError, TypeError) as error:  # what is no JSON is a ValueError, too
        raise DataError(f"{folder}: damaged ({error}); delete the folder, it is built again when needed") from None
    numbers: dict[str, Any] = dict(zip(_NUMBERS, columns, strict=True))
    for key in ("owners", "labels", "letters"):
        names[key] = tuple(names[key])
    names["suffix"] = np.asarray(names["suffix"], np.int32)
    found = TokenFiles(tokens=tokens, lengths_of_turns=lengths, **numbers, **names)
    if int(found.length.sum()) != len(found.tokens):
        raise DataError(f"{folder / TOKENS}: truncated; delete the folder {folder}, it is built again when needed")
    return found


def _checksum(folder: Path, names: dict[str, Any]) -> str:
    digest = hashlib.sha256(json.dumps(names, sort_keys=True).encode())
    for name in (DOCUMENTS, TURNS):
        digest.update((folder / name).read_bytes())
    return digest.hexdigest()


def content_hash(files: Iterable[tuple[str, Path]]) -> str:
    """SHA-256 of the names and contents of files, each read a piece at a time."""
    digest = hashlib.sha256()
    for name, file in files:
        digest.update(f"{name} {file.stat().st_size}\n".encode())
        with file.open("rb") as stream:
            while piece := stream.read(_PIECE):
                digest.update(piece)
    return digest.hexdigest()


_NUMBERS = ("length", "turns", "owner", "label", "characters", "test")


class _DocumentNumbers:
    """A few numbers of each document, as they come."""

    def __init__(self) -> None:
        self._columns = {name: array("q") for name in _NUMBERS}
        self._turns = array("q")
        self.owners: dict[str, int] = {}
        self.labels: dict[str, int] = {}
        self.empty = self.training = 0
        self.unowned = True

    def with_text(self, found: Iterable[Document]) -> Iterator[Document]:
        """The documents that have something to learn from."""
        for document in found:
            if document.learned.strip():
                yield document
            else:
                self.empty += 1

    def add(self, document: Document, length: int, turns: list[int]) -> None:
        owner = NO_OWNER
        if document.owner is not None:
            self.unowned = self.unowned and document.test
            if document.owner:
                owner = self.owners.setdefault(document.owner, len(self.owners))
        label = -1 if document.label is None else self.labels.setdefault(document.label, len(self.labels))
        values = (length, len(turns), owner, label, document.characters, document.test)
        self._turns.extend(turns)
        for column, value in zip(self._columns.values(), values, strict=True):
            column.append(value)
        self.training += not document.test

    def __len__(self) -> int:
        return len(self._columns["length"])

    def numbers(self) -> dict[str, Int64]:
        return {name: np.array(column, dtype=np.int64) for name, column in self._columns.items()}

    def lengths_of_turns(self) -> Int64:
        """Of all documents, as they came."""
        return np.array(self._turns, dtype=np.int64)


def _ranges(starts: Int64, sizes: Int64) -> Int64:
    """start, start + 1, … of each pair, one range after another."""
    places: Int64 = np.repeat(starts - (np.cumsum(sizes) - sizes), sizes) + np.arange(int(sizes.sum()))
    return places


def _check(ids: Int32, tokenizer: Tokenizer, document: Document) -> None:
    if len(ids) and not (int(ids.min()) >= 0 and int(ids.max()) < tokenizer.vocabulary):
        raise DataError(
            f"{document.place}: the tokenizer gives the id {int(ids.max())}, and has {tokenizer.vocabulary}"
        )


def _sort(source: Path, target: Path, length: Int64, order: Int64, mapping: Array | None) -> None:
    """Write the documents of a file in another order, a piece at a time, each id through the mapping."""
    tokens = np.memmap(source, np.int32, mode="r")
    starts = np.cumsum(length) - length
    with target.open("wb") as file:
        for piece in _pieces(length[order]):
            ids = tokens[_ranges(starts[order[piece]], length[order[piece]])]
            file.write((ids if mapping is None else mapping[ids]).tobytes())


def _pieces(sizes: Int64) -> Iterator[slice]:
    """Runs of documents of about `_PIECE` tokens; a document that is longer is a run of its own."""
    cuts = np.flatnonzero(np.diff(np.cumsum(sizes) // _PIECE, prepend=0))
    bounds = [0, *(int(cut) for cut in cuts if cut), len(sizes)]
    yield from (slice(first, last) for first, last in zip(bounds, chain(bounds[1:]), strict=False) if first < last)
