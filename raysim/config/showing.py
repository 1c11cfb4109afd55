"""Values as error messages repeat them: on one line, short, and without secrets."""

from __future__ import annotations

import re
from typing import Any

_MOST, _MOST_LINE = 80, 2000
"""Characters that are shown of a value, and of a whole message."""
_HIDDEN = "***"

_PASSWORD = re.compile(r"://([^/?#\s:@'\"]*):(?!\d{1,5}[/?#])(?:[^\n'\"]*|\S*)@")
"""A password ends at the last `@`: one that holds `/` or `@` unescaped is no less a secret. A port is none."""
_QUERY = re.compile(
    r"(?i)(?<=[?&;])([\w.-]*(?:secret|passw|pwd|token(?!s=|i[sz])|signature|credential|api_?key|account_?key|access_?key)[\w.-]*|sig|sas)"
    r"=([^&;#\s'\"]+)"
)


def holds_secret(text: str) -> bool:
    """Whether it is, or contains, a URL with a password, key or token in it."""
    return "://" in text and hidden(text) != text


def hidden(text: str) -> str:
    """The text with `***` for the password, key or token of every URL in it.

    ```python
    hidden("postgresql://me:hunter2@host/db?sslmode=require")  # postgresql://me:***@host/db?sslmode=require
    ```
    """
    if "://" not in text:
        return text
    text = _PASSWORD.sub(lambda found: f"://{found[1]}:{_HIDDEN}@", text)
    return _QUERY.sub(lambda found: f"{found[1]}={_HIDDEN}", text)


def one_line(text: str) -> str:
    """A whole message for a terminal: no secrets, no control characters, no more than can be read."""
    text = "".join(c if c.isprintable() else repr(c)[1:-1] for c in hidden(text))
    return text if len(text) <= _MOST_LINE else f"{text[: _MOST_LINE - 1]}…"


def shown(value: Any) -> str:
    """The value for the middle of an error message."""
    if isinstance(value, list | tuple) and len(value) > _MOST:  # all the rest would be cut off
        value = value[:_MOST]
    try:
        text = hidden(repr(value))
    except (RecursionError, ValueError):  # a list in itself many times over, or a number of thousands of digits
        return f"a {type(value).__name__} too large to show"
    return text if len(text) <= _MOST else f"{text[: _MOST - 1]}…"
