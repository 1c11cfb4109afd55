"""Prompts to ids and ids to text, by the tokenizer of a corpus."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from raysim.arrays import Int32
from raysim.config.text import CorpusConfig
from raysim.data.sources.corpus.documents import Document
from raysim.data.sources.corpus.encoding import turns_of
from raysim.data.sources.corpus.load import tokens_folder
from raysim.data.sources.corpus.token_files import open_tokens
from raysim.data.sources.corpus.tokenizers import CharacterTokenizer, Tokenizer, load_tokenizer
from raysim.errors import DataError


class TextCodec:
    """Reads and writes as the corpus was read.

    Attributes:
        end: id of the token that ends a text; None where there is none.
    """

    def __init__(self, config: CorpusConfig, tokenizer: Tokenizer, letters: Sequence[int] = ()) -> None:
        """Args:
        letters: of the tokenizer `characters`: the code point of each id but 0.
        """
        self._config, self._tokenizer, self.end = config, tokenizer, tokenizer.end
        self._points = (0, *letters)
        self._ids = {point: number for number, point in enumerate(letters, start=1)}

    @classmethod
    def of(cls, config: CorpusConfig, cache: Path) -> TextCodec:
        """For a corpus whose tokens are kept in a cache.

        Raises:
            DataError, ConfigError: as for loading the corpus.
        """
        tokenizer = load_tokenizer(config)
        if not isinstance(tokenizer, CharacterTokenizer):
            return cls(config, tokenizer)
        return cls(config, tokenizer, open_tokens(tokens_folder(config, cache)).letters)

    def prompt(self, text: str) -> tuple[int, ...]:
        """Ids of the beginning of a text; of instruction data and conversations, of what asks for an answer to it.

        Raises:
            DataError: the corpus has none of its characters.
        """
        config, by_chat = self._config, False
        if config.response is not None or config.messages is not None:
            messages = () if config.messages is None else (("user", text), ("assistant", ""))
            asked = Document(text, "", None, None, "", messages=messages)
            (text, *_), by_chat = turns_of(asked, self._tokenizer, config)
        ids = self._tokenizer.encode([text])[0]
        if isinstance(self._tokenizer, CharacterTokenizer):
            return tuple(self._known(ids))
        return tuple((ids if by_chat else np.concatenate([self._tokenizer.prefix, ids])).tolist())

    def text(self, prompt: Sequence[int], ids: Sequence[int]) -> str:
        """What stands behind a prompt. Both are decoded together: some tokenizers write a word's first token in
        another way where it begins a text."""
        points = self._points
        if isinstance(self._tokenizer, CharacterTokenizer):
            return self._tokenizer.decode([points[one] for one in ids])
        before, whole = (self._tokenizer.decode(some) for some in (prompt, [*prompt, *ids]))
        return whole[len(before) :] if whole.startswith(before) else self._tokenizer.decode(ids)

    def _known(self, points: Int32) -> list[int]:
        missing = [chr(point) for point in points.tolist() if point not in self._ids]
        if missing:
            raise DataError(f"the character {missing[0]!r} does not occur in the corpus")
        return [self._ids[point] for point in points.tolist()]
