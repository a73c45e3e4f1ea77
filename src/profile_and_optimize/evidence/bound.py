"""Files whose content somebody agreed to: who opens one of them gets those bytes or an error.

An agent's call is judged and shown in one process and run in another; in between a file could become another one.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from profile_and_optimize.core.errors import GateRefused
from profile_and_optimize.core.names import digest

# By absolute path as it is named, links not resolved: a link that is put in its place is another content. One call a process.
_AGREED: dict[str, str] = {}


@contextmanager
def holding(files: Mapping[str, str]) -> Iterator[None]:
    """Within it, the files of these absolute paths have to have these sha256."""
    _AGREED.update(files)
    try:
        yield
    finally:
        _AGREED.clear()


def require_agreed(path: Path, data: bytes) -> bytes:
    """`data`, which was read from `path`. Raises GateRefused when it is not what was agreed to."""
    wanted = _AGREED.get(os.path.abspath(path)) if _AGREED else None
    if wanted is not None and digest(data) != wanted:
        raise GateRefused(
            "it has changed since the call was judged and asked about", where=str(path), next="call again"
        )
    return data


def require_unchanged(files: Mapping[str, str]) -> None:
    """All of them at once, also those that somebody else will open. Raises GateRefused naming the first that differs."""
    for name in files:
        try:
            require_agreed(Path(name), Path(name).read_bytes())
        except OSError as e:
            raise GateRefused(
                f"it is gone since the call was judged: {e.strerror}", where=name, next="call again"
            ) from e


def release(path: Path) -> None:
    """The op itself writes this file: what it reads there later is its own."""
    _AGREED.pop(os.path.abspath(path), None)
