"""Pages and other answers, with what keeps a browser from reading them for another site."""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from http import HTTPStatus
from importlib import resources
from string import Template
from typing import Any

from raysim.config.parsing import json_line
from raysim.tracking.report.markup import Content, Html, element, escape, join, theme_colors
from raysim.version import __version__

REFRESH = 5
"""Seconds after which a page of something that runs is loaded again, where scripts are off."""

ALWAYS = {
    "Cache-Control": "no-store",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
"""Headers of every answer."""

_POLICY = (
    "default-src 'none'; img-src 'self' data:; style-src 'unsafe-inline'; script-src 'nonce-{nonce}'; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)


@dataclass(frozen=True, slots=True)
class Response:
    """What a request gets."""

    body: bytes
    kind: str
    status: HTTPStatus = HTTPStatus.OK
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Watched:
    """How a page is kept new.

    Attributes:
        parts: where its parts are asked for.
        version: of those that it has.
        again: seconds until it may ask.
        running: something in it goes on.
    """

    parts: str
    version: str
    again: float
    running: bool


def page(
    title: str,
    content: Content,
    *,
    trail: Content = "",
    watched: Watched | None = None,
    status: HTTPStatus = HTTPStatus.OK,
) -> Response:
    """A whole page.

    Args:
        title: in the browser's tab.
        content: of the page.
        trail: of links to it, beside the link to the list.
        watched: None for a page that stays as it is.
        status: of the answer.
    """
    nonce = secrets.token_urlsafe(16)
    refresh = f'<noscript><meta http-equiv="refresh" content="{REFRESH}"></noscript>'
    text = Template(_read("raysim.serving", "page.html")).substitute(
        title=escape(f"{title} · raysim"),
        refresh=refresh if watched is not None and watched.running else "",
        colors=theme_colors(),
        style=_read("raysim.tracking.report", "page.css") + _read("raysim.serving", "page.css"),
        trail=escape(trail),
        watched=_attributes(watched) if watched is not None else "",
        content=escape(content),
        footer=escape(f"raysim {__version__}, {time.strftime('%Y-%m-%d at %H:%M')}"),
        nonce=nonce,
        script=_read("raysim.serving", "page.js"),
    )
    policy = {"Content-Security-Policy": _POLICY.format(nonce=nonce)}
    return Response(text.encode(), "text/html; charset=utf-8", status, policy)


def placed(parts: Mapping[str, Html]) -> Html:
    """Parts in the places in which the page's script puts newer ones."""
    return join(Html(f'<div id="{name}">{part.text}</div>') for name, part in parts.items())


def message(status: HTTPStatus, text: str) -> Response:
    """A page of one line."""
    return page(status.phrase, join([element("h1", status.phrase), element("p", text, kind="lead")]), status=status)


def values(found: Mapping[str, Any], status: HTTPStatus = HTTPStatus.OK) -> Response:
    """JSON for programs."""
    return Response((json_line(found) + "\n").encode(), "application/json", status)


def _attributes(watched: Watched) -> str:
    parts, version = escape(watched.parts), escape(watched.version)
    return f'data-parts="{parts}" data-version="{version}" data-again="{watched.again:.2f}"'


@cache
def _read(package: str, name: str) -> str:
    return resources.files(package).joinpath(name).read_text(encoding="utf-8")
