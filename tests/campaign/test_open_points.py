"""Points with a request rate: the same times for all arms of a block, new ones in the next, and a plan that keeps the rate."""

from __future__ import annotations

from dataclasses import asdict, replace

import pytest
from tests.conftest import publish

from profile_and_optimize.analysis.check_plan import check_load
from profile_and_optimize.analysis.crosscheck import crosscheck
from profile_and_optimize.analysis.decide import decide
from profile_and_optimize.campaign.evidence_of import Evidence, load_evidence
from profile_and_optimize.core.errors import WrongUse
from profile_and_optimize.core.plan import plan_from_json
from profile_and_optimize.core.verdict import Call
from profile_and_optimize.core.workload import Point, Workload, point_from_json, point_key
from profile_and_optimize.ops.config import CampaignConfig, points_of
from profile_and_optimize.testing.synthetic import synthetic_plan, synthetic_run

CHAT = Workload("short-chat", isl=32, osl=16)
OPEN = Point(CHAT, 8, 40, 4.0)


@pytest.fixture(scope="module")
def ev(tmp_path_factory: pytest.TempPathFactory) -> Evidence:
    plan = replace(synthetic_plan(blocks=4, focus="latency"), points=(OPEN, Point(CHAT, 4, 16)))
    return load_evidence(publish(synthetic_run(tmp_path_factory.mktemp("open") / "20261121T090000Z-open", plan)))


def test_a_point_is_named_by_its_rate_and_says_its_load() -> None:
    assert (OPEN.key, OPEN.load) == ("short-chat.r4", "open loop, poisson 4 req/s, 40 requests")
    closed = Point(CHAT, 8, 32)
    assert (closed.key, closed.load) == ("short-chat.c8", "closed loop, concurrency 8, 32 requests")
    assert (point_key("w", 8, None), point_key("w", None, 0.5)) == ("w.c8", "w.r0.5")
    assert point_from_json(asdict(OPEN)) == OPEN and point_from_json(asdict(closed)) == closed


@pytest.mark.parametrize(
    ("rate", "requests"), [(0.0, 40), (-1.0, 40), (float("nan"), 40), (float("inf"), 40), (4.0, 19)]
)
def test_a_rate_that_is_none_or_too_few_requests_is_refused(rate: float, requests: int) -> None:
    with pytest.raises(WrongUse):
        Point(CHAT, 8, requests, rate)


def test_a_plan_keeps_the_rate(ev: Evidence) -> None:
    assert plan_from_json(ev.plan.to_json()) == ev.plan
    assert [p.key for p in ev.plan.points] == ["short-chat.r4", "short-chat.c4"]


def test_all_arms_of_a_block_meet_the_same_times_and_the_next_block_others(ev: Evidence) -> None:
    times: dict[int, set[tuple[int, ...]]] = {}
    for t in ev.trials:
        if t.key.point == OPEN.key:
            assert (t.file.run.arrival, t.file.run.request_rate) == ("poisson", 4.0)
            times.setdefault(t.key.block, set()).add(tuple(r.intended_ns for r in t.file.run.records))
    assert [len(found) for found in times.values()] == [1] * len(times)
    assert len(set().union(*times.values())) == len(times) >= 3


def test_the_faster_arm_is_found_and_everything_agrees(ev: Evidence) -> None:
    assert decide(ev).effects["fast"].call is Call.BETTER
    assert crosscheck(ev) == []


def test_a_trial_at_another_rate_than_the_plans_is_found(ev: Evidence) -> None:
    first = next(t for t in ev.trials if t.key.point == OPEN.key)
    run = replace(first.file.run, request_rate=5.0)
    other = replace(first, file=replace(first.file, run=run))
    assert list(check_load(first, ev.frozen)) == []
    assert [r for r in check_load(other, ev.frozen) if "open loop, poisson 4 req/s" in r.text]


def test_the_pages_name_the_rate_and_no_concurrency_for_it(ev: Evidence) -> None:
    text = (ev.run / "report.txt").read_text()
    assert "open loop, Poisson arrivals at 4 requests a second" in " ".join(text.split())
    assert '"concurrency":null' in (ev.run / "atlas.jsonl").read_text().replace(" ", "")


def config(**more: object) -> CampaignConfig:
    return CampaignConfig(name="x", model="m", cells=[], **more)  # type: ignore[arg-type]


def test_a_config_with_rates_gives_open_points_beside_closed_ones() -> None:
    both = config(focus="latency", concurrencies=[2], request_rates=[0.5, 4])
    assert [(p.key, p.requests) for p in points_of((CHAT,), both)] == [
        ("short-chat.c2", 8), ("short-chat.r0.5", 20), ("short-chat.r4", 120),
    ]  # fmt: skip
    assert [p.key for p in points_of((CHAT,), config(focus="latency", request_rates=[4]))] == ["short-chat.r4"]
    assert [p.key for p in points_of((CHAT,), config())] == ["short-chat.c8"]


def test_a_focus_on_throughput_has_no_use_for_a_rate() -> None:
    with pytest.raises(WrongUse, match="throughput is what was asked") as caught:
        points_of((CHAT,), config(request_rates=[4]))
    assert caught.value.where == "request_rates"
