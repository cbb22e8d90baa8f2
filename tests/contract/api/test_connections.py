"""Limits on connections: their number, idle ones, slow, large and ambiguous heads."""

import json
import select
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import psutil
import pytest

from support.contacts import Contact
from support.http import SNAPSHOTS, api, token
from support.served import Served
from support.waiting import allowed, eventually
from worker.service import Service
from worker.settings import Settings

DESCRIPTORS = 64


def connect(url: str) -> socket.socket:
    place = urlsplit(url)
    return socket.create_connection((place.hostname, place.port or 80), timeout=15)


@contextmanager
def idle(url: str, count: int) -> Iterator[list[socket.socket]]:
    """Open connections and send nothing."""
    with ExitStack() as stack:
        yield [stack.enter_context(connect(url)) for _ in range(count)]


def received(connection: socket.socket) -> bytes:
    """Receive until the server closes."""
    answer = b""
    try:
        while more := connection.recv(65_536):
            answer += more
    except ConnectionError:
        pass
    return answer


def test_idle_connections_beyond_the_descriptors_cost_nothing_and_stop_no_one(
    settings: Settings, tmp_path: Path
) -> None:
    prefix = ["prlimit", f"--nofile={DESCRIPTORS}:{DESCRIPTORS}"]
    limit = allowed(2)  # before this test's own load
    with api(settings, tmp_path, prefix=prefix) as (url, process), idle(url, 100):
        assert process.log is not None
        usage, size, started = psutil.Process(process.pid), process.log.stat().st_size, time.monotonic()
        before = sum(usage.cpu_times()[:2])
        while time.monotonic() - started < 4:
            asked = time.monotonic()
            assert httpx.get(f"{url}/readyz", timeout=30).status_code == 200
            assert time.monotonic() - asked < limit
        share = (sum(usage.cpu_times()[:2]) - before) / (time.monotonic() - started)
        grown = process.log.stat().st_size - size
    print(f"CPU {share:.0%}, log {grown} bytes")
    assert grown < 5000
    assert share < 0.9  # of a core, and almost all of it for the requests above


def test_new_connection_takes_the_place_of_the_longest_idle(settings: Settings, tmp_path: Path) -> None:
    with api(settings, tmp_path, {"API_MAX_CONNECTIONS": "8"}) as (url, _), idle(url, 8) as first:
        assert httpx.get(f"{url}/healthz").status_code == 200
        assert received(first[0]) == b""
        with connect(url) as other:
            other.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
            assert other.recv(65_536).startswith(b"HTTP/1.1 200")


FORM = b"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 9\r\nExpect: 100-continue\r\n\r\n"
UNFINISHED_BODY = b"POST /operations/login HTTP/1.1\r\nHost: x\r\n" + FORM
UNREAD_ANSWERS = b"GET /docs/swagger-ui-bundle.js HTTP/1.1\r\nHost: x\r\n\r\n" * 20


@pytest.mark.parametrize(
    ("sent", "begun"),
    [
        pytest.param(UNFINISHED_BODY, b"HTTP/1.1 100 ", id="unfinished body"),
        pytest.param(UNREAD_ANSWERS, b"HTTP/1.1 200 ", id="unread answers"),
    ],
)
def test_new_connection_takes_the_place_of_one_whose_client_does_not_go_on(
    settings: Settings, tmp_path: Path, sent: bytes, begun: bytes
) -> None:
    with api(settings, tmp_path, {"API_MAX_CONNECTIONS": "8"}) as (url, _), ExitStack() as stack:
        for connection in (stack.enter_context(connect(url)) for _ in range(8)):
            connection.sendall(sent)
            assert connection.recv(len(begun)) == begun
        eventually(lambda: httpx.get(f"{url}/healthz", timeout=30).status_code == 200, 5)


def test_connection_is_refused_while_requests_on_all_others_are_answered(
    settings: Settings, tmp_path: Path, service: Service, contact: Contact
) -> None:
    body = json.dumps({"contactId": str(contact.id)})
    head = f"POST {SNAPSHOTS} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token(contact.organization)}\r\n"
    request = f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode()
    with api(settings, tmp_path, {"API_MAX_CONNECTIONS": "8", "API_WAIT": "30"}) as (url, _):
        with ExitStack() as stack:
            for connection in (stack.enter_context(connect(url)) for _ in range(8)):
                connection.sendall(request)
            # There is no worker, so each waits for its outcome.
            eventually(lambda: service.ledger.collection.count_documents({"organizationId": contact.organization}) == 8)

            def is_refused() -> bool:
                with connect(url) as other:
                    answer = received(other) if other in select.select([other], [], [], 0.3)[0] else b""
                    return answer.startswith(b"HTTP/1.1 503 ") and b"too_many_connections" in answer

            eventually(is_refused)
        eventually(lambda: httpx.get(f"{url}/healthz").status_code == 200)


@pytest.mark.parametrize(
    "sent", [pytest.param(b"", marks=pytest.mark.acceptance), b"GET /healthz HTTP/1.1\r\nHost: x\r\n"]
)
def test_connection_without_a_complete_head_is_closed(served: Served, sent: bytes) -> None:
    with connect(served.url) as connection:
        started = time.monotonic()
        connection.sendall(sent)
        answer = received(connection)
        assert 5 < time.monotonic() - started < allowed(14)
    assert answer.startswith(b"HTTP/1.1 408 ") == bool(sent)


def test_head_is_limited_also_on_a_connection_that_was_used_before(served: Served) -> None:
    with connect(served.url) as connection:
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        assert connection.recv(65_536).startswith(b"HTTP/1.1 200")
        connection.sendall(b"GET /healthz HTTP/1.1\r\n")
        for _ in range(400):
            try:
                connection.sendall(b"X-Filler: " + b"a" * 1000 + b"\r\n")
            except ConnectionError:
                break
        assert b"HTTP/1.1 431 " in received(connection)


@pytest.mark.acceptance
@pytest.mark.timeout(180)
def test_client_that_reads_nothing_of_its_answers_is_disconnected(served: Served) -> None:
    process = psutil.Process(served.process.pid)
    with connect(served.url) as connection:
        port = connection.getsockname()[1]

        def is_connected() -> bool:
            return any(each.raddr[1:] == (port,) for each in process.net_connections("tcp"))

        connection.sendall(b"GET /docs/swagger-ui-bundle.js HTTP/1.1\r\nHost: x\r\n\r\n" * 20)
        eventually(is_connected)
        eventually(lambda: not is_connected(), 150)


@pytest.mark.parametrize("path", ["/healthz", SNAPSHOTS, "/nothing", "/docs", "/operations/login"])
def test_browser_takes_no_answer_for_another_type(served: Served, path: str) -> None:
    assert served.http.get(path).headers.get_list("x-content-type-options") == ["nosniff"]


@pytest.mark.parametrize("hosts", [0, 2])
def test_request_needs_exactly_one_host(served: Served, hosts: int) -> None:
    with connect(served.url) as connection:
        lines = ["GET /healthz HTTP/1.1", *["Host: x"] * hosts, "", ""]
        connection.sendall("\r\n".join(lines).encode())
        answer = received(connection)
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 ")
    assert json.loads(body)["errors"] == [
        {"field": "Host", "message": f"should be given exactly once, but is given {hosts} times"}
    ]


def test_documentation_cannot_be_framed_and_runs_its_own_script_only(served: Served) -> None:
    headers = httpx.get(f"{served.url}/docs").headers
    policy = dict(each.strip().split(" ", 1) for each in headers["content-security-policy"].split(";"))
    assert policy["default-src"] == policy["frame-ancestors"] == "'none'"
    assert policy["connect-src"] == policy["style-src"] == "'self'"
    own, script = policy["script-src"].split()
    assert own == "'self'"
    assert script.startswith("'sha256-")
    assert headers["x-frame-options"] == "DENY"
