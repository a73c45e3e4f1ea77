"""Which URLs we talk to, and which addresses behind them never."""

from __future__ import annotations

import ipaddress
import re
import socket
from urllib.parse import urlsplit

from profile_and_optimize.core.errors import Unreachable, WrongUse

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
ROOT = "give the server's root, such as http://127.0.0.1:8000"
# Cloud metadata services outside the link-local ranges: AWS and Google over IPv6, Alibaba, Oracle, Azure.
METADATA = frozenset({"fd00:ec2::254", "fd20:ce::254", "100.100.100.200", "192.0.0.192", "168.63.129.16"})
METADATA_NAMES = frozenset(
    {"metadata", "metadata.google.internal", "metadata.goog", "metadata.tencentyun.com", "instance-data"}
)
# IPv4 inside IPv6: translated (RFC 6052) and compatible (RFC 4291); mapped, 6to4 and Teredo the library knows.
_EMBEDDING = (ipaddress.IPv6Network("64:ff9b::/96"), ipaddress.IPv6Network("::/96"))
_UNPRINTED = re.compile(r"[\x00-\x20\x7f-\xa0\\]")


def checked_url(text: str) -> str:
    """The root of a server, without trailing slash or /v1. Raises WrongUse for other schemes, options and metadata addresses.

    Nothing is looked up: `addresses` judges what a name stands for when it is used.
    """
    try:
        parts = urlsplit(text if not text.startswith("-") and not _UNPRINTED.search(text) else "")
    except ValueError as e:
        raise WrongUse(f"{text!r} is not an http(s) URL: {e}", next=ROOT) from e
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise WrongUse(f"{text!r} is not an http(s) URL", next=ROOT)
    try:
        port = f":{parts.port}" if parts.port else ""
    except ValueError as e:
        raise WrongUse(f"{text!r} has no usable port", next="give a port between 1 and 65535") from e
    if "@" in parts.netloc:
        raise WrongUse("a URL may not carry credentials", next="set OPENAI_API_KEY instead")
    if parts.query or parts.fragment:
        raise WrongUse("a server's URL has no query and no fragment", next=ROOT)
    host = _host(parts.hostname)
    path = parts.path.rstrip("/").removesuffix("/v1")
    return f"{parts.scheme}://{f'[{host}]' if ':' in host else host}{port}{path}"


def _host(host: str) -> str:
    """The host as a resolver would read it. Raises WrongUse for one that is no name, and for metadata addresses."""
    try:
        name = host if ":" in host else host.encode("idna").decode()
    except UnicodeError as e:
        raise WrongUse(f"{host!r} is not a host name", next=ROOT) from e
    if "%" in name and ":" not in name:
        raise WrongUse(f"{host!r} is not a host name", next=ROOT)
    plain = name.rstrip(".").lower()
    address = _address(plain)
    if plain in METADATA_NAMES or (address is not None and forbidden(address)):
        raise WrongUse(f"{host} is a link-local or metadata address", next="give the server's own address")
    return name


def addresses(host: str, port: int, where: str) -> tuple[str, ...]:
    """The addresses of a host, in the system's order. Raises Unreachable, and WrongUse where one of them is forbidden.

    Who connects must connect to one of these: a second look-up could give another answer.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise Unreachable(f"cannot resolve {host}: {reason}", where=where) from None
    given = tuple(dict.fromkeys(str(entry[4][0]) for entry in found))
    for text in given:
        if forbidden(ipaddress.ip_address(text)):
            raise WrongUse(
                f"{text} is a link-local or metadata address", where=where, next="give the server's own address"
            )
    return given


def forbidden(address: Address) -> bool:
    """Link-local, multicast and metadata addresses, also where an IPv6 address carries one."""
    every = {address, *_inside(address)}
    return any(a.is_link_local or a.is_multicast or str(a).partition("%")[0] in METADATA for a in every)


def _inside(address: Address) -> list[Address]:
    """IPv4 addresses that an IPv6 address leads to."""
    if isinstance(address, ipaddress.IPv4Address):
        return []
    found: list[Address | None] = [address.ipv4_mapped, address.sixtofour, *(address.teredo or ())]
    if any(address in net for net in _EMBEDDING):
        found.append(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
    return [a for a in found if a is not None]


def _address(name: str) -> Address | None:
    try:
        return ipaddress.ip_address(name)
    except ValueError:
        pass
    try:
        return ipaddress.IPv4Address(socket.inet_aton(name))  # 2852039166 and 0xa9fea9fe are addresses too
    except (OSError, ValueError):
        return None
