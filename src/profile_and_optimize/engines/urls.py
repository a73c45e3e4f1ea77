"""Which URLs we talk to."""

from __future__ import annotations

import ipaddress
import socket
from urllib.parse import urlsplit

from profile_and_optimize.core.errors import WrongUse


def checked_url(text: str) -> str:
    """The root of a server, without trailing slash or /v1. Raises WrongUse for other schemes, options and metadata addresses."""
    try:
        parts = urlsplit(text if not text.startswith("-") else "")
    except ValueError as e:
        raise WrongUse(
            f"{text!r} is not an http(s) URL: {e}", next="give the server's root, such as http://127.0.0.1:8000"
        ) from e
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
    """Link-local, multicast and metadata addresses, in any spelling that a resolver would take for one."""
    name = host.rstrip(".").lower()
    if name in ("metadata.google.internal", "metadata"):
        return True
    address = _address(name)
    if address is None:
        return False
    mapped = getattr(address, "ipv4_mapped", None) or address
    return mapped.is_link_local or mapped.is_multicast or str(address) == "fd00:ec2::254"


def _address(name: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(name)
    except ValueError:
        pass
    try:
        return ipaddress.IPv4Address(socket.inet_aton(name))  # 2852039166 and 0xa9fea9fe are addresses too
    except (OSError, ValueError):
        return None
