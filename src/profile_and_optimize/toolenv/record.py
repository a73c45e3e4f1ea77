"""An installed package against its wheel's RECORD: the sha256 that every file of it had when it was installed."""

from __future__ import annotations

import base64
import csv
import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Install:
    """A distribution as it lies in a site folder. `files` are (path, sha256 in hex, "" where RECORD has none)."""

    site: Path
    info: Path
    files: tuple[tuple[str, str], ...]

    @property
    def name(self) -> str:
        return self.info.name.removesuffix(".dist-info").partition("-")[0].replace("_", "-")

    @property
    def version(self) -> str:
        return self.info.name.removesuffix(".dist-info").partition("-")[2]

    @property
    def direct_url(self) -> dict[str, Any]:
        """What it was installed from, where that was named on pip's command line (PEP 610); empty for an index."""
        return _json(self.info / "direct_url.json")


def owner(package: Path) -> Install | None:
    """The distribution whose RECORD lists the package's `__init__.py`; None where none beside it does."""
    wanted = f"\n{package.name}/__init__.py,"
    for record in sorted(package.parent.glob("*.dist-info/RECORD")):
        text = text_of(record)
        if wanted in "\n" + text:
            return Install(package.parent, record.parent, tuple(_record(text)))
    return None


def content_digest(install: Install, module: str) -> str:
    """One digest over the hashes of the package's files: the same for the same wheel wherever it is installed."""
    lines = sorted(f"{p} {h}" for p, h in install.files if p.split("/", 1)[0] == module and h)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def files_of(package: Path) -> dict[str, Path]:
    """The package's files by their path in RECORD, without compiled bytecode."""
    found = (p for p in package.rglob("*") if p.is_file())
    named = ((p.relative_to(package.parent).as_posix(), p) for p in found)
    return {name: p for name, p in named if not _bytecode(name)}


def differing(install: Install, package: Path, present: Mapping[str, Path]) -> tuple[str, ...] | None:
    """Files that are changed, added or missing; None where RECORD lacks a hash and so cannot tell."""
    expected = {p: h for p, h in install.files if p.split("/", 1)[0] == package.name and not _bytecode(p)}
    if not all(expected.values()):
        return None
    return tuple(_differing(expected, present))


def signature(present: Mapping[str, Path]) -> str:
    """Changes when a file is replaced, resized or touched: then hashes taken before no longer hold."""
    stats = ((name, path.stat()) for name, path in sorted(present.items()))
    return hashlib.sha256(repr([(n, s.st_size, s.st_mtime_ns, s.st_ino) for n, s in stats]).encode()).hexdigest()


def _differing(expected: Mapping[str, str], present: Mapping[str, Path]) -> Iterator[str]:
    for path in sorted(expected.keys() | present.keys()):
        if path not in present:
            yield f"{path} (missing)"
        elif path not in expected:
            yield f"{path} (added)"
        elif _sha256(present[path]) != expected[path]:
            yield path


def _record(text: str) -> Iterator[tuple[str, str]]:
    for row in csv.reader(text.splitlines()):
        if len(row) >= 2:
            algorithm, _, value = row[1].partition("=")
            yield row[0], _hex(value) if algorithm == "sha256" else ""


def _hex(value: str) -> str:
    try:
        return base64.urlsafe_b64decode(value + "=" * (-len(value) % 4)).hex()
    except ValueError:
        return ""


def _bytecode(path: str) -> bool:
    return path.endswith(".pyc") or "/__pycache__/" in path


def _sha256(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return ""


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def text_of(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""
