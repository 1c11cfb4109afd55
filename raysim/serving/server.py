"""The HTTP server of the live page: a thread a request, read only."""

from __future__ import annotations

import ipaddress
import socket
import socketserver
import sys
import threading
import traceback
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import parse_qs, unquote, urlencode, urlsplit

from raysim.errors import ConfigError
from raysim.serving.access import Access
from raysim.serving.folder import RunsFolder
from raysim.serving.responses import ALWAYS, Response, message
from raysim.serving.site import Site

HOST, PORT = "127.0.0.1", 8780
_IDLE = 30.0
"""Seconds until a connection that asks for nothing is closed."""
_LONGEST = 8192
"""Characters of an address; `http.server` itself refuses more than 65,536."""


class LivePage:
    """A page that is being served, until it is closed.

    Example:
        >>> with raysim.serve("runs", port=0) as page:
        ...     print(page.url)

    Attributes:
        host, port: where it listens.
        token: that a browser needs; None where none is asked for.
    """

    def __init__(self, folder: str | Path, *, host: str = HOST, port: int = PORT, token: bool = False) -> None:
        """Serve the runs of a folder (see `serve`)."""
        site = Site(RunsFolder(folder))
        access = Access.to(host, token=token)
        self.host, self.token = host, access.token
        self._server = _listen(host, port, site, access)
        self.port = int(self._server.server_address[1])
        self._thread = threading.Thread(target=self._serve, name="raysim-serve", daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        """The address to open, with the token where one is needed."""
        name = self.host if not _is_everywhere(self.host) else socket.gethostname()
        named = f"[{name}]" if ":" in name else name
        return f"http://{named}:{self.port}/" + (f"?{urlencode({'token': self.token})}" if self.token else "")

    def _serve(self) -> None:
        self._server.serve_forever(poll_interval=0.1)

    def wait(self) -> None:
        """Serve until another thread closes it, or Ctrl-C."""
        self._thread.join()

    def close(self) -> None:
        """Stop. Does nothing the second time."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def serve(folder: str | Path = "runs", *, host: str = HOST, port: int = PORT, token: bool = False) -> LivePage:
    """Show the runs of a folder, and those that go on as they go on, in a browser.

    Args:
        folder: of runs and studies, or one run. Nothing outside of it is shown, and nothing is written.
        host: where to listen. Others than loopback need the token.
        port: 0 for a free one.
        token: ask for it on loopback, too, which every user of this machine can reach.

    Returns:
        The page, which a thread of this process serves until it is closed.

    Raises:
        RunError: the folder is missing, or has no run in it.
        ConfigError: host and port cannot be listened at.
    """
    return LivePage(folder, host=host, port=port, token=token)


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, address: tuple[str, int], family: socket.AddressFamily, site: Site, access: Access) -> None:
        self.address_family, self.site, self.access = family, site, access
        super().__init__(address, _Handler)

    def server_bind(self) -> None:
        socketserver.TCPServer.server_bind(self)  # `HTTPServer` would ask a name server for the name of this machine

    def handle_error(self, request: object, client_address: object) -> None:
        if not isinstance(sys.exception(), ConnectionError | TimeoutError):  # a browser that went away
            super().handle_error(request, client_address)  # type: ignore[arg-type]  # typeshed wants the socket alone


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    server_version, sys_version = "raysim", ""
    timeout = _IDLE

    def do_GET(self) -> None:
        """Response a request."""
        self._send(self._answer())

    do_HEAD = do_GET

    def log_message(self, format: str, *arguments: object) -> None:
        """No line for each request."""

    def _answer(self) -> Response:
        if len(self.path) > _LONGEST:
            return message(HTTPStatus.REQUEST_URI_TOO_LONG, "That address is too long.")
        access, headers = self.server.access, self.headers
        if not access.knows(headers.get("Host")):
            known = "its address, localhost, or what --host names"
            return message(HTTPStatus.FORBIDDEN, f"This page is not called that: open it by {known}.")
        parts = urlsplit(self.path)
        query = parse_qs(parts.query)
        given = query.pop("token", [None])[0]
        if not access.admits(headers.get("Cookie"), headers.get("Authorization"), given):
            return message(HTTPStatus.FORBIDDEN, "Open the address that `raysim serve` printed: it has the token.")
        if given is not None and access.token is not None and not parts.path.startswith("/api/"):
            asked = f"?{urlencode(query, doseq=True)}" if query else ""
            onward = {"Location": f"/{parts.path.lstrip('/')}{asked}", "Set-Cookie": access.cookie()}
            return Response(b"", "text/plain", HTTPStatus.SEE_OTHER, onward)
        try:
            return self.server.site.answer(unquote(parts.path), query)
        except Exception as error:  # of one page; the others go on
            traceback.print_exc()
            return message(HTTPStatus.INTERNAL_SERVER_ERROR, f"{type(error).__name__}: {error}")

    def _send(self, answer: Response) -> None:
        self.send_response(answer.status)
        for name, value in {**ALWAYS, **answer.headers}.items():
            self.send_header(name, value)
        if answer.status != HTTPStatus.NO_CONTENT:
            self.send_header("Content-Type", answer.kind)
            self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.body)


def _listen(host: str, port: int, site: Site, access: Access) -> _Server:
    where = f"--host {host} --port {port}"
    if not 0 <= port <= 65535:
        raise ConfigError(f"{where}: a port is between 0 and 65535")
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, _, _, _, address = found[0]
        return _Server((str(address[0]), int(address[1])), family, site, access)
    except OSError as error:
        why = f"cannot be listened at ({error.strerror or error})"
        raise ConfigError(f"{where}: {why}; give another, or --port 0 for a free one") from None


def _is_everywhere(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return not host
