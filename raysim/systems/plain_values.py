"""Reads numbers, text, lists and mappings out of a pickle without unpickling it: nothing in the file is called.

A pickle is a program for a small stack machine. The instructions that only build plain values are carried out here one
by one; a file with any other instruction (a class, a function, a call) is refused.
"""

from __future__ import annotations

import pickletools
from typing import Any

_CONSTANTS: dict[str, Any] = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_PASSED_OVER = {"PROTO", "FRAME", "STOP"}
_VALUES = {
    "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT", "UNICODE", "BINUNICODE",
    "SHORT_BINUNICODE", "BINUNICODE8", "STRING", "BINSTRING", "SHORT_BINSTRING",
}  # fmt: skip
_MARK = object()


def read_plain(content: bytes) -> Any:
    """The value that a pickle of numbers, text, lists, tuples and mappings stands for.

    Raises:
        ValueError: it is no pickle, is damaged, or holds anything else.
    """
    stack: list[Any] = []
    kept: dict[int, Any] = {}
    try:
        for instruction, argument, _ in pickletools.genops(content):
            _carry_out(instruction.name, argument, stack, kept)
        (value,) = stack
    except (AttributeError, IndexError, KeyError, TypeError, UnicodeDecodeError) as error:
        raise ValueError(f"damaged ({type(error).__name__})") from None
    return value


def _carry_out(name: str, argument: Any, stack: list[Any], kept: dict[int, Any]) -> None:
    if name in _PASSED_OVER:
        return
    if name in _VALUES:
        stack.append(argument)
    elif name in _CONSTANTS:
        stack.append(_CONSTANTS[name])
    elif name == "MARK":
        stack.append(_MARK)
    elif name in ("EMPTY_DICT", "EMPTY_LIST", "EMPTY_TUPLE"):
        stack.append({"EMPTY_DICT": {}, "EMPTY_LIST": [], "EMPTY_TUPLE": ()}[name])
    elif name in ("DICT", "LIST", "TUPLE"):
        items = _since_mark(stack)
        stack.append(_pairs(items) if name == "DICT" else items if name == "LIST" else tuple(items))
    elif name in ("TUPLE1", "TUPLE2", "TUPLE3"):
        size = int(name[-1])
        stack[-size:] = [tuple(stack[-size:])]
    elif name in ("SETITEM", "SETITEMS"):
        items = _since_mark(stack) if name == "SETITEMS" else [stack.pop(-2), stack.pop()]
        stack[-1].update(_pairs(items))
    elif name in ("APPEND", "APPENDS"):
        items = _since_mark(stack) if name == "APPENDS" else [stack.pop()]
        stack[-1].extend(items)
    elif name in ("PUT", "BINPUT", "LONG_BINPUT"):
        kept[argument] = stack[-1]
    elif name == "MEMOIZE":
        kept[len(kept)] = stack[-1]
    elif name in ("GET", "BINGET", "LONG_BINGET"):
        stack.append(kept[argument])
    else:
        raise ValueError(f"it holds more than numbers, text, lists and mappings (instruction {name})")


def _since_mark(stack: list[Any]) -> list[Any]:
    place = len(stack) - 1
    while stack[place] is not _MARK:
        place -= 1
    items = stack[place + 1 :]
    del stack[place:]
    return items


def _pairs(items: list[Any]) -> dict[Any, Any]:
    return dict(zip(items[::2], items[1::2], strict=True))
