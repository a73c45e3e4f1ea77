"""The counts of this machine, from /proc and /sys. What is not there (another system, no permission) is None, never 0."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from profile_and_optimize.campaign.guard import Reading

# Columns of a cpu line in /proc/stat after its name, see proc(5). Guest time is inside user and nice already.
_BUSY, _IOWAIT, _INTERRUPT, _STEAL = (0, 1, 2), (4,), (5, 6), (7,)


@dataclass(frozen=True, slots=True)
class _Process:
    """Ticks of its own and of the children that it has waited for."""

    parent: int
    name: str
    own: int
    waited_for: int


class LinuxMachine:
    """`root` stands before /proc and /sys, so that tests can plant any machine; `me` is the pid of this program."""

    def __init__(self, root: Path = Path("/"), me: int | None = None, cores: Iterable[int] | None = None) -> None:
        self._proc, self._sys = root / "proc", root / "sys"
        self._me = os.getpid() if me is None else me
        self._cores = frozenset(_allowed() if cores is None else cores)
        self._tick = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100
        self._quota = _quota_file(root)

    def read(self, server: int | None) -> Reading:
        """One reading. `ours_s` is None without the server's pid: its work could not be told from that of others."""
        lines = self._cpu_lines()
        processes = self._processes()
        ours = _ours(processes, self._me, server)
        quota = _fields(self._quota) if self._quota else {}
        vm = _fields(self._proc / "vmstat")
        used = sum(processes[p].own + processes[p].waited_for for p in ours)
        return Reading(
            wall_s=time.time(), monotonic_s=time.monotonic(), cores=len(lines) or None, busy_s=self._sum(lines, _BUSY),
            ours_s=used / self._tick if server is not None and {self._me, server} <= ours else None,
            steal_s=self._sum(lines, _STEAL), iowait_s=self._sum(lines, _IOWAIT), interrupt_s=self._sum(lines, _INTERRUPT),
            thermal_throttles=self._thermal(), quota_throttles=quota.get("nr_throttled"), quota_throttled_s=_throttled_s(quota),
            swap_in_pages=vm.get("pswpin"), swap_out_pages=vm.get("pswpout"),
            others={pid: (p.name, p.own / self._tick) for pid, p in processes.items() if pid not in ours},
        )  # fmt: skip

    def clocks_mhz(self) -> tuple[float, ...]:
        """From cpufreq, else /proc/cpuinfo. In a virtual machine the latter is a constant that no core keeps: empty then."""
        folder = self._sys / "devices/system/cpu"
        khz = [_number(folder / f"cpu{c}/cpufreq/scaling_cur_freq") for c in sorted(self._cores)]
        known = tuple(k / 1e3 for k in khz if k is not None)
        if known:
            return known
        text = _text(self._proc / "cpuinfo")
        if re.search(r"^flags\s*:.*\bhypervisor\b", text, re.M):
            return ()
        return tuple(float(x) for x in re.findall(r"^cpu MHz\s*:\s*([\d.]+)", text, re.M))

    def _cpu_lines(self) -> list[list[int]]:
        """The columns of every core that we may run on."""
        rows = [line.split() for line in _text(self._proc / "stat").splitlines() if re.match(r"cpu\d", line)]
        return [[int(x) for x in row[1:]] for row in rows if int(row[0][3:]) in self._cores]

    def _sum(self, lines: list[list[int]], columns: tuple[int, ...]) -> float | None:
        if not lines or min(map(len, lines)) <= max(columns):
            return None
        return sum(line[c] for line in lines for c in columns) / self._tick

    def _processes(self) -> dict[int, _Process]:
        try:
            pids = [int(name) for name in os.listdir(self._proc) if name.isdigit()]
        except OSError:
            return {}
        read = ((pid, _process(_text(self._proc / str(pid) / "stat"))) for pid in pids)
        return {pid: p for pid, p in read if p is not None}

    def _thermal(self) -> int | None:
        """Throttle events of the cores and of their packages; one event of a package is counted at each of its cores."""
        folder = self._sys / "devices/system/cpu"
        found = [_number(p) for p in folder.glob("cpu[0-9]*/thermal_throttle/*_throttle_count")]
        known = [int(v) for v in found if v is not None]
        return sum(known) if known else None


def _allowed() -> Iterable[int]:
    return os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)


def _process(stat: str) -> _Process | None:
    """From the one line of /proc/PID/stat; the name in parentheses may itself hold spaces and parentheses."""
    head, _, tail = stat.rpartition(")")
    columns = tail.split()
    if len(columns) < 15:
        return None
    own, waited_for = int(columns[11]) + int(columns[12]), int(columns[13]) + int(columns[14])
    return _Process(int(columns[1]), head.partition("(")[2], own, waited_for)


def _ours(processes: Mapping[int, _Process], me: int, server: int | None) -> set[int]:
    """This program alone (its client is waited for, so its time is in ours) and the server's tree.

    Not every child of ours: a server of an earlier session that was left behind is a disturbance like any other.
    """
    children: dict[int, list[int]] = {}
    for pid, p in processes.items():
        children.setdefault(p.parent, []).append(pid)
    found = {me} & processes.keys()
    todo = [] if server is None else [server]
    while todo:
        pid = todo.pop()
        if pid in processes and pid not in found:
            found.add(pid)
            todo += children.get(pid, [])
    return found


def _quota_file(root: Path) -> Path | None:
    """cpu.stat of our control group, of either version; in a container our group is the root of what is mounted."""
    lines = (line.split(":", 2) for line in _text(root / "proc/self/cgroup").splitlines())
    paths = {line[1]: line[2] for line in lines if len(line) == 3}
    base = root / "sys/fs/cgroup"
    homes = [(base, paths.get("", "/")), (base / "unified", paths.get("", "/"))]
    homes += [(base / names, path) for names, path in paths.items() if "cpu" in names.split(",")]
    files = [home / inner / "cpu.stat" for home, path in homes for inner in (path.lstrip("/"), "")]
    return next((f for f in files if "nr_throttled" in _text(f)), None)


def _throttled_s(quota: Mapping[str, int]) -> float | None:
    """Version 2 counts microseconds, version 1 nanoseconds."""
    if "throttled_usec" in quota:
        return quota["throttled_usec"] / 1e6
    return quota["throttled_time"] / 1e9 if "throttled_time" in quota else None


def _fields(path: Path) -> dict[str, int]:
    pairs = (line.split() for line in _text(path).splitlines())
    return {p[0]: int(p[1]) for p in pairs if len(p) == 2 and p[1].isdigit()}


def _number(path: Path) -> float | None:
    text = _text(path).strip()
    return float(text) if text.isdigit() else None


def _text(path: Path) -> str:
    """ "" when it cannot be read: a process that ended, a file that this system lacks."""
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""
