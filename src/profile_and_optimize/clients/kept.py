"""Which raw bytes stay with a run: every failed answer and a sample of the good ones, without our own secrets."""

from __future__ import annotations

from collections.abc import Sequence

from profile_and_optimize.clients.sse import Reads
from profile_and_optimize.core.records import RawResponse

MAX_FAILED_BYTES = 64 * 1024
SHORTEST_SECRET = 6


def secrets_of(headers: Sequence[tuple[str, str]]) -> tuple[bytes, ...]:
    """Header values, and the token within `Bearer TOKEN`; longest first, so that no rest of one is left standing."""
    found = {part for _, value in headers for part in (value, value.rpartition(" ")[2])}
    return tuple(sorted((s.encode() for s in found if len(s) >= SHORTEST_SECRET), key=len, reverse=True))


def redact(data: bytes, secrets: Sequence[bytes]) -> bytes:
    """Same length, so that the HTTP framing still reads."""
    for secret in secrets:
        data = data.replace(secret, b"*" * len(secret))
    return data


def redact_text(text: str | None, secrets: Sequence[bytes]) -> str | None:
    return text if text is None or not secrets else redact(text.encode(), secrets).decode()


def keep(index: int, reads: Reads, *, failed: bool, secrets: Sequence[bytes]) -> RawResponse:
    """Good answers whole, so that they can be parsed again; failed ones up to 64 KiB."""
    kept: list[tuple[int, bytes]] = []
    room = MAX_FAILED_BYTES
    for at, data in reads:
        piece = data[:room] if failed else data
        room -= len(piece)
        if not piece:
            break
        kept.append((at, redact(piece, secrets)))
    return RawResponse(index, tuple(kept))
