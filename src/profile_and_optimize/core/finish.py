"""When did an answer finish well? The one place that decides: for what a stream says, and for what a record may hold."""

from __future__ import annotations

from collections.abc import Iterable

GOOD_REASONS = ("stop", "length", "tool_calls", "function_call")
_WORDS = "stop, length, tool_calls or function_call"


def bad_reason(reason: str | None) -> str | None:
    """Why an answer with this finish reason counts as failed, in words; None for a good reason, and where there is none."""
    if reason is None or reason in GOOD_REASONS:
        return None
    return f"finish reason {reason!r}: only {_WORDS} is a good end"


def not_finished(reasons: Iterable[str | None], *, usage: bool, done: bool) -> str | None:
    """Why an answer did not finish well, in words; None when it did.

    `reasons` has the finish reason of every choice, None of one that gave none. Without any reason an answer is good only
    with both: its own count of tokens (`usage`) and `[DONE]` (`done`). What is in doubt did not finish well.
    """
    given = list(reasons)
    wrong = next((words for reason in given if (words := bad_reason(reason))), None)
    if wrong is not None:
        return wrong
    if any(reason is not None for reason in given):
        return "one of several choices has no finish reason" if None in given else None
    if usage and done:
        return None
    missing = [name for name, there in (("usage", usage), ("[DONE]", done)) if not there]
    return f"ended without a finish reason and without {' and '.join(missing)}"
