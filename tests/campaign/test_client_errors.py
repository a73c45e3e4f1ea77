"""A campaign with a foreign client: refused without a calibration, and never more than a DRAFT with one."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from profile_and_optimize.analysis.decide import decide
from profile_and_optimize.campaign import client_errors, conduct
from profile_and_optimize.campaign.evidence_of import load_evidence
from profile_and_optimize.campaign.world import World
from profile_and_optimize.clients.base import LoadRequest
from profile_and_optimize.core.errors import Corrupted, GateRefused, WrongUse
from profile_and_optimize.core.plan import Plan
from profile_and_optimize.core.records import ClientRun
from profile_and_optimize.core.trial import Validity
from profile_and_optimize.core.verdict import Tier
from profile_and_optimize.evidence.folder import RunFolder
from profile_and_optimize.stats.client_error import ClientError
from profile_and_optimize.testing.fakes import FakeClient, FakeClock, FakeEngine, fake_world
from profile_and_optimize.testing.synthetic import SPEEDS, synthetic_plan

KNOWN = ClientError(
    client="aiperf", version="0.13.0", node="n1", concurrency=4, requests=96, rounds=2, at_unix_s=1.0, client_cores=(), cores_total=2,
    others_cores=0.0, load_average_1m=0.0, loud=(), ttft_s=0.05, itl_s=0.01, osl=64, isl=128, api="chat", failed=0, ttft_error_p50_s=0.007,
    ttft_error_p99_s=0.04, tpot_error_p50_s=0.0, e2e_error_p50_s=0.008, e2e_error_p99_s=0.05, lost=0.04, request_rate=9.0,
    cpu_us_per_token=50.0,
)  # fmt: skip


class Silent(FakeClient):
    """Tells nothing of itself, as the adapters do."""

    def run(self, load: LoadRequest, *, workdir: Path) -> ClientRun:
        found = super().run(load, workdir=workdir)
        probe = replace(
            found.probe, loop_lag_ns=(), in_flight_s=None, reads=None, coalesced_reads=None, connections=None
        )
        return replace(found, probe=probe)


def world(*known: ClientError, version: str = "0.13.0", engine: FakeEngine | None = None) -> World:
    made = fake_world(engine or FakeEngine(SPEEDS), Silent(name="aiperf", version=version), FakeClock())
    return replace(made, client_errors=known)


def plan() -> Plan:
    return replace(synthetic_plan(blocks=3), client="aiperf")


def run_to_the_end(path: Path, made: World) -> Path:
    folder = RunFolder(path, made.now)
    try:
        conduct.open_draft(folder, plan())
        conduct.run(folder, conduct.admit(folder, made), made)
    finally:
        folder.close()
    return path


def test_without_a_calibration_nothing_starts_and_the_command_is_named(tmp_path: Path) -> None:
    engine = FakeEngine(SPEEDS)
    other = replace(KNOWN, version="0.12.0")
    with pytest.raises(GateRefused) as caught:
        run_to_the_end(tmp_path / "run", world(other, engine=engine))
    assert caught.value.next == "pao calibrate --client aiperf --concurrency 4"
    assert not (tmp_path / "run/cells").exists() and not (tmp_path / "run" / client_errors.FILE).exists()


def test_with_one_every_trial_is_degraded_by_it_and_the_pick_stays_a_draft(tmp_path: Path) -> None:
    run = run_to_the_end(tmp_path / "20261121T090000Z-foreign", world(KNOWN))
    ev = load_evidence(run)
    assert client_errors.read(run) == (KNOWN,)
    assert {t.honesty.validity for t in ev.trials} == {Validity.DEGRADED}
    assert all("TTFT p50 +7.0 ms" in t.honesty.reasons[0] for t in ev.trials)
    assert decide(ev).tier is Tier.DRAFT


def test_the_judgement_rests_on_the_runs_own_copy(tmp_path: Path) -> None:
    run = run_to_the_end(tmp_path / "20261121T090000Z-foreign", world(KNOWN))
    (run / client_errors.FILE).unlink()
    assert {t.honesty.validity for t in load_evidence(run).trials} == {Validity.INVALID}
    (run / client_errors.FILE).write_text(json.dumps({"schema": 1, "points": [{}]}))
    with pytest.raises(Corrupted, match="client_calibration"):
        client_errors.read(run)


def test_the_plans_client_and_the_worlds_are_one(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run", FakeClock())
    with pytest.raises(WrongUse, match="asks for the client guidellm"):
        client_errors.keep(folder, replace(plan(), client="guidellm"), world(KNOWN))
    folder.close()


def test_what_is_known_of_our_own_client_is_kept_too_and_never_asked_for(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run", FakeClock())
    ours = replace(synthetic_plan(), client="stream")
    client_errors.keep(folder, ours, world())
    assert client_errors.read(folder.path) == ()
    client_errors.keep(folder, ours, world(KNOWN))
    assert client_errors.read(folder.path) == (KNOWN,)
    folder.close()
