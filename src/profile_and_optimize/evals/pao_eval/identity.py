"""Which worker ran: the digest of its own source."""

from __future__ import annotations

import hashlib
from pathlib import Path

HERE = Path(__file__).parent


def worker_sha256(folder: Path = HERE) -> str:
    """sha256 over the sorted names and the bytes of the folder's *.py."""
    total = hashlib.sha256()
    for path in sorted(folder.glob("*.py")):
        total.update(path.name.encode() + b"\0" + hashlib.sha256(path.read_bytes()).digest())
    return total.hexdigest()
