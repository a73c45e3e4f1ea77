"""Files that are either whole or not there."""

from __future__ import annotations

import os
from pathlib import Path

from profile_and_optimize.core.errors import BrokeMidway
from profile_and_optimize.evidence.bound import release

TEMP_SUFFIX = ".part"


def write_atomic(path: Path, data: bytes) -> None:
    """Write beside the target, flush to disk, rename. Raises BrokeMidway naming the file when the disk refuses."""
    temp = path.with_name(path.name + TEMP_SUFFIX)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temp.unlink(missing_ok=True)  # a link of that name would lead the write out of the run
        with open(temp, "xb") as f:
            f.write(data)
            f.flush()
            os.fsync(f.fileno())
        os.replace(temp, path)
        release(path)
    except OSError as e:
        temp.unlink(missing_ok=True)
        raise BrokeMidway(
            f"cannot write: {e.strerror or e}", where=str(path), next="free disk space or fix the rights, then --resume"
        ) from e


def sweep_temps(folder: Path) -> int:
    """Remove half-written files a kill left behind; how many there were."""
    found = list(folder.rglob("*" + TEMP_SUFFIX))
    for temp in found:
        temp.unlink(missing_ok=True)
    return len(found)
