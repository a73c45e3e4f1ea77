"""Bytes that others wrote: read within bounds, parsed, and looked at with the type checked. Every refusal is a WrongUse."""

from __future__ import annotations

import hashlib
import json
import math
import os
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from profile_and_optimize.core.errors import WrongUse
from profile_and_optimize.evidence.redact import redact

MAX_BYTES = 512 * 1024 * 1024
MAX_FILES = 2000
MAX_DEPTH = 6
MAX_NUMBER = 1e18
UNITS = {"s": 1.0, "sec": 1.0, "seconds": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}


def read_values(path: Path) -> list[Any]:
    """Every JSON value of a file: one document, or one a line. Raises WrongUse for anything else."""
    data = _bytes(path)
    if not data.strip():
        raise WrongUse("the file is empty", where=str(path))
    try:
        return [parse(data)]
    except json.JSONDecodeError as whole:
        lines = [line for line in data.splitlines() if line.strip()]
        if len(lines) < 2:
            raise WrongUse(f"not JSON: {whole.msg} at byte {whole.pos}", where=str(path)) from None
        return [_line(line, i + 1, path) for i, line in enumerate(lines)]
    except (ValueError, RecursionError) as e:
        raise WrongUse(_unreadable(e), where=str(path)) from None


def parse(data: bytes) -> Any:
    return json.loads(data)


def _line(line: bytes, number: int, path: Path) -> Any:
    try:
        return parse(line)
    except (ValueError, RecursionError) as e:
        raise WrongUse(f"line {number}: {_unreadable(e)}", where=str(path)) from None


def _unreadable(e: Exception) -> str:
    if isinstance(e, RecursionError):
        return "nested too deeply to be a result"
    if isinstance(e, UnicodeDecodeError):
        return "not JSON: the bytes are not text"
    return f"not JSON: {e}"


def _bytes(path: Path) -> bytes:
    """The whole of a regular file, or WrongUse: pipes and devices would never end."""
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):
            raise WrongUse("not a regular file", where=str(path))
        if found.st_size > MAX_BYTES:
            raise WrongUse(f"{found.st_size} bytes; results above {MAX_BYTES} are not read", where=str(path))
        return path.read_bytes()
    except OSError as e:
        raise WrongUse(f"cannot be read: {e.strerror or e}", where=str(path)) from None
    except ValueError as e:
        raise WrongUse(f"cannot be read: {e}", where=repr(str(path))) from None


def files_under(folder: Path) -> list[Path]:
    """Files below a folder, sorted, links not followed. Raises WrongUse above MAX_FILES."""
    found: list[Path] = []
    for here, below, names in os.walk(folder, followlinks=False):
        if len(Path(here).relative_to(folder).parts) >= MAX_DEPTH:
            below.clear()
        below[:] = sorted(d for d in below if not d.startswith("."))
        found += [Path(here) / name for name in names if not (Path(here) / name).is_symlink()]
        if len(found) > MAX_FILES:
            raise WrongUse(f"more than {MAX_FILES} files", where=str(folder), next="name one result folder")
    return sorted(found)


class Looked:
    """A JSON object of somebody else: each getter gives the asked type or None, and raises WrongUse for a wrong one."""

    def __init__(self, data: Any, where: str) -> None:
        if not isinstance(data, dict):
            raise WrongUse(f"an object was expected, not {type(data).__name__}", where=where)
        self.data: dict[str, Any] = data
        self.where = where

    def __contains__(self, key: str) -> bool:
        return self.data.get(key) is not None

    def inside(self, *keys: str) -> Looked:
        """The object below these keys; an empty one where any is missing."""
        here: Any = self.data
        for key in keys:
            here = here.get(key) if isinstance(here, dict) else None
        return Looked({} if here is None else here, ".".join((self.where, *keys)))

    def number(self, key: str, *, scale: float = 1.0) -> float | None:
        """A finite number from 0 on. `scale` turns the file's unit into ours."""
        found = self.data.get(key)
        if found is None:
            return None
        return checked_number(found, f"{self.where}.{key}") * scale

    def whole(self, key: str) -> int | None:
        found = self.number(key)
        if found is not None and found != int(found):
            raise WrongUse(f"{found!r} is not a whole number", where=f"{self.where}.{key}")
        return None if found is None else int(found)

    def text(self, key: str) -> str | None:
        found = self.data.get(key)
        if found is None or isinstance(found, (dict, list)) or found == "":
            return None
        return printable(str(found))[:200]

    def numbers(self, key: str) -> list[float]:
        return checked_numbers(self.list(key), f"{self.where}.{key}")

    def list(self, key: str) -> list[Any]:
        found = self.data.get(key)
        if found is None:
            return []
        if not isinstance(found, list):
            raise WrongUse(f"a list was expected, not {type(found).__name__}", where=f"{self.where}.{key}")
        return found


def checked_number(found: Any, where: str) -> float:
    if isinstance(found, bool) or not isinstance(found, (int, float)):
        raise WrongUse(f"a number was expected, not {type(found).__name__}", where=where)
    # The comparison comes before float(): an integer of a thousand digits has no float.
    if found != found or abs(found) > MAX_NUMBER or not math.isfinite(found):
        raise WrongUse("not a finite number of a sensible size", where=where)
    if found < 0:
        raise WrongUse(f"{found!r} is below zero", where=where)
    return float(found)


def checked_numbers(found: Any, where: str) -> list[float]:
    if not isinstance(found, list):
        raise WrongUse(f"a list was expected, not {type(found).__name__}", where=where)
    return [checked_number(v, where) for v in found]


def same_lengths(lists: Mapping[str, Sequence[Any]], where: str) -> int:
    """The one length of all lists that are not empty. Raises WrongUse naming two that differ."""
    lengths = {name: len(v) for name, v in lists.items() if len(v)}
    if len(set(lengths.values())) > 1:
        raise WrongUse(f"lists of different lengths: {', '.join(f'{k} {n}' for k, n in lengths.items())}", where=where)
    return next(iter(lengths.values()), 0)


def printable(text: str) -> str:
    """Without what no terminal or file takes: half of a surrogate pair, a file name's stray bytes, a credential."""
    return redact(text.encode(errors="replace").decode())


def digest_of_text(text: Any) -> str:
    return hashlib.sha256(repr(text).encode(errors="replace")).hexdigest()[:16]


def short_error(error: Any) -> str:
    """The last line of an error, as a traceback ends with what happened; at most 160 characters."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return printable(lines[-1])[:160] if lines else "failed without a reason"


def scalars(data: Mapping[str, Any], but: frozenset[str]) -> dict[str, str]:
    """Plain values as text: context that the tool or its user wrote down beside the numbers."""
    kept = {k: v for k, v in data.items() if k not in but and isinstance(v, (str, int, float)) and v != ""}
    return {printable(k)[:80]: printable(str(v))[:200] for k, v in list(kept.items())[:60]}
