"""Files that a user names: campaign files, data sets, questions, traces. Links are followed; what never ends is not opened."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from profile_and_optimize.core.errors import WrongUse
from profile_and_optimize.evidence.bound import require_agreed

MOST_BYTES = 512 * 1024 * 1024


def read_given(path: Path, most: int = MOST_BYTES) -> bytes:
    """The bytes of a plain file. Raises WrongUse for a pipe, a device, a folder, a file beyond `most`, none at all."""
    try:
        # Without O_NONBLOCK a pipe that nobody writes to would be waited for.
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError) as e:
        raise _unread(path, getattr(e, "strerror", None) or str(e)) from None
    try:
        found = os.fstat(handle)
        if not stat.S_ISREG(found.st_mode):
            raise _unread(path, "not a plain file")
        if found.st_size > most:
            raise _unread(path, f"{found.st_size} bytes; more than {most} are not read")
        with open(handle, "rb", closefd=False) as file:
            return require_agreed(path, file.read(most))
    finally:
        os.close(handle)


def _unread(path: Path, why: str) -> WrongUse:
    return WrongUse(f"cannot read: {why}", where=str(path), next="give another file")
