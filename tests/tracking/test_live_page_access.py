"""Who may read the live page over HTTP."""

from __future__ import annotations

import http.client
import socket
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from synthetic_runs import make_run

import raysim
from raysim.errors import ConfigError
from raysim.serving import LivePage
from raysim.serving.access import Access


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("runs"), "a").parent


@pytest.fixture(scope="module")
def page(runs: Path) -> Iterator[LivePage]:
    with raysim.serve(runs, port=0) as page:
        yield page


@pytest.fixture(scope="module")
def guarded(runs: Path) -> Iterator[LivePage]:
    with raysim.serve(runs, port=0, token=True) as page:
        yield page


def ask(page: LivePage, path: str = "/", method: str = "GET", **headers: str) -> tuple[http.client.HTTPResponse, str]:
    connection = http.client.HTTPConnection("127.0.0.1", page.port)
    try:
        connection.putrequest(method, path, skip_host="Host" in headers)
        for name, value in headers.items():
            if value:
                connection.putheader(name, value)
        connection.endheaders()
        answer = connection.getresponse()
        return answer, answer.read().decode()
    finally:
        connection.close()


def test_a_page_has_its_address_and_headers_that_keep_it_here(page: LivePage) -> None:
    assert page.url == f"http://127.0.0.1:{page.port}/"
    assert page.token is None
    answer, text = ask(page)
    assert answer.status == 200
    assert "Runs in" in text
    policy = answer.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    nonce = policy.partition("nonce-")[2].partition("'")[0]
    assert f'<script nonce="{nonce}">' in text
    assert answer.headers["Cross-Origin-Resource-Policy"] == "same-origin"
    assert "Access-Control-Allow-Origin" not in answer.headers
    assert "://" not in text.replace("http://www.w3.org/2000/svg", ""), "nothing is loaded from elsewhere"


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.0.0.1:1", "[::1]:8780", "localhost:8888", "LOCALHOST", "a.localhost"]
)
def test_the_machine_itself_is_a_host(page: LivePage, host: str) -> None:
    assert ask(page, Host=host)[0].status == 200


@pytest.mark.parametrize("host", ["", "evil.example", "evil.example:80", "127.0.0.1.evil.example", "localhost.evil"])
def test_another_name_is_refused(page: LivePage, host: str) -> None:
    answer, text = ask(page, Host=host)
    assert answer.status == 403
    assert "Runs in" not in text


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
def test_it_can_only_be_read(page: LivePage, method: str) -> None:
    assert ask(page, method=method)[0].status == 501


def test_a_head_has_no_body(page: LivePage) -> None:
    answer, text = ask(page, method="HEAD")
    assert (answer.status, text) == (200, "")


@pytest.mark.parametrize("path", ["/../", "/%2e%2e/%2e%2e/etc/passwd", "/runs/..%2f..%2fetc", "//evil.example/", "/a"])
def test_an_address_that_leads_nowhere_is_not_found(page: LivePage, path: str) -> None:
    answer, _ = ask(page, path)
    assert answer.status == 404


def test_an_error_of_one_page_is_said_and_the_others_go_on(
    page: LivePage, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("raysim.serving.site.parts", lambda moment: 1 / 0)
        answer, text = ask(page, "/runs/a")
    assert (answer.status, "division by zero" in text) == (500, True)
    assert "ZeroDivisionError" in capsys.readouterr().err
    assert ask(page, "/runs/a")[0].status == 200


def test_a_token_opens_the_page_and_stays_in_a_cookie(guarded: LivePage) -> None:
    (token,) = parse_qs(urlsplit(guarded.url).query)["token"]
    assert token == guarded.token
    assert len(token) >= 32
    answer, _ = ask(guarded, f"/runs/a?token={token}&x=1")
    assert (answer.status, answer.headers["Location"]) == (303, "/runs/a?x=1")
    cookie = answer.headers["Set-Cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie
    assert ask(guarded, "/runs/a", Cookie=cookie.partition(";")[0])[0].status == 200
    assert ask(guarded, "/api/runs", Authorization=f"Bearer {token}")[0].status == 200
    assert ask(guarded, f"/api/runs?token={token}")[0].status == 200
    assert ask(guarded, f"//evil.example/?token={token}")[0].headers["Location"] == "/evil.example/"


@pytest.mark.parametrize(
    "headers", [{}, {"Cookie": "raysim-token=wrong"}, {"Cookie": "=;=\x7f"}, {"Authorization": "Bearer wrong"}]
)
def test_without_the_token_nothing_is_shown(guarded: LivePage, headers: dict[str, str]) -> None:
    for path in ("/", "/?token=wrong", "/runs/a", "/api/runs", "/pictures/x/y/light"):
        answer, text = ask(guarded, path, **headers)
        assert answer.status == 403
        assert "has the token" in text
        assert guarded.token not in text


@pytest.mark.parametrize(
    ("host", "needed"),
    [("127.0.0.1", False), ("::1", False), ("localhost", False), ("0.0.0.0", True), ("::", True), ("10.0.0.7", True)],
)
def test_a_token_is_asked_for_wherever_others_can_reach_the_page(host: str, needed: bool) -> None:
    assert (Access.to(host, token=False).token is not None) is needed
    assert Access.to(host, token=True).token is not None


def test_two_tokens_are_never_the_same() -> None:
    assert Access.to("::", token=True).token != Access.to("::", token=True).token


def test_what_cannot_be_listened_at_is_one_line(runs: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=f"--port {port}: cannot be listened at .Address already in use.; give"):
            raysim.serve(runs, port=port)
    with pytest.raises(ConfigError, match=r"--host 192\.0\.2\.1 --port 0: cannot be listened at"):
        raysim.serve(runs, host="192.0.2.1", port=0)
    with pytest.raises(ConfigError, match="a port is between 0 and 65535"):
        raysim.serve(runs, port=70000)
