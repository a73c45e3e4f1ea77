"""What the importers make of real captures whose truth is known: TTFT 1000 ms, ITL and TPOT 50, 8 tokens, E2E 1350."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from profile_and_optimize.engines.base import Server
from profile_and_optimize.importers import read
from profile_and_optimize.importers.base import Imported, Stat
from profile_and_optimize.ops.base import all_ops, parse_request
from profile_and_optimize.stats.summary import tpot

DATA = Path(__file__).parents[1] / "data/importers"
GOOD = ("vllm-good1.json", "sglang-good.jsonl", "aiperf-good", "guidellm-good1.json")
FOURS = ("vllm-chunks-of-4.json", "aiperf-chunks-of-4", "guidellm-chunks-of-4.json")


def one(name: str) -> Imported:
    (run,) = read(DATA / name)
    return run


@pytest.mark.parametrize("name", GOOD)
def test_every_tool_gives_the_same_truth_under_our_names(name: str) -> None:
    run = one(name)
    assert (run.asked, run.completed, run.failed, run.concurrency, run.request_rate) == (16, 16, 0, 4, None)
    assert 1.0 <= (run.stat("ttft").p50 or 0) < 1.02
    assert run.stat("tpot").p50 == pytest.approx(0.050, rel=0.02)
    assert run.stat("e2e_latency").p50 == pytest.approx(1.350, rel=0.02)
    assert run.output_tokens == 128 and run.output_throughput == pytest.approx(128 / (run.duration_s or 0), rel=0.01)


@pytest.mark.parametrize("name", GOOD[:3])
def test_gaps_are_itl_where_a_tool_has_them(name: str) -> None:
    assert one(name).stat("itl").p50 == pytest.approx(0.050, rel=0.02)


def test_guidellm_has_no_gaps_so_it_has_no_itl_and_no_records() -> None:
    run = one("guidellm-good1.json")
    assert "itl" not in run.metrics and run.records == () and len(run.requests) == 16


@pytest.mark.parametrize("name", FOURS)
def test_four_tokens_a_chunk_are_tpot_50_over_7_and_not_50(name: str) -> None:
    run = one(name)
    assert run.stat("tpot").p50 == pytest.approx(0.050 / 7, rel=0.05)
    assert name.startswith("guidellm") or run.stat("itl").p50 == pytest.approx(0.050, rel=0.05)


def test_what_guidellm_calls_tpot_is_kept_aside_as_end_to_end_over_tokens() -> None:
    run = one("guidellm-good1.json")
    assert run.aside["time_per_output_token_ms"].p50 == pytest.approx(1.350 / 8, rel=0.02)


@pytest.mark.parametrize("name", ["vllm-good1.json", "aiperf-good"])
def test_metrics_recomputed_from_the_records_are_those_the_tool_printed(name: str) -> None:
    run = one(name)
    assert len(run.records) == 16
    ours = [t for r in run.records if (t := tpot(r)) is not None]
    assert np.median(ours) == pytest.approx(run.stat("tpot").p50, abs=1e-6)
    ttfts = [(r.chunk_ns[0] - r.sent_ns) * 1e-9 for r in run.records]
    assert np.median(ttfts) == pytest.approx(run.stat("ttft").p50, abs=1e-6)
    gaps = np.concatenate([np.diff(r.chunk_ns) for r in run.records]) * 1e-9
    assert np.median(gaps) == pytest.approx(run.stat("itl").p50, abs=1e-6)


def test_failed_requests_are_counted_with_their_reason_and_in_no_latency() -> None:
    run = one("vllm-errors.json")
    assert (run.completed, run.failed, run.errors) == (10, 2, (("Internal Server Error", 2),))
    assert len(run.records) == 12 and sum(r.ok for r in run.records) == 10
    cut = one("vllm-cut.json")
    assert cut.failed == 2 and all(len(r.chunk_ns) == 4 for r in cut.records if not r.ok)
    for name, failed in (("aiperf-errors", 2), ("guidellm-errors.json", 3), ("sglang-errors.jsonl", 2)):
        assert one(name).failed == failed, name
        assert sum(n for _, n in one(name).errors) == failed, name


def test_the_wait_for_a_slot_of_a_closed_loop_is_no_lag_but_under_a_rate_it_is() -> None:
    assert one("vllm-good1.json").send_lag_s == ()
    capped = one("vllm-cap.json")
    assert (capped.request_rate, capped.concurrency) == (10.0, 4)
    assert max(capped.send_lag_s) > 2.5 and capped.records[-1].sent_ns > capped.records[-1].intended_ns


def test_aggregates_alone_give_no_requests_but_e2e_from_the_latencies_it_lists() -> None:
    run = one("vllm-aggregates.json")
    assert run.requests == () and run.records == () and run.stat("ttft").n is None
    assert run.stat("e2e_latency").n == 16


def test_a_sweep_is_its_runs_and_not_its_summaries(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(DATA / "vllm-sweep", tmp_path / "sweep"))
    runs = read(folder)
    assert [(Path(r.path).name, r.concurrency) for r in runs] == [
        ("run=0.json", 2),
        ("run=1.json", 2),
        ("run=0.json", 4),
        ("run=1.json", 4),
    ]
    assert [r.concurrency for r in read(folder / "BENCH--max_concurrency=4/summary.json")] == [4, 4]
    (folder / "BENCH--max_concurrency=4/run=2.failure.json").write_text('{"error": "died"}')
    assert [r.facts.get("sweep_failures") for r in read(folder)] == [
        None,
        None,
        "run=2.failure.json",
        "run=2.failure.json",
    ]


def test_appended_lines_are_runs_in_order() -> None:
    first, second = read(DATA / "sglang-two.jsonl")
    assert first.path.endswith("#1") and second.path.endswith("#2")
    assert (first.stat("ttft").p50 or 0) > 0.9 and (second.stat("ttft").p50 or 0) < 0.2


def test_a_report_of_three_benchmarks_is_three_runs_with_their_loads() -> None:
    stream, all_at_once, rate = read(DATA / "guidellm-rates.json")
    assert (stream.concurrency, stream.request_rate, all_at_once.request_rate) == (1, None, None)
    assert rate.request_rate == pytest.approx(2.92, abs=0.01)


def test_aiperf_prompts_are_known_one_by_one() -> None:
    assert len(set(one("aiperf-good").prompts)) == 16 and len(set(one("aiperf-few-prompts").prompts)) == 4
    assert one("aiperf-same1").prompts[0] in one("aiperf-same2").prompts


def test_aiperf_alone_without_its_folder_has_aggregates(tmp_path: Path) -> None:
    shutil.copy(DATA / "aiperf-good/profile_export_aiperf.json", tmp_path / "x.json")
    (run,) = read(tmp_path / "x.json")
    assert run.records == () and run.stat("tpot").p50 == pytest.approx(0.050, rel=0.02)


def test_aiperf_units_are_read_and_not_assumed(tmp_path: Path) -> None:
    doc = json.loads((DATA / "aiperf-good/profile_export_aiperf.json").read_text())
    doc["inter_token_latency"] |= {"unit": "us", "p50": 50_000.0}
    (tmp_path / "x.json").write_text(json.dumps(doc))
    assert read(tmp_path / "x.json")[0].stat("tpot").p50 == pytest.approx(0.050)
    doc["inter_token_latency"]["unit"] = "fortnights"
    (tmp_path / "x.json").write_text(json.dumps(doc))
    (run,) = read(tmp_path / "x.json")
    assert run.stat("tpot").empty and "fortnights" in run.unread[0]


def test_a_run_in_which_nothing_completed_has_no_metrics_rather_than_zeros(tmp_path: Path) -> None:
    doc = json.loads((DATA / "sglang-ratio.jsonl").read_text())
    doc |= {k: float("nan") for k in doc if k.endswith("_ms")} | {"completed": 0, "total_output_tokens": 0}
    (tmp_path / "x.jsonl").write_text(json.dumps(doc))
    (run,) = read(tmp_path / "x.jsonl")
    assert (run.completed, dict(run.metrics)) == (0, {})
    flat = json.loads((DATA / "vllm-aggregates.json").read_text())
    flat |= {k: 0.0 for k in flat if k.endswith("_ms")} | {"completed": 0, "latencies": []}
    (tmp_path / "x.json").write_text(json.dumps(flat))
    assert dict(read(tmp_path / "x.json")[0].metrics) == {}


@pytest.mark.parametrize("mock_server", [("--ttft-ms", "20", "--itl-ms", "2", "--osl", "4")], indirect=True)
def test_our_own_bench_comes_back_with_its_records(mock_server: Server, tmp_path: Path) -> None:
    op = all_ops()["bench"]
    op.run(
        parse_request(
            op, {"url": mock_server.url, "isl": 16, "osl": 4, "concurrency": 2, "requests": 6, "out": str(tmp_path)}
        ),
        lambda _: None,
    )
    (run,) = read(tmp_path)
    assert (run.tool, run.completed, len(run.records), run.facts["token_counts"]) == ("pao", 6, 6, "server")
    assert run.stat("ttft").p50 == pytest.approx(float(np.median([r.ttft_s for r in run.good if r.ttft_s])), rel=0.2)


def test_a_stat_fills_what_it_lacks_and_keeps_what_it_has() -> None:
    assert Stat(p50=1.0).filled(Stat(2.0, 3.0, None, 4.0, 5)) == Stat(1.0, 3.0, None, 4.0, 5)
    with pytest.raises(ValueError, match="not a measurement"):
        Stat(p50=float("nan"))
