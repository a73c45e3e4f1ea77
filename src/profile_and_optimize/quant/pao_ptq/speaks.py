"""Which bytes a record speaks of: every file of a checkpoint by its digest, written down when the last check passed and compared
wherever the checkpoint is used."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from .headers import CHUNK

RECORD = "coverage.json"


def files_told(folder: Path) -> dict[str, dict[str, Any]]:
    """Every file but the record itself: path in the folder -> {"bytes", "sha256"}."""
    paths = sorted(p for p in folder.rglob("*") if p.is_file() and p.relative_to(folder).as_posix() != RECORD)
    return {p.relative_to(folder).as_posix(): {"bytes": p.stat().st_size, "sha256": sha256(p)} for p in paths}


def changed(folder: Path, told: Mapping[str, Any]) -> list[str]:
    """What is there otherwise than it was told, by file; empty for a checkpoint that is what was checked."""
    here = files_told(folder)
    faults = [f"{n}: not there any more" for n in sorted({*told} - {*here})]
    faults += [f"{n}: was not there when it was checked" for n in sorted({*here} - {*told})]
    return faults + [f"{n}: not the bytes that were checked" for n in sorted({*here} & {*told}) if here[n] != told[n]]


def sha256(path: Path) -> str:
    """A file that was not touched since this process has read it is not read again."""
    s = path.stat()
    return _sha256(str(path), s.st_size, s.st_mtime_ns, s.st_ctime_ns, s.st_ino)


@lru_cache(maxsize=4096)
def _sha256(path: str, *stat: int) -> str:
    sha = hashlib.sha256()
    with open(path, "rb") as file:
        while piece := file.read(CHUNK):
            sha.update(piece)
    return sha.hexdigest()
