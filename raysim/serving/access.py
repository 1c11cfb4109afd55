"""Who may read the pages: everybody on the loopback of this machine, elsewhere those who have the token."""

from __future__ import annotations

import hmac
import ipaddress
import secrets
import socket
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie

COOKIE = "raysim-token"


@dataclass(frozen=True, slots=True)
class Access:
    """What a request must have.

    Attributes:
        token: None where none is asked for.
        names: of this machine, lower case, under which a browser may ask for it; addresses may always.
    """

    token: str | None
    names: frozenset[str]

    @classmethod
    def to(cls, host: str, *, token: bool) -> Access:
        """To a page at this host; a token is needed wherever others can reach it."""
        asked = token or not is_loopback(host)
        names = {"localhost", host.lower(), socket.gethostname().lower()}
        return cls(secrets.token_urlsafe(24) if asked else None, frozenset(names))

    def knows(self, host: str | None) -> bool:
        """Whether the `Host` of a request is this machine's.

        A page of another site whose name was bound to our address anew (DNS rebinding) has that site's name there.
        An address cannot be bound to another one.
        """
        name = _without_port(host or "").lower().rstrip(".")
        return _is_address(name) or name in self.names or name.endswith(".localhost")

    def admits(self, cookies: str | None, authorization: str | None, given: str | None) -> bool:
        """Whether one of them has the token: the cookie, `Authorization: Bearer TOKEN`, or the address (`given`)."""
        if self.token is None:
            return True
        kind, _, bearer = (authorization or "").partition(" ")
        shown = [_cookie(cookies), bearer if kind.lower() == "bearer" else None, given]
        return any(_same(one, self.token) for one in shown if one is not None)

    def cookie(self) -> str:
        """The `Set-Cookie` that keeps the token in a browser, away from scripts and from other sites."""
        return f"{COOKIE}={self.token}; Path=/; HttpOnly; SameSite=Strict"


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach this host."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _cookie(header: str | None) -> str | None:
    try:
        found = SimpleCookie(header or "").get(COOKIE)
    except CookieError:
        return None
    return None if found is None else found.value


def _same(one: str, other: str) -> bool:
    return hmac.compare_digest(one.encode(), other.encode())


def _without_port(host: str) -> str:
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0]


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
