"""Which URLs we talk to."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

from profile_and_optimize.core.errors import WrongUse


def checked_url(text: str) -> str:
    """The root of a server, without trailing slash or /v1. Raises WrongUse for other schemes, options and metadata addresses."""
    parts = urlsplit(text if not text.startswith("-") else "")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise WrongUse(f"{text!r} is not an http(s) URL", next="give the server's root, such as http://127.0.0.1:8000")
    try:
        port = f":{parts.port}" if parts.port else ""
    except ValueError as e:
        raise WrongUse(f"{text!r} has no usable port", next="give a port between 1 and 65535") from e
    if parts.username or parts.password:
        raise WrongUse("a URL may not carry credentials", next="set OPENAI_API_KEY instead")
    host = parts.hostname
    if _forbidden(host):
        raise WrongUse(f"{host} is a link-local or metadata address", next="give the server's own address")
    path = parts.path.rstrip("/").removesuffix("/v1")
    return f"{parts.scheme}://{f'[{host}]' if ':' in host else host}{port}{path}"


def _forbidden(host: str) -> bool:
    if host in ("metadata.google.internal", "metadata"):
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    return address.is_link_local or address.is_multicast or str(address) == "fd00:ec2::254"
