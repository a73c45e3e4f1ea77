"""How an answer ended, as far as the server tells. Pure."""

from __future__ import annotations

CUT = "length"


def ended(reason: object, tokens: object, limit: int) -> str:
    """The finish reason, "" where there is none. A server that gives none has cut an answer of as many tokens as were allowed."""
    if isinstance(reason, str) and reason:
        return reason
    counted = isinstance(tokens, int) and not isinstance(tokens, bool)
    return CUT if counted and isinstance(tokens, int) and tokens >= limit else ""
