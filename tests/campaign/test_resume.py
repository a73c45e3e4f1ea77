"""kill -9 at many moments, then resume: no finished trial is run again, nothing is lost, the report is the same bytes."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from tests.conftest import publish

from machine_help import commands
from profile_and_optimize.analysis.decide import decide
from profile_and_optimize.campaign.evidence_of import load_evidence
from profile_and_optimize.core.cell import Arm, Role
from profile_and_optimize.core.plan import Plan
from profile_and_optimize.core.workload import Point, Workload
from profile_and_optimize.evidence.journal import read_journal
from profile_and_optimize.evidence.manifest import check_manifest
from profile_and_optimize.evidence.trialfile import is_trial_path
from profile_and_optimize.testing.forge import root_of
from profile_and_optimize.testing.synthetic import synthetic_plan, synthetic_run

NAME = "20261121T090000Z-synthetic"
FEW: list[object] = [0, 1, 2, 3]


class Killed(BaseException):
    """Stands for kill -9: nothing below may catch it."""


def cut_after(monkeypatch: pytest.MonkeyPatch, syscalls: int) -> None:
    """Die at the n-th time that something would reach the disk, before or after it does."""
    left = [syscalls]
    real = {name: getattr(os, name) for name in ("fsync", "replace")}

    def wrap(name: str):
        def call(*args):
            left[0] -= 1
            if left[0] == 0:
                raise Killed
            done = real[name](*args)
            left[0] -= 1
            if left[0] == 0:
                raise Killed
            return done

        return call

    for name in real:
        monkeypatch.setattr(os, name, wrap(name))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return publish(synthetic_run(tmp_path_factory.mktemp("whole") / NAME, synthetic_plan(blocks=2)))


@pytest.mark.parametrize("seed", FEW + [pytest.param(s, marks=pytest.mark.slow) for s in range(4, 16)])
def test_killed_at_any_write_and_resumed_it_ends_with_the_same_bytes(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    rng = random.Random(seed)
    run = tmp_path / NAME
    for _ in range(4):
        with monkeypatch.context() as patch:
            cut_after(patch, rng.randrange(1, 160))
            try:
                synthetic_run(run, synthetic_plan(blocks=2))
            except Killed:
                continue
    publish(synthetic_run(run, synthetic_plan(blocks=2)))
    same_but_for_what_was_cut(run, whole)
    assert check_manifest(run) == []
    assert finished_twice(run) == [] and not list(run.glob("cells/*/raw/b*-a2.json"))


def same_but_for_what_was_cut(run: Path, whole: Path) -> None:
    """Every number is the same; trials that a kill broke off are told, in a gate of their own and in the root."""
    assert (run / "atlas.jsonl").read_bytes() == (whole / "atlas.jsonl").read_bytes()
    one, two = (json.loads((p / "champion_select.json").read_text()) for p in (run, whole))
    assert {k: one[k] for k in ("pick", "arms", "blocks", "why")} == {
        k: two[k] for k in ("pick", "arms", "blocks", "why")
    }
    if any(e.kind == "interrupted" for e in load_evidence(run).events):
        return
    # The full root covers the journal, whose times and repetitions a kill changes.
    root, other = root_of(run).encode(), root_of(whole).encode()
    for name in ("report.html", "report.txt", "CHAMPION.md", "champion_select.json"):
        assert (run / name).read_bytes().replace(root, other) == (whole / name).read_bytes(), name
    assert load_evidence(run).root == load_evidence(whole).root


def race_plan() -> Plan:
    plan = synthetic_plan(blocks=3)
    more = tuple(Arm(f"x{i}", "fake", Role.CANDIDATE) for i in range(3))
    return replace(plan, arms=plan.arms + more, points=plan.points[:1], race_rounds=2)


@pytest.fixture(scope="module")
def whole_race(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return publish(synthetic_run(tmp_path_factory.mktemp("whole-race") / NAME, race_plan()))


@pytest.mark.parametrize("seed", FEW[:2] + [pytest.param(s, marks=pytest.mark.slow) for s in range(2, 8)])
def test_a_race_killed_at_any_write_and_resumed_ends_with_the_same_bytes(
    whole_race: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    rng = random.Random(seed)
    run = tmp_path / NAME
    for _ in range(4):
        with monkeypatch.context() as patch:
            cut_after(patch, rng.randrange(1, 160))
            try:
                synthetic_run(run, race_plan())
            except Killed:
                continue
    publish(synthetic_run(run, race_plan()))
    same_but_for_what_was_cut(run, whole_race)
    assert (run / "finalists.json").read_bytes() == (whole_race / "finalists.json").read_bytes()
    assert check_manifest(run) == [] and finished_twice(run) == []


def finished_twice(run: Path) -> list[str]:
    """Trial files that were written more than once, going by the journal; an adopted one was written once."""
    wrote = [e.data["path"] for e in read_journal(run / "journal.jsonl").events if e.kind == "wrote"]
    trials = [p for p in wrote if is_trial_path(p)]
    return sorted({p for p in trials if trials.count(p) > 1})


def mock_plan() -> Plan:
    arms = (
        Arm("baseline", "mock", Role.BASELINE, ("--ttft-ms", "2", "--itl-ms", "1")),
        Arm("aa", "mock", Role.AA, ("--ttft-ms", "2", "--itl-ms", "1")),
        Arm("quick", "mock", Role.CANDIDATE, ("--ttft-ms", "1", "--itl-ms", "0.5")),
    )
    return Plan("mock", "mock", "throughput", arms, (Point(Workload("w", 16, 4), 2, 8),), blocks=2, seed=3, retries=9)


DRIVER = """
import sys
from pathlib import Path
from profile_and_optimize.campaign import conduct
from profile_and_optimize.core.plan import plan_from_json
from profile_and_optimize.evidence.folder import RunFolder
from profile_and_optimize.ops.worlds import make_world
import json
world = make_world({"mock"}, lambda text: None)
folder = RunFolder(Path(sys.argv[1]))
conduct.open_draft(folder, plan_from_json(json.loads(sys.argv[2])))
conduct.run(folder, conduct.admit(folder, world), world)
"""


def reapers(folder: Path) -> list[str]:
    """Of servers whose log lies below this folder; each lives as long as its server does."""
    return [line for line in commands() if "reaper.py" in line and str(folder) in line]


@pytest.mark.slow
def test_a_campaign_on_mock_servers_killed_at_random_moments_loses_nothing(tmp_path: Path) -> None:
    run, rng, kills, seen = tmp_path / NAME, random.Random(11), 0, {}
    argv = [sys.executable, "-c", DRIVER, str(run), json.dumps(mock_plan().to_json())]
    scratch = {**os.environ, "TMPDIR": str(tmp_path)}
    while kills < 15:
        child = subprocess.Popen(
            argv, env=scratch, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        try:
            child.wait(rng.uniform(0.6, 3.0))
            assert child.returncode == 0, child.stderr.read().decode()[-2000:]
            remember(run, seen)
            run, seen = tmp_path / f"{NAME}-{kills}", {}  # finished between two kills: begin another one
            argv[3] = str(run)
        except subprocess.TimeoutExpired:
            os.kill(child.pid, signal.SIGKILL)
            child.wait()
            kills += 1
            remember(run, seen)
    last = subprocess.run(argv, env=scratch, capture_output=True, timeout=600, check=False)
    assert last.returncode == 0, last.stderr.decode()[-2000:]
    remember(run, seen)
    ev = load_evidence(run)
    assert len(decide(ev).selection.blocks) == 2 and not ev.damaged and finished_twice(run) == []
    end = time.monotonic() + 60
    while reapers(tmp_path) and time.monotonic() < end:
        time.sleep(0.2)
    assert reapers(tmp_path) == []


def remember(run: Path, seen: dict[str, bytes]) -> None:
    """Every finished trial keeps its bytes for ever."""
    for path in run.glob("cells/*/raw/b*.json"):
        known = seen.setdefault(path.name + path.parent.parent.name, path.read_bytes())
        assert known == path.read_bytes(), f"{path} changed"
