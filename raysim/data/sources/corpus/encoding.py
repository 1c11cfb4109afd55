"""Documents to token ids, with what begins and ends them, and which of them are learned."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

import numpy as np

from raysim.arrays import Int32
from raysim.config.text import CorpusConfig
from raysim.data.sources.corpus.documents import Document
from raysim.data.sources.corpus.tokenizers import Tokenizer
from raysim.errors import DataError

_BATCH_CHARACTERS, _BATCH_DOCUMENTS = 1 << 20, 1024
"""Text that is tokenised at a time."""
PLAIN_TEMPLATE = "{prompt}\n{response}"
"""Where there is neither a template nor a tokenizer's own."""

Encoded = tuple[Int32, list[int]]
"""Ids of a document, and its turns: how many are not learned, how many are, how many are not, …; an even number."""


def batches(found: Iterable[Document]) -> Iterator[list[Document]]:
    """Documents by the megabyte."""
    batch: list[Document] = []
    characters = 0
    for document in found:
        batch.append(document)
        characters += document.characters
        if characters >= _BATCH_CHARACTERS or len(batch) >= _BATCH_DOCUMENTS:
            yield batch
            batch, characters = [], 0
    if batch:
        yield batch


def encoded(batch: list[Document], tokenizer: Tokenizer, config: CorpusConfig) -> list[Encoded]:
    """Ids and turns of each document; of a pair those of the better answer, then those of the other one.

    The texts of turns are tokenised apart, so that no token straddles two.

    Raises:
        DataError: a conversation cannot be written by the tokenizer's chat template.
    """
    if config.task == "preference":
        better = encoded([replace(one, rejected=None) for one in batch], tokenizer, of_one_answer(config))
        others = [replace(one, response=one.rejected, rejected=None) for one in batch]
        other = encoded(others, tokenizer, of_one_answer(config))
        return [(_joined([a, b]), [*first, *second]) for (a, first), (b, second) in zip(better, other, strict=True)]
    if config.response is None and config.messages is None:
        bodies = tokenizer.encode([document.text for document in batch])
        whole = [_closed([tokenizer.prefix, body], tokenizer, config) for body in bodies]
        return [(ids, [0, len(ids)]) for ids in whole]
    written = [turns_of(document, tokenizer, config) for document in batch]
    pieces = iter(tokenizer.encode([text for texts, _ in written for text in texts]))
    found = []
    for texts, by_chat in written:
        parts = [next(pieces) for _ in texts]
        if not by_chat:
            parts[0] = np.concatenate([tokenizer.prefix, parts[0]])
        as_it_is = by_chat and config.end_of_text is None  # the template says how a conversation ends
        ids = _joined(parts) if as_it_is else _closed(parts, tokenizer, config)
        turns = [len(part) for part in parts]
        turns[-1] += len(ids) - sum(turns)
        found.append((ids, turns))
    return found


def of_one_answer(config: CorpusConfig) -> CorpusConfig:
    """Of pairs of answers to a prompt, the section with one of them alone."""
    return config.model_copy(update={"task": "causal_lm", "prompt": config.asked, "response": config.chosen})


def turns_of(document: Document, tokenizer: Tokenizer, config: CorpusConfig) -> tuple[list[str], bool]:
    """Texts that are by turns not learned and learned, and whether the chat template made them."""
    if config.template is None:
        asked = (("user", document.text), ("assistant", document.response or ""))
        if (chat := tokenizer.chat(document.messages or asked)) is not None:
            return chat, True
        if config.messages is not None:
            raise DataError(
                f"data.source.messages: {config.tokenizer} has no chat template; name a tokenizer that has one, or "
                "give prompt and response"
            )
    before, _, after = (config.template or PLAIN_TEMPLATE).partition("{response}")
    return [before.replace("{prompt}", document.text), (document.response or "") + after], False


def _closed(parts: list[Int32], tokenizer: Tokenizer, config: CorpusConfig) -> Int32:
    """The parts, and behind them what ends a sample to classify, or the token that ends a text unless they have it."""
    if config.task == "classification":
        return _joined([*parts, tokenizer.suffix])
    whole = _joined(parts)
    return whole if whole[-1] == tokenizer.end else np.append(whole, np.int32(tokenizer.end or 0))


def _joined(parts: list[Int32]) -> Int32:
    whole: Int32 = np.concatenate(parts).astype(np.int32, copy=False)
    return whole
