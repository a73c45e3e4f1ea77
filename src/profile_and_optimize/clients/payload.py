"""The bytes of every request, made before the clock starts."""

from __future__ import annotations

import re

import orjson

from profile_and_optimize.clients.base import LoadRequest
from profile_and_optimize.clients.target import Target
from profile_and_optimize.core.errors import WrongUse

PATHS = {"chat": "/v1/chat/completions", "completions": "/v1/completions"}
TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
OURS = {"host", "content-length", "transfer-encoding", "connection", "accept-encoding", "x-request-index"}


def request_bytes(load: LoadRequest, target: Target) -> list[bytes]:
    """One whole HTTP request per prompt, in order."""
    head = _head(load, target)
    fixed = _fixed_fields(load)
    limits = load.osls or (load.osl,) * len(load.prompts)
    bodies = (_body(load.api, {**fixed, "max_tokens": n}, p) for n, p in zip(limits, load.prompts, strict=True))
    return [_request(head, index, body) for index, body in enumerate(bodies)]


def _request(head: bytes, index: int, body: bytes) -> bytes:
    return b"%bX-Request-Index: %d\r\nContent-Length: %d\r\n\r\n%b" % (head, index, len(body), body)


def _head(load: LoadRequest, target: Target) -> bytes:
    lines = [
        f"POST {target.path}{PATHS[load.api]} HTTP/1.1",
        f"Host: {target.authority}",
        "User-Agent: profile-and-optimize",
        "Accept: text/event-stream",
        "Accept-Encoding: identity",
        "Content-Type: application/json",
    ]
    lines += [f"{name}: {value}" for name, value in map(_checked, load.headers)]
    try:
        return "".join(line + "\r\n" for line in lines).encode("latin-1")
    except UnicodeEncodeError:
        raise WrongUse("headers and URL path must be latin-1 text") from None


def _checked(header: tuple[str, str]) -> tuple[str, str]:
    """A line break in a value would smuggle in a second header. The value is not shown: it may be a secret."""
    name, value = header
    if not TOKEN.fullmatch(name) or re.search(r"[\x00-\x08\x0a-\x1f\x7f]", value):
        raise WrongUse(f"header {name!r}: not a valid HTTP header")
    if name.lower() in OURS:
        raise WrongUse(f"header {name!r} is set by the client itself")
    return name, value


def _fixed_fields(load: LoadRequest) -> dict[str, object]:
    fields: dict[str, object] = {
        "model": load.model,
        "stream": True,
        "stream_options": {"include_usage": True},
        "max_tokens": load.osl,
        "temperature": load.temperature,
    }
    return fields | (dict(load.ignore_eos_fields) if load.ignore_eos else {})


def _body(api: str, fields: dict[str, object], prompt: str) -> bytes:
    if api == "chat":
        return orjson.dumps({**fields, "messages": [{"role": "user", "content": prompt}]})
    return orjson.dumps({**fields, "prompt": prompt})
