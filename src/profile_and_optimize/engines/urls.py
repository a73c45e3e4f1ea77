"""Which servers we talk to: the root of a URL, and the addresses behind its host, judged when they are looked up."""

from __future__ import annotations

import ipaddress
import socket

from profile_and_optimize.core.errors import Unreachable, WrongUse
from profile_and_optimize.core.urls import ROOT, forbidden, parse_url


def checked_url(text: str) -> str:
    """The root of a server, without trailing slash or /v1. Raises WrongUse for what `parse_url` refuses, and for a query.

    Nothing is looked up: `addresses` judges what a name stands for when it is used.
    """
    url = parse_url(text)
    if url.query:
        raise WrongUse("a server's URL has no query and no fragment", next=ROOT)
    port = "" if url.written is None else f":{url.written}"
    return f"{url.scheme}://{url.literal}{port}{url.path.rstrip('/').removesuffix('/v1')}"


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
