"""One file from the Hugging Face hub: bounded in size and time, its digest taken, no redirect but to the hub's own hosts."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import ssl
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO
from urllib.parse import urljoin

import httpx

from profile_and_optimize.core.errors import BrokeMidway, PaoError, Unreachable, WrongUse
from profile_and_optimize.core.urls import parse_url
from profile_and_optimize.engines.calls import JudgedTransport
from profile_and_optimize.engines.urls import checked_url

Say = Callable[[str], None]
HUB = "https://huggingface.co"
# Where the hub hands out large files. A mirror (HF_ENDPOINT) may only redirect to itself.
OF_THE_HUB = ("huggingface.co", "hf.co")
REDIRECTS = (301, 302, 303, 307, 308)
MOST_REDIRECTS = 5
CONNECT_S, READ_S, LIMIT_S, LOOK_S = 10.0, 30.0, 3600.0, 4.0
TOLD_BYTES = 64 << 20
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Fetched:
    """What came: its place, size and digest; `commit` is the hub's revision of it, "unknown" where it told none."""

    url: str
    bytes: int
    sha256: str
    commit: str = "unknown"

    def to_json(self) -> dict[str, object]:
        return asdict(self)


def file_url(repo: str, revision: str, file: str, environ: Mapping[str, str] = os.environ) -> str:
    """Of a data set's file; HF_ENDPOINT names a mirror. Raises WrongUse for an address that is none."""
    return f"{checked_url(environ.get('HF_ENDPOINT') or HUB)}/datasets/{repo}/resolve/{revision}/{file}"


def fetch(url: str, into: Path, most_bytes: int, say: Say, *, limit_s: float = LIMIT_S) -> Fetched:
    """Download into the file `into`, which is there whole or not at all.

    Raises Unreachable when the hub gives no such file, BrokeMidway when it ends early, is too large, or is not the file
    that the hub itself says it is.
    """
    part = into.with_name(f".part-{os.getpid()}-{into.name}")
    try:
        with _answer(url) as (answer, commit, told):
            into.parent.mkdir(parents=True, exist_ok=True)
            with part.open("xb") as file:
                found = _copy(answer, file, url, most_bytes, say, time.monotonic() + limit_s)
        if told is not None and found.sha256 != told:
            raise BrokeMidway(
                f"sha256 {found.sha256[:12]}..., the hub lists {told[:12]}...", where=url, next="try again"
            )
        os.replace(part, into)
        return Fetched(url, found.bytes, found.sha256, commit)
    except OSError as e:
        raise BrokeMidway(f"cannot write: {e.strerror or e}", where=str(into), next="free disk space") from e
    finally:
        part.unlink(missing_ok=True)


def reachable(url: str) -> str:
    """ "" when the hub has that file for us, else why not. Waits a few seconds at most."""
    try:
        with _answer(url, method="HEAD", timeout=httpx.Timeout(LOOK_S)):
            return ""
    except PaoError as e:
        return e.message


@contextlib.contextmanager
def _answer(
    url: str, *, method: str = "GET", timeout: httpx.Timeout | None = None
) -> Iterator[tuple[httpx.Response, str, str | None]]:
    """The answer at the end of the redirects, with the commit and the digest that the hub told on the way."""
    limits = timeout or httpx.Timeout(READ_S, connect=CONNECT_S)
    commit, told, at = "unknown", None, url
    for _ in range(MOST_REDIRECTS):
        with _client(at, limits) as http:
            try:
                with http.stream(method, at, headers=_headers(at, url)) as answer:
                    commit = answer.headers.get("x-repo-commit", commit)[:64]
                    told = _digest(answer.headers.get("x-linked-etag", "")) or told
                    if answer.status_code not in REDIRECTS:
                        _require_ok(answer, at)
                        yield answer, commit, told
                        return
                    at = _next(url, at, answer.headers.get("location", ""))
            except (httpx.HTTPError, httpx.InvalidURL, ssl.SSLError) as e:
                raise Unreachable(f"{e or type(e).__name__}", where=at) from e
    raise Unreachable(f"more than {MOST_REDIRECTS} redirects", where=url)


def _client(url: str, limits: httpx.Timeout) -> httpx.Client:
    """Past any proxy where there is none for this address; else through it, which then looks up names itself."""
    parts = parse_url(url)
    proxy = urllib.request.getproxies().get(parts.scheme)
    if proxy and not urllib.request.proxy_bypass(parts.host) and parts.host not in ("localhost", "127.0.0.1", "::1"):
        return httpx.Client(proxy=proxy, trust_env=False, follow_redirects=False, timeout=limits)
    return httpx.Client(transport=JudgedTransport(), trust_env=False, follow_redirects=False, timeout=limits)


def _headers(at: str, first: str) -> dict[str, str]:
    """The user's token goes to the host that was asked first, and to no other."""
    token = os.environ.get("HF_TOKEN", "")
    ours = parse_url(at).origin == parse_url(first).origin
    return {"Accept-Encoding": "identity", **({"Authorization": f"Bearer {token}"} if token and ours else {})}


def _next(first: str, at: str, location: str) -> str:
    """Where a redirect leads. Raises Unreachable when that is another host than this one or the hub's own."""
    target = urljoin(at, location).partition("#")[0]
    try:
        old, new = parse_url(at), parse_url(target)
    except WrongUse as e:
        raise Unreachable(f"a redirect to what is not followed: {e.message}", where=at) from None
    of_hub = _of_hub(parse_url(first).host) and _of_hub(new.host) and new.scheme == "https"
    if not location or not (old.origin == new.origin or of_hub):
        raise Unreachable(f"a redirect to {new.host!r}, which is not followed", where=at)
    return target


def _of_hub(host: str) -> bool:
    return any(host == name or host.endswith("." + name) for name in OF_THE_HUB)


def _require_ok(answer: httpx.Response, at: str) -> None:
    if answer.status_code in (401, 403):
        raise Unreachable(
            f"it answered {answer.status_code}: this data needs an account", where=at, next="set HF_TOKEN"
        )
    if answer.status_code != 200:
        raise Unreachable(f"it answered {answer.status_code}", where=at)


def _digest(etag: str) -> str | None:
    text = etag.strip().strip('"')
    return text if _SHA256.fullmatch(text) else None


def _copy(answer: httpx.Response, file: BinaryIO, url: str, most: int, say: Say, until: float) -> Fetched:
    """The body into the file, counted and hashed."""
    length = answer.headers.get("content-length", "")
    wanted = int(length) if length.isdigit() else None
    size, told, hashed = 0, 0, hashlib.sha256()
    if wanted is not None and wanted > most:
        raise BrokeMidway(f"{wanted} bytes; at most {most} are expected", where=url, next="--data NAME=FILE")
    try:
        for piece in answer.iter_bytes(1 << 20):
            size += len(piece)
            if size > most or time.monotonic() > until:
                why = f"more than {most} bytes" if size > most else "it does not end"
                raise BrokeMidway(why, where=url, next="--data NAME=FILE")
            hashed.update(piece)
            file.write(piece)
            if size - told >= TOLD_BYTES:
                told = size
                say(f"{size / 1e6:.0f}{f' of {wanted / 1e6:.0f}' if wanted else ''} MB from {parse_url(url).host}")
    except httpx.HTTPError as e:
        raise BrokeMidway(
            f"it broke off after {size} bytes: {e or type(e).__name__}", where=url, next="try again"
        ) from e
    if wanted is not None and size != wanted:
        raise BrokeMidway(f"{size} bytes, {wanted} were announced", where=url, next="try again")
    return Fetched(url, size, hashed.hexdigest())
