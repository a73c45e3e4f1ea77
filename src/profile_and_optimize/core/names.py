"""Names that become folders, and canonical JSON with its digest."""

from __future__ import annotations

import hashlib
import json
import re
from typing import Any

from profile_and_optimize.core.errors import WrongUse

_ID = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")


def checked_id(text: str, what: str) -> str:
    """`text` if it can safely name a folder: lower case letters, digits, dot, dash, underscore; no path, no '..'."""
    if not isinstance(text, str) or not _ID.fullmatch(text) or ".." in text:
        raise WrongUse(
            f"{what} {text!r} is not a name: use up to 64 of a-z 0-9 . _ -, beginning with a letter or digit"
        )
    return text


def slug(text: str) -> str:
    """A folder-safe short form of any text; never empty."""
    made = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:40].strip("-")
    return made or "run"


def not_an_option(text: str, what: str) -> str:
    """`text` unless it would read as a command-line option of the program it is handed to."""
    if not is_plain(text):
        raise WrongUse(f"{what} {text!r} may not be empty, begin with '-' or hold control characters")
    return text


def is_plain(text: str) -> bool:
    """May it stand in a command line as a value? Not empty, no option, no control characters."""
    return bool(text) and not text.startswith("-") and all(ord(c) >= 32 for c in text)


def canonical(value: Any) -> bytes:
    """The one byte form of a JSON value: sorted keys, no spaces, finite numbers only."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def digest_of(value: Any) -> str:
    return digest(canonical(value))


def word_set(text: str) -> frozenset[str]:
    """The words of a table that is written as text."""
    return frozenset(text.split())
