"""What a run folder holds, seen without opening anything: plain files by path, and all that is neither file nor folder."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from profile_and_optimize.core.errors import Corrupted

KINDS = {
    stat.S_IFLNK: "a link", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket", stat.S_IFCHR: "a device", stat.S_IFBLK: "a device",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Tree:
    """`files`: run-relative path with "/" to size in bytes. `odd`: what a run cannot hold, each as a line."""

    files: Mapping[str, int]
    odd: tuple[str, ...]


def walk(run: Path) -> Tree:
    """Every file under `run`. Links are listed as odd and never followed. Raises Corrupted when it cannot be listed."""
    files: dict[str, int] = {}
    odd: list[str] = []
    waiting = [""]
    try:
        while waiting:
            folder = waiting.pop()
            with os.scandir(run / folder) as found:
                for entry in found:
                    rel = folder + entry.name
                    seen = entry.stat(follow_symlinks=False)
                    if stat.S_ISDIR(seen.st_mode):
                        waiting.append(rel + "/")
                    elif stat.S_ISREG(seen.st_mode):
                        files[rel] = seen.st_size
                    else:
                        kind = KINDS.get(stat.S_IFMT(seen.st_mode), "something strange")
                        odd.append(f"{rel}: {kind}; a run holds plain files and folders only")
    except OSError as e:
        raise Corrupted(f"cannot be listed: {e.strerror}", where=str(run), next="give a run folder") from e
    return Tree(dict(sorted(files.items())), tuple(sorted(odd)))
