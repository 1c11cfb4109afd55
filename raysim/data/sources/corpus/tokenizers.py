"""From text to token ids: characters, bytes, or a tokenizer of Hugging Face's."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from raysim.arrays import Array, Int32
from raysim.config.text import WITHOUT_LIBRARY, CorpusConfig
from raysim.data.sources.corpus.hub import ON_THIS_MACHINE, needed, offline
from raysim.data.sources.files import first_line
from raysim.errors import DataError
from raysim.files import looked_up

CODES = 0x110000
"""Code points of Unicode."""
_ENDS = ("<|endoftext|>", "</s>", "<eos>", "<|end_of_text|>")
"""What tokens that end a text are called, where a `tokenizer.json` is all there is."""


class Tokenizer(ABC):
    """Turns texts into ids.

    Attributes:
        vocabulary: number of ids; of `characters`, which are counted as they are met, of all code points.
        end: id of the token that ends a text; None where there is none.
        pad: id of padding.
        prefix: ids that begin every sample, int32.
        suffix: ids that end every sample to classify, int32.
    """

    vocabulary: int
    end: int | None
    pad: int = 0
    prefix: Int32 = np.empty(0, np.int32)
    suffix: Int32 = np.empty(0, np.int32)

    @abstractmethod
    def encode(self, texts: Sequence[str]) -> list[Int32]:
        """Ids of each text, without what begins and ends a sample."""

    @abstractmethod
    def decode(self, ids: Sequence[int]) -> str:
        """The text of these ids; of `characters` they are code points. What is no text becomes U+FFFD."""

    def chat(self, messages: Sequence[tuple[str, str]]) -> list[str] | None:
        """A conversation by the chat template, cut where the assistant begins and ends; None without a template.

        Returns:
            By turns what is asked and what the assistant says; what follows the assistant's last word is left out.

        Raises:
            DataError: the template fails, or what it makes of some messages is not how a longer conversation begins.
        """
        return None


class CharacterTokenizer(Tokenizer):
    """Code points; they get ids, 1 and up, in the order of the code points that occur, once all are known."""

    vocabulary, end = CODES, 0

    def encode(self, texts: Sequence[str]) -> list[Int32]:
        return [np.frombuffer(text.encode("utf-32-le"), np.int32) for text in texts]

    def decode(self, ids: Sequence[int]) -> str:
        return "".join(map(chr, ids))


class ByteTokenizer(Tokenizer):
    """Bytes of UTF-8; 0, which is no letter, ends a text."""

    vocabulary, end = 256, 0

    def encode(self, texts: Sequence[str]) -> list[Int32]:
        return [np.frombuffer(text.encode(), np.uint8).astype(np.int32) for text in texts]

    def decode(self, ids: Sequence[int]) -> str:
        return bytes(ids).decode("utf-8", "replace")


class HubTokenizer(Tokenizer):
    """A tokenizer of `transformers`, from a folder or by name."""

    def __init__(self, name: str, *, download: bool, end: str | None) -> None:
        """Raises a DataError if there is no such tokenizer, a ConfigError if a package is missing."""
        transformers = needed("transformers", "data.source.tokenizer")
        try:
            with offline(download=download):
                self._fast = transformers.AutoTokenizer.from_pretrained(name, local_files_only=not download)
        except Exception as error:  # the library may raise anything
            how = "" if download or Path(name).expanduser().exists() else ON_THIS_MACHINE
            why = first_line(error)
            raise DataError(f"data.source.tokenizer: {name}: no tokenizer can be loaded ({why}){how}") from None
        self._name = name
        self.vocabulary = max(len(self._fast), max(self._fast.get_vocab().values(), default=-1) + 1)
        self.prefix, self.suffix = _around(self.encode(["a"])[0], _ids(self._fast("a")["input_ids"]))
        self.end = self._fast.eos_token_id if end is None else _known(self._fast.get_vocab(), end, name)
        if self.end is None and len(self.suffix):
            self.end = int(self.suffix[-1])
        pad = self._fast.pad_token_id
        self.pad = pad if pad is not None else self.end or 0

    def encode(self, texts: Sequence[str]) -> list[Int32]:
        found = self._fast(list(texts), add_special_tokens=False, return_attention_mask=False, verbose=False)
        return [_ids(ids) for ids in found["input_ids"]]

    def decode(self, ids: Sequence[int]) -> str:
        return str(self._fast.decode(list(ids), clean_up_tokenization_spaces=False))

    def chat(self, messages: Sequence[tuple[str, str]]) -> list[str] | None:
        if not self._fast.chat_template:
            return None
        turns: list[str] = []
        done = ""
        for at, (role, _) in enumerate(messages):
            if role != "assistant":
                continue
            for upto, begin in ((at, True), (at + 1, False)):
                text = self._written(messages[:upto], begin)
                if not text.startswith(done):
                    raise DataError(
                        f"data.source.tokenizer: {self._name}: by its chat template a conversation does not begin as "
                        "its prompt does; set data.source.template"
                    )
                turns.append(text[len(done) :])
                done = text
        return turns

    def _written(self, messages: Sequence[tuple[str, str]], begin: bool) -> str:
        """Messages by the chat template; with `begin` the assistant is about to speak."""
        given = [{"role": role, "content": text} for role, text in messages]
        try:
            text: str = self._fast.apply_chat_template(given, tokenize=False, add_generation_prompt=begin)
        except Exception as error:  # the library may raise anything
            why = first_line(error)
            raise DataError(
                f"data.source.tokenizer: {self._name}: its chat template fails ({why}); set template"
            ) from None
        return text


class FileTokenizer(Tokenizer):
    """A `tokenizer.json` of the library `tokenizers`."""

    def __init__(self, file: Path, *, end: str | None) -> None:
        """Raises a DataError if the file is damaged, a ConfigError if the package is missing."""
        tokenizers = needed("tokenizers", "data.source.tokenizer")
        try:
            self._rust = tokenizers.Tokenizer.from_file(str(file))
        except Exception as error:  # the library may raise anything
            raise DataError(
                f"data.source.tokenizer: {file}: no tokenizer can be loaded ({first_line(error)})"
            ) from None
        self._rust.no_truncation()
        self._rust.no_padding()
        known = self._rust.get_vocab(with_added_tokens=True)
        self.vocabulary = max(known.values(), default=-1) + 1
        self.prefix, self.suffix = _around(self.encode(["a"])[0], _ids(self._rust.encode("a").ids))
        ends = [known[name] for name in _ENDS if name in known] + self.suffix[-1:].tolist()
        self.end = _known(known, end, str(file)) if end is not None else next(iter(ends), None)

    def encode(self, texts: Sequence[str]) -> list[Int32]:
        return [_ids(found.ids) for found in self._rust.encode_batch(list(texts), add_special_tokens=False)]

    def decode(self, ids: Sequence[int]) -> str:
        return str(self._rust.decode(list(ids), skip_special_tokens=False))


def load_tokenizer(config: CorpusConfig) -> Tokenizer:
    """The tokenizer that the configuration names.

    Raises:
        ConfigError: it needs a package that is not installed.
        DataError: there is no such tokenizer, or nothing ends a text where documents follow one another.
    """
    if config.tokenizer == "characters":
        return CharacterTokenizer()
    if config.tokenizer == "bytes":
        return ByteTokenizer()
    place = _place(config)
    found: Tokenizer
    if place.is_file():
        found = FileTokenizer(place, end=config.end_of_text)
    else:
        found = HubTokenizer(config.tokenizer, download=config.download, end=config.end_of_text)
    if found.end is None and config.task == "causal_lm":
        raise DataError(
            f"data.source.tokenizer: {config.tokenizer} does not say which token ends a text; set "
            "data.source.end_of_text"
        )
    return found


def is_at_hand(config: CorpusConfig) -> bool:
    """Whether the tokenizer is no name on a hub.

    Raises:
        DataError: it is a path where nothing is.
    """
    return config.tokenizer in WITHOUT_LIBRARY or _place(config).exists()


def tokenizer_identity(config: CorpusConfig) -> str:
    """What the ids depend on: the tokenizer's files, or what its name stands for, and the library's version.

    Raises:
        ConfigError: it needs a package that is not installed.
        DataError: there is no such tokenizer.
    """
    if config.tokenizer in WITHOUT_LIBRARY:
        return config.tokenizer
    needed("tokenizers", "data.source.tokenizer")
    place = _place(config)
    digest = hashlib.sha256(json.dumps([metadata.version("tokenizers"), config.end_of_text]).encode())
    if place.exists():
        files = [place] if place.is_file() else sorted(file for file in place.iterdir() if _of_tokenizer(file))
        if place.is_dir():
            digest.update(metadata.version("transformers").encode())
        for file in files:
            digest.update(f"{file.name} {file.stat().st_size}\n".encode() + file.read_bytes())
        return digest.hexdigest()
    tokenizer = HubTokenizer(config.tokenizer, download=config.download, end=config.end_of_text)._fast
    digest.update(tokenizer.backend_tokenizer.to_str().encode())
    digest.update(repr((tokenizer.special_tokens_map, tokenizer.chat_template)).encode())
    return digest.hexdigest()


def _place(config: CorpusConfig) -> Path:
    """Where the tokenizer is, if it is a file or a folder."""
    place = looked_up(Path(config.tokenizer).expanduser())
    if config.tokenizer.startswith(("/", ".", "~")) and not place.exists():
        where = f"(relative to {Path.cwd()})"
        raise DataError(f"data.source.tokenizer: {place}: no such file or folder; check the path {where}")
    return place


def _of_tokenizer(file: Path) -> bool:
    """Whether a file of a model's folder may be the tokenizer's; weights are not."""
    return file.is_file() and (file.suffix in (".json", ".txt", ".jinja", ".model")) and "index" not in file.name


def _ids(ids: Sequence[int]) -> Int32:
    return np.asarray(ids, dtype=np.int32)


def _known(vocabulary: dict[str, Any], token: str, name: str) -> int:
    if token not in vocabulary:
        raise DataError(f"data.source.end_of_text: {name} has no token {token!r}; name one of its tokens")
    return int(vocabulary[token])


def _around(bare: Array, whole: Array) -> tuple[Int32, Int32]:
    """What stands before and behind a text's own ids."""
    for start in range(len(whole) - len(bare) + 1):
        if np.array_equal(whole[start : start + len(bare)], bare):
            return whole[:start].astype(np.int32), whole[start + len(bare) :].astype(np.int32)
    return whole[:0].astype(np.int32), whole[:0].astype(np.int32)
