"""What an attacker who re-hashes everything still gets wrong: each contradiction is named, and a clean run has none."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from profile_and_optimize.core.cell import Arm, Role
from profile_and_optimize.core.plan import Plan
from profile_and_optimize.core.records import RequestRecord
from profile_and_optimize.ops.verify import check
from profile_and_optimize.testing.forge import Forged, publish
from profile_and_optimize.testing.living import LivingClock, living_run
from profile_and_optimize.testing.synthetic import synthetic_plan

NAME = "20261121T090000Z-living"
TRIAL = "cells/fast/raw/b001-short-chat.c4-a1.json"
OTHER = "cells/slow/raw/b001-short-chat.c4-a1.json"
SERVE = "cells/fast/commands/serve.json"


def living_plan(**changes: object) -> Plan:
    return replace(synthetic_plan(blocks=3), client="stream", **changes)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return publish(living_run(tmp_path_factory.mktemp("living") / NAME, living_plan()))


@pytest.fixture
def forged(base: Path, tmp_path: Path) -> Forged:
    return Forged.copy_of(base, tmp_path, random.Random(1))


def told(f: Forged) -> tuple[list[str], list[str]]:
    f.save(rehash=True)
    problems, facts = check(f.run)
    return problems, facts["warnings"]


def test_a_clean_run_has_neither_problems_nor_warnings(base: Path) -> None:
    problems, facts = check(base)
    assert (problems, facts["warnings"]) == ([], [])


def test_rehashing_a_run_that_nobody_changed_changes_nothing(forged: Forged) -> None:
    assert told(forged) == ([], [])


def one(
    change: Callable[[RequestRecord], RequestRecord],
) -> Callable[[tuple[RequestRecord, ...]], tuple[RequestRecord, ...]]:
    return lambda rows: tuple(change(r) if i == 9 else r for i, r in enumerate(rows))


def scaled(r: RequestRecord, by: float) -> RequestRecord:
    at = lambda ns: int(ns * by)  # noqa: E731
    return replace(
        r, intended_ns=at(r.intended_ns), sent_ns=at(r.sent_ns), done_ns=at(r.done_ns), first_byte_ns=at(r.first_byte_ns or 0),
        chunk_ns=tuple(map(at, r.chunk_ns)),
    )  # fmt: skip


def record(change: Callable[[RequestRecord], RequestRecord], at: int = 9) -> Callable[[Forged], object]:
    return lambda f: f.records(TRIAL, lambda rows: tuple(change(r) if i == at else r for i, r in enumerate(rows)))


def trial(change: Callable[[dict], object]) -> Callable[[Forged], object]:
    return lambda f: f.edit(TRIAL, change)


def counters(change: Callable[[dict[str, float]], object]) -> Callable[[Forged], object]:
    return trial(lambda d: change(d["counters"]))


def events(change: Callable[[list[dict]], list[dict]]) -> Callable[[Forged], object]:
    return lambda f: setattr(f, "events", change(f.events))


def swap_arms(f: Forged) -> None:
    a, b = f.read(TRIAL), f.read(OTHER)
    for path, doc, arm in ((TRIAL, b, "fast"), (OTHER, a, "slow")):
        f.edit(path, lambda d, doc=doc, arm=arm: (d.clear(), d.update({**doc, "key": {**doc["key"], "arm": arm}})))


def hide_attempt(f: Forged) -> None:
    """The first attempt is gone, and the second was always the first."""
    f.edit(TRIAL, lambda d: d.update(prompts_digest="f" * 64, prompt_ids=["x" * 12, *d["prompt_ids"][1:]]))


FOUND: dict[str, tuple[str, Callable[[Forged], object]]] = {
    "an end a little later": ("requests in flight", record(lambda r: replace(r, done_ns=r.done_ns + 2000))),
    "a start a little later": ("requests in flight", record(lambda r: replace(r, sent_ns=r.sent_ns + 2000))),
    "a start out of the chain": ("no other request ended", record(lambda r: replace(r, intended_ns=r.intended_ns - 9))),
    "a first request meant later": ("start of the run", record(lambda r: replace(r, intended_ns=5, sent_ns=5), at=0)),
    "all times a tenth shorter": ("its last request ended", lambda f: f.records(TRIAL, lambda rs: tuple(scaled(r, 0.9) for r in rs))),
    "two chunks at once": ("reads with chunks", lambda f: f.records(TRIAL, lambda rs: tuple(
        replace(r, chunk_ns=(r.chunk_ns[0], *r.chunk_ns[:1], *r.chunk_ns[2:])) for r in rs))),
    "a chunk before its request": ("outside its own start", lambda f: f.records(TRIAL, one(
        lambda r: replace(r, chunk_ns=(r.sent_ns - 1, *r.chunk_ns[1:]))))),
    "a first byte after its chunk": ("first byte", record(lambda r: replace(r, first_byte_ns=r.chunk_ns[0] + 1))),
    "the same number twice": ("request numbers", record(lambda r: replace(r, index=3))),
    "samples of lag put in": ("samples of the client's lag", trial(lambda d: d["probe"].update(loop_lag_ns=[1] * 500))),
    "no wall time": ("run took", trial(lambda d: d["probe"].update(wall_s=9.0))),
    "tokens that the server did not make": ("output tokens", counters(lambda c: c.update({"vllm:generation_tokens_total": 200.0}))),
    "requests that the server did not finish": ("finished requests", counters(lambda c: c.update({"vllm:request_success_total": 9.0}))),
    "faster than the server": ("time to first token", counters(lambda c: c.update({"vllm:time_to_first_token_seconds_sum": 99.0}))),
    "another speed than the server's": ("time per output token", counters(
        lambda c: c.update({"vllm:request_time_per_output_token_seconds_sum": c["vllm:request_time_per_output_token_seconds_sum"] * 3}))),
    "a good answer without its bytes": ("response bytes", lambda f: f.drop(TRIAL.replace(".json", ".raw.json"))),
    "other bytes than the record": ("its kept bytes", lambda f: f.edit(
        TRIAL.replace(".json", ".raw.json"), lambda d: d["responses"][0]["reads"][3].__setitem__(0, 7))),
    "more tokens asked for than planned": ("another number of output tokens", record(lambda r: replace(r, max_tokens=17))),
    "a request taken out": ("requests in flight", lambda f: f.records(TRIAL, lambda rs: rs[:-1])),
    "fewer requests asked": ("the plan asks", trial(lambda d: d.update(requests_asked=15))),
    "the watch shorter than the run": ("was watched for", trial(lambda d: d["machine"].update(window_s=0.1))),
    "a start an hour earlier": ("by the wall clock; the watch", trial(lambda d: d.update(started_at=d["started_at"] - 3600))),
    "a client that began in the trial before": ("the client started at", trial(lambda d: d.update(t0_unix_s=d["t0_unix_s"] - 60))),
    "two trials at once": ("by the monotonic clock", lambda f: f.edit(
        TRIAL.replace("short-chat", "long-in"), lambda d: d.update(t0_monotonic_ns=f.read(TRIAL)["t0_monotonic_ns"] + 5))),
    "another arm's trial": ("asked for another flags", swap_arms),
    "another client": ("run by client", trial(lambda d: d["context"]["client"].update(observed="aiperf"))),
    "another workload asked": ("another workload", trial(lambda d: d["context"]["workload"].update(asked="easy"))),
    "another dtype in one trial": ("engine_version is", trial(lambda d: d["context"]["engine_version"].update(observed="2"))),
    "another node in one trial": ("node is", trial(lambda d: d["context"]["node"].update(observed="other"))),
    "other prompts than the seed gives": ("the plan's seed", hide_attempt),
    "a second attempt alone": ("without attempt 1", lambda f: (
        f.edit(TRIAL, lambda d: d["key"].update(attempt=2)), f.move(TRIAL, TRIAL.replace("-a1", "-a2")))),
    "margin edited": ("margin not as the draft", lambda f: f.edit("plan.json", lambda d: d.update(margin=0.0))),
    "blocks edited": ("blocks not as the draft", lambda f: f.edit("plan.json", lambda d: d.update(blocks=2))),
    "seed edited in plan and draft": ("which was not drawn|drawn was|the plan's seed", lambda f: [
        f.edit(name, lambda d: d.update(seed=8)) for name in ("plan.json", "draft.json")]),
    "a point taken from plan and draft": ("measured long-in.c4, short-chat.c4, the plan has", lambda f: (
        [f.edit(name, lambda d: d.update(points=d["points"][:1])) for name in ("plan.json", "draft.json")],
        [f.drop(p) for p in f.trials() if "long-in" in p])),
    "a failed arm taken out": ("its failed cells", lambda f: f.edit("plan.json", lambda d: d.update(failed=[]))),
    "a failure taken out": ("its failed cells", events(lambda es: [e for e in es if e["kind"] != "arm_failed"])),
    "a command without the flags": ("does not hold the flags", lambda f: f.edit(SERVE, lambda d: d.update(argv=["x"]))),
    "an arm that was never admitted": ("missing; every cell", lambda f: f.drop("cells/slow/admission.json")),
    "a trial hidden that was begun": ("begun, and there are neither", lambda f: (
        [(f.run / p).unlink() for p in (TRIAL, TRIAL.replace(".json", ".raw.json"))],
        setattr(f, "events", [e for e in f.events if e["kind"] != "wrote" or "fast/raw/b001-short" not in e["data"]["path"]]))),
    "a trial that nobody began": ("never begun", events(
        lambda es: [e for e in es if not (e["kind"] == "trial_began" and e["data"]["path"] == TRIAL)])),
    "a trial taken out": ("was left open", lambda f: f.drop(TRIAL)),
    "a session's trials taken out": ("left neither a trial nor a reason", lambda f: [f.drop(p) for p in f.trials(arm="fast", block=1)]),
    "a block taken out": ("there is no block 1", lambda f: [f.drop(p) for p in f.trials(block=1)]),
    "a trial entered in another session": ("entered during session", events(
        lambda es: [e for e in es if not (e["kind"] == "session" and e["data"]["label"] == "b001-fast")])),
    "a block begun in another order": ("drawn was", events(
        lambda es: [{**e, "data": {**e["data"], "order": e["data"]["order"][::-1]}} if e["kind"] == "block" else e for e in es])),
    "a trial written twice": ("written more than once", events(
        lambda es: [*es, next(e for e in es if e["kind"] == "wrote" and e["data"]["path"] == TRIAL)])),
}  # fmt: skip


@pytest.mark.parametrize("kind", FOUND)
def test_a_contradiction_is_found_although_everything_was_re_hashed(forged: Forged, kind: str) -> None:
    words, tamper = FOUND[kind]
    tamper(forged)
    problems, _ = told(forged)
    assert [p for p in problems if any(w in p for w in words.split("|"))], problems


def test_an_extra_block_is_found(forged: Forged) -> None:
    for path in forged.trials(block=1):
        other = path.replace("/raw/b001-", "/raw/b004-")
        doc = {**forged.read(path), "key": {**forged.read(path)["key"], "block": 4}}
        (forged.run / other).write_text("{}")
        forged.edit(other, lambda d, doc=doc: d.update(doc))
        old = next(e for e in forged.events if e["kind"] == "wrote" and e["data"]["path"] == path)
        forged.events.append({**old, "data": {**old["data"], "path": other}})
    problems, _ = told(forged)
    assert any("no answer was open" in p for p in problems)


# An honest run that looks odd


def warnings_of(run: Path) -> list[str]:
    problems, facts = check(publish(run))
    assert problems == []
    return facts["warnings"]


class Jumping(LivingClock):
    """Set by `by` seconds at the moment `when` of the machine's life."""

    when, by = 10_020.0, 3600.0

    def take(self, seconds: float) -> None:
        before = self.monotonic
        super().take(seconds)
        if before < self.when <= self.monotonic:
            self.step(self.by)


@pytest.mark.parametrize("by", [3600.0, -3600.0, 30.0, -30.0])
def test_a_clock_that_is_set_while_a_campaign_runs_is_a_warning(tmp_path: Path, by: float) -> None:
    clock = Jumping()
    clock.by = by
    run = living_run(tmp_path / NAME, replace(living_plan(), gap_limit_s=1e6), clock=clock)
    assert any("clock was set" in w or "by the wall clock" in w for w in warnings_of(run))


def test_a_clock_that_drifts_by_milliseconds_is_no_warning(tmp_path: Path) -> None:
    clock = Jumping()
    clock.by = 0.02
    assert warnings_of(living_run(tmp_path / NAME, living_plan(), clock=clock)) == []


def test_a_machine_that_was_started_again_between_two_sessions_is_a_warning(base: Path, tmp_path: Path) -> None:
    f = Forged.copy_of(base, tmp_path)
    late = [p for p in f.paths() if "/raw/b003-" in p and not p.endswith(".raw.json")]
    first = late[0]
    begun = f.read(first)["t0_monotonic_ns"]
    for path in late:  # 300 s later, and counting from the start of the machine
        f.edit(path, lambda d: d.update(
            t0_monotonic_ns=d["t0_monotonic_ns"] - begun + 10**9, started_at=d["started_at"] + 300, ended_at=d["ended_at"] + 300,
            t0_unix_s=d["t0_unix_s"] + 300,
        ))  # fmt: skip
    at = next(
        i
        for i, e in enumerate(f.events)
        if e["kind"] == "session" and e["data"]["label"] == f"b003-{first.split('/')[1]}"
    )
    f.events = [{**e, "at": e["at"] + 300} if i >= at else e for i, e in enumerate(f.events)]
    problems, warnings = told(f)
    assert problems == [] and any("monotonic clock" in w for w in warnings)


def test_failed_requests_and_a_race_pass(tmp_path: Path) -> None:
    failing = living_run(tmp_path / "a" / NAME, living_plan(seed=3), error_every=29)
    assert warnings_of(failing) == []
    more = tuple(Arm(f"x{i}", "fake", Role.CANDIDATE) for i in range(4))
    plan = living_plan()
    raced = living_run(tmp_path / "b" / NAME, replace(plan, arms=(*plan.arms, *more), race_rounds=2))
    assert warnings_of(raced) == []
