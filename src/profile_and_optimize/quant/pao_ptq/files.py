"""JSON files, written whole and read as objects."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from .stop import Stop

SCHEMA = 1


def worker_files() -> dict[str, bytes]:
    """This package: name -> bytes of each of its files."""
    return {p.name: p.read_bytes() for p in sorted(Path(__file__).parent.glob("*.py"))}


def worker_sha256() -> str:
    """Over names and contents of this package's files: which code made a checkpoint."""
    sha = hashlib.sha256()
    for name, data in worker_files().items():
        sha.update(f"{name} {len(data)}\n".encode() + data)
    return sha.hexdigest()


def write_whole(path: Path, data: str) -> None:
    """A reader sees the old file or the new one, never half of it."""
    half = path.with_name(f".{path.name}.half")
    with half.open("w", encoding="utf-8") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    half.replace(path)


def write_json(path: Path, value: object) -> None:
    write_whole(path, json.dumps(value, indent=1) + "\n")


def read_json(path: Path, *, next: str = "pao quantize writes it") -> dict[str, Any]:
    """Raises Stop when it is missing or no JSON object; `next` says who writes it."""
    try:
        value = json.loads(path.read_text())
    except (OSError, ValueError, RecursionError) as error:
        told = f"cannot be read as JSON: {error}"
        raise Stop("wrong_use", told, where=str(path), next=next) from error
    if not isinstance(value, dict):
        raise Stop("wrong_use", "holds no JSON object", where=str(path), next=next)
    return value
