"""What a disk that fills, a clock that jumps and an engine that dies do to a campaign: it stops or goes on, never lies."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from tests.conftest import publish

from profile_and_optimize.analysis.decide import decide
from profile_and_optimize.campaign import conduct
from profile_and_optimize.campaign.evidence_of import load_evidence
from profile_and_optimize.core.cell import Arm, Role
from profile_and_optimize.core.plan import Plan
from profile_and_optimize.core.verdict import Call
from profile_and_optimize.core.workload import Point, Workload
from profile_and_optimize.engines.base import Server, ServeSpec
from profile_and_optimize.engines.mock.engine import MockEngine
from profile_and_optimize.evidence.folder import RunFolder
from profile_and_optimize.ops.verify import check
from profile_and_optimize.ops.worlds import make_world
from profile_and_optimize.testing.fakes import FakeClient, FakeClock, FakeEngine, fake_world
from profile_and_optimize.testing.synthetic import SPEEDS, synthetic_plan, synthetic_run

RUN = "20260921T141320Z-synthetic"

# Runs the synthetic campaign on a tmpfs that is full again and again, each time a little larger.
FULL_DISK = """
import json, subprocess, sys
from pathlib import Path
from profile_and_optimize.core.errors import BrokeMidway
from profile_and_optimize.testing.synthetic import synthetic_plan, synthetic_run
disk, name = Path(sys.argv[1]), sys.argv[2]
def size(kib, how):
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"{how}size={kib}k", "tmpfs", str(disk)], check=True)
kib, refused = 64, []
size(kib, "")
while kib < 8192:
    try:
        synthetic_run(disk / name, synthetic_plan(blocks=3))
        break
    except BrokeMidway as e:
        refused.append(e.message)
        kib += 48
        size(kib, "remount,")
subprocess.run(["cp", "-r", str(disk / name), sys.argv[3]], check=True)
print(json.dumps(refused))
"""


def test_a_disk_that_fills_mid_trial_is_said_and_the_campaign_goes_on_when_there_is_room(tmp_path: Path) -> None:
    may = (
        shutil.which("unshare")
        and subprocess.run(["unshare", "-rm", "true"], capture_output=True, check=False).returncode == 0
    )
    if not may:
        pytest.skip("no small tmpfs can be mounted here: unshare -rm is not allowed")
    (tmp_path / "disk").mkdir()
    argv = ["unshare", "-rm", sys.executable, "-c", FULL_DISK, str(tmp_path / "disk"), RUN, str(tmp_path)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    refused = json.loads(done.stdout.splitlines()[-1])
    assert len(refused) >= 3 and all("No space left" in r for r in refused)
    whole = synthetic_run(tmp_path / "whole" / RUN, synthetic_plan(blocks=3))
    publish(whole)
    one, two = (decide(load_evidence(p)) for p in (tmp_path / RUN, whole))
    assert one.effects == two.effects
    assert check(publish(tmp_path / RUN))[0] == []


@dataclass
class JumpingClock(FakeClock):
    """Jumps by `jump` seconds at its n-th reading, as a clock that is set does."""

    reading: int = 60
    jump: float = 0.0
    count: int = field(default=0)

    def __call__(self) -> float:
        self.count += 1
        if self.count == self.reading:
            self.at += self.jump
        return self.at


@pytest.mark.parametrize(
    "reading", [40, 61, pytest.param(62, marks=pytest.mark.slow), pytest.param(75, marks=pytest.mark.slow)]
)
@pytest.mark.parametrize("jump", [-86_400.0, -7.0, 86_400.0])
def test_a_clock_that_is_set_mid_campaign_changes_no_call(tmp_path: Path, jump: float, reading: int) -> None:
    clock = JumpingClock(reading=reading, jump=jump)
    world = fake_world(FakeEngine(SPEEDS, {"broken": "x"}), FakeClient(), clock)
    folder = RunFolder(tmp_path / RUN, clock)
    conduct.open_draft(folder, synthetic_plan(blocks=3))
    conduct.run(folder, conduct.admit(folder, world), world)
    folder.close()
    assert clock.count > reading
    d = decide(load_evidence(tmp_path / RUN))
    assert (d.effects["fast"].call, d.effects["slow"].call) == (Call.BETTER, Call.WORSE)
    assert next(g for g in d.gates if g.name == "random order").passed is True
    assert check(publish(tmp_path / RUN))[0] == []


class DyingEngine(MockEngine):
    """A mock server that is killed `after_s` into the n-th session of one arm."""

    def __init__(self, arm: str, session: int, after_s: float) -> None:
        super().__init__()
        self.arm, self.session, self.after_s, self.seen = arm, session, after_s, 0

    def start(self, spec: ServeSpec) -> Server:
        server = super().start(spec)
        self.seen += spec.arm.id == self.arm
        if spec.arm.id == self.arm and self.seen == self.session:
            threading.Thread(target=self._kill, args=(spec.port,), daemon=True).start()
        return server

    def _kill(self, port: int) -> None:
        time.sleep(self.after_s)
        for entry in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                argv = entry.read_bytes().split(b"\0")
            except OSError:
                continue
            if b"profile_and_optimize.engines.mock.server" in argv and str(port).encode() in argv:
                os.kill(int(entry.parent.name), signal.SIGKILL)


@pytest.mark.slow
@pytest.mark.parametrize("arm", ["quick", "baseline"])
def test_an_engine_that_dies_mid_block_wins_nothing_and_is_named(tmp_path: Path, arm: str) -> None:
    flags = ("--ttft-ms", "5", "--itl-ms", "5")
    arms = (
        Arm("baseline", "mock", Role.BASELINE, flags), Arm("aa", "mock", Role.AA, flags),
        Arm("quick", "mock", Role.CANDIDATE, ("--ttft-ms", "3", "--itl-ms", "2.5")),
    )  # fmt: skip
    plan = Plan("mock", "mock", "throughput", arms, (Point(Workload("w", 16, 32), 2, 48),), blocks=3, seed=3, retries=2)
    world = replace(make_world({"mock"}, lambda _: None), engines={"mock": DyingEngine(arm, 2, 2.4)})
    folder = RunFolder(tmp_path / RUN)
    conduct.open_draft(folder, plan)
    conduct.run(folder, conduct.admit(folder, world), world)
    folder.close()
    ev = load_evidence(publish(tmp_path / RUN))
    d = decide(ev)
    lost = [t for t in ev.trials if t.key.arm == arm and t.summary.failed]
    failed = [e for e in ev.events if e.kind == "session_failed" and e.data["arm"] == arm]
    if not lost and not failed:
        pytest.skip("the session was over before the kill came")
    if lost:  # it died under load: its requests count against it
        assert d.pick == "baseline" and d.effects["quick"].call is not Call.BETTER
        assert all(t.summary.errors for t in lost)
    else:  # a slow machine was not there yet: the session was begun again, and that is written down
        assert all(e.data["reason"] for e in failed)
    assert check(tmp_path / RUN)[0] == []
