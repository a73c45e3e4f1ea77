"""The load guard: what others did between two readings, which of that is too much, and the wait for silence."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from profile_and_optimize.campaign.guard import Guard, Reading, between, foreign_limit, too_loud, unseen
from profile_and_optimize.campaign.machine import LinuxMachine
from profile_and_optimize.testing.fakes import FakeMachine

QUIET = {"cores": 2.0, "window_s": 10.0, "foreign_cores": 0.05, "steal_share": 0.0, "clock_step_s": 0.0}
START = Reading(
    wall_s=1000.0, monotonic_s=10.0, cores=2, busy_s=50.0, ours_s=20.0, steal_s=1.0, iowait_s=0.0, interrupt_s=0.0,
    thermal_throttles=3, quota_throttles=1, quota_throttled_s=0.5, swap_in_pages=7, swap_out_pages=9,
)  # fmt: skip


def guard(*foreign: float, limit_s: float = 120.0) -> tuple[Guard, list[float]]:
    slept: list[float] = []
    return Guard(FakeMachine(foreign), slept.append, limit_s), slept


def test_a_quiet_machine_costs_one_window_and_no_words() -> None:
    g, slept = guard(0.0)
    said: list[str] = []
    wait = g.wait(1, said.append)
    assert (wait.quiet, wait.waited_s, slept, said) == (True, 1.0, [1.0], [])


def test_a_noisy_machine_is_waited_for_and_named() -> None:
    g, slept = guard(0.9, 0.9, 0.9, 0.02)
    said: list[str] = []
    wait = g.wait(1, said.append)
    assert (wait.quiet, wait.waited_s, len(slept)) == (True, 4.0, 4)
    assert "0.90 cores (neighbour)" in said[0] and "up to 120 s" in said[0] and said[1].strip() == "quiet after 4 s"


def test_a_machine_that_is_never_quiet_is_given_up_and_less_is_waited_the_next_time() -> None:
    g, slept = guard(0.5)
    said: list[str] = []
    waits = [g.wait(1, said.append).waited_s for _ in range(7)]
    assert waits == [120.0, 60.0, 30.0, 15.0, 8.0, 5.0, 5.0]
    assert "not quiet after 120 s" in said[1] and g.wait(1, said.append).quiet is False


def test_patience_comes_back_once_it_was_quiet() -> None:
    g, _ = guard(*[0.5] * 120, 0.0, 0.5)
    assert [g.wait(1, lambda _: None).waited_s for _ in range(3)] == [120.0, 60.0, 30.0]  # never quiet in between
    g, _ = guard(*[0.5] * 120, 0.0, 0.0, 0.5)
    assert [g.wait(1, lambda _: None).waited_s for _ in range(3)] == [120.0, 1.0, 120.0]


def test_what_cannot_be_seen_is_not_waited_for_and_stays_unknown() -> None:
    for g, server in ((guard()[0], 1), (guard(0.9)[0], None)):
        wait = g.wait(server, lambda _: None)
        assert (wait.quiet, wait.waited_s, wait.foreign_cores) == (None, 0.0, None)
        with g.watch(server) as machine:
            pass
        assert machine["foreign_cores"] is None and unseen(machine)


def test_a_limit_of_zero_never_waits_and_still_watches() -> None:
    g, slept = guard(0.9, limit_s=0.0)
    assert g.wait(1, lambda _: None).quiet is None and slept == []
    with g.watch(1) as machine:
        assert machine == {}
    assert machine["foreign_cores"] == pytest.approx(0.9)


def test_a_wait_can_be_interrupted() -> None:
    def interrupted(_: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Guard(FakeMachine((0.9,)), interrupted).wait(1, lambda _: None)


def test_two_readings_ten_seconds_apart_worked_by_hand() -> None:
    """2 cores, 10 s: 12 s busy of which 9 ours is 0.3 cores of others; 0.4 s stolen of 20 is 2%."""
    after = replace(
        START, wall_s=1013.0, monotonic_s=20.0, busy_s=62.0, ours_s=29.0, steal_s=1.4, iowait_s=1.0, interrupt_s=0.2,
        thermal_throttles=5, quota_throttles=4, quota_throttled_s=1.5, swap_in_pages=8, swap_out_pages=9,
    )  # fmt: skip
    m = between(START, after, (2000.0, 3000.0, 2500.0))
    assert (m["foreign_cores"], m["foreign_share"], m["steal_share"]) == (0.3, 0.15, 0.02)
    assert (m["iowait_share"], m["interrupt_share"], m["quota_throttled_share"]) == (0.05, 0.01, 0.05)
    assert (m["thermal_throttles"], m["quota_throttles"], m["swap_in_pages"], m["swap_out_pages"]) == (2, 3, 1, 0)
    assert (m["clock_step_s"], m["clock_mhz_min"], m["clock_mhz_mean"], m["clock_mhz_max"]) == (3, 2000, 2500, 3000)


@pytest.mark.parametrize(
    "field", ["busy_s", "ours_s", "steal_s", "thermal_throttles", "quota_throttled_s", "swap_in_pages"]
)
def test_what_one_reading_lacks_is_none_and_never_zero(field: str) -> None:
    after = replace(START, monotonic_s=20.0)
    name = {
        "busy_s": "foreign_cores",
        "ours_s": "foreign_cores",
        "steal_s": "steal_share",
        "quota_throttled_s": "quota_throttled_share",
    }
    for one, two in ((replace(START, **{field: None}), after), (START, replace(after, **{field: None}))):
        assert between(one, two)[name.get(field, field)] is None
    assert between(START, after)[name.get(field, field)] == 0.0


def test_a_counter_that_fell_or_a_sum_that_does_not_add_up_is_unknown() -> None:
    assert between(START, replace(START, monotonic_s=20.0, steal_s=0.5))["steal_share"] is None
    more_ours_than_all = replace(START, monotonic_s=20.0, busy_s=51.0, ours_s=25.0)
    assert between(START, more_ours_than_all)["foreign_cores"] is None
    within_ticks = replace(START, monotonic_s=20.0, busy_s=51.0, ours_s=21.5)
    assert between(START, within_ticks)["foreign_cores"] == 0.0


@pytest.mark.parametrize(("change", "word"), [
    ({"foreign_cores": 0.106}, "other processes"), ({"steal_share": 0.011}, "hypervisor"),
    ({"quota_throttled_share": 0.02}, "CPU quota"), ({"thermal_throttles": 1.0}, "heat"),
    ({"swap_in_pages": 2000.0, "swap_out_pages": 1000.0}, "300 pages swapped a second"), ({"clock_step_s": -3.0}, "3.0 s"),
])  # fmt: skip
def test_each_limit_is_told_in_words(change: dict[str, float], word: str) -> None:
    (told,) = too_loud({**QUIET, **change})
    assert word in told


def test_at_the_limits_nothing_is_too_loud() -> None:
    edge = {
        "foreign_cores": 0.105,
        "steal_share": 0.01,
        "thermal_throttles": 0.0,
        "swap_in_pages": 2560.0,
        "clock_step_s": 0.5,
    }
    assert too_loud({**QUIET, **edge}) == () and too_loud({}) == ()
    assert (foreign_limit(2), foreign_limit(128)) == (0.10, 1.28)


def test_what_the_ticks_of_a_short_trial_cannot_tell_is_not_held_against_it() -> None:
    """0.05 s of a 0.5 s trial are a tenth of a core."""
    assert too_loud({**QUIET, "window_s": 0.5, "foreign_cores": 0.19}) == ()
    assert too_loud({**QUIET, "window_s": 0.5, "foreign_cores": 0.21})


def test_clocks_are_sampled_while_it_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("profile_and_optimize.campaign.guard.CLOCK_EVERY_S", 0.001)
    machine = FakeMachine(clocks=(1000.0, 3000.0))
    with Guard(machine, lambda _: None).watch(1) as seen:
        time.sleep(0.05)
    assert (seen["clock_mhz_min"], seen["clock_mhz_mean"], seen["clock_mhz_max"]) == (1000.0, 2000.0, 3000.0)


def plant(root: Path, cpu: str, processes: dict[int, str], **files: str) -> LinuxMachine:
    """A /proc and /sys of two cores; this program is pid 10."""
    for rel, text in {"proc/stat": cpu, **{k.replace("__", "/"): v for k, v in files.items()}}.items():
        (root / rel).parent.mkdir(parents=True, exist_ok=True)
        (root / rel).write_text(text)
    for pid, line in processes.items():
        (root / f"proc/{pid}").mkdir(parents=True, exist_ok=True)
        (root / f"proc/{pid}/stat").write_text(line)
    return LinuxMachine(root, me=10, cores=(0, 1))


def process(pid: int, parent: int, own: int, waited_for: int = 0, name: str = "x") -> str:
    return f"{pid} ({name}) S {parent} 0 0 0 -1 0 0 0 0 0 {own} 0 {waited_for} 0 20 0 1 0 0\n"


STAT = (
    "cpu  9 9 9 9\ncpu0 1000 100 200 5000 30 4 6 50 0 0\ncpu1 500 0 100 6000 0 0 0 0 0 0\ncpu2 900 0 0 0 0 0 0 0 0 0\n"
)


def test_a_planted_machine_is_read_by_hand(tmp_path: Path) -> None:
    """Ticks of 10 ms on cores 0 and 1: 19 s busy; ours are pid 10 and the server's tree 20 > 21, with what they waited for."""
    processes = {
        10: process(10, 1, 100, 200), 20: process(20, 10, 1, 0, "reaper"), 21: process(21, 20, 300, 50, "odd ) name"),
        30: process(30, 10, 400, 0, "left behind"), 40: process(40, 1, 70, 9, "neighbour"),
    }  # fmt: skip
    cgroup = {
        "proc__self__cgroup": "1:cpu:/pod\n0::/\n",
        "sys__fs__cgroup__cpu__pod__cpu.stat": "nr_throttled 4\nthrottled_time 2000000000\n",
    }
    m = plant(tmp_path, STAT, processes, proc__vmstat="pswpin 5\npswpout 6\n", **cgroup)
    r = m.read(20)
    assert (r.cores, r.busy_s, r.steal_s, r.iowait_s, r.interrupt_s) == (2, 19.0, 0.5, 0.3, 0.1)
    assert r.ours_s == pytest.approx(6.51)
    assert r.others == {30: ("left behind", 4.0), 40: ("neighbour", 0.7)}
    assert (r.swap_in_pages, r.swap_out_pages, r.quota_throttles, r.quota_throttled_s) == (5, 6, 4, 2.0)
    assert r.thermal_throttles is None and m.clocks_mhz() == ()
    assert m.read(None).ours_s is None and m.read(99).ours_s is None


def test_throttle_events_and_clocks_of_cores_we_may_use(tmp_path: Path) -> None:
    cpu = "sys__devices__system__cpu"
    files = {f"{cpu}__cpu{i}__cpufreq__scaling_cur_freq": f"{1_000_000 * (i + 1)}\n" for i in range(3)}
    files |= {f"{cpu}__cpu{i}__thermal_throttle__core_throttle_count": f"{i + 1}\n" for i in range(2)}
    m = plant(tmp_path, STAT, {}, **files)
    assert m.clocks_mhz() == (1000.0, 2000.0) and m.read(20).thermal_throttles == 3


def test_a_virtual_machines_nominal_clock_is_not_taken_for_the_real_one(tmp_path: Path) -> None:
    info = "processor\t: 0\nflags\t\t: fpu sse2{}\ncpu MHz\t\t: 2596.148\n"
    assert plant(tmp_path / "a", STAT, {}, proc__cpuinfo=info.format("")).clocks_mhz() == (2596.148,)
    assert plant(tmp_path / "b", STAT, {}, proc__cpuinfo=info.format(" hypervisor")).clocks_mhz() == ()


def test_the_second_version_of_control_groups_counts_microseconds(tmp_path: Path) -> None:
    files = {"proc__self__cgroup": "0::/a/b\n", "sys__fs__cgroup__cpu.stat": "nr_throttled 2\nthrottled_usec 500000\n"}
    assert plant(tmp_path, STAT, {}, **files).read(20).quota_throttled_s == 0.5


def test_a_system_without_proc_shows_nothing_and_nothing_is_zero(tmp_path: Path) -> None:
    m = LinuxMachine(tmp_path, me=10, cores=(0, 1))
    seen = between(m.read(20), m.read(20))
    known = {k for k, v in seen.items() if v is not None}
    assert known == {"window_s", "clock_step_s"}


def spin() -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", "while True: pass"], stdin=subprocess.DEVNULL)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/stat").exists(), reason="no /proc here: what others use is not seen")
def test_a_busy_loop_of_somebody_else_is_seen_as_the_core_it_takes() -> None:
    """The same five seconds, with the loop taken for another's and for our server's: they differ by what the loop used."""
    machine, idle, loop = LinuxMachine(), subprocess.Popen(["sleep", "60"]), spin()
    try:
        time.sleep(0.2)
        before = machine.read(idle.pid), machine.read(loop.pid)
        time.sleep(5)
        after = machine.read(idle.pid), machine.read(loop.pid)
    finally:
        for p in (idle, loop):
            p.kill()
            p.wait()
    theirs, ours = (between(b, a) for b, a in zip(before, after, strict=True))
    used = (after[0].others[loop.pid][1] - before[0].others[loop.pid][1]) / theirs["window_s"]
    if used < 0.5:
        pytest.skip(f"the loop itself got only {used:.2f} of a core on this busy machine")
    assert theirs["foreign_cores"] - ours["foreign_cores"] == pytest.approx(used, abs=0.1)
    assert theirs["foreign_cores"] >= used - 0.1 and "other processes" in too_loud(theirs)[0]
    assert os.getpid() not in after[0].others
