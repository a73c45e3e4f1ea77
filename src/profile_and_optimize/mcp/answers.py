"""An op's envelope as a tool's answer: marked as data, without credentials and hidden characters, and bounded in size."""

from __future__ import annotations

import json
import math
import os
import time
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from profile_and_optimize.core.errors import PaoError
from profile_and_optimize.evidence.atomic import write_atomic
from profile_and_optimize.evidence.redact import known_secrets, redact
from profile_and_optimize.mcp.schema import MARKED, NOTICE
from profile_and_optimize.ops.base import envelope

# Clients cut or refuse what is much longer (about 25,000 tokens), and then an agent reads half a JSON text.
MOST_BYTES = 48 * 1024
MOST_TEXT = 12_000
MOST_NOTES = 20
KEPT_FILES = 50
_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})


@dataclass(frozen=True, slots=True)
class Limits:
    """The most entries of a list, keys of an object and characters of a text."""

    entries: int
    keys: int
    letters: int


STEPS = (
    Limits(1000, 10_000, 20_000),
    Limits(200, 1000, 4000),
    Limits(50, 200, 1000),
    Limits(12, 60, 400),
    Limits(3, 30, 120),
)


@dataclass(frozen=True, slots=True)
class Answer:
    """`structured` follows the output schema; `text` is what a person or a client without structured output reads."""

    structured: dict[str, Any]
    text: str

    @property
    def ok(self) -> bool:
        return bool(self.structured["ok"])


def failed(verb: str, error: PaoError) -> Answer:
    return answer(envelope(verb, None, error), "")


def answer(found: dict[str, Any], text: str) -> Answer:
    """What an op gave, as a client gets it. A longer one is cut by entries, never in the middle of a value, and kept whole."""
    secrets = known_secrets(os.environ)
    about = {"untrusted": list(MARKED), "notice": NOTICE, "cut": [], "whole": None}
    if _size(found) + len(text) > MOST_BYTES:
        # Cut first: cleaning takes far longer than cutting, and only what is told has to be clean.
        cut, path = _cut(found), keep(found, text)
        found, about = cut.value, {**about, "cut": [safe_text(n, secrets) for n in cut.notes], "whole": str(path)}
    told = _plain(found, secrets)
    return Answer({**told, "about": about}, _words(told, safe_text(text[: 2 * MOST_TEXT], secrets, lines=True), about))


def _words(found: dict[str, Any], text: str, about: dict[str, Any]) -> str:
    head = (
        [f"CUT to keep this short, the whole is in {about['whole']}: {'; '.join(about['cut'])}"] if about["cut"] else []
    )
    lines = [text[:MOST_TEXT] + (" ... (cut)" if len(text) > MOST_TEXT else "")] if text else []
    lines += [f"warning: {w}" for w in found["warnings"]]
    if found["error"]:
        lines += [f"error: {found['error']['message']}", f"next: {found['error']['next']}"]
    return "\n".join([f"[{NOTICE}]", *head, *lines])


@dataclass
class _Cut:
    """`value` within the limits, and what was left out, by place."""

    value: dict[str, Any]
    notes: list[str] = field(default_factory=list)


def _cut(whole: dict[str, Any]) -> _Cut:
    for limits in STEPS:
        notes: list[str] = []
        value = _within(whole, limits, "", notes)
        if _size(value) <= MOST_BYTES:
            break
    else:
        value, notes = (
            {**whole, "result": {}, "warnings": [], "error": _within(whole["error"], STEPS[-1], "", [])},
            ["result", "warnings"],
        )
    more = [f"and {len(notes) - MOST_NOTES} more places"] if len(notes) > MOST_NOTES else []
    return _Cut(value, (notes[:MOST_NOTES] or ["text"]) + more)


def _within(value: Any, most: Limits, place: str, notes: list[str]) -> Any:
    if isinstance(value, dict):
        if len(value) > most.keys:
            notes.append(f"{place}: {most.keys} of {len(value)} keys")
        return {k: _within(v, most, f"{place}.{k}".strip("."), notes) for k, v in list(value.items())[: most.keys]}
    if isinstance(value, list):
        if len(value) > most.entries:
            notes.append(f"{place}: {most.entries} of {len(value)} entries")
        return [_within(v, most, place, notes) for v in value[: most.entries]]
    if isinstance(value, str) and len(value) > most.letters:
        notes.append(f"{place}: {most.letters} of {len(value)} characters")
        return value[: most.letters] + "..."
    return value


def _size(value: Any) -> int:
    return len(json.dumps(value, ensure_ascii=False).encode(errors="replace"))


def _plain(value: Any, secrets: Sequence[str]) -> Any:
    """JSON whose texts are safe and whose numbers are finite: null is unknown."""
    if isinstance(value, dict):
        return {safe_text(str(k), secrets): _plain(v, secrets) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v, secrets) for v in value]
    if isinstance(value, str):
        return safe_text(value, secrets, lines=True)
    return None if isinstance(value, float) and not math.isfinite(value) else value


def safe_text(text: str, secrets: Sequence[str], *, lines: bool = False) -> str:
    """Without credentials, and without characters that a person does not see and a model reads (tags, bidi, zero width)."""
    shown = "".join(c for c in text if c == " " or (lines and c in "\n\t") or unicodedata.category(c) not in _HIDDEN)
    return redact(shown, secrets)


def keep(whole: dict[str, Any], text: str) -> Path:
    """The whole answer in a file of the user's cache, for this user alone; the oldest of them make room."""
    folder = cache_folder()
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    old = sorted(folder.glob("*.json"))
    for path in old[: max(0, len(old) - KEPT_FILES + 1)]:
        path.unlink(missing_ok=True)
    path = folder / f"{time.time_ns()}-{whole['verb']}.json"
    write_atomic(path, (json.dumps({**whole, "text": text}, indent=1, ensure_ascii=True) + "\n").encode())
    return path


def cache_folder() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "profile-and-optimize" / "mcp-answers"
