"""What one event of a stream says went wrong, in the shapes that servers and gateways use. Pure.

vLLM and SGLang send `{"error": {...}}`, older ones `{"object": "error", ...}`, FastChat a non-zero `error_code`, FastAPI
`{"detail": ...}`, TGI `event: error`, OpenRouter an `error` inside a choice.
"""

from __future__ import annotations

from collections.abc import Mapping

MAX_MESSAGE = 200
# Of an event that is no part of an answer: it has neither choices nor usage.
_TROUBLE = (
    "error", "errors", "err", "error_code", "error_message", "error_msg", "error_type", "detail", "details", "message", "msg",
    "exception", "traceback", "reason",
)  # fmt: skip
_NOTHING = (None, 0, False)
_BAD_NAMES = ("error", "fail", "abort", "exception")
_MESSAGES = ("message", "detail", "msg", "error_message", "error_msg", "error", "errors", "err", "reason", "exception")


def is_bad_name(name: str) -> bool:
    """Does the name of an event (`event: error`) say by itself that the answer failed?"""
    lowered = name.lower()
    return any(word in lowered for word in _BAD_NAMES)


def complaint(event: Mapping[str, object]) -> bool:
    """Does this event say that the answer failed? A null, false or zero `error` beside the choices of an answer does not."""
    get = event.get
    if get("error") or get("errors") or get("error_code") not in (*_NOTHING, "", "0"):
        return True
    if (
        _says_error(get("object"))
        or _says_error(get("type"))
        or _says_error(get("status"))
        or _says_error(get("event"))
    ):
        return True
    choices = get("choices")
    if isinstance(choices, list):
        return any([isinstance(choice, dict) and bool(choice.get("error")) for choice in choices])
    if isinstance(get("usage"), dict):
        return False
    return any(get(key) not in _NOTHING for key in _TROUBLE)


def _says_error(value: object) -> bool:
    return isinstance(value, str) and value.lower() in ("error", "failed", "failure", "exception", "aborted")


def message(said: object, raw: bytes) -> str:
    """The human part of an error in the shapes that servers use; the raw text where there is none."""
    return clean(_text(said) or raw)


def _text(said: object, depth: int = 0) -> str:
    if isinstance(said, str):
        return said
    if depth > 4:
        return ""
    if isinstance(said, list):
        return next((text for one in said if (text := _text(one, depth + 1))), "")
    if not isinstance(said, Mapping):
        return ""
    inner = [said["error"], said] if isinstance(said.get("error"), Mapping) else [said]
    inner += [c for c in _list(said.get("choices")) if isinstance(c, Mapping) and c.get("error")]
    for place in inner:
        for key in _MESSAGES:
            if text := _text(place.get(key), depth + 1):
                return text
    return ""


def _list(value: object) -> list[object]:
    return value if isinstance(value, list) else []


def clean(text: str | bytes) -> str:
    """At most 200 printable characters on one line: a server's text ends up in terminals and reports."""
    if isinstance(text, bytes):
        text = text[: 8 * MAX_MESSAGE].decode("utf-8", "replace")
    printable = "".join(c if c.isprintable() else " " for c in text[: 8 * MAX_MESSAGE])
    return " ".join(printable.split())[:MAX_MESSAGE]
