"""A whole small campaign on fakes: what report, verify and crash tests run on."""

from __future__ import annotations

from pathlib import Path

from profile_and_optimize.campaign import conduct
from profile_and_optimize.core.cell import Arm, Role
from profile_and_optimize.core.plan import Plan
from profile_and_optimize.core.workload import Point, Workload
from profile_and_optimize.evidence.folder import RunFolder
from profile_and_optimize.testing.fakes import FakeClient, FakeClock, FakeEngine, fake_world

SPEEDS = {"baseline": 10.0, "aa": 10.0, "fast": 9.0, "slow": 20.0}


def synthetic_plan(*, blocks: int = 4, focus: str = "throughput", questions: str = "", slug: str = "synthetic") -> Plan:
    arms = (
        Arm("baseline", "fake", Role.BASELINE),
        Arm("aa", "fake", Role.AA),
        Arm(
            "fast",
            "fake",
            Role.CANDIDATE,
            ("--fast",),
            lever="turns the fast path on",
            predicts="less work a token",
            predicted=(1.0, 1.3),
        ),
        Arm(
            "slow",
            "fake",
            Role.CANDIDATE,
            ("--max-num-seqs", "1"),
            lever="one sequence at a time",
            predicts="much slower",
        ),
        Arm("broken", "fake", Role.CANDIDATE, ("--explode",), lever="cannot start"),
    )
    points = (Point(Workload("short-chat", isl=32, osl=16), 4, 16), Point(Workload("long-in", isl=64, osl=8), 4, 12))
    return Plan(
        slug=slug, model="fake-model", focus=focus, arms=arms, points=points, blocks=blocks, seed=7, budget_s=600.0, questions=questions,
        client="fake-client",
    )  # fmt: skip


def synthetic_run(
    path: Path, plan: Plan | None = None, *, engine: FakeEngine | None = None, client: FakeClient | None = None
) -> Path:
    """Run a campaign on fakes into `path` (or go on with the one that is there) and give the path back."""
    world = fake_world(
        engine or FakeEngine(SPEEDS, {"broken": "ValueError: --explode is not supported on this device"}),
        client,
        FakeClock(),
    )
    folder = RunFolder(path, world.now)
    try:
        conduct.open_draft(folder, plan or synthetic_plan())
        conduct.run(folder, conduct.admit(folder, world), world)
    finally:
        folder.close()
    return path
