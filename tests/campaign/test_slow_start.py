"""A baseline that needs more than its share of the budget to start: every arm is started with the flags that make it cheaper."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from profile_and_optimize.analysis.decide import decide
from profile_and_optimize.campaign import conduct
from profile_and_optimize.campaign.evidence_of import load_evidence
from profile_and_optimize.core.errors import GateRefused, WrongUse
from profile_and_optimize.core.plan import Plan, plan_from_json
from profile_and_optimize.engines.base import EngineFailed, Server, ServeSpec
from profile_and_optimize.evidence.folder import RunFolder
from profile_and_optimize.ops.verify import look_at
from profile_and_optimize.optimize.publish import publish
from profile_and_optimize.testing.fakes import FakeClock, FakeEngine, fake_world
from profile_and_optimize.testing.synthetic import SPEEDS, synthetic_plan

EAGER = "--enforce-eager"


@dataclass(frozen=True)
class Compiles(FakeEngine):
    """Not ready within `needs_s` unless it is started without compilation."""

    clock: FakeClock | None = None
    needs_s: float = 225.0

    def start(self, spec: ServeSpec) -> Server:
        if EAGER not in spec.common_flags:
            assert self.clock is not None
            self.clock.at += min(self.needs_s, spec.start_timeout_s)
            if self.needs_s > spec.start_timeout_s:
                raise EngineFailed(f"not ready after {spec.start_timeout_s:.0f} s", where="log")
        return super().start(spec)


def plan_of(limit_s: float) -> Plan:
    plan = synthetic_plan(blocks=3)
    arms = tuple(a for a in plan.arms if a.id != "broken")
    return replace(plan, arms=arms, start_limit_s=limit_s, slow_start_flags=(EAGER,))


def campaign(tmp_path: Path, plan: Plan, **engine: object) -> Path:
    clock = FakeClock()
    world = fake_world(Compiles(SPEEDS, clock=clock, **engine), None, clock)  # type: ignore[arg-type]
    folder = RunFolder(tmp_path / "20261201T000000Z-synthetic", world.now)
    try:
        conduct.open_draft(folder, plan)
        conduct.run(folder, conduct.admit(folder, world), world)
    finally:
        folder.close()
    ev = load_evidence(folder.path)
    publish(ev, decide(ev))
    return folder.path


def test_a_start_slower_than_its_share_makes_every_arm_start_cheaper_and_the_page_says_so(tmp_path: Path) -> None:
    run = campaign(tmp_path, plan_of(100.0))
    frozen = load_evidence(run).frozen
    assert frozen.common_flags == (EAGER,) and frozen.start_limit_s == 0
    assert all(EAGER in json.loads(p.read_text())["argv"] for p in run.glob("cells/*/commands/serve.json"))
    said = " ".join((run / "report.txt").read_text().split())
    assert f"every variant runs with {EAGER}: without it the baseline was not ready after 100 s" in said
    assert "baseline: 4 starts, 0 failed" in said and list(look_at(run).problems) == []


def test_a_start_within_its_share_changes_nothing(tmp_path: Path) -> None:
    run = campaign(tmp_path, plan_of(300.0))
    assert load_evidence(run).frozen.common_flags == () and list(look_at(run).problems) == []
    assert EAGER not in (run / "report.txt").read_text()


def test_a_start_that_fails_at_once_is_a_failure_and_not_slow(tmp_path: Path) -> None:
    with pytest.raises(GateRefused, match="port taken"):
        campaign(tmp_path, plan_of(300.0), broken={"baseline": "port taken"})


def test_a_plan_with_the_flags_and_without_the_event_does_not_verify(tmp_path: Path) -> None:
    run = campaign(tmp_path, plan_of(300.0))
    plan = json.loads((run / "plan.json").read_text())
    (run / "plan.json").write_text(json.dumps(plan | {"common_flags": [EAGER]}))
    assert any("common_flags" in line for line in look_at(run).problems)


def test_a_plan_keeps_its_limit_on_disk_and_one_without_is_written_as_before() -> None:
    assert plan_from_json(plan_of(100.0).to_json()) == plan_of(100.0)
    assert not {"start_limit_s", "slow_start_flags"} & synthetic_plan().to_json().keys()
    with pytest.raises(WrongUse, match="needs the flags"):
        replace(synthetic_plan(), start_limit_s=100.0)
