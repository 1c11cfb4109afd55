"""Documents of a corpus: text, owner and label of each record, checked as they are read."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from raysim.config.text import CorpusConfig
from raysim.data.owners import owner_name
from raysim.data.sources.corpus.records import Record
from raysim.errors import DataError

Message = tuple[str, str]
"""Role and text."""
ASSISTANT = "assistant"


@dataclass(frozen=True, slots=True)
class Document:
    """One document."""

    text: str
    """With `response`, the prompt."""
    response: str | None
    owner: str | None
    """None where the corpus names no owners; `""` where this document has none."""
    label: str | None
    place: str
    """As error messages name it."""
    test: bool = False
    """Whether it is of the test part."""
    messages: tuple[Message, ...] = ()
    """Of a conversation, which then is all there is."""
    rejected: str | None = None
    """The other answer, where `response` is the better one of two."""

    @property
    def learned(self) -> str:
        """What there is to learn from."""
        if self.messages:
            return "".join(text for role, text in self.messages if role == ASSISTANT)
        if self.rejected is not None and not (self.rejected.strip() and (self.response or "").strip()):
            return ""  # there is nothing to compare
        return self.text if self.response is None else self.response

    @property
    def characters(self) -> int:
        """Of all its text."""
        answers = len(self.response or "") + len(self.rejected or "")
        return len(self.text) + answers + sum(len(text) for _, text in self.messages)


def documents(config: CorpusConfig, found: Iterable[Record], *, test: bool = False) -> Iterator[Document]:
    """The document of each record; with `test` those of the test part.

    Raises:
        DataError: there is no record, the first has no such field, or a text or a label is missing or of another type.
    """
    text, client, pairs = config.asked or config.text, config.client, config.task == "preference"
    first = True
    for place, fields in found:
        if first:
            _check_fields(config, fields, place)
            client = client or ("client" if "client" in fields else None)
            first = False
        owner = None
        if client is not None:
            owner = owner_name(fields.get(client)) or ""
        yield Document(
            _text(fields, text, place) if config.messages is None else "",
            None if config.answered is None else _text(fields, config.answered, place),
            owner,
            None if config.label is None else _label(fields, config.label, place),
            place,
            test,
            () if config.messages is None else _messages(fields, config.messages, place),
            _text(fields, config.rejected, place) if pairs else None,
        )
    if first:
        raise DataError(f"{config.path}: the corpus is empty; there is no document in it")


def _check_fields(config: CorpusConfig, fields: Mapping[str, Any], place: str) -> None:
    """Every field that the configuration names, before the corpus is read."""
    names = {"prompt": config.asked, "chosen": config.answered, "rejected": config.rejected}
    if config.task != "preference":
        names = {"text": config.text, "prompt": config.prompt, "response": config.response, "messages": config.messages}
    for key, name in {**names, "label": config.label, "client": config.client}.items():
        if name is None or name in fields or (key == "text" and (config.prompt or config.messages)):
            continue
        close = difflib.get_close_matches(name, fields, n=1)
        remedy = f"did you mean {close[0]!r}?" if close else f"fields are {', '.join(map(repr, fields))}"
        raise DataError(f"{place}: data.source.{key}: no field {name!r}; {remedy}")


def _text(fields: Mapping[str, Any], name: str, place: str) -> str:
    value = fields.get(name)
    if not isinstance(value, str):
        found = "is missing" if value is None else f"has type {type(value).__name__}, not text"
        raise DataError(f"{place}: field {name!r} {found}; correct it, or remove the document")
    if value.isascii():
        return value
    return value.encode("utf-8", "replace").decode()  # half a surrogate pair, which JSON can spell, becomes `?`


def _messages(fields: Mapping[str, Any], name: str, place: str) -> tuple[Message, ...]:
    found = fields.get(name)
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        raise DataError(f"{place}: field {name!r} is no conversation: a list of objects with role and content")
    return tuple((_text(one, "role", place), _text(one, "content", place)) for one in found)


def _label(fields: Mapping[str, Any], name: str, place: str) -> str:
    value = fields.get(name)
    if isinstance(value, float) and not value.is_integer():
        raise DataError(f"{place}: label {name!r} is {value}, no class; classes are text or whole numbers")
    label = owner_name(value)
    if not isinstance(value, str | int | float) or not label:
        found = "is missing" if not label else f"has type {type(value).__name__}"
        raise DataError(f"{place}: label {name!r} {found}; classes are text or whole numbers")
    return label
