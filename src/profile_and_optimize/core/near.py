"""A misspelt word and the one that was probably meant."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def nearest(word: str, known: Iterable[str]) -> str:
    """The known word that looks most like `word`, upper or lower case; "" when none is near."""
    by_lower = {name.lower(): name for name in known}
    close = difflib.get_close_matches(word.lower(), by_lower, n=1, cutoff=0.6)
    return by_lower[close[0]] if close else ""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """To stand behind the word: " (did you mean X?)", or "" when nothing is near."""
    near = nearest(word, known)
    return f" (did you mean {near}?)" if near else ""


def unknown(what: str, name: str, known: Iterable[str]) -> str:
    """What to say of a name that is none of the known ones."""
    there = list(known)
    return f"unknown {what} {name!r}{did_you_mean(name, there)}; there are {', '.join(there) or 'none'}"
