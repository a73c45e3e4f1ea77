"""Where the requests go: a server's URL taken apart, checked, and resolved once."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from profile_and_optimize.core.errors import WrongUse
from profile_and_optimize.engines.urls import addresses

PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Target:
    """`path` is the prefix before /v1, without a trailing slash. `url` is what the user typed, for messages."""

    url: str
    tls: bool
    host: str
    port: int
    path: str

    @property
    def authority(self) -> str:
        """The Host header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == PORTS["https" if self.tls else "http"] else f"{host}:{self.port}"


def parse_target(url: str) -> Target:
    """Raises WrongUse for anything but a plain http(s) URL: no credentials, query, spaces or control characters."""
    if url.startswith("-") or re.search(r"[\x00-\x20\x7f-\x9f\\]", url):
        raise WrongUse(f"not a URL: {url!r}")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise WrongUse(f"not a URL: {url!r} ({error})") from None
    if parts.scheme not in PORTS or not parts.hostname:
        raise WrongUse(f"{url!r}: http://HOST:PORT or https://HOST")
    if parts.username is not None or parts.query or parts.fragment:
        raise WrongUse("a server URL has no user name, query or fragment; send credentials as a header")
    path = parts.path.rstrip("/")
    return Target(url, parts.scheme == "https", parts.hostname, port or PORTS[parts.scheme], path)


def resolve(target: Target) -> tuple[str, ...]:
    """Its addresses, in the system's order. Raises Unreachable, and WrongUse for link-local and metadata addresses."""
    return addresses(target.host, target.port, target.url)
