"""Trials are loaded alike by one process and by several, and what is damaged is named."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from profile_and_optimize.campaign import loading
from profile_and_optimize.campaign.evidence_of import load_evidence
from profile_and_optimize.campaign.loading import Loaded, Remark, load_trials
from profile_and_optimize.campaign.selection import Judged
from profile_and_optimize.evidence import cores
from profile_and_optimize.evidence.cores import spread
from profile_and_optimize.evidence.trialfile import is_trial_path
from profile_and_optimize.stats.columns import Elsewhere, Records


def remarked(run: Path, t: Judged) -> tuple[Remark, ...]:
    return (Remark(t.key.arm, str(len(t.file.run.records))),)


def trial_paths(run: Path) -> list[str]:
    return [p for p in sorted(str(x.relative_to(run)) for x in run.rglob("*.json")) if is_trial_path(p)]


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_several_processes_give_what_one_gives(closed_run: Path, monkeypatch: pytest.MonkeyPatch, method: str) -> None:
    paths = trial_paths(closed_run)
    one = load_trials(closed_run, paths, remarked)
    monkeypatch.setattr(loading, "WORTH_PROCESSES", 4)
    monkeypatch.setattr(loading, "BATCH", 5)
    monkeypatch.setattr(cores, "cores", lambda: 2)
    monkeypatch.setattr(cores, "can_fork", lambda: method == "fork")
    many = load_trials(closed_run, paths, remarked)
    assert many == one and [x.path for x in many] == sorted(paths)
    assert all(isinstance(x.trial.file.run.records, Elsewhere) for x in many if x.trial)


def test_arms_of_a_block_leave_out_the_same_number_of_requests(closed_run: Path) -> None:
    dropped: dict[tuple[int, str], set[int]] = {}
    for t in load_evidence(closed_run).trials:
        dropped.setdefault((t.key.block, t.key.point), set()).add(t.summary.dropped)
    assert all(len(found) == 1 for found in dropped.values())


def test_a_damaged_trial_is_named_and_the_others_are_loaded(run_copy: Path) -> None:
    paths = trial_paths(run_copy)
    (run_copy / paths[3]).write_bytes(b"{")
    found = load_trials(run_copy, paths)
    assert [x.path for x in found if x.damage] == [paths[3]] and sum(x.trial is not None for x in found) == len(
        paths
    ) - 1


def failing(run: Path, t: Judged) -> tuple[Remark, ...]:
    raise KeyError("missing")


def test_a_look_that_fails_is_a_remark(closed_run: Path) -> None:
    found = load_trials(closed_run, trial_paths(closed_run)[:2], failing)
    assert [r.text for x in found for r in x.remarks] == ["cannot be checked: KeyError 'missing'"] * 2


def test_records_elsewhere_are_read_when_they_are_asked_for_and_once(closed_run: Path) -> None:
    real = load_trials(closed_run, trial_paths(closed_run)[:1])[0].trial.file.run.records
    asked = []
    away = Elsewhere(len(real), lambda: asked.append(1) or Records.of(real))
    assert len(away) == len(real) and asked == []
    assert (
        away == real and away[2] == real[2] and list(away) == list(real) and Records.of(away) == real and asked == [1]
    )


def square(n: int) -> int:
    return n * n


def refusing(*args: object, **kwargs: object) -> None:
    raise OSError("no processes today")


def test_work_is_done_by_one_process_where_no_others_can_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cores, "cores", lambda: 2)
    assert spread(square, range(5)) == [0, 1, 4, 9, 16]
    monkeypatch.setattr(cores, "ProcessPoolExecutor", refusing)
    assert spread(square, range(5)) == [0, 1, 4, 9, 16] and spread(square, []) == []


def test_what_is_loaded_can_go_between_processes(closed_run: Path) -> None:
    found = load_trials(closed_run, trial_paths(closed_run)[:1])
    assert pickle.loads(pickle.dumps(found)) == found and isinstance(found[0], Loaded)
