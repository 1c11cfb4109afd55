"""A corpus tokenised once: a folder of the cache with all ids in one file, which is mapped, never loaded.

`tokens.i32` has the ids of all documents as int32, those to test on last, owner after owner; `documents.npy` how long
each document is, whose, and what of it is a prompt; `names.json` the names of owners and labels, what the tokenizer
says of itself, and the SHA-256 of both.
"""

from __future__ import annotations

import hashlib
import json
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from io import BytesIO
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from raysim.arrays import Array, Int32, Int64
from raysim.config.parsing import parse_json
from raysim.config.text import CorpusConfig
from raysim.data.sources.corpus.documents import Document
from raysim.data.sources.corpus.tokenizers import CODES, CharacterTokenizer, Tokenizer
from raysim.errors import DataError
from raysim.files import write_text

TOKENS, DOCUMENTS, NAMES = "tokens.i32", "documents.npy", "names.json"
FOLDER = "tokens"
"""Folder of a cache in which corpora are."""
_BATCH_CHARACTERS, _BATCH_DOCUMENTS = 1 << 20, 1024
"""Text that is tokenised at a time."""
_PIECE = 1 << 18
"""Tokens that are moved at a time."""
NO_OWNER = -1
PLAIN_TEMPLATE = "{prompt}\n{response}"
"""Where there is neither a template nor a tokenizer's own."""


@dataclass(frozen=True, slots=True)
class TokenFiles:
    """A tokenised corpus: what there is to train on, then what there is to test on, in both owner after owner."""

    tokens: Int32
    """`[tokens]`, mapped."""
    length: Int64
    """`[documents]` tokens of each."""
    prompt: Int64
    """`[documents]` tokens at its beginning that are not learned."""
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


def write_tokens(folder: Path, found: Iterable[Document], tokenizer: Tokenizer, config: CorpusConfig) -> None:
    """Tokenise documents into a folder; memory holds a batch of them, and a few numbers of each.

    Raises:
        DataError: what reading the documents raises; no document has text.
    """
    kept = _DocumentNumbers()
    unsorted = folder / f"unsorted-{TOKENS}"
    seen = np.zeros(CODES, np.bool_)
    with unsorted.open("wb") as file:
        for batch in _batches(kept.with_text(found, config)):
            for ids, prompt, document in zip(*_encoded(batch, tokenizer, config), batch, strict=True):
                _check(ids, tokenizer, document)
                if isinstance(tokenizer, CharacterTokenizer):
                    seen[ids] = True
                file.write(ids.tobytes())
                kept.add(document, len(ids), prompt)
    if config.test is not None and kept.training == len(kept):
        raise DataError(f"{config.test}: there is no document with text in it; remove data.source.test")
    if not kept.training:
        raise DataError(f"{config.path}: the corpus is empty; none of its {kept.empty:,} documents has text")
    numbers = kept.numbers()
    kinds = numbers["label"] if config.task == "causal_lm" else np.zeros(len(kept), np.int64)
    order = np.lexsort((kinds, numbers["owner"], numbers["test"]))
    mapping = None
    vocabulary = tokenizer.vocabulary
    if isinstance(tokenizer, CharacterTokenizer):
        seen[0] = True  # which ends a text
        mapping = (np.cumsum(seen) - 1).astype(np.int32)
        vocabulary = int(seen.sum())
    if mapping is None and bool((np.diff(order) == 1).all()):
        unsorted.rename(folder / TOKENS)
    else:
        _sort(unsorted, folder / TOKENS, numbers["length"], order, mapping)
        unsorted.unlink()
    np.save(folder / DOCUMENTS, np.stack([values[order] for values in numbers.values()]))
    names: dict[str, Any] = {
        "owners": list(kept.owners),
        "labels": list(kept.labels),
        "empty": kept.empty,
        "unowned": kept.unowned,
        "vocabulary": vocabulary,
        "end": tokenizer.end,
        "pad": tokenizer.pad,
        "suffix": tokenizer.suffix.tolist(),
    }
    names["sha256"] = _checksum((folder / DOCUMENTS).read_bytes(), names)
    write_text(folder / NAMES, json.dumps(names, ensure_ascii=False))


def open_tokens(folder: Path) -> TokenFiles:
    """A tokenised corpus, its ids mapped.

    Raises:
        DataError: a file is missing or damaged.
    """
    try:
        names = dict(parse_json((folder / NAMES).read_bytes()))
        content = (folder / DOCUMENTS).read_bytes()
        if names.pop("sha256", None) != _checksum(content, names):
            raise ValueError("the SHA-256 is not the one that was written")
        columns = np.load(BytesIO(content), allow_pickle=False)
        tokens = np.asarray(np.memmap(folder / TOKENS, np.int32, mode="r"))
    except (OSError, ValueError, TypeError) as error:  # what is no JSON is a ValueError, too
        raise DataError(f"{folder}: damaged ({error}); delete the folder, it is built again when needed") from None
    numbers: dict[str, Any] = dict(zip(_NUMBERS, columns, strict=True))
    for key in ("owners", "labels"):
        names[key] = tuple(names[key])
    names["suffix"] = np.asarray(names["suffix"], np.int32)
    found = TokenFiles(tokens=tokens, **numbers, **names)
    if int(found.length.sum()) != len(found.tokens):
        raise DataError(f"{folder / TOKENS}: truncated; delete the folder {folder}, it is built again when needed")
    return found


def _checksum(documents: bytes, names: dict[str, Any]) -> str:
    digest = hashlib.sha256(documents)
    digest.update(json.dumps(names, sort_keys=True).encode())
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


_NUMBERS = ("length", "prompt", "owner", "label", "characters", "test")


class _DocumentNumbers:
    """A few numbers of each document, as they come."""

    def __init__(self) -> None:
        self._columns = {name: array("q") for name in _NUMBERS}
        self.owners: dict[str, int] = {}
        self.labels: dict[str, int] = {}
        self.empty = self.training = 0
        self.unowned = True

    def with_text(self, found: Iterable[Document], config: CorpusConfig) -> Iterator[Document]:
        """The documents that have something to learn from."""
        for document in found:
            if (document.text if document.response is None else document.response).strip():
                yield document
            else:
                self.empty += 1

    def add(self, document: Document, length: int, prompt: int) -> None:
        owner = NO_OWNER
        if document.owner is not None:
            self.unowned = self.unowned and document.test
            if document.owner:
                owner = self.owners.setdefault(document.owner, len(self.owners))
        label = -1 if document.label is None else self.labels.setdefault(document.label, len(self.labels))
        characters = len(document.text) + len(document.response or "")
        values = (length, prompt, owner, label, characters, document.test)
        for column, value in zip(self._columns.values(), values, strict=True):
            column.append(value)
        self.training += not document.test

    def __len__(self) -> int:
        return len(self._columns["length"])

    def numbers(self) -> dict[str, Int64]:
        return {name: np.array(column, dtype=np.int64) for name, column in self._columns.items()}


def _batches(found: Iterable[Document]) -> Iterator[list[Document]]:
    batch: list[Document] = []
    characters = 0
    for document in found:
        batch.append(document)
        characters += len(document.text) + len(document.response or "")
        if characters >= _BATCH_CHARACTERS or len(batch) >= _BATCH_DOCUMENTS:
            yield batch
            batch, characters = [], 0
    if batch:
        yield batch


def _encoded(batch: list[Document], tokenizer: Tokenizer, config: CorpusConfig) -> tuple[list[Int32], list[int]]:
    """Ids of each document, with what begins and ends it, and how many at its beginning are its prompt's."""
    if config.task == "classification":
        bodies = tokenizer.encode([document.text for document in batch])
        return [np.concatenate([tokenizer.prefix, body, tokenizer.suffix]) for body in bodies], [0] * len(batch)
    if config.response is None:
        bodies = tokenizer.encode([document.text for document in batch])
        return [_ended([tokenizer.prefix, body], tokenizer) for body in bodies], [0] * len(batch)
    joined = [_joined(document, tokenizer, config) for document in batch]
    halves = tokenizer.encode([text for pair in joined for text in pair[:2]])
    ids: list[Int32] = []
    prompts: list[int] = []
    for at, (_, _, by_chat) in enumerate(joined):
        begin = halves[2 * at] if by_chat else np.concatenate([tokenizer.prefix, halves[2 * at]])
        parts = [begin, halves[2 * at + 1]]
        as_it_is = by_chat and config.end_of_text is None  # the template says how a conversation ends
        ids.append(np.concatenate(parts) if as_it_is else _ended(parts, tokenizer))
        prompts.append(len(begin))
    return ids, prompts


def _joined(document: Document, tokenizer: Tokenizer, config: CorpusConfig) -> tuple[str, str, bool]:
    """Prompt and response as one text, cut where the response begins, and whether the chat template made it."""
    response = document.response or ""
    if config.template is None and (chat := tokenizer.chat(document.text, response)) is not None:
        return (*chat, True)
    before, _, after = (config.template or PLAIN_TEMPLATE).partition("{response}")
    return before.replace("{prompt}", document.text), response + after, False


def _ended(parts: list[Int32], tokenizer: Tokenizer) -> Int32:
    """The parts, and behind them the token that ends a text, unless they have it."""
    whole: Int32 = np.concatenate(parts).astype(np.int32, copy=False)
    return whole if whole[-1] == tokenizer.end else np.append(whole, np.int32(tokenizer.end or 0))


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
            chosen = order[piece]
            sizes = length[chosen]
            place = np.repeat(starts[chosen] - (np.cumsum(sizes) - sizes), sizes) + np.arange(int(sizes.sum()))
            ids = tokens[place]
            file.write((ids if mapping is None else mapping[ids]).tobytes())


def _pieces(sizes: Int64) -> Iterator[slice]:
    """Runs of documents of about `_PIECE` tokens; a document that is longer is a run of its own."""
    cuts = np.flatnonzero(np.diff(np.cumsum(sizes) // _PIECE, prepend=0))
    bounds = [0, *(int(cut) for cut in cuts if cut), len(sizes)]
    yield from (slice(first, last) for first, last in zip(bounds, chain(bounds[1:]), strict=False) if first < last)
