"""Small requests to a server, off the timed path: past any proxy, no redirect followed, to no address that a URL may
not reach, with an answer that is bounded in size and time."""

from __future__ import annotations

import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

import httpx
import orjson

from profile_and_optimize.core.errors import Unreachable
from profile_and_optimize.core.urls import parse_url
from profile_and_optimize.engines.urls import addresses

MOST_BYTES = 16 * 1024 * 1024
Headers = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back, whatever its status."""

    status: int
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode(errors="replace")

    def json(self) -> Any:
        """Raises ValueError for what is no JSON, or JSON that no text can hold (half surrogates)."""
        return orjson.loads(self.body)


class Caller:
    """Connections to servers, kept open between calls. A name is looked up once a call, and what was judged is used."""

    def __init__(self, headers: Headers = ()) -> None:
        self._http = httpx.Client(
            transport=JudgedTransport(), trust_env=False, follow_redirects=False, headers=dict(headers)
        )

    def call(self, method: str, url: str, *, json: Any = None, timeout_s: float) -> Reply:
        """Raises Unreachable saying why there is no answer, and WrongUse for an address that is not to be reached."""
        until = time.monotonic() + timeout_s
        try:
            with self._http.stream(method, url, json=json, timeout=timeout_s) as answer:
                return Reply(answer.status_code, b"".join(_bounded(answer, until)))
        except (httpx.HTTPError, httpx.InvalidURL, ValueError) as e:
            raise Unreachable(str(e) or type(e).__name__, where=url) from e

    def close(self) -> None:
        self._http.close()


@contextmanager
def caller(headers: Headers = ()) -> Iterator[Caller]:
    made = Caller(headers)
    try:
        yield made
    finally:
        made.close()


def get(url: str, headers: Headers = (), *, timeout_s: float = 10.0) -> Reply:
    """One GET; see `Caller.call`."""
    with caller(headers) as http:
        return http.call("GET", url, timeout_s=timeout_s)


@cache
def _tls() -> ssl.SSLContext:
    """The system's own authorities, as on the timed path. Made once: reading them takes longer than an answer."""
    return ssl.create_default_context()


def _bounded(answer: httpx.Response, until: float) -> Iterator[bytes]:
    size = 0
    for piece in answer.iter_bytes():
        size += len(piece)
        if size > MOST_BYTES:
            raise ValueError(f"an answer of more than {MOST_BYTES >> 20} MiB")
        if time.monotonic() > until:
            raise ValueError("an answer that does not end")
        yield piece


class JudgedTransport(httpx.HTTPTransport):
    """Connects to an address that `addresses` has let through, the first that answers; TLS checks the name as ever."""

    def __init__(self) -> None:
        super().__init__(verify=_tls())

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        named, last = request.url, httpx.ConnectError("no address")
        judged = parse_url(str(named))
        for address in addresses(judged.host, judged.port, str(named)):
            request.url = named.copy_with(host=address)
            request.extensions = {**request.extensions, "sni_hostname": judged.host}
            try:
                return super().handle_request(request)
            except (httpx.ConnectError, httpx.ConnectTimeout) as e:
                last = e if isinstance(e, httpx.ConnectError) else httpx.ConnectError("timed out")
        raise last
