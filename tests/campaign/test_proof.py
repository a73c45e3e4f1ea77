"""From a call to a proof: fresh blocks of the pick and its twin, killed, extended, forged."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from conftest import publish
from profile_and_optimize.analysis.decide import Decision, decide
from profile_and_optimize.campaign import conduct
from profile_and_optimize.campaign.evidence_of import load_evidence
from profile_and_optimize.campaign.proof import proof_of
from profile_and_optimize.core.cell import Arm, Role
from profile_and_optimize.core.errors import WrongUse
from profile_and_optimize.core.plan import Plan, plan_from_json
from profile_and_optimize.core.trial import Stage
from profile_and_optimize.core.verdict import Call, Tier
from profile_and_optimize.evidence.folder import RunFolder
from profile_and_optimize.ops.verify import check
from profile_and_optimize.testing.fakes import FakeClient, FakeClock, FakeEngine, fake_world
from profile_and_optimize.testing.synthetic import synthetic_plan

RUN = "20261121T090000Z-proof"


def plan_of(*ids: str, blocks: int = 4, proof: int = 8, race_rounds: int = 0) -> Plan:
    arms = [Arm("baseline", "fake", Role.BASELINE), Arm("aa", "fake", Role.AA)]
    arms += [Arm(i, "fake", Role.CANDIDATE) for i in ids]
    return replace(synthetic_plan(blocks=blocks), arms=tuple(arms), proof_blocks=proof, race_rounds=race_rounds)


def run_at(
    path: Path, plan: Plan, speeds: dict[str, float], *, noise: float = 0.005, engine: FakeEngine | None = None,
    extend: int = 0, stop_after: int = 0,
) -> Path:  # fmt: skip
    clock = FakeClock()
    client = FakeClient(noise)
    world = fake_world(engine or FakeEngine({"baseline": 10.0, "aa": 10.0, **speeds}), client, clock)
    if stop_after:
        world = replace(world, client=Stopping(client, stop_after))
    folder = RunFolder(path / RUN, clock)
    try:
        conduct.open_draft(folder, plan)
        frozen = conduct.admit(folder, world)
        if extend:
            conduct.extend(folder, frozen, extend)
        conduct.run(folder, frozen, world)
    finally:
        folder.close()
    return path / RUN


class Stopping:
    """A client that is killed at its n-th run."""

    def __init__(self, client: FakeClient, after: int) -> None:
        self._client, self._left = client, after
        self.name, self.version = client.name, client.version

    def run(self, load, *, workdir):
        self._left -= 1
        if self._left < 0:
            raise KeyboardInterrupt
        return self._client.run(load, workdir=workdir)


def decided(run: Path) -> Decision:
    return decide(load_evidence(run))


def gate(d: Decision, name: str):
    return next(g for g in d.gates if g.name == name)


def test_a_clear_pick_is_proven_on_eight_fresh_blocks_of_it_and_its_twin(tmp_path: Path) -> None:
    run = run_at(tmp_path, plan_of("fast", "slow"), {"fast": 8.0, "slow": 20.0})
    ev, d = load_evidence(run), decided(run)
    assert (d.pick, d.proof.signs.wins, d.proof.signs.blocks, d.proof.stage) == ("fast", 8, 8, Stage.PROVE)
    assert gate(d, "primary test").passed and gate(d, "proof of the pick").passed
    proving = [t for t in ev.trials if t.key.stage is Stage.PROVE]
    assert {t.key.arm for t in proving} == {"baseline", "aa", "fast", "fast-again"} and len(proving) == 8 * 4 * 2
    seen = {t.file.prompts_digest for t in ev.trials if t.key.stage is Stage.CONFIRM}
    assert not seen & {t.file.prompts_digest for t in proving}
    assert "assumes that sessions of this arm vary like the others'" in d.effects["fast"].reason
    publish(run)
    assert check(run)[0] == []
    text = (run / "report.txt").read_text()
    assert "Proof of the pick: proven" in text and "8 of 8 blocks above the margin" in text


def test_without_a_proof_a_pick_is_a_draft_that_can_be_proven_afterwards(tmp_path: Path) -> None:
    run = run_at(tmp_path, plan_of("fast", "slow", proof=0), {"fast": 8.0, "slow": 20.0})
    d = decided(run)
    assert (d.pick, d.tier, d.proof) == ("fast", Tier.DRAFT, None) and gate(d, "proof of the pick").passed is None
    with pytest.raises(WrongUse, match="3 blocks more cannot prove the pick"):
        run_at(tmp_path, plan_of("fast", "slow", proof=0), {"fast": 8.0, "slow": 20.0}, extend=3)
    run_at(tmp_path, plan_of("fast", "slow", proof=0), {"fast": 8.0, "slow": 20.0}, extend=8)
    assert gate(decided(run), "proof of the pick").passed
    with pytest.raises(WrongUse, match="is proven"):
        run_at(tmp_path, plan_of("fast", "slow", proof=0), {"fast": 8.0, "slow": 20.0}, extend=8)
    publish(run)
    assert check(run)[0] == []


def test_one_candidate_counts_its_blocks_from_the_first(tmp_path: Path) -> None:
    run = run_at(tmp_path, plan_of("fast"), {"fast": 8.0})
    ev, d = load_evidence(run), decided(run)
    assert ev.plan.groups == (("baseline", "aa", "fast", "fast-again"),) and ev.proving is None
    assert (d.proof.signs.wins, d.proof.signs.blocks, d.proof.stage) == (8, 8, Stage.CONFIRM)
    assert {t.key.stage for t in ev.trials} == {Stage.CONFIRM} and d.decided_at == {"fast": 3}
    assert gate(d, "proof of the pick").passed and gate(d, "interim analyses complete").passed
    publish(run)
    assert check(run)[0] == []


def test_one_candidate_that_is_no_better_gets_no_proof(tmp_path: Path) -> None:
    run = run_at(tmp_path, plan_of("slow", blocks=5), {"slow": 20.0})
    d = decided(run)
    assert (d.effects["slow"].call, len(d.selection.blocks)) == (Call.WORSE, 3)
    assert gate(d, "primary test").passed and gate(d, "proof of the pick").passed
    publish(run)
    assert check(run)[0] == []


def test_a_pick_that_was_only_lucky_falls_by_its_proof(tmp_path: Path) -> None:
    """Fast while it is explored and as the baseline afterwards: the proof gives up once it is out of reach."""
    engine = Changing({"baseline": 10.0, "aa": 10.0, "fast": 8.0, "slow": 20.0})
    run = run_at(tmp_path, plan_of("fast", "slow", proof=12), {}, engine=engine)
    d = decided(run)
    assert (d.pick, d.effects["fast"].call, d.proof.signs.proven) == ("baseline", Call.UNKNOWN, False)
    assert (d.proof.signs.losses, d.proof.signs.blocks) == (3, 3) and "did not confirm it" in d.effects["fast"].reason
    assert gate(d, "primary test").passed is None and d.tier is Tier.DRAFT
    publish(run)
    assert check(run)[0] == []


class Changing(FakeEngine):
    """Its fast arm is fast for its admission and four sessions."""

    def start(self, spec):
        starts[id(self)] = starts.get(id(self), 0) + (spec.arm.id.startswith("fast"))
        server = super().start(spec)
        late = spec.arm.id.startswith("fast") and starts[id(self)] > 4
        return replace(server, url=f"http://fake/{spec.arm.id}/10.0") if late else server


starts: dict[int, int] = {}


def test_killed_anywhere_it_goes_on_to_the_same_evidence(tmp_path: Path) -> None:
    plan, speeds = plan_of("fast", "slow"), {"fast": 8.0, "slow": 20.0}
    whole = run_at(tmp_path / "whole", plan, speeds)
    for stop in (31, 40, 61, 80):
        cut = tmp_path / f"cut-{stop}"
        with pytest.raises(KeyboardInterrupt):
            run_at(cut, plan, speeds, stop_after=stop)
        run_at(cut, plan, speeds)
        one, two = decided(whole), decided(cut / RUN)
        assert one.proof.differences == two.proof.differences and two.proof.signs.proven


def test_a_twin_that_cannot_serve_is_its_pick_that_cannot(tmp_path: Path) -> None:
    engine = FakeEngine({"baseline": 10.0, "aa": 10.0, "fast": 8.0, "slow": 20.0}, {"fast-again": "out of memory"})
    run = run_at(tmp_path, plan_of("fast", "slow"), {}, engine=engine)
    d = decided(run)
    assert d.pick == "baseline" and "out of memory" in d.effects["fast"].reason


def test_the_baseline_stands_as_a_verdict_only_when_every_candidate_was_answered(tmp_path: Path) -> None:
    run = run_at(tmp_path, plan_of("like", "slow", blocks=3), {"like": 9.9, "slow": 20.0}, noise=0.03)
    d = decided(run)
    assert d.pick == "baseline" and gate(d, "primary test").passed is None
    assert "like" in gate(d, "primary test").reason and "slow" not in gate(d, "primary test").reason


def test_a_plan_with_a_proof_comes_back_from_json_and_refuses_what_proves_nothing() -> None:
    plan = plan_of("a", "b")
    assert plan_from_json(json.loads(json.dumps(plan.to_json()))) == plan
    proving = plan.proving("b")
    assert [a.id for a in proving.arms] == ["baseline", "aa", "b", "b-again"] and [a.id for a in proving.raced] == ["a"]
    with pytest.raises(WrongUse, match="7 proof blocks cannot prove a pick"):
        replace(plan, proof_blocks=7)


def test_endpoints_and_campaigns_without_an_aa_arm_have_no_proof(tmp_path: Path) -> None:
    plan = plan_of("fast", "slow")
    plan = replace(plan, arms=tuple(a for a in plan.arms if a.role is not Role.AA))
    run = run_at(tmp_path, plan, {"fast": 8.0, "slow": 20.0})
    assert load_evidence(run).frozen.proof_blocks == 0 and decided(run).proof is None


class Aborting(FakeClient):
    """Of the pick's twin alone, every third request fails: 5 of 16 and 4 of 12."""

    def run(self, load, *, workdir):
        self.error_every = 3 if "fast-again" in load.url else 0
        return super().run(load, workdir=workdir)


class Longer(FakeClient):
    """The pick's twin answers half as long as everybody else."""

    def run(self, load, *, workdir):
        short = replace(load, osl=load.osl // 2) if "fast-again" in load.url else load
        return super().run(short, workdir=workdir)


@pytest.mark.parametrize(("client", "words"), [(Aborting(), "failed 32.1%"), (Longer(), "osl_observed")])
@pytest.mark.parametrize("others", [(), ("slow",)])
def test_a_twin_that_fails_or_answers_less_proves_nothing(
    tmp_path: Path, client, words: str, others: tuple[str, ...]
) -> None:
    clock = FakeClock()
    world = fake_world(FakeEngine({"baseline": 10.0, "aa": 10.0, "fast": 7.0, "slow": 20.0}), client, clock)
    folder = RunFolder(tmp_path / RUN, clock)
    conduct.open_draft(folder, plan_of("fast", *others))
    conduct.run(folder, conduct.admit(folder, world), world)
    folder.close()
    found = gate(decided(tmp_path / RUN), "proof of the pick")
    assert found.passed is False and "fast-again" in found.reason and words in found.reason


def test_a_whole_block_without_a_value_is_lost_and_not_forgotten(tmp_path: Path) -> None:
    ev = load_evidence(run_at(tmp_path, plan_of("fast", "slow"), {"fast": 8.0, "slow": 20.0}))
    proof = decide(ev).proof
    third = {**proof.selection.blocks[3], "fast-again": {}}
    blocks = {**proof.selection.blocks, 3: {a: p for a, p in third.items() if a != "fast-again"}}
    again = proof_of(proof.plan, replace(proof.selection, blocks=blocks))
    assert (again.signs.wins, again.signs.losses, again.signs.lost, again.signs.proven) == (7, 1, 1, False)
