"""Conversations recorded in a file: a JSON array or JSON lines, read piece by piece with bounds on every piece.

An entry is ShareGPT's {"conversations": [{"from": "human", "value": ...}, ...]}, {"messages": [{"role": "user", "content":
...}, ...]}, or a question alone, {"prompt": ...}. Whatever else it holds is left aside.
"""

from __future__ import annotations

import codecs
import hashlib
import json
import os
import re
import stat
from collections.abc import Iterator
from functools import lru_cache
from io import BufferedReader
from pathlib import Path
from typing import Any

from profile_and_optimize.core.errors import Corrupted, WrongUse
from profile_and_optimize.workloads.texts import Conversation

MOST_BYTES = 4 << 30
MOST_ENTRY_CHARS = 8 << 20
CHUNK = 1 << 20
# The first so many that are kept; more would only take longer to count.
MOST_KEPT, MOST_KEPT_CHARS = 20_000, 100_000_000
MOST_TURNS, MOST_TURN_CHARS = 64, 400_000
SHAPE = '{"conversations": [{"from": "human", "value": "..."}, {"from": "gpt", "value": "..."}]}, or {"prompt": "..."}'
USER, ASSISTANT = ("human", "user"), ("gpt", "assistant", "chatgpt", "bard", "bing", "model")
_BLANK = re.compile(r"[\s,]*")


def read_conversations(path: Path, sha256: str = "") -> tuple[Conversation, ...]:
    """Its different conversations that begin with a user's turn, at most 20,000. Raises WrongUse naming the place.

    `sha256`, where given, is what the file was when the plan was made: raises Corrupted when it is another file now.
    """
    found = os.stat(path) if path.exists() else None
    return _read(path, sha256, found.st_size if found else -1, found.st_mtime_ns if found else -1)


@lru_cache(maxsize=2)
def _read(path: Path, sha256: str, size: int, changed_ns: int) -> tuple[Conversation, ...]:
    """`size` and `changed_ns` are there for the cache: the same path may be another file the next time."""
    require_digest(path, sha256)
    kept: dict[Conversation, None] = {}
    chars, entries = 0, 0
    for entry in _entries(path):
        entries += 1
        talk = _conversation(entry)
        if talk and talk not in kept:
            kept[talk] = None
            chars += sum(map(len, talk))
        if len(kept) >= MOST_KEPT or chars >= MOST_KEPT_CHARS:
            break
    if not kept:
        raise WrongUse(f"{entries} entries, and none is a conversation", where=str(path), next=f"an entry is {SHAPE}")
    return tuple(kept)


def digest_file(path: Path) -> str:
    """sha256 of a plain file. Raises WrongUse for a pipe, a device, a folder, none at all, one beyond 4 GiB."""
    with _opened(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def require_digest(path: Path, sha256: str) -> None:
    """Raises Corrupted unless the file is the one of that digest ("": any)."""
    if sha256 and (now := digest_file(path)) != sha256:
        raise Corrupted(
            f"sha256 {now[:12]}..., the plan was made with {sha256[:12]}...", where=str(path),
            next="restore the file, or begin a new campaign",
        )  # fmt: skip


def _opened(path: Path) -> BufferedReader:
    try:
        # Without O_NONBLOCK a pipe that nobody writes to would be waited for.
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError) as e:
        raise WrongUse(
            f"cannot read: {getattr(e, 'strerror', None) or e}", where=str(path), next="give another file"
        ) from None
    found = os.fstat(handle)
    if not stat.S_ISREG(found.st_mode) or found.st_size > MOST_BYTES:
        os.close(handle)
        why = "more than 4 GiB" if stat.S_ISREG(found.st_mode) else "not a plain file"
        raise WrongUse(f"cannot read: {why}", where=str(path), next="give another file")
    return os.fdopen(handle, "rb")


def _entries(path: Path) -> Iterator[Any]:
    """The values of an array, or of lines. Raises WrongUse naming how many were read before what is wrong."""
    done = 0
    with _opened(path) as file:
        try:
            for entry in _values(file):
                done += 1
                yield entry
        except (ValueError, RecursionError) as e:
            why = "nested too deeply" if isinstance(e, RecursionError) else str(e)[:200]
            raise WrongUse(f"after {done} entries: {why}", where=str(path), next=f"an entry is {SHAPE}") from None


def _values(file: BufferedReader) -> Iterator[Any]:
    """JSON values one after another: with commas between and brackets around, or one a line. Holds one entry at a time."""
    text, rest, decoder = "", _pieces(file), json.JSONDecoder(parse_constant=_no_number)
    in_array: bool | None = None
    at, ended = 0, False
    while True:
        at = _BLANK.match(text, at).end()  # type: ignore[union-attr]  # it matches everything
        if in_array is None and at < len(text):
            in_array = text[at] == "["
            at += in_array
            continue
        if at < len(text) and text[at] == "]" and in_array:
            return
        try:
            if at >= len(text) and ended:
                if in_array:
                    raise ValueError("the array does not end")
                return
            value, end = decoder.raw_decode(text, at)
            if not isinstance(value, dict):
                raise _NoEntry("an entry that is not an object")
            at = end
            yield value
            continue
        except json.JSONDecodeError as e:
            if ended:
                raise ValueError(f"not JSON: {e.msg}") from None
        if len(text) - at > MOST_ENTRY_CHARS:
            raise ValueError(f"an entry that does not end within {MOST_ENTRY_CHARS} characters, or is not JSON")
        piece = next(rest, None)
        ended = piece is None
        text, at = text[at:] + (piece or ""), 0


class _NoEntry(ValueError):
    """Not to be mended by reading further."""


def _no_number(name: str) -> Any:
    raise _NoEntry(f"{name} is not a JSON number")


def _pieces(file: BufferedReader) -> Iterator[str]:
    decoder = codecs.getincrementaldecoder("utf-8-sig")()
    while data := file.read(CHUNK):
        yield decoder.decode(data)
    yield decoder.decode(b"", True)


def _conversation(entry: dict[str, Any]) -> Conversation:
    """Its turns, the user's first; cut where the order breaks. () for one without a usable first turn."""
    said = entry.get("conversations") or entry.get("conversation") or entry.get("messages")
    if isinstance(said, list):
        return _turns(said)
    alone = entry.get("prompt") or entry.get("question")
    return (alone.strip(),) if isinstance(alone, str) and _usable(alone) else ()


def _turns(said: list[Any]) -> Conversation:
    out: list[str] = []
    for turn in said[: MOST_TURNS + 1]:
        who, what = _said(turn)
        if not out and who not in USER:
            continue  # a system prompt, or an answer to a question that was cut off
        if who not in (USER if len(out) % 2 == 0 else ASSISTANT) or not _usable(what):
            break
        out.append(what.strip())
    return tuple(out[:MOST_TURNS])


def _said(turn: Any) -> tuple[str, Any]:
    if not isinstance(turn, dict):
        return "", None
    return str(turn.get("from") or turn.get("role") or "").lower(), turn.get("value") or turn.get("content")


def _usable(text: Any) -> bool:
    """Text that can be sent: not empty, not endless, and without halves of surrogate pairs."""
    if not isinstance(text, str) or not text.strip() or len(text) > MOST_TURN_CHARS:
        return False
    return not any("\ud800" <= c <= "\udfff" for c in text)
