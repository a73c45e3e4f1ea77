"""Two engines in one campaign: what must match, the best of each, and a call that does not hang on their order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from profile_and_optimize.analysis.across import MATCHED_GATE
from profile_and_optimize.analysis.decide import Decision, decide, decision_json
from profile_and_optimize.campaign import conduct
from profile_and_optimize.campaign.evidence_of import Evidence, load_evidence
from profile_and_optimize.core.cell import Arm, Role
from profile_and_optimize.core.plan import Plan
from profile_and_optimize.core.verdict import Call
from profile_and_optimize.core.workload import Point, Workload
from profile_and_optimize.engines.base import Server
from profile_and_optimize.evidence.folder import RunFolder
from profile_and_optimize.report import text
from profile_and_optimize.report.view import view
from profile_and_optimize.testing.fakes import FakeClient, FakeEngine, fake_world

SEEN = {"prefix_caching": "False", "dtype": "torch.bfloat16"}


@dataclass(frozen=True)
class Seen(FakeEngine):
    """An engine that shows this of itself."""

    seen: Mapping[str, str] = field(default_factory=dict)
    came: str = "release"

    def version(self) -> dict[str, str]:
        return {**super().version(), "delivery": self.came}

    def observed(self, server: Server) -> dict[str, str]:
        return {"served_model": server.model, **self.seen}


def campaign(
    path: Path, first: str = "one", *, ours: Mapping[str, str] = SEEN, theirs: Mapping[str, str] = SEEN, seed: int = 7,
    speeds: Mapping[str, float] | None = None, came: str = "release",
    noise: float = 0.005,
) -> tuple[Evidence, Decision]:  # fmt: skip
    """Engine `one` takes 10 ms a token and `two` 9, unless told otherwise; `first` is the incumbent."""
    ms = {"one": 10.0, "two": 9.0, **(speeds or {})}
    other = {"one": "two", "two": "one"}[first]
    arms = (
        Arm("baseline", first, Role.BASELINE),
        Arm("again", first, Role.AA),
        Arm(other, other, Role.CANDIDATE, lever="another engine"),
        Arm(f"{other}-lever", other, Role.CANDIDATE, ("--slow",), lever="slower"),
    )
    per_arm = {"baseline": ms[first], "again": ms[first], other: ms[other], f"{other}-lever": 2 * ms[other]}
    plan = Plan(
        slug="across", model="m", focus="throughput", arms=arms, points=(Point(Workload("chat", 32, 16), 4, 24),), blocks=5,
        seed=seed, budget_s=600.0, client="fake-client",
    )  # fmt: skip
    engines = {
        "one": Seen(per_arm, name="one", seen=ours),
        "two": Seen(per_arm, name="two", seen=theirs, came=came),
    }
    world = replace(fake_world(FakeEngine(), FakeClient(noise=noise)), engines=engines)
    folder = RunFolder(path, world.now)
    try:
        conduct.open_draft(folder, plan)
        conduct.run(folder, conduct.admit(folder, world), world)
    finally:
        folder.close()
    ev = load_evidence(path)
    return ev, decide(ev)


def gate(d: Decision) -> tuple[bool | None, str]:
    (found,) = [g for g in d.gates if g.name == MATCHED_GATE]
    return found.passed, found.reason


def test_the_faster_engine_is_found_and_each_has_its_best(tmp_path: Path) -> None:
    ev, d = campaign(tmp_path / "run")
    assert d.pick == "two" and d.effects["two"].call is Call.BETTER
    assert gate(d) == (True, "prefix_caching false, dtype bfloat16, cores_bound unbound")
    assert decision_json(ev, d)["engines"] == [
        {"engine": "one", "first": "baseline", "top": ["baseline"]},
        {"engine": "two", "first": "two", "top": ["two", "two-lever"]},
    ]


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_order_of_the_engines_and_the_seed_do_not_change_the_answer(tmp_path: Path, seed: int) -> None:
    _, forth = campaign(tmp_path / "forth", "one", seed=seed)
    _, back = campaign(tmp_path / "back", "two", seed=seed)
    assert (forth.effects["two"].call, back.effects["one"].call) == (Call.BETTER, Call.WORSE)
    assert forth.pick == "two" and back.pick == "baseline"


@pytest.mark.parametrize(
    ("theirs", "line"),
    [
        ({**SEEN, "prefix_caching": "True"}, "prefix_caching: false | true (must match between engines)"),
        ({**SEEN, "dtype": "float32"}, "dtype: bfloat16 | float32 (must match between engines)"),
    ],
)
def test_an_engine_with_another_cache_or_number_format_is_not_compared(
    tmp_path: Path, theirs: Mapping[str, str], line: str
) -> None:
    _, d = campaign(tmp_path / "run", theirs=theirs)
    assert (
        d.mismatches["two"] == (line,) and d.effects["two"].call is Call.UNKNOWN and d.effects["two"].estimate is None
    )
    assert d.pick == "baseline" and gate(d)[0] is False


def test_what_an_engine_does_not_tell_leaves_the_gate_open(tmp_path: Path) -> None:
    _, d = campaign(tmp_path / "run", theirs={"prefix_caching": "False"})
    assert d.pick == "two" and gate(d) == (None, "unknown: dtype of two, dtype of two-lever")


def test_a_tie_goes_to_the_incumbent_and_is_called_one(tmp_path: Path) -> None:
    _, d = campaign(tmp_path / "run", speeds={"two": 10.0}, noise=0.0005)
    assert d.pick == "baseline" and d.effects["two"].call is Call.SAME
    assert "a tie between engines, which goes to the incumbent: two is the same" in d.why


def test_an_overlay_is_named_and_stays_a_draft(tmp_path: Path) -> None:
    ev, d = campaign(tmp_path / "run", came="overlay")
    page = text.report(view(ev, d))
    assert d.tier.value == "DRAFT" and "two 1.0 (overlay)" in page and "The best of each engine" in page
    (pinned,) = [g for g in d.gates if g.name == "pinned source"]
    assert pinned.passed is False and "overlay" in pinned.reason
