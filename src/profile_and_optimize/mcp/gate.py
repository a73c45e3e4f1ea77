"""Who may speak to the server over HTTP: this machine, by its own name, with the token."""

from __future__ import annotations

import hmac
import os
import secrets
from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import Any

from profile_and_optimize.core.errors import WrongUse

SHORTEST_TOKEN = 16
NAMES = ("127.0.0.1", "localhost", "[::1]")

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]


def hosts(port: int) -> list[str]:
    return [f"{name}:{port}" for name in NAMES]


def origins(port: int) -> list[str]:
    return [f"http://{host}" for host in hosts(port)]


class Gate:
    """Refuses before anything is parsed. A page that a browser loaded from elsewhere has another Origin, and after DNS
    rebinding another Host; another user of this machine has no token."""

    def __init__(self, app: App, port: int, token: str) -> None:
        self.app = app
        self.hosts = [h.encode() for h in hosts(port)]
        self.origins = [o.encode() for o in origins(port)]
        self.token = token.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        refusal = self.refusal(scope)
        if scope["type"] != "http" or refusal:
            await _refuse(send, *(refusal or (404, b"no such thing")))
            return
        await self.app(scope, receive, send)

    def refusal(self, scope: Scope) -> tuple[int, bytes] | None:
        """(status, reason), None for whom may pass. A header given twice is nobody's honest request."""
        found: dict[bytes, list[bytes]] = {}
        for name, value in scope.get("headers", ()):
            found.setdefault(name.lower(), []).append(value)
        host, origin = found.get(b"host", []), found.get(b"origin", [])
        if len(host) != 1 or host[0].lower() not in self.hosts:
            return 421, b"this server answers to its loopback address alone"
        if origin and (len(origin) != 1 or origin[0].lower() not in self.origins):
            return 403, b"not from that origin"
        given = found.get(b"authorization", [])
        if len(given) != 1 or not hmac.compare_digest(given[0], b"Bearer " + self.token):
            return 401, b"a bearer token is needed"
        return None


async def _refuse(send: Send, status: int, why: bytes) -> None:
    headers = [(b"content-type", b"text/plain"), (b"content-length", str(len(why)).encode())]
    if status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": why})


def chosen_token(given: str | None, file: Path | None) -> tuple[str, bool]:
    """(token, was it made here?). A made one goes into `file`, for this user alone. Raises WrongUse for a weak one."""
    if given is not None:
        if len(given) < SHORTEST_TOKEN or not given.isascii() or not given.isprintable() or " " in given:
            raise WrongUse(
                f"a token is {SHORTEST_TOKEN} or more printable characters without spaces", where="PAO_MCP_TOKEN",
                next="unset it, and one is made",
            )  # fmt: skip
        return given, False
    made = secrets.token_urlsafe(32)
    if file is not None:
        _write_private(file, made)
    return made, True


def _write_private(path: Path, text: str) -> None:
    """A new file with mode 0600, never through a link. Raises WrongUse when something is there."""
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    except OSError as e:
        raise WrongUse(f"cannot write: {e.strerror}", where=str(path), next="name a file that is not there yet") from e
    with open(handle, "w") as f:
        f.write(text + "\n")
