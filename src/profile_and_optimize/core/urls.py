"""The one reading of a URL. Policy, clients and engines all take the host from here, so that none reads another host than
the one that was judged. Nothing is looked up."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass

from profile_and_optimize.core.errors import WrongUse

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
ROOT = "give the server's root, such as http://127.0.0.1:8000"
PORTS = {"http": 80, "https": 443}
# Cloud metadata services outside the link-local ranges: AWS and Google over IPv6, Alibaba, Oracle, Azure.
METADATA = frozenset({"fd00:ec2::254", "fd20:ce::254", "100.100.100.200", "192.0.0.192", "168.63.129.16"})
METADATA_NAMES = frozenset(
    {"metadata", "metadata.google.internal", "metadata.goog", "metadata.tencentyun.com", "instance-data"}
)
# IPv4 inside IPv6: translated (RFC 6052, and RFC 8215 for local use) and compatible (RFC 4291); mapped, 6to4 and Teredo
# the library knows.
_EMBEDDING = tuple(map(ipaddress.IPv6Network, ("64:ff9b::/96", "64:ff9b:1::/48", "::/96")))
# Only what a URI may hold unescaped (RFC 3986), in ASCII: parsers differ in what they make of anything else.
_URL = re.compile(
    r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://(?P<host>\[[^\[\]/?#@]*\]|[^\[\]:/?#@]*)(?::(?P<port>[^/?#@]*))?"
    r"(?P<path>/[A-Za-z0-9._~!$&'()*+,;=:@%/-]*)?(?P<query>\?[A-Za-z0-9._~!$&'()*+,;=:@%/?-]*)?"
)
_LABEL = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?")
_NUMERIC = re.compile(r"[0-9]+|0[xX][0-9A-Fa-f]*")
LONGEST_NAME = 253


@dataclass(frozen=True, slots=True)
class Url:
    """`host` is lower case, without brackets and without the last dot of a name; `written` is the port that was given, None
    where none was; `path` and `query` are as written, `query` without its question mark."""

    scheme: str
    host: str
    written: int | None = None
    path: str = ""
    query: str = ""

    @property
    def port(self) -> int:
        """The one to connect to; 0 for a scheme that has none of its own."""
        return PORTS.get(self.scheme, 0) if self.written is None else self.written

    @property
    def literal(self) -> str:
        """The host as a URL writes it."""
        return f"[{self.host}]" if ":" in self.host else self.host

    @property
    def origin(self) -> tuple[str, str, int]:
        return self.scheme, self.host, self.port


def parse_url(text: str, schemes: tuple[str, ...] = ("http", "https")) -> Url:
    """A URL taken apart. Raises WrongUse for another scheme, credentials, a host that is neither an LDH name nor a literal
    address, a link-local or metadata address, a port outside of 1 to 65535, a fragment, and characters that no URL holds."""
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]*://[^/?#]*@", text):
        raise WrongUse("a URL may not carry credentials", next="set OPENAI_API_KEY instead")
    hit = _URL.fullmatch(text)
    if hit is None:
        raise WrongUse(f"{text[:200]!r} is not an http(s) URL", next=ROOT)
    scheme = hit["scheme"].lower()
    if scheme not in schemes:
        raise WrongUse(f"{text[:200]!r} is not an http(s) URL: its scheme is {scheme[:40]}", next=ROOT)
    port = None if hit["port"] is None else _port(hit["port"], text)
    return Url(scheme, checked_host(hit["host"]), port, hit["path"] or "", (hit["query"] or "")[1:])


def _port(text: str, url: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) <= 5 and 0 < int(text) <= 65535):
        raise WrongUse(f"{url[:200]!r} has no usable port", next="give a port between 1 and 65535")
    return int(text)


def checked_host(text: str) -> str:
    """A host as `Url.host` keeps it. Raises WrongUse for what is neither an LDH name nor a literal address, and for
    link-local and metadata addresses."""
    address, name = literal_address(text), ""
    if address is None:
        name = _name(text)
    if name in METADATA_NAMES or (address is not None and forbidden(address)):
        raise WrongUse(f"{text[:200]} is a link-local or metadata address", next="give the server's own address")
    return name if address is None else str(address)


def literal_address(text: str) -> Address | None:
    """The address that a URL's host writes out: dotted IPv4, or IPv6 in brackets. None for anything else."""
    try:
        if text.startswith("[") and text.endswith("]") and "%" not in text:
            return ipaddress.IPv6Address(text[1:-1])
        return ipaddress.IPv4Address(text)
    except ValueError:
        return None


def _name(text: str) -> str:
    """Raises WrongUse for a host that is not letters, digits and hyphens, and for one whose last label is a number: resolvers
    read 2852039166, 0xa9fea9fe and 127.1 as addresses."""
    name = text.removesuffix(".").lower()
    labels = name.split(".")
    # Before lower(): it makes a k of the Kelvin sign.
    if (
        not text.isascii()
        or not name
        or len(name) > LONGEST_NAME
        or not all(_LABEL.fullmatch(label) for label in labels)
    ):
        raise WrongUse(
            f"{text[:200]!r} is not a host name: letters, digits and hyphens, parts of at most 63", next=ROOT
        )
    if _NUMERIC.fullmatch(labels[-1]):
        raise WrongUse(f"{text[:200]!r} is neither a name nor an IPv4 address of four numbers", next=ROOT)
    return name


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
