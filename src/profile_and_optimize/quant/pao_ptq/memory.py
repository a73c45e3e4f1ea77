"""Memory: how much is free, how much was held, and giving freed blocks back."""

from __future__ import annotations

import contextlib
import ctypes
import re
import threading
import time
from pathlib import Path


def free_memory() -> int:
    """Bytes that a process may take without swapping, a container's own limit among them."""
    told = re.search(r"MemAvailable:\s+(\d+) kB", Path("/proc/meminfo").read_text())
    free = int(told.group(1)) * 1024 if told else 8 << 30
    limit = Path("/sys/fs/cgroup/memory.max")
    with contextlib.suppress(OSError, ValueError):
        free = min(free, int(limit.read_text()) - int(limit.with_name("memory.current").read_text()))
    return free


def give_memory_back() -> None:
    """glibc keeps freed blocks of a layer's size for itself, and a small one above them holds them fast: the peak grew by
    70 MB a layer. Blocks from 4 MB on come from the system and go back to it."""
    with contextlib.suppress(OSError, AttributeError):  # another C library
        ctypes.CDLL("libc.so.6").mallopt(-3, 4 << 20)  # M_MMAP_THRESHOLD


class Peak:
    """The most memory of our own that was held: anonymous pages, looked at every 50 ms. The system's own figure counts the
    mapped pages of the base's files too, which it drops when it needs them."""

    def __init__(self) -> None:
        self.bytes = 0
        threading.Thread(target=self._watch, daemon=True).start()

    def taken(self) -> int | None:
        """The most since it was last asked; None where the system does not tell."""
        most, self.bytes = self.bytes, 0
        return most or None

    def _watch(self) -> None:
        with contextlib.suppress(OSError, AttributeError):  # another system than Linux: not known
            while True:
                found = re.search(r"RssAnon:\s+(\d+) kB", Path("/proc/self/status").read_text())
                self.bytes = max(self.bytes, int(found.group(1)) * 1024)  # type: ignore[union-attr]
                time.sleep(0.05)
