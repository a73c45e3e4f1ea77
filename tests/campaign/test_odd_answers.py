"""What answers that are odd, or no answers, do to a campaign: a variant is refused, out or unknown, the campaign ends and verifies."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from tests.conftest import publish

from profile_and_optimize.analysis.decide import Decision, comparable, decide
from profile_and_optimize.campaign import conduct
from profile_and_optimize.campaign.evidence_of import load_evidence
from profile_and_optimize.clients.base import LoadRequest
from profile_and_optimize.core.errors import BrokeMidway
from profile_and_optimize.core.records import ClientRun, RequestRecord
from profile_and_optimize.core.verdict import Call
from profile_and_optimize.evidence.folder import RunFolder
from profile_and_optimize.ops.ab_text import failed_lines
from profile_and_optimize.ops.verify import check
from profile_and_optimize.testing.fakes import FakeClient, FakeEngine, fake_world
from profile_and_optimize.testing.synthetic import SPEEDS, synthetic_plan

Change = Callable[[RequestRecord], RequestRecord]


@dataclass
class OddClient(FakeClient):
    """Changes the answers of some variants; `odd` is by the variant's name in the server's address, "" is every one."""

    arm: str = ""
    change: Change = lambda r: r

    def run(self, load: LoadRequest, *, workdir: Path) -> ClientRun:
        run = super().run(load, workdir=workdir)
        if self.arm and f"/{self.arm}/" not in load.url:
            return run
        return replace(run, records=tuple(self.change(r) if r.ok else r for r in run.records))


def in_one_packet(r: RequestRecord) -> RequestRecord:
    return replace(r, chunk_ns=(r.done_ns,) * len(r.chunk_ns), first_byte_ns=r.done_ns)


def zero_usage(r: RequestRecord) -> RequestRecord:
    return replace(r, prompt_tokens=0, completion_tokens=0)


def every_second_aborted(r: RequestRecord) -> RequestRecord:
    return replace(r, finish_reason="abort", error="finish reason 'abort'") if r.index % 2 else r


def campaign(path: Path, client: FakeClient, focus: str) -> Decision:
    plan = synthetic_plan(blocks=3)
    world = fake_world(FakeEngine(SPEEDS, {"broken": "x"}), client)
    folder = RunFolder(path, world.now)
    try:
        conduct.open_draft(folder, replace(plan, focus=focus))
        conduct.run(folder, conduct.admit(folder, world), world)
    finally:
        folder.close()
    return decide(load_evidence(path))


def test_answers_in_one_packet_are_compared_by_throughput_and_the_run_verifies(tmp_path: Path) -> None:
    path = tmp_path / "20260921T141320Z-odd"
    d = campaign(path, OddClient(change=in_one_packet), "throughput")
    assert (d.effects["fast"].call, d.effects["slow"].call) == (Call.BETTER, Call.WORSE)
    assert check(publish(path))[0] == []


def test_a_candidate_whose_tpot_nobody_can_know_is_out_with_the_reason_and_the_others_are_compared(
    tmp_path: Path,
) -> None:
    path = tmp_path / "20260921T141320Z-odd"
    d = campaign(path, OddClient(arm="fast", change=in_one_packet), "latency")
    assert "tpot unknown" in d.failed["fast"] and d.effects["fast"].call is Call.UNKNOWN
    assert d.effects["slow"].call is Call.WORSE and d.pick == "baseline"
    assert check(publish(path))[0] == []


def test_where_nobody_can_know_a_tpot_the_campaign_ends_with_that_reason_and_its_files_are_sound(
    tmp_path: Path,
) -> None:
    path = tmp_path / "20260921T141320Z-odd"
    with pytest.raises(BrokeMidway, match=r"too many blocks were lost: .*tpot unknown"):
        campaign(path, OddClient(change=in_one_packet), "latency")
    ev = load_evidence(path)
    assert ev.damaged == () and {e.call for e in decide(ev).effects.values()} == {Call.UNKNOWN}
    assert check(publish(path))[0] == []


@pytest.mark.parametrize("focus", ["throughput", "latency"])
def test_a_candidate_with_contradicted_counts_is_out_and_never_faster(tmp_path: Path, focus: str) -> None:
    path = tmp_path / "20260921T141320Z-odd"
    d = campaign(path, OddClient(arm="fast", change=zero_usage), focus)
    assert "its usage reports 0 output tokens" in d.failed["fast"] and d.effects["fast"].call is Call.UNKNOWN
    assert check(publish(path))[0] == []


def test_a_candidate_that_aborts_half_its_answers_is_refused_and_ab_names_the_reason(tmp_path: Path) -> None:
    path = tmp_path / "20260921T141320Z-odd"
    d = campaign(path, OddClient(arm="fast", change=every_second_aborted), "throughput")
    assert d.effects["fast"].call is Call.UNKNOWN and "failed 50.0% of its requests" in d.effects["fast"].reason
    ev = load_evidence(path)
    (line,) = failed_lines(ev.trials, {"B": ("fast",)})
    asked = sum(t.summary.asked for t in ev.trials if t.key.arm == "fast")
    assert line == f"B: {asked // 2} of {asked} requests failed ({asked // 2} x finish reason 'abort')"


def test_means_are_compared_up_to_one_percent_without_a_value_on_either_side() -> None:
    assert comparable(0.0, 0.0) and comparable(0.01, 0.0) and comparable(0.01, 0.01)
    assert not comparable(0.011, 0.011) and not comparable(0.0, 0.02) and not comparable(1.0, 1.0)


def test_a_few_requests_without_a_tpot_stop_the_comparison_that_rests_on_it(tmp_path: Path) -> None:
    """1 of 16 answers in one packet is 6%: its TPOT is unknown and the others' median could be chosen by that."""
    path = tmp_path / "20260921T141320Z-odd"
    client = OddClient(arm="fast", change=lambda r: in_one_packet(r) if r.index == 3 else r)
    d = campaign(path, client, "latency")
    assert (
        "tpot unknown of 0.0% | 6.2% of the answers (limit 1%)" in d.effects["fast"].reason
        and d.effects["fast"].call is Call.UNKNOWN
    )
