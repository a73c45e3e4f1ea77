"""Gates on the surroundings of trials: each is passed, failed and unknown for a reason that it tells."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from profile_and_optimize.analysis.machine_gates import (
    cache_gate,
    prompts_repeat_gate,
    provenance_gate,
    quiet_gate,
    repeated_prompts,
)
from profile_and_optimize.campaign.evidence_of import load_evidence
from profile_and_optimize.campaign.selection import Judged
from profile_and_optimize.core.cell import Arm, Role
from profile_and_optimize.core.plan import Plan
from profile_and_optimize.core.trial import Stage
from profile_and_optimize.core.workload import Point, Workload

PLAN = Plan(
    "p", "m", "throughput", (Arm("base", "fake", Role.BASELINE), Arm("fast", "fake", Role.CANDIDATE)),
    (Point(Workload("cold", 64, 8), 2, 8), Point(Workload("hot", 64, 8, warm=True), 2, 8)), blocks=3, seed=1,
)  # fmt: skip
QUIET = {"cores": 2.0, "window_s": 9.0, "foreign_cores": 0.03, "steal_share": 0.002, "clock_step_s": 0.0}
SOUND = {"delivery": "release", "source_commit": "release wheel x==1", "engine_lock": "abc", "modified_files": "none"}


@pytest.fixture(scope="module")
def some(closed_run: Path) -> Judged:
    return load_evidence(closed_run).trials[0]


def trial(
    some: Judged, *, arm: str = "base", block: int = 1, point: str = "cold.c2", at: float = 0.0, ids: tuple[str, ...] = (),
    machine: dict[str, float | None] | None = None, counters: dict[str, float] | None = None, stage: Stage = Stage.CONFIRM,
    engine: str = "fake", **seen: str,
) -> Judged:  # fmt: skip
    key = replace(some.key, arm=arm, block=block, point=point, stage=stage)
    context = {"engine": {"asked": engine, "observed": "unknown"}} | {
        k: {"asked": "unknown", "observed": v} for k, v in seen.items()
    }
    file = replace(
        some.file, key=key, prompt_ids=ids, machine=machine if machine is not None else QUIET, started_at=at, requests_asked=10,
        counters=counters or {}, context=context,
    )  # fmt: skip
    return replace(some, file=file)


def test_quiet_trials_pass_and_the_loudest_is_told(some: Judged) -> None:
    gate = quiet_gate([trial(some), trial(some, arm="fast", machine={**QUIET, "foreign_cores": 0.08})])
    assert gate.passed is True and "0.08 cores" in gate.reason and "0.2% steal" in gate.reason


def test_one_disturbed_trial_fails_and_is_named(some: Judged) -> None:
    gate = quiet_gate([trial(some), trial(some, arm="fast", block=2, machine={**QUIET, "foreign_cores": 0.9})])
    assert gate.passed is False
    assert "1 of 2 trials" in gate.reason and "cells/fast/raw/b002" in gate.reason and "0.90 cores" in gate.reason


@pytest.mark.parametrize("machine", [{}, {**QUIET, "foreign_cores": None}, {**QUIET, "steal_share": None}])
def test_an_unseen_machine_is_unknown_and_endpoints_are_named(some: Judged, machine: dict[str, float | None]) -> None:
    gate = quiet_gate([trial(some), trial(some, machine=machine)])
    assert gate.passed is None and "1 of 2 trials" in gate.reason
    gate = quiet_gate([trial(some, machine=machine, engine="endpoint")])
    assert gate.passed is None and "endpoints" in gate.reason
    assert quiet_gate([]).passed is None


def test_a_prompt_may_come_back_in_another_session_and_not_in_the_same(some: Judged) -> None:
    one = trial(some, ids=("a", "b"), at=1)
    elsewhere = [
        trial(some, ids=("a", "b"), arm="fast", at=2), trial(some, ids=("a", "b"), block=2, at=3),
        trial(some, ids=("a", "b"), stage=Stage.RACE),
    ]  # fmt: skip
    assert prompts_repeat_gate([one, *elsewhere], PLAN).passed is True
    again = trial(some, ids=("c", "b"), point="hot.c2", at=0.5)
    (line,) = repeated_prompts([one, again], PLAN)
    assert "b001-cold" in line and "1 of 2 prompts" in line  # the warm one may repeat; the cold one after it may not
    assert prompts_repeat_gate([one, again], PLAN).passed is False


def test_a_prompt_that_is_both_warm_up_and_timed_repeats(some: Judged) -> None:
    assert repeated_prompts([trial(some, ids=("a", "a"))], PLAN) and not repeated_prompts(
        [trial(some, ids=("a",))], PLAN
    )


def test_a_warm_workload_may_repeat_its_prompts(some: Judged) -> None:
    assert prompts_repeat_gate([trial(some, ids=("a", "a"), point="hot.c2")], PLAN).passed is True


def test_servers_that_stay_up_know_prompts_for_the_whole_campaign_whatever_the_arm(some: Judged) -> None:
    arms = tuple(Arm(a, "endpoint", r, url=u) for a, r, u in (
        ("base", Role.BASELINE, "http://h"), ("fast", Role.CANDIDATE, "http://h"), ("far", Role.CANDIDATE, "http://other"),
    ))  # fmt: skip
    plan = replace(PLAN, arms=arms)
    trials = [
        trial(some, ids=("a",), at=1),
        trial(some, ids=("a",), arm="fast", block=3, at=2),
        trial(some, ids=("a",), arm="far", at=3),
    ]
    (line,) = repeated_prompts(trials, plan)
    assert "cells/fast/raw/b003" in line


def test_trials_that_do_not_tell_their_prompts_apart_are_unknown(some: Judged) -> None:
    assert prompts_repeat_gate([trial(some, ids=("a",)), trial(some)], PLAN).passed is None


def vllm(queried: float, hit: float) -> dict[str, float]:
    return {"vllm:prefix_cache_queries_total": queried, "vllm:prefix_cache_hits_total": hit}


@pytest.mark.parametrize(("hit", "passed"), [(0, True), (160, True), (240, True), (241, False), (600, False)])
def test_a_cold_cache_holds_the_template_and_a_tenth(some: Judged, hit: float, passed: bool) -> None:
    """10 requests of 80 tokens, 16 of them template: 160 are explained and 80 more allowed."""
    gate = cache_gate([trial(some, counters=vllm(800, hit), template_tokens="16", prefix_caching="True")], PLAN)
    assert gate.passed is passed


def test_caching_that_is_off_needs_no_counters_and_unknown_stays_unknown(some: Judged) -> None:
    assert cache_gate([trial(some, prefix_caching="False")], PLAN).passed is True
    gate = cache_gate([trial(some, prefix_caching="True", template_tokens="16")], PLAN)
    assert gate.passed is None and "no cache counters" in gate.reason
    assert cache_gate([trial(some, counters=vllm(0, 0), template_tokens="16")], PLAN).passed is None
    assert cache_gate([trial(some, counters=vllm(800, 0))], PLAN).passed is None  # nobody knows the template's length


def test_what_a_warm_workload_found_is_told_and_has_no_limit(some: Judged) -> None:
    warm = [trial(some, point="hot.c2", counters=vllm(800, h), template_tokens="16") for h in (400, 720)]
    gate = cache_gate(warm, PLAN)
    assert gate.passed is True and "50% to 90%" in gate.reason
    cold = trial(some, counters=vllm(800, 0), template_tokens="0")
    assert cache_gate([cold, *warm], PLAN).passed is True


def test_a_clean_release_and_a_pinned_commit_pass(some: Judged) -> None:
    source = {"delivery": "source", "source_commit": "a" * 40, "engine_lock": "git aaaa", "modified_files": "none"}
    for seen in (SOUND, source):
        gate = provenance_gate("fast", PLAN, [trial(some, **SOUND), trial(some, arm="fast", **seen)])
        assert gate.passed is True and seen["source_commit"] in gate.reason


@pytest.mark.parametrize(("change", "passed", "word"), [
    ({"modified_files": "4: a.py, b.py (added), c.py, d.py", "delivery": "overlay"}, False, "4 (a.py, b.py (added), c.py, ...)"),
    ({"modified_files": "1: PYTHONPATH=/x"}, False, "PYTHONPATH=/x"), ({"delivery": "overlay"}, False, "an overlay"),
    ({"modified_files": "unknown"}, None, "unknown: changes"), ({"engine_lock": "unknown"}, None, "unknown: lock"),
    ({"delivery": "source", "source_commit": "main"}, None, "source, main"), ({"delivery": "local wheel"}, None, "local wheel"),
])  # fmt: skip
def test_anything_less_is_no_verdict_and_says_why(
    some: Judged, change: dict[str, str], passed: bool | None, word: str
) -> None:
    sound = [trial(some, **SOUND), trial(some, arm="fast", **SOUND)]
    for arm in ("base", "fast"):  # the baseline's code carries the claim as much as the pick's
        gate = provenance_gate("fast", PLAN, [*sound, trial(some, arm=arm, block=2, **{**SOUND, **change})])
        assert gate.passed is passed and word in gate.reason and gate.reason.startswith(arm)


def test_the_code_of_an_endpoint_is_unknown(some: Judged) -> None:
    gate = provenance_gate("base", PLAN, [trial(some, engine="endpoint")])
    assert gate.passed is None and "delivery, commit, lock, changes" in gate.reason


def test_prompts_that_begin_alike_by_declaration_may_meet_the_cache_and_may_not_repeat(some: Judged) -> None:
    alike = Workload("alike", 64, 8, kind="shared-prefix", shared=32, prefixes=True)
    plan = replace(PLAN, points=(*PLAN.points, Point(alike, 2, 8)))
    hits = {"vllm:prefix_cache_queries_total": 640.0, "vllm:prefix_cache_hits_total": 320.0}
    seen = {"prefix_caching": "True", "template_tokens": "4"}
    warm = trial(some, point="alike.c2", ids=("a", "b"), counters=hits, **seen)
    gate = cache_gate([warm], plan)
    assert gate.passed is True and "shared prefixes, alike.c2: 50% to 50% of prompt tokens" in gate.reason
    assert cache_gate([trial(some, counters=hits, **seen)], plan).passed is False, "cold prompts may not"
    assert prompts_repeat_gate([warm], plan).passed is True
    again = trial(some, point="alike.c2", ids=("c", "b"), at=1.0)
    assert prompts_repeat_gate([warm, again], plan).passed is False, "a prompt is none of the prefixes"
