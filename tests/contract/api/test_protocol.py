"""The HTTP protocol: unusual methods, headers, bodies and paths, and clients that disconnect."""

import gzip
import socket
import time
from urllib.parse import urlsplit

import httpx
import pytest
from bson import ObjectId

from support.http import EXPORT, SNAPSHOTS, bearer, token
from support.served import Served
from support.waiting import eventually


def raw(served: Served, *parts: bytes, until: bytes = b"}", seconds: float = 20.0) -> bytes:
    """Send bytes and return the answer up to `until`, or until the server closes."""
    place = urlsplit(served.url)
    with socket.create_connection((place.hostname, place.port or 80), timeout=seconds) as connection:
        for part in parts:
            connection.sendall(part)
        answer = b""
        while until not in answer and (more := connection.recv(65_536)):
            answer += more
    return answer


def head(served: Served, method: str, *headers: str) -> bytes:
    authorization = f"Authorization: Bearer {token(served.organization)}"
    return "\r\n".join([f"{method} {SNAPSHOTS} HTTP/1.1", "Host: x", authorization, *headers, "", ""]).encode()


def test_head_is_answered_like_get_without_a_body(served: Served) -> None:
    made = served.create()
    for path in ("/healthz", "/readyz", SNAPSHOTS, f"{SNAPSHOTS}/{made['_id']}"):
        answer = served.http.head(path)
        assert (answer.status_code, answer.content) == (200, b""), path
    assert served.http.head(f"{SNAPSHOTS}/{ObjectId()}").status_code == 404
    assert served.http.head(EXPORT).status_code == 405


@pytest.mark.parametrize("method", ["PUT", "OPTIONS", "TRACE", "DELETE"])
def test_unknown_method_is_refused_with_the_allowed_ones(served: Served, method: str) -> None:
    answer = served.http.request(method, SNAPSHOTS, headers={"X-HTTP-Method-Override": "GET"})
    assert (answer.status_code, answer.json()["code"]) == (405, "method_not_allowed")
    assert answer.headers["allow"] == "GET, HEAD, POST"
    assert "access-control-allow-origin" not in answer.headers


@pytest.mark.parametrize(
    "path", ["/", "/api", f"{SNAPSHOTS}/", f"{SNAPSHOTS}/..%2f..%2fetc%2fpasswd", f"{SNAPSHOTS}//x", "/docs/../.env"]
)
def test_unknown_path_is_404(served: Served, path: str) -> None:
    answer = served.http.get(path)
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


@pytest.mark.parametrize("path", [SNAPSHOTS, EXPORT, f"{SNAPSHOTS}/{'6' * 24}", "/operations", "/healthz"])
def test_path_with_a_trailing_line_break_is_404(served: Served, path: str) -> None:
    """`$` in the pattern of a route also matches before a final line break."""
    for headers in ({}, bearer(token(served.organization))):
        answer = httpx.get(f"{served.url}{path}%0A", headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


def test_unknown_method_of_the_documentation_is_refused(served: Served) -> None:
    answer = served.http.post("/docs")
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET, HEAD")
    assert answer.json()["message"] == "Method not allowed. This path allows GET, HEAD."


def test_answers_must_not_be_stored(served: Served) -> None:
    for path in (SNAPSHOTS, EXPORT, f"{SNAPSHOTS}/{ObjectId()}"):
        assert served.http.get(path).headers["cache-control"] == "no-store"


@pytest.mark.parametrize("method", ["GET", "PATCH", "DELETE"])
def test_operation_without_parameters_refuses_them_by_name(served: Served, method: str) -> None:
    place = f"{SNAPSHOTS}/{served.create()['_id']}"
    answer = served.http.request(method, f"{place}?_method=DELETE&%ff=1", json={"notes": "x"})
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_request")
    assert [each["field"] for each in answer.json()["errors"]] == ["\\ufffd", "_method"]
    assert served.http.get(place).json()["data"]["notes"] is None
    assert served.http.post(f"{SNAPSHOTS}?x=1", json={"contactId": str(served.contact.id)}).status_code == 400


def test_compressed_body_is_refused_by_name(served: Served) -> None:
    content = gzip.compress(b'{"contactId": "%s"}' % str(served.contact.id).encode())
    answer = served.http.post(SNAPSHOTS, content=content, headers={"Content-Encoding": "gzip"})
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (400, "Content-Encoding")


def test_body_with_two_lengths_is_refused_and_the_connection_closed(served: Served) -> None:
    """Otherwise a proxy in front might read as a part of the body what is a request to us."""
    smuggled = b"0\r\n\r\nGET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"
    ambiguous = head(served, "POST", "Content-Length: 5", "Transfer-Encoding: chunked")
    answer = raw(served, ambiguous + smuggled, until=b"# HELP")
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"connection: close" in answer.lower()
    assert answer.count(b"HTTP/1.1") == 1


def test_fields_after_a_chunked_body_are_not_headers(served: Served) -> None:
    """A proxy that removes or checks `Authorization` in the head would not see it there."""
    content = b'{"contactId": "%s"}' % str(served.contact.id).encode()
    begun = f"POST {SNAPSHOTS} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n{len(content):x}\r\n".encode()
    authorization = f"Authorization: Bearer {token(served.organization)}".encode()
    answer = raw(served, begun + content + b"\r\n0\r\n" + authorization + b"\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 401 ")


@pytest.mark.parametrize("coding", ["gzip, chunked", "Chunked;q=1, chunked"])
def test_other_transfer_coding_is_refused_by_name(served: Served, coding: str) -> None:
    answer = raw(served, head(served, "POST", f"Transfer-Encoding: {coding}") + b"0\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b'"field":"Transfer-Encoding"' in answer


def test_large_requests_without_waiting_are_all_answered(served: Served) -> None:
    """Their bytes come in pieces of up to 256 KB, at whose end there is the beginning of another head."""
    count, one = 400, b"GET /healthz HTTP/1.1\r\nHost: x\r\nX: " + 1000 * b"x" + b"\r\n\r\n"
    place = urlsplit(served.url)
    with socket.create_connection((place.hostname, place.port or 80), timeout=20) as connection:
        connection.sendall(count * one)
        answers = b""
        while answers.count(b"HTTP/1.1 200") < count and (more := connection.recv(65_536)):
            answers += more
    assert answers.count(b"HTTP/1.1 200") == count


@pytest.mark.parametrize("host", ["a b", "a/b", "u@h", "[::1", "a:b"])
def test_malformed_host_is_refused_by_name(served: Served, host: str) -> None:
    answer = raw(served, f"GET /healthz HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b'"field":"Host"' in answer


@pytest.mark.parametrize("host", ["x.", "[::1]:80", "10.0.0.1", "a_b.example:8000", ""])
def test_unusual_host_is_accepted(served: Served, host: str) -> None:
    answer = raw(served, f"GET /healthz HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
    assert answer.startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize(
    "lines", [("Content-Length: 5", "Content-Length: 6"), ("Content-Length: -5",), ("Content-Length: 5", "bad line")]
)
def test_malformed_http_is_refused(served: Served, lines: tuple[str, ...]) -> None:
    place = urlsplit(served.url)
    with socket.create_connection((place.hostname, place.port or 80), timeout=20) as connection:
        connection.sendall(head(served, "POST", *lines) + b"0\r\n\r\n")
        answer = connection.recv(65_536)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b'"code": "invalid_http"' in answer


@pytest.mark.parametrize("path", [SNAPSHOTS, "/operations/login"])
def test_client_that_disconnects_in_the_middle_of_its_body_is_not_an_error(served: Served, path: str) -> None:
    before = left(served)
    place = urlsplit(served.url)
    form = "Content-Type: application/x-www-form-urlencoded"
    begun = head(served, "POST", "Content-Length: 500", form).replace(SNAPSHOTS.encode(), path.encode(), 1)
    with socket.create_connection((place.hostname, place.port or 80), timeout=20) as connection:
        connection.sendall(begun + b"token=")
    eventually(lambda: left(served) == before + 1, 45)
    assert served.process.log is not None
    assert "broken" not in served.process.log.read_text()


def left(served: Served) -> float:
    """The number of requests whose client disconnected before the answer."""
    lines = httpx.get(f"{served.url}/metrics").text.splitlines()
    counts = (each for each in lines if each.startswith("snapshots_http_requests_total{") and 'status="499"' in each)
    return sum(float(each.rpartition(" ")[2]) for each in counts)


def test_expect_continue_is_answered_early_for_a_body_that_is_too_large(served: Served) -> None:
    answer = raw(served, head(served, "POST", "Content-Length: 99999999999", "Expect: 100-continue"))
    assert answer.startswith(b"HTTP/1.1 413 ")
    answer = raw(served, head(served, "POST", "Content-Length: 20", "Expect: 100-continue")[:-2], b"\r\n{", b"}" * 19)
    assert answer.startswith(b"HTTP/1.1 100 Continue")


def test_first_of_two_authorization_headers_counts(served: Served) -> None:
    forged, own = bearer("forged"), bearer(token(served.organization))
    headers = [*forged.items(), *own.items()]
    assert httpx.get(served.url + SNAPSHOTS, headers=headers).status_code == 401


def test_client_that_goes_on_sending_after_its_answer_is_disconnected(served: Served) -> None:
    place = urlsplit(served.url)
    chunk = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
    with socket.create_connection((place.hostname, place.port or 80), timeout=30.0) as connection:
        connection.sendall(head(served, "POST", "Content-Type: application/json", "Transfer-Encoding: chunked"))
        connection.sendall(chunk * 20)  # more than a body may have
        answer = b""
        while b"}" not in answer:
            answer += connection.recv(65_536)
        assert answer.startswith(b"HTTP/1.1 413 ")

        def is_closed() -> bool:
            try:
                connection.sendall(b"1\r\n \r\n")
            except OSError:
                return True
            return False

        assert eventually(is_closed, 30.0, 0.2)


def test_slow_body_of_a_pipelined_request_has_its_time(served: Served) -> None:
    place = urlsplit(served.url)
    with socket.create_connection((place.hostname, place.port or 80), timeout=30.0) as connection:
        connection.sendall(head(served, "GET") + head(served, "POST", "Content-Length: 2") + b"{")
        assert connection.recv(65_536).startswith(b"HTTP/1.1 200 ")
        time.sleep(6.0)  # longer than the rest of an answered request may take: nothing to wait for but the time
        connection.sendall(b"}")
        answer = b""
        while b"HTTP/1.1 400 " not in answer and (more := connection.recv(65_536)):
            answer += more
    assert b"HTTP/1.1 400 " in answer
