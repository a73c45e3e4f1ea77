"""What a forger does who owns a run and re-hashes everything, found by what no honest machine does."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from profile_and_optimize.core.plan import Plan
from profile_and_optimize.core.records import RequestRecord
from profile_and_optimize.evidence.trialfile import decode
from profile_and_optimize.ops.verify import check
from profile_and_optimize.testing.forge import Forged, publish
from profile_and_optimize.testing.living import living_run
from profile_and_optimize.testing.synthetic import synthetic_plan

Records = tuple[RequestRecord, ...]
ONE, TWO = "cells/fast/raw/b001-short-chat.c4-a1.json", "cells/fast/raw/b002-short-chat.c4-a1.json"
BASE, TWIN = "cells/baseline/raw/b001-short-chat.c4-a1.json", "cells/aa/raw/b001-short-chat.c4-a1.json"


def plan(seed: int = 7) -> Plan:
    return replace(synthetic_plan(blocks=3), client="stream", seed=seed)


@pytest.fixture(scope="module")
def living(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return living_run(tmp_path_factory.mktemp("living") / "20261130T130000Z-living", plan())


def copied(f: Forged, source: str, target: str, change: Callable[[Records], Records] = lambda r: r) -> None:
    """The measurement of one trial as that of another: everything that tells them apart otherwise is kept."""
    theirs = decode(f.read(source), source)
    f.redo(target, lambda mine: replace(
        mine, counters=theirs.counters,
        run=replace(theirs.run, records=change(tuple(theirs.run.records)), t0_unix_s=mine.run.t0_unix_s,
                    t0_monotonic_ns=mine.run.t0_monotonic_ns),
    ))  # fmt: skip


def times(share: float, records: Records) -> Records:
    to = lambda ns: int(ns * share)  # noqa: E731
    return tuple(
        replace(
            r, intended_ns=to(r.intended_ns), sent_ns=to(r.sent_ns), done_ns=to(r.done_ns), chunk_ns=tuple(map(to, r.chunk_ns)),
            first_byte_ns=None if r.first_byte_ns is None else to(r.first_byte_ns),
        )
        for r in records
    )  # fmt: skip


def renumbered(records: Records) -> Records:
    order = random.Random(3).sample(range(len(records)), len(records))
    return tuple(replace(r, index=i) for r, i in zip(records, order, strict=True))


COPIES: dict[str, Callable[[Forged], object]] = {
    "a trial in two blocks": lambda f: copied(f, ONE, TWO),
    "the baseline as its own twin": lambda f: copied(f, BASE, TWIN),
    "a good trial over another arm's": lambda f: copied(f, ONE, ONE.replace("fast", "slow")),
    "numbered anew": lambda f: copied(f, ONE, TWO, renumbered),
    "a tenth faster": lambda f: copied(f, ONE, TWO, lambda r: times(0.9, r)),
    "a tenth faster and numbered anew": lambda f: copied(f, ONE, TWO, lambda r: renumbered(times(0.9, r))),
    "the first answers later": lambda f: copied(
        f, ONE, TWO, lambda r: tuple(replace(x, first_byte_ns=x.sent_ns) for x in r)
    ),
}


@pytest.mark.parametrize("kind", COPIES)
def test_a_copied_measurement_is_found_however_it_is_dressed(living: Path, tmp_path: Path, kind: str) -> None:
    f = Forged.copy_of(living, tmp_path)
    COPIES[kind](f)
    f.save(rehash=True)
    assert any("no two measurements are alike" in p for p in check(f.run)[0]), check(f.run)[0]


def test_half_of_another_trials_answers_are_found(living: Path, tmp_path: Path) -> None:
    f = Forged.copy_of(living, tmp_path)
    theirs = tuple(decode(f.read(ONE), ONE).run.records)
    f.records(TWO, lambda mine: tuple(b if i % 2 else a for i, (a, b) in enumerate(zip(mine, theirs, strict=True))))
    f.save(rehash=True)
    assert any("8 of its answers took exactly as long as those of " + ONE in p for p in check(f.run)[0])


def shifted(f: Forged, path: str, seconds: float) -> None:
    def later(d: dict) -> None:
        d["started_at"] += seconds
        d["ended_at"] += seconds
        d["t0_unix_s"] += seconds
        d["t0_monotonic_ns"] += round(seconds * 1e9)

    f.edit(path, later)


TIMES: dict[str, tuple[Callable[[Forged], object], str]] = {
    "older than its server": (lambda f: shifted(f, TWO, -30.0), "older than their server"),
    "after it was entered": (lambda f: shifted(f, TWO, 300.0), "after it was entered"),
    "without a monotonic clock": (lambda f: f.edit(ONE, lambda d: d.update(t0_monotonic_ns=None)), "monotonic clock"),
}


@pytest.mark.parametrize("kind", TIMES)
def test_a_trial_lies_between_its_servers_start_and_its_entry(living: Path, tmp_path: Path, kind: str) -> None:
    forge, words = TIMES[kind]
    f = Forged.copy_of(living, tmp_path)
    forge(f)
    f.save(rehash=True)
    problems, facts = check(f.run)
    assert any(words in line for line in problems), (problems, facts["warnings"])


@pytest.mark.parametrize("seed", range(3))
def test_honest_runs_hold_with_and_without_jitter_failures_and_a_clock_that_was_set(tmp_path: Path, seed: int) -> None:
    run = publish(
        living_run(tmp_path / f"2026113{seed}T130000Z-clean", plan(seed), jitter=(0.0, 0.02, 0.2)[seed], error_every=29)
    )
    problems, facts = check(run)
    assert problems == [] and facts["answer"] == "HOLDS"


def test_a_server_like_clockwork_is_no_copy_of_itself(tmp_path: Path) -> None:
    run = publish(living_run(tmp_path / "20261130T140000Z-clockwork", plan(), noise=0.0, jitter=0.0))
    assert check(run)[0] == []


@pytest.fixture(scope="module")
def died(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`slow` does not start in block 2, twice; `fast` at the first try of block 1."""
    where = tmp_path_factory.mktemp("died") / "20261130T150000Z-died"
    return publish(living_run(where, plan(), fails={"slow": (3, 4), "fast": (2,)}))


def without(f: Forged, kind: str, arm: str) -> None:
    f.events = [e for e in f.events if e["kind"] != kind or e["data"].get("arm") != arm]


STARTS: dict[str, tuple[Callable[[Forged], object], str]] = {
    "the failed starts of an arm that is out": (lambda f: without(f, "session_failed", "slow"), "no start of it failed there"),
    "the arm that is out stays in": (lambda f: without(f, "arm_failed", "slow"), "was left open"),
    "the session of a failed start": (lambda f: without(f, "session", "slow"), "it is of session"),
    "the last failed start of an arm that is out": (
        lambda f: f.events.pop(max(i for i, e in enumerate(f.events) if e["kind"] == "session_failed" and e["data"]["arm"] == "slow")),
        "no start of it failed there"),
    "a failed start blamed on another arm": (
        lambda f: next(e for e in f.events if e["kind"] == "session_failed")["data"].update(arm="aa"), "going by its losses"),
    "answers of another session": (
        lambda f: f.events.insert(3, f.events.pop(next(
            i for i, e in enumerate(f.events) if e["data"].get("path") == "cells/fast/admission.json"))), "it is of session"),
}  # fmt: skip


@pytest.mark.parametrize("kind", STARTS)
def test_starts_that_failed_cannot_be_taken_out_alone(died: Path, tmp_path: Path, kind: str) -> None:
    forge, words = STARTS[kind]
    assert check(died)[0] == []
    f = Forged.copy_of(died, tmp_path)
    forge(f)
    f.save(rehash=True)
    assert any(words in line for line in check(f.run)[0]), check(f.run)[0]


def test_one_failed_start_taken_out_looks_like_a_kill_and_is_a_warning(died: Path, tmp_path: Path) -> None:
    f = Forged.copy_of(died, tmp_path)
    without(f, "session_failed", "fast")
    f.save(rehash=True)
    assert any("session b001-fast was started twice" in w for w in check(f.run)[1]["warnings"])
