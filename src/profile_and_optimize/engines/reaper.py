"""Runs one command and sees to it that nothing of it outlives us, even when we are killed with -9.

Started as `python -I reaper.py FD LOG CORES -- ARGV...`. FD is the read end of a pipe whose write end only the parent
holds: end of file means the parent is gone or wants a stop. The reaper makes itself the subreaper of everything
below it, so that grandchildren which leave the process group are still found. Standard library only.
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import subprocess
import sys
import time

PR_SET_CHILD_SUBREAPER = 36
GRACE_S = 8.0


def become_subreaper() -> None:
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def descendants(root: int) -> list[int]:
    """Process ids below `root`, from /proc; empty where there is no /proc."""
    children: dict[int, list[int]] = {}
    for name in os.listdir("/proc") if os.path.isdir("/proc") else []:
        if name.isdigit():
            parent = parent_of(int(name))
            children.setdefault(parent, []).append(int(name))
    found, todo = [], [root]
    while todo:
        below = children.get(todo.pop(), [])
        found += below
        todo += below
    return found


def parent_of(pid: int) -> int:
    try:
        with open(f"/proc/{pid}/stat") as f:
            return int(f.read().rsplit(")", 1)[1].split()[1])
    except (OSError, IndexError, ValueError):
        return -1


def signal_all(child: subprocess.Popen[bytes], sig: int) -> None:
    for pid in {child.pid, *descendants(os.getpid())}:
        try:
            os.kill(pid, sig)
        except (ProcessLookupError, PermissionError):
            pass
    try:
        os.killpg(child.pid, sig)
    except (ProcessLookupError, PermissionError):
        pass


def collect() -> None:
    """Reap whatever has ended below us."""
    try:
        while os.waitpid(-1, os.WNOHANG) != (0, 0):
            pass
    except ChildProcessError:
        pass


def end_everything(child: subprocess.Popen[bytes]) -> None:
    """Ask, wait, then kill, until no descendant is left."""
    signal_all(child, signal.SIGCONT)
    child.poll()
    if child.returncode is None:
        child.send_signal(signal.SIGTERM)
    deadline = time.monotonic() + GRACE_S
    while time.monotonic() < deadline and (child.poll() is None):
        time.sleep(0.05)
    for _ in range(100):
        signal_all(child, signal.SIGKILL)
        child.poll()
        collect()
        if not descendants(os.getpid()):
            return
        time.sleep(0.05)


def main(argv: list[str]) -> int:
    fd, log, cores = int(argv[1]), argv[2], [int(c) for c in argv[3].split(",") if c]
    command = argv[argv.index("--") + 1 :]
    for sig in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
        signal.signal(sig, signal.SIG_IGN)
    become_subreaper()
    if cores and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, cores)
    try:
        out = open(log, "ab")
        child = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True, preexec_fn=defaults
        )
    except OSError as e:
        print(f"cannot start {command[0]}: {e}", file=sys.stderr)
        return 127
    while True:
        ready, _, _ = select.select([fd], [], [], 0.2)
        gone = bool(ready) and not os.read(fd, 1)
        if gone or child.poll() is not None:
            code = child.poll()
            end_everything(child)
            return code if code is not None and not gone else 0


def defaults() -> None:
    """The child must not inherit our ignored signals."""
    for sig in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
        signal.signal(sig, signal.SIG_DFL)


if __name__ == "__main__":
    sys.exit(main(sys.argv))
