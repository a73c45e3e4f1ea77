"""Bytes that others wrote: read within bounds, parsed, and looked at with the type checked. Every refusal is a WrongUse."""

from __future__ import annotations

import hashlib
import json
import math
import os
import stat
from collections.abc import Callable, Mapping, Sequence
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
    values, broken = read_lines(path)
    if broken:
        raise WrongUse(broken[0], where=str(path))
    return values


def read_lines(path: Path) -> tuple[list[Any], list[str]]:
    """(values, what is wrong with the lines that are not JSON): a file whose last line broke off still holds the others.

    Raises WrongUse for a file without one readable value.
    """
    data = _bytes(path)
    if not data.strip():
        raise WrongUse("the file is empty", where=str(path))
    try:
        return [parse(data)], []
    except json.JSONDecodeError as whole:
        return _lines(data, f"not JSON: {whole.msg} at byte {whole.pos}", path)
    except (ValueError, RecursionError) as e:
        raise WrongUse(_unreadable(e), where=str(path)) from None


def _lines(data: bytes, whole: str, path: Path) -> tuple[list[Any], list[str]]:
    """The lines that are objects. A document over several lines that broke off has none, and is refused as a whole."""
    lines = [(i + 1, line) for i, line in enumerate(data.splitlines()) if line.strip()]
    found: list[Any] = []
    broken: list[str] = []
    for number, line in lines:
        try:
            found.append(parse(line))
        except (ValueError, RecursionError) as e:
            broken.append(f"line {number}: {_unreadable(e)}")
    if not any(isinstance(v, dict) and v for v in found):
        raise WrongUse(broken[0] if broken and found else whole, where=str(path))
    return found, broken


def parse(data: bytes) -> Any:
    return json.loads(data)


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
    """A JSON object of somebody else. Each getter gives the asked type, or None with a line in `unread`.

    `unread` is shared by everything looked at inside: "median_ttft_ms: NaN is not a finite number". A value that cannot
    be read is unknown and never a default; the file keeps its other values. Raises WrongUse when it is no object at all.
    """

    def __init__(self, data: Any, where: str, unread: list[str] | None = None, place: str = "") -> None:
        if not isinstance(data, dict):
            raise WrongUse(f"an object was expected, not {type(data).__name__}", where=where)
        self.data: dict[str, Any] = data
        self.where = where
        self.unread: list[str] = [] if unread is None else unread
        self.place = place

    def __contains__(self, key: str) -> bool:
        return self.data.get(key) is not None

    def at(self, key: str) -> str:
        return f"{self.place}.{key}" if self.place else key

    def note(self, key: str, why: str) -> None:
        """Adds what is wrong with a value to what could not be read."""
        self.unread.append(printable(f"{self.at(key)}: {why}"))

    def inside(self, *keys: str) -> Looked:
        """The object below these keys; an empty one where any is missing or is no object."""
        here = self
        for key in keys:
            found = here.data.get(key)
            if found is not None and not isinstance(found, dict):
                here.note(key, f"an object was expected, not {_shown(found)}")
            data = found if isinstance(found, dict) else {}
            here = Looked(data, f"{here.where}.{key}", self.unread, here.at(key))
        return here

    def entries(self, key: str) -> list[Looked]:
        """The objects of a list. What is no object is noted and left out."""
        found = []
        for i, value in enumerate(self.list(key)):
            if isinstance(value, dict):
                found.append(Looked(value, f"{self.where}.{key}[{i}]", self.unread, f"{self.at(key)}[{i}]"))
            else:
                self.note(f"{key}[{i}]", f"an object was expected, not {_shown(value)}")
        return found

    def number(self, key: str, *, scale: float = 1.0) -> float | None:
        """A finite number from 0 on. `scale` turns the file's unit into ours."""
        found = self.data.get(key)
        if found is None:
            return None
        why = not_a_number(found)
        if why:
            self.note(key, why)
            return None
        return float(found) * scale

    def whole(self, key: str) -> int | None:
        found = self.number(key)
        if found is not None and found != int(found):
            self.note(key, f"{found!r} is not a whole number")
            return None
        return None if found is None else int(found)

    def positive(self, key: str) -> int | None:
        """A count from 1 on: 0 slots are no concurrency."""
        found = self.whole(key)
        if found == 0:
            self.note(key, "0 is not a count of slots or requests")
        return found or None

    def text(self, key: str) -> str | None:
        found = self.data.get(key)
        if found is None or isinstance(found, (dict, list)) or found == "":
            return None
        return printable(str(found))[:200]

    def numbers(self, key: str) -> list[float] | None:
        """None where one of them is not a number: a list with a hole is no list of what was measured."""
        return self.checked(self.list(key), key)

    def checked(self, found: Any, key: str) -> list[float] | None:
        if not isinstance(found, list):
            self.note(key, f"a list was expected, not {_shown(found)}")
            return None
        for i, value in enumerate(found):
            if why := not_a_number(value):
                self.note(f"{key}[{i}]", why)
                return None
        return [float(v) for v in found]

    def texts_or_none(self, key: str) -> None:
        """Notes the first entry of a list that is neither text nor null: no error message is a number."""
        for i, value in enumerate(self.list(key)):
            if value is not None and not isinstance(value, str):
                self.note(f"{key}[{i}]", f"text was expected, not {_shown(value)}")
                return

    def list(self, key: str) -> list[Any]:
        found = self.data.get(key)
        if found is None:
            return []
        if not isinstance(found, list):
            self.note(key, f"a list was expected, not {_shown(found)}")
            return []
        return found


def _shown(value: Any) -> str:
    return repr(value)[:40] if isinstance(value, (str, int, float)) else type(value).__name__


def not_a_number(found: Any) -> str:
    """Why a value is not a finite number from 0 on; "" where it is one."""
    if isinstance(found, bool) or not isinstance(found, (int, float)):
        return f"a number was expected, not {_shown(found)}"
    # The comparison comes before float(): an integer of a thousand digits has no float.
    if found != found or abs(found) > MAX_NUMBER or not math.isfinite(found):
        return "not a finite number of a sensible size"
    return f"{found!r} is below zero" if found < 0 else ""


def each(d: Looked, getters: Mapping[str, Callable[[], Any]], nothing: Any) -> tuple[dict[str, Any], set[str]]:
    """(what each getter gives, the names that held an unreadable value): one bad figure costs its metric, whole."""
    found: dict[str, Any] = {}
    garbled = set()
    for name, get in getters.items():
        before = len(d.unread)
        value = get()
        if len(d.unread) > before:
            garbled.add(name)
        found[name] = nothing if name in garbled else value
    return found, garbled


def uneven(lists: Mapping[str, Sequence[Any]]) -> str:
    """Names of lists that are not empty and of different lengths, with these; "" where all have one length."""
    lengths = {name: len(v) for name, v in lists.items() if len(v)}
    if len(set(lengths.values())) < 2:
        return ""
    return f"lists of different lengths: {', '.join(f'{k} {n}' for k, n in lengths.items())}"


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
