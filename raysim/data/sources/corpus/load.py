"""The `corpus` source: documents to token files, once; samples are made of them when the store is written."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np

from raysim.arrays import Array, Bools
from raysim.config.text import CorpusConfig
from raysim.data.dataset import Dataset
from raysim.data.left_out import LeftOut
from raysim.data.sources.corpus.documents import Document, documents
from raysim.data.sources.corpus.hub import hub_identity
from raysim.data.sources.corpus.records import Format, corpus_files, origins, records
from raysim.data.sources.corpus.samples import ANSWERS, class_names, of_a_language, of_preferences, to_classify
from raysim.data.sources.corpus.selecting import selected, truncated
from raysim.data.sources.corpus.token_files import (
    FOLDER,
    NO_OWNER,
    TokenFiles,
    content_hash,
    open_tokens,
    write_tokens,
)
from raysim.data.sources.corpus.tokenizers import is_at_hand, load_tokenizer, tokenizer_identity
from raysim.data.store.cache import build_once
from raysim.errors import DataError

_OF_TOKENS = (
    *("format", "split", "text", "prompt", "response", "messages", "template", "label", "client", "end_of_text"),
    *("task", "chosen", "rejected"),
)
"""Keys that decide which ids a document has, beside its text and the tokenizer."""
_Part = tuple[CorpusConfig, Format, list[Path]]
"""A part of a corpus: where it is said to be, the format, and the files."""


def load_corpus(config: CorpusConfig, folder: Path) -> Dataset:
    """Samples of a corpus; they are made when they are read.

    Args:
        config: the section `data.source`.
        folder: of the cache, where tokenised corpora are kept.

    Raises:
        DataError: there are no such files, no such field or no such tokenizer; a document is damaged; no owner has
            enough text; there is one class; a test document has another one.
        ConfigError: an optional package is missing.
    """
    _check_download(config)
    files = open_tokens(tokens_folder(config, folder))
    origin = config.path or "bundled Shakespeare"
    kept, left_out = selected(config, files, origin)
    for_training, for_test = kept & (files.test == 0), kept & (files.test > 0)
    client = _owners(files, for_training)
    names = class_names(files, for_training, origin) if config.label is not None else ()
    pools = []
    for part, where in ((for_training, origin), (for_test, config.test or "")):
        if not part.any():
            continue
        if config.task == "causal_lm":
            pool, info, empty = of_a_language(config, files, part, client, names, where)
            left_out += empty
        elif config.task == "preference":
            pool, info, empty = of_preferences(config, files, part, client, where)
            left_out += empty
        else:
            pool, info = to_classify(config, files, part, client, names, where)
        pools.append((pool, info))
    counts, cut = _counts(config, files, kept, for_training)
    (train, info), *tests = pools
    classes = {"classification": names, "preference": ANSWERS}.get(config.task)
    return Dataset(train, tests[0][0] if tests else None, info, classes, (*left_out, *cut), counts)


def _check_download(config: CorpusConfig) -> None:
    """Refuse to allow a download where nothing is given by its name.

    Raises:
        DataError: there is nothing to fetch.
    """
    if config.download and is_at_hand(config) and all(files for _, _, files in _parts(config)):
        raise DataError(
            "data.source.download: nothing is fetched, for the corpus and the tokenizer are on this machine; remove it"
        )


def corpus_identity(config: CorpusConfig) -> str | None:
    """What the samples depend on beside the configuration: files by path, size and time of change, and the tokenizer.

    Returns:
        None where files are missing; loading says which.
    """
    try:
        parts = _parts(config)
    except DataError:
        return None
    found = []
    for part, _, files in parts:
        states = [(str(file.absolute()), file.stat().st_size, file.stat().st_mtime_ns) for file in files]
        found.append(repr(states) if files else hub_identity(part))
    return f"{' '.join(found)} {tokenizer_identity(config)}"


def _parts(config: CorpusConfig) -> list[_Part]:
    """What there is to train on, and to test on where the corpus has such a part."""
    parts = [(config, *corpus_files(config))]
    if config.test is not None:
        hub = parts[0][1] == "hub"
        test = config.model_copy(update={"split" if hub else "path": config.test})
        parts.append((test, *corpus_files(test)))
    return parts


def tokens_folder(config: CorpusConfig, folder: Path) -> Path:
    """The folder of a cache with the corpus's tokens, which are made unless they are there."""
    parts = _parts(config)
    content = [content_hash(origins(part, files)) if files else hub_identity(part) for part, _, files in parts]
    chosen = config.model_dump(mode="json", include=set(_OF_TOKENS))
    splits = [part.split for part, _, _ in parts]
    key = json.dumps([_code(), content, splits, chosen, tokenizer_identity(config)], sort_keys=True)
    tokens = folder / FOLDER / hashlib.sha256(key.encode()).hexdigest()[:32]
    if not tokens.exists():
        tokenizer = load_tokenizer(config)
        build_once(tokens, lambda made: write_tokens(made, _documents(parts), tokenizer, config))
    return tokens


def _documents(parts: list[_Part]) -> Iterator[Document]:
    for number, (part, kind, files) in enumerate(parts):
        yield from documents(part, records(part, kind, files), test=number > 0)


@cache
def _code() -> str:
    """SHA-256 of the code that writes tokens: those of another version are not reused."""
    digest = hashlib.sha256()
    for file in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(file.read_bytes())
    return digest.hexdigest()


def _owners(files: TokenFiles, for_training: Bools) -> Array | None:
    """Name of each document's owner, `""` where it has none, or one who was left out."""
    if files.unowned:
        return None
    gone = np.setdiff1d(files.owner[files.test == 0], files.owner[for_training])
    owner = np.where(np.isin(files.owner, gone), NO_OWNER, files.owner)
    return np.array([*files.owners, ""])[owner]


def _counts(
    config: CorpusConfig, files: TokenFiles, kept: Bools, for_training: Bools
) -> tuple[dict[str, int], list[LeftOut]]:
    """What is told of a corpus, and of what is cut off."""
    counts = {
        "documents": int(kept.sum()),
        "tokens": int(files.length[kept].sum()),
        "token ids": files.vocabulary,
    }
    if not files.unowned:
        counts["owners"] = len(np.unique(files.owner[for_training]))
    if config.packed:
        return counts, []
    cut, counts["truncated tokens"] = truncated(config, files, kept)
    return counts, cut
