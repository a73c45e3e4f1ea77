"""Where the requests go: a server's URL taken apart, checked, and resolved once."""

from __future__ import annotations

from dataclasses import dataclass

from profile_and_optimize.core.errors import WrongUse
from profile_and_optimize.core.urls import PORTS, parse_url
from profile_and_optimize.engines.urls import addresses


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
    parts = parse_url(url)
    if parts.query:
        raise WrongUse("a server URL has no user name, query or fragment; send credentials as a header")
    return Target(url, parts.scheme == "https", parts.host, parts.port, parts.path.rstrip("/"))


def resolve(target: Target) -> tuple[str, ...]:
    """Its addresses, in the system's order. Raises Unreachable, and WrongUse for link-local and metadata addresses."""
    return addresses(target.host, target.port, target.url)
