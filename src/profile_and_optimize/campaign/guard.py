"""Is the machine quiet? What others did on it between two readings, which of that is too much, and the wait for silence.

The counts themselves come from a `Machine` (`campaign.machine` reads this one); everything here is arithmetic on them.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

Measures = Mapping[str, float | None]

# A tenth of one core is 5% of a 2-core engine, which is more than most levers are worth; kernel threads and system
# daemons of a virtual machine took 0.02 cores.
FOREIGN_CORES = 0.10
FOREIGN_SHARE = 0.01
STEAL_SHARE = 0.01
QUOTA_SHARE = 0.01
# About 1 MiB/s of 4 KiB pages.
SWAP_PAGES_PER_S = 256.0
# A step of the wall clock, or a machine that slept: its monotonic clock stands still meanwhile.
CLOCK_STEP_S = 0.5
WINDOW_S = 1.0
# Of a core: less than this is not what disturbs.
BUSY_SHARE = 0.05
WAIT_LIMIT_S = 120.0
LEAST_WAIT_S = 5.0
CLOCK_EVERY_S = 1.0
# All and ours are counted by different means in the kernel, in ticks of 10 ms. Over trials of 0.8 s on a virtual machine
# a difference was off by 0.01 s at the median and 0.1 s at the most, in both directions.
RESOLUTION_S = 0.05
# A sum that is off by more is no sum.
TOLERANCE_CORES = 0.10


@dataclass(frozen=True, slots=True)
class Reading:
    """Counts since boot at one moment, over the `cores` that we may run on; CPU times in seconds. None is not seen.

    `busy_s` is what processes used (interrupts and steal apart), `ours_s` the part of this process, of its ended
    children and of the server's whole process tree. `others` is the name and time of every other process, by its pid.
    """

    wall_s: float
    monotonic_s: float
    cores: int | None = None
    busy_s: float | None = None
    ours_s: float | None = None
    steal_s: float | None = None
    iowait_s: float | None = None
    interrupt_s: float | None = None
    thermal_throttles: int | None = None
    quota_throttles: int | None = None
    quota_throttled_s: float | None = None
    swap_in_pages: int | None = None
    swap_out_pages: int | None = None
    others: Mapping[int, tuple[str, float]] = field(default_factory=dict)


class Machine(Protocol):
    """`server` is the root of the server's process tree, None where it is not ours to know."""

    def read(self, server: int | None) -> Reading: ...

    def clocks_mhz(self) -> tuple[float, ...]:
        """The clock of every core that we may run on, now; empty where it is not seen."""
        ...


def between(before: Reading, after: Reading, clocks_mhz: Sequence[float] = ()) -> dict[str, float | None]:
    """What the machine did between two readings: cores, shares of all cores' time, counts. None is unknown.

    `foreign_cores` is the average number of cores that processes other than ours used. `clocks_mhz` are samples taken
    between the two.
    """
    took = after.monotonic_s - before.monotonic_s
    cores = after.cores if after.cores == before.cores else None
    whole = took * cores if cores and took > 0 else None
    foreign = _foreign(before, after, took)
    found: dict[str, float | None] = {
        "cores": cores, "window_s": took, "foreign_cores": foreign, "foreign_share": _ratio(foreign, cores),
        "steal_share": _ratio(_grew(before.steal_s, after.steal_s), whole),
        "iowait_share": _ratio(_grew(before.iowait_s, after.iowait_s), whole),
        "interrupt_share": _ratio(_grew(before.interrupt_s, after.interrupt_s), whole),
        "thermal_throttles": _grew(before.thermal_throttles, after.thermal_throttles),
        "quota_throttles": _grew(before.quota_throttles, after.quota_throttles),
        "quota_throttled_share": _ratio(_grew(before.quota_throttled_s, after.quota_throttled_s), whole),
        "swap_in_pages": _grew(before.swap_in_pages, after.swap_in_pages),
        "swap_out_pages": _grew(before.swap_out_pages, after.swap_out_pages),
        "clock_step_s": (after.wall_s - before.wall_s) - took,
        "clock_mhz_min": min(clocks_mhz, default=None), "clock_mhz_max": max(clocks_mhz, default=None),
        "clock_mhz_mean": sum(clocks_mhz) / len(clocks_mhz) if clocks_mhz else None,
    }  # fmt: skip
    return {k: None if v is None else round(float(v), 6) + 0.0 for k, v in found.items()}


def _grew(before: float | None, after: float | None) -> float | None:
    """The growth of a counter; a counter that fell was reset, so what it counted is unknown."""
    return None if before is None or after is None or after < before else after - before


def _ratio(part: float | None, whole: float | None) -> float | None:
    return None if part is None or not whole else part / whole


def _foreign(before: Reading, after: Reading, took: float) -> float | None:
    busy, ours = _grew(before.busy_s, after.busy_s), _grew(before.ours_s, after.ours_s)
    if busy is None or ours is None or took <= 0:
        return None
    cores = (busy - ours) / took
    return max(0.0, cores) if cores >= -(TOLERANCE_CORES + RESOLUTION_S / took) else None


def foreign_limit(cores: float) -> float:
    """Cores that others may use: a tenth of one, or a hundredth of all where that is more."""
    return max(FOREIGN_CORES, FOREIGN_SHARE * cores)


def too_loud(m: Measures) -> tuple[str, ...]:
    """What was beyond its limit, in words; what is unknown is not beyond anything (see `unseen`)."""
    limit = foreign_limit(m.get("cores") or 0.0) + (_ratio(RESOLUTION_S, m.get("window_s")) or 0.0)
    swapped = _ratio((m.get("swap_in_pages") or 0.0) + (m.get("swap_out_pages") or 0.0), m.get("window_s"))
    told = (
        (m.get("foreign_cores"), limit, "{:.2f} cores used by other processes (limit {:.2f})"),
        (m.get("steal_share"), STEAL_SHARE, "{:.1%} of the time stolen by the hypervisor (limit {:.0%})"),
        (m.get("quota_throttled_share"), QUOTA_SHARE, "{:.1%} of the time held back by a CPU quota (limit {:.0%})"),
        (m.get("thermal_throttles"), 0.0, "{:.0f} times throttled for heat (limit {:.0f})"),
        (swapped, SWAP_PAGES_PER_S, "{:.0f} pages swapped a second (limit {:.0f})"),
        (abs(m.get("clock_step_s") or 0.0), CLOCK_STEP_S, "the clock was set, or the machine slept: {:.1f} s (limit {:.1f} s)"),
    )  # fmt: skip
    return tuple(words.format(value, most) for value, most, words in told if value is not None and value > most)


def unseen(m: Measures) -> bool:
    """Is it unknown whether others worked beside us?"""
    return m.get("foreign_cores") is None or m.get("steal_share") is None


@dataclass(frozen=True, slots=True)
class Wait:
    """How a wait ended: `quiet` None where it cannot be told or nobody waited. `busiest` are names of processes."""

    waited_s: float
    quiet: bool | None
    foreign_cores: float | None = None
    steal_share: float | None = None
    busiest: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return {
            "waited_s": round(self.waited_s, 3), "quiet": self.quiet, "foreign_cores": self.foreign_cores,
            "steal_share": self.steal_share, "busiest": list(self.busiest),
        }  # fmt: skip


@dataclass
class Guard:
    """Waits for silence before a session and watches during a trial. `limit_s` 0 never waits; watching goes on."""

    machine: Machine
    sleep: Callable[[float], None]
    limit_s: float = WAIT_LIMIT_S
    _patience_s: float | None = None

    def wait(self, server: int | None, say: Callable[[str], None]) -> Wait:
        """Until one window was quiet, or to the limit. A limit that was reached is halved for the next session.

        On a machine that is never quiet a campaign so loses about four minutes and then five seconds a session, and not
        two minutes at every one.
        """
        patience = min(self.limit_s, self._patience_s or self.limit_s)
        first = before = self.machine.read(server)
        if patience <= 0 or before.busy_s is None or before.ours_s is None:
            return Wait(0.0, None)
        told = False
        while True:
            self.sleep(WINDOW_S)
            after = self.machine.read(server)
            found = _judged(first, before, after)
            if found.quiet is not False or found.waited_s >= patience:
                break
            if not told:
                say(f"  waiting for a quiet machine, up to {patience:.0f} s: {_words(found)}")
            told, before = True, after
        self._patience_s = max(LEAST_WAIT_S, patience / 2) if found.quiet is False else None
        if found.quiet is False:
            say(f"  not quiet after {found.waited_s:.0f} s, going on, and the result will say so: {_words(found)}")
        elif told:
            say(f"  quiet after {found.waited_s:.0f} s")
        return found

    @contextmanager
    def watch(self, server: int | None) -> Iterator[dict[str, float | None]]:
        """A mapping that is empty inside, and afterwards holds what the machine did meanwhile."""
        found: dict[str, float | None] = {}
        with _Clocks(self.machine) as clocks:
            before = self.machine.read(server)
            yield found
            after = self.machine.read(server)
        found.update(between(before, after, clocks.samples))


def _judged(first: Reading, before: Reading, after: Reading) -> Wait:
    seen = between(before, after)
    # Only what a wait can end counts here: heat and quotas come from our own work.
    loud = too_loud({k: seen[k] for k in ("window_s", "cores", "foreign_cores", "steal_share")})
    quiet = None if unseen(seen) else not loud
    waited = after.monotonic_s - first.monotonic_s
    names = _busiest(before, after) if loud else ()
    return Wait(waited, quiet, seen["foreign_cores"], seen["steal_share"], names)


def _busiest(before: Reading, after: Reading) -> tuple[str, ...]:
    """Names of up to three processes of others that used most, as far as they are visible to us."""
    used = ((v - before.others.get(pid, (name, 0.0))[1], name) for pid, (name, v) in after.others.items())
    least = BUSY_SHARE * (after.monotonic_s - before.monotonic_s)
    top = sorted(((v, name) for v, name in used if v >= least), reverse=True)
    return tuple(dict.fromkeys(name for _, name in top[:3]))


def _words(found: Wait) -> str:
    by = f" ({', '.join(found.busiest)})" if found.busiest else ""
    return f"others use {found.foreign_cores:.2f} cores{by}, steal {found.steal_share:.1%}"


class _Clocks:
    """Samples the cores' clocks once a second from a thread: at rest, before and after a trial, they say nothing of it."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None
        self.samples: list[float] = []

    def __enter__(self) -> _Clocks:
        if self._machine.clocks_mhz():
            self._thread = threading.Thread(target=self._sample, daemon=True)
            self._thread.start()
        return self

    def _sample(self) -> None:
        while not self._ended.wait(CLOCK_EVERY_S):
            self.samples += self._machine.clocks_mhz()

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        if self._thread is not None:
            self._thread.join()


def loudest(measures: Iterable[Measures]) -> tuple[float, float]:
    """The most foreign cores and the largest share of steal over trials that know both. Raises ValueError without one."""
    known = [m for m in measures if not unseen(m)]
    return max(m["foreign_cores"] or 0.0 for m in known), max(m["steal_share"] or 0.0 for m in known)
