"""Reading files that may be hostile: plain files only, bounded in size, and JSON that reads one way only."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any, NoReturn

import orjson

from profile_and_optimize.core.errors import Corrupted
from profile_and_optimize.evidence.bound import require_agreed

MOST_BYTES = 256 * 1024 * 1024


def read_bytes(path: Path, most: int = MOST_BYTES) -> bytes:
    """The bytes of a plain file. Raises Corrupted for a link, a pipe, a device, a folder, a file beyond `most`, none at all.

    It is opened without following a link and without waiting, and judged again once it is open: by then it may be
    something else.
    """
    try:
        if not stat.S_ISREG(os.lstat(path).st_mode):
            raise _bad("a link, which is not followed" if path.is_symlink() else "not a plain file", path)
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError as e:
        raise _bad("missing", path) from e
    except OSError as e:
        raise _bad(f"cannot be read: {e.strerror}", path) from e
    try:
        return require_agreed(path, _plain(handle, path, most))
    finally:
        os.close(handle)


def _plain(handle: int, path: Path, most: int) -> bytes:
    found = os.fstat(handle)
    if not stat.S_ISREG(found.st_mode):
        raise _bad("not a plain file", path)
    if found.st_size > most:
        raise _bad(f"{found.st_size} bytes; files beyond {most} bytes are not read", path)
    data = os.read(handle, found.st_size + 1)
    while piece := os.read(handle, most + 1 - len(data)) if len(data) <= most else b"":
        data += piece
    return data[:most]


def read_json(path: Path) -> Any:
    """The JSON of a file. Raises Corrupted naming it; see `strict_json`."""
    try:
        return strict_json(read_bytes(path))
    except ValueError as e:
        raise _bad(f"not JSON: {e}", path) from e


def read_bulk_json(path: Path) -> Any:
    """As `read_json`, for large files: numbers beyond 64 bits come back as floats, which the reader has to refuse."""
    try:
        return bulk_json(read_bytes(path))
    except ValueError as e:
        raise _bad(f"not JSON: {e}", path) from e


def strict_json(data: bytes | str) -> Any:
    """The value of a JSON text. Raises ValueError for NaN and Infinity, for a key that an object names twice (two readers
    could take different ones), for numbers that Python would round to infinity, and for nesting too deep to read."""
    try:
        return json.loads(data, object_pairs_hook=_unique, parse_constant=_no_constant, parse_float=_finite)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def bulk_json(data: bytes) -> Any:
    """The same by a faster parser, which takes the last of two equal keys: unless it gives these bytes back, read again."""
    value = orjson.loads(data)
    again = orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
    return value if again == data.rstrip(b"\n") else _checked(value, data)


def _checked(value: Any, data: bytes) -> Any:
    strict_json(data)
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [k for k, _ in pairs]
        raise ValueError(f"the key {next(k for k in names if names.count(k) > 1)[:80]!r} stands twice in one object")
    return found


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")


def _finite(text: str) -> float:
    value = float(text)
    if value in (float("inf"), float("-inf")):
        raise ValueError(f"{text[:40]} is beyond what a number can hold")
    return value


def _bad(message: str, path: Path) -> Corrupted:
    return Corrupted(message, where=str(path), next=f"pao verify {path.parent}")
