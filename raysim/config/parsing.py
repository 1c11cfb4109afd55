"""YAML and JSON text as plain values: null, true, numbers, text, lists and mappings, in bounded work.

How deep values nest, how many there are and how long a number is written is limited. An alias counts as often as it is
used, before anything is built from it, so that a few lines of aliases of aliases are refused at once.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import fields, is_dataclass
from typing import Any

import yaml
from yaml.composer import Composer
from yaml.constructor import SafeConstructor
from yaml.nodes import MappingNode, Node, ScalarNode
from yaml.parser import Parser
from yaml.reader import Reader
from yaml.resolver import Resolver
from yaml.scanner import Scanner

MOST_BYTES = 4 << 20
"""Bytes of a YAML file: about 200,000 clients in a table."""
MOST_DEPTH = 50
"""Lists and mappings within each other."""
MOST_VALUES = 1_000_000
"""Values of a document, those behind aliases counted wherever they are used."""
MOST_DIGITS = 100
"""Characters of a number."""

_TAGS = "tag:yaml.org,2002:"
_MERGE = f"{_TAGS}merge"
_SHOWN = 60
"""Characters of the text that an error repeats."""


class Malformed(ValueError):
    """Why a text cannot be read.

    Attributes:
        reason: as a phrase.
        line: where, from 1; None where it is not known.
    """

    def __init__(self, reason: str, line: int | None = None) -> None:
        super().__init__(reason if line is None else f"line {line}: {reason}")
        self.reason, self.line = reason, line


def parse_yaml(text: str) -> Any:
    """The value of a YAML document; None of an empty one. Merge keys (`<<`) are as if their keys were written out.

    Raises:
        Malformed: it is no YAML, has a key twice, or has other values than JSON has.
    """
    if _QuickLoader is not None and _PLAIN.fullmatch(text):
        with suppress(yaml.YAMLError):  # what is wrong is said in the words of the other one
            return _read(_QuickLoader(text))
    try:
        return _read(_Loader(text))
    except yaml.reader.ReaderError as error:
        code = error.character if isinstance(error.character, int) else ord(error.character[:1])
        raise Malformed(f"character {code:#04x} is not allowed", text.count("\n", 0, error.position) + 1) from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise Malformed(str(error.problem), None if mark is None else mark.line + 1) from None


def _read(loader: Any) -> Any:
    try:
        return loader.get_single_data()
    finally:
        loader.dispose()


def as_yaml(value: Any, *, one_line: bool = False) -> str:
    """Plain values as YAML that `parse_yaml` reads as the same values; keys keep their order."""
    width = 2**31 - 1 if one_line else None
    for dumper in (_Dumper, _PlainDumper):
        text: str = yaml.dump(
            value, Dumper=dumper, default_flow_style=one_line, width=width, allow_unicode=True, sort_keys=False
        )
        if "\\U" not in text:
            break  # libyaml spells an emoji
    return text.removesuffix("\n").removesuffix("\n...") if one_line else text


def parse_json(text: str | bytes) -> Any:
    """The value of a JSON document.

    Raises:
        Malformed: it is no JSON, is nested too deeply, or has a key twice.
    """
    try:
        return json.loads(text, object_pairs_hook=_unique, parse_int=_whole)
    except RecursionError:
        raise Malformed("too many brackets within each other") from None
    except json.JSONDecodeError as error:
        raise Malformed(error.msg.lower(), error.lineno) from None
    except UnicodeDecodeError as error:
        raise Malformed(f"byte {error.start} is not UTF-8") from None


def json_line(values: Any) -> str:
    """A mapping or dataclass as one line of strict JSON: NaN and infinity, which JSON does not have, become null."""
    return json.dumps(_strict(values), ensure_ascii=False, allow_nan=False, default=str)


def values_of(value: Any) -> dict[str, Any]:
    """The fields of a dataclass by their names; what is in them stays as it is."""
    return {field.name: getattr(value, field.name) for field in fields(value)}


def _strict(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _strict(below) for key, below in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_strict(below) for below in value]
    if is_dataclass(value) and not isinstance(value, type):
        return _strict(values_of(value))
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        raise Malformed(f"key {next(key for key in keys if keys.count(key) > 1)[:80]!r} is given twice")
    return found


def _whole(digits: str) -> int:
    if len(digits) > MOST_DIGITS:
        raise Malformed(f"a number has {len(digits):,} digits")
    return int(digits)


class _Refused(yaml.MarkedYAMLError):
    """A phrase about a node or an event, whose place it takes."""

    def __init__(self, reason: str, where: Any) -> None:
        super().__init__(problem=reason, problem_mark=where.start_mark)


class _Composing(Composer, SafeConstructor, Resolver):
    """Of events, plain values alone, within limits; `1e-3` is a number, and no key is given twice."""

    def _begin(self) -> None:
        for part in (Composer, SafeConstructor, Resolver):
            part.__init__(self)
        self._depth = self._values = 0
        self._sizes: dict[str, int] = {}
        self._flat: set[int] = set()

    def compose_node(self, parent: Node | None, index: Any) -> Node | None:
        """The next node, counted with all that is in it, an alias as often as it is used."""
        parser: Any = self  # its class has one
        event: Any = parser.peek_event()
        anchor: Any = event.anchor
        if isinstance(event, yaml.AliasEvent):
            if anchor in self.anchors and anchor not in self._sizes:
                raise _Refused(f"alias *{_brief(anchor)} is inside what it stands for", event)
            self._count(self._sizes.get(anchor, 0), event)
            return super().compose_node(parent, index)
        if anchor in self.anchors:
            raise _Refused(f"anchor &{_brief(anchor)} is given twice", event)
        before = self._values
        self._count(1, event)
        self._depth += 1
        if self._depth > MOST_DEPTH:
            raise _Refused(f"more than {MOST_DEPTH} lists and mappings within each other", event)
        node = super().compose_node(parent, index)
        self._depth -= 1
        if anchor is not None:
            self._sizes[anchor] = self._values - before
        return node

    def _count(self, values: int, event: yaml.Event) -> None:
        self._values += values
        if self._values > MOST_VALUES:
            raise _Refused(f"more than {MOST_VALUES:,} values, those behind aliases included", event)

    def flatten_mapping(self, node: MappingNode) -> None:
        """Write the keys of `<<` out, once, after a look at the keys that are written there already."""
        if id(node) in self._flat:
            return
        self._flat.add(id(node))
        seen: dict[Any, int] = {}
        for key_node, _ in node.value:
            key, line = self._key(key_node), key_node.start_mark.line + 1
            if key in seen:
                raise _Refused(f"key {_brief(key_node.value)!r} is given twice, first on line {seen[key]}", key_node)
            seen[key] = line
        super().flatten_mapping(node)

    def _key(self, node: Node) -> Any:
        if not isinstance(node, ScalarNode):
            raise _Refused("a key must be a word", node)
        if node.tag == _MERGE:
            return (_MERGE,)  # equal to no key that is a word
        key = self.construct_object(node)
        if isinstance(key, bool) or not isinstance(key, str | int):
            raise _Refused(f"a key must be a word, and {_brief(node.value)!r} is read as {key}; quote it", node)
        return key


def _brief(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def _checked(build: Callable[[Any, Any], Any], what: str) -> Callable[[_Composing, Any], Any]:
    """A constructor whose every complaint has a place; `!!int abc` makes PyYAML's own raise what `int` raises."""

    def construct(loader: _Composing, node: Any) -> Any:
        text = loader.construct_scalar(node)
        if len(text) > MOST_DIGITS:
            raise _Refused(f"a number of {len(text):,} characters; at most {MOST_DIGITS} are read", node)
        try:
            return build(loader, node)
        except (ValueError, LookupError, OverflowError):
            raise _Refused(f"{_brief(text)!r} is no {what}", node) from None

    return construct


def _refuse_date(loader: _Composing, node: Any) -> Any:
    raise _Refused(f"{_brief(node.value)!r} looks like a date, which no key takes; quote it", node)


def _refuse_tag(loader: _Composing, node: Any) -> Any:
    raise _Refused(f"tag {_brief(node.tag.replace(_TAGS, '!!'))!r} is not read here; write a plain value", node)


class _Loader(_Composing, Reader, Scanner, Parser):
    """Reads any text."""

    def __init__(self, text: str) -> None:
        Reader.__init__(self, text)
        Scanner.__init__(self)
        Parser.__init__(self)
        self._begin()


_QuickLoader: Callable[[str], Any] | None = None
"""Reads by libyaml, where PyYAML has it, what both understand alike: in a fifth of the time."""
_PLAIN = re.compile(r"[\n \"->@-~\xa0-\u2027\u202a-\ud7ff]*")
"""Texts without `!`, `?`, tabs and other line ends, of which the two make different things."""

_CParser: Any = getattr(getattr(yaml, "cyaml", None), "CParser", None)
if _CParser is not None:

    class _ByLibyaml(_Composing, _CParser):  # type: ignore[misc]  # known at run time alone
        def __init__(self, text: str) -> None:
            _CParser.__init__(self, text)
            self._begin()

    _QuickLoader = _ByLibyaml


_Composing.yaml_constructors = {
    f"{_TAGS}null": yaml.SafeLoader.construct_yaml_null,
    f"{_TAGS}bool": _checked(yaml.SafeLoader.construct_yaml_bool, "true or false"),
    f"{_TAGS}int": _checked(yaml.SafeLoader.construct_yaml_int, "whole number"),
    f"{_TAGS}float": _checked(yaml.SafeLoader.construct_yaml_float, "number"),
    f"{_TAGS}str": yaml.SafeLoader.construct_yaml_str,
    f"{_TAGS}seq": yaml.SafeLoader.construct_yaml_seq,
    f"{_TAGS}map": yaml.SafeLoader.construct_yaml_map,
    f"{_TAGS}timestamp": _refuse_date,
    None: _refuse_tag,
}


class _PlainDumper(yaml.SafeDumper):
    """The safe dumper, which quotes a text that `_Loader` would read as a number: `1e5`."""


class _Dumper(getattr(yaml, "CSafeDumper", yaml.SafeDumper)):  # type: ignore[misc]  # known at run time alone
    """The same by libyaml, if PyYAML has it: in a quarter of the time."""


for _one in (_Composing, _PlainDumper, _Dumper):
    _one.add_implicit_resolver(
        f"{_TAGS}float", re.compile(r"^[-+]?[0-9]+(?:\.[0-9]*)?[eE][-+]?[0-9]+$"), list("-+0123456789")
    )
