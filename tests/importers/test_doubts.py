"""What a file shows of itself: the kind of load, a list that is not the run, placeholders, relatives. Made by hand."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from profile_and_optimize.core.errors import WrongUse
from profile_and_optimize.importers import read
from profile_and_optimize.importers.base import Imported, LoadKind

DATA = Path(__file__).parents[1] / "data/importers"
CLOSED, OPEN, CHANGING, BURST, TRACE, UNKNOWN = LoadKind


def changed(folder: Path, name: str, **values: Any) -> Imported:
    """A capture's first line with some keys set, or taken out with ...; one run."""
    doc = json.loads((DATA / name).read_text().splitlines()[0]) | values
    (folder / "x.json").write_text(json.dumps({k: v for k, v in doc.items() if v is not ...}))
    (run,) = read(folder / "x.json")
    return run


@pytest.mark.parametrize(("name", "values", "kind"), [
    ("vllm-good1.json", {}, CLOSED), ("vllm-good1.json", {"max_concurrency": None}, BURST),
    ("vllm-good1.json", {"max_concurrency": ...}, UNKNOWN),
    ("vllm-good1.json", {"request_rate": ...}, UNKNOWN), ("vllm-good1.json", {"request_rate": None}, UNKNOWN),
    ("vllm-good1.json", {"request_rate": 5}, OPEN), ("vllm-good1.json", {"request_rate": "fast"}, UNKNOWN),
    ("vllm-good1.json", {"request_rate": 0}, UNKNOWN), ("vllm-good1.json", {"request_rate": float("inf")}, CLOSED),
    ("vllm-good1.json", {"ramp_up_strategy": "linear"}, CHANGING), ("vllm-good1.json", {"rps_change_events": [{"rps": 1}]}, CHANGING),
    ("vllm-cap.json", {}, OPEN), ("sglang-good.jsonl", {}, CLOSED), ("sglang-good.jsonl", {"request_rate": "inf"}, CLOSED),
    ("sglang-good.jsonl", {"request_rate": "trace"}, TRACE), ("sglang-good.jsonl", {"max_concurrency": None}, BURST),
    ("sglang-good.jsonl", {"dataset_name": "mooncake", "backend": "sglang"}, TRACE), ("sglang-cap.jsonl", {}, OPEN),
    ("sglang-good.jsonl", {"request_rate": None}, UNKNOWN), ("vllm-good1.json", {"max_concurrency": 0}, UNKNOWN),
])  # fmt: skip
def test_the_kind_of_load_is_read_or_unknown(tmp_path: Path, name: str, values: dict[str, Any], kind: LoadKind) -> None:
    assert changed(tmp_path, name, **values).load is kind


def guidellm(folder: Path, **strategy: Any) -> Imported:
    doc = json.loads((DATA / "guidellm-good1.json").read_text())
    doc["benchmarks"][0]["config"] = {"strategy": strategy, "profile": {"kind": "x", "max_concurrency": None}}
    (folder / "g.json").write_text(json.dumps(doc))
    return read(folder / "g.json")[0]


@pytest.mark.parametrize(("strategy", "kind"), [
    ({"type_": "synchronous"}, CLOSED), ({"type_": "concurrent", "streams": 4}, CLOSED), ({"type_": "concurrent"}, UNKNOWN),
    ({"type_": "throughput", "max_concurrency": 512}, BURST), ({"type_": "constant", "rate": 3.0}, OPEN),
    ({"type_": "poisson", "rate": 3.0}, OPEN),
    ({"type_": "poisson"}, UNKNOWN), ({"type_": "constant", "rate": 3.0, "rampup_duration": 10.0}, CHANGING),
    ({"type_": "novel"}, UNKNOWN), ({}, UNKNOWN),
])  # fmt: skip
def test_guidellms_strategies(tmp_path: Path, strategy: dict[str, Any], kind: LoadKind) -> None:
    assert guidellm(tmp_path, **strategy).load is kind


def aiperf(folder: Path, config: dict[str, Any]) -> Imported:
    doc = json.loads((DATA / "aiperf-good/profile_export_aiperf.json").read_text())
    doc["input_config"] = {k: v for k, v in doc["input_config"].items() if k != "phases"} | config
    (folder / "a.json").write_text(json.dumps(doc))
    return read(folder / "a.json")[0]


@pytest.mark.parametrize(("config", "kind"), [
    ({"phases": [{"type": "concurrency", "concurrency": 4}]}, CLOSED),
    ({"phases": [{"type": "gamma", "rate": 4, "concurrency": 4}]}, OPEN),
    ({"phases": [{"type": "fixed_schedule"}]}, TRACE), ({"phases": [{"type": "user_centric", "rate": 2, "users": 3}]}, UNKNOWN),
    ({"phases": [{"concurrency": 4}]}, UNKNOWN),
    ({"phases": [{"type": "concurrency", "concurrency": 4, "concurrency_ramp": 30}]}, UNKNOWN),
    ({"phases": [{"type": "concurrency", "concurrency": 4}, {"type": "constant", "rate": 1}]}, UNKNOWN), ({}, UNKNOWN),
    ({"phases": [{"kind": "warmup", "type": "concurrency", "concurrency": 1}, {"type": "poisson", "rate": 2}]}, OPEN),
    ({"loadgen": {"concurrency": 4}}, CLOSED), ({"loadgen": {"request_rate": 4, "request_rate_mode": "poisson"}}, OPEN),
    ({"loadgen": {"concurrency": 4, "request_rate_mode": "poisson"}}, UNKNOWN),
    ({"loadgen": {"concurrency": 4}, "input": {"fixed_schedule": True}}, TRACE),
])  # fmt: skip
def test_aiperfs_modes_of_both_schemas(tmp_path: Path, config: dict[str, Any], kind: LoadKind) -> None:
    assert aiperf(tmp_path, config).load is kind


def test_a_sample_of_the_requests_is_not_the_run(tmp_path: Path) -> None:
    doc = json.loads((DATA / "guidellm-good1.json").read_text())
    entry = doc["benchmarks"][0]
    entry["requests"]["successful"] = entry["requests"]["successful"][:5]
    entry["config"]["sample_size"] = 5
    (tmp_path / "g.json").write_text(json.dumps(doc))
    (run,) = read(tmp_path / "g.json")
    assert run.unlisted == "every request: the file lists 5 of 16 (sample_size 5)"
    assert (run.requests, run.prompts, run.send_lag_s, run.completed, run.asked) == ((), (), (), 16, 16)


def test_what_still_ran_is_not_failed(tmp_path: Path) -> None:
    doc = json.loads((DATA / "guidellm-good1.json").read_text())
    doc["benchmarks"][0]["metrics"]["request_totals"] = {"successful": 16, "errored": 0, "incomplete": 3, "total": 19}
    (tmp_path / "g.json").write_text(json.dumps(doc))
    (run,) = read(tmp_path / "g.json")
    assert (run.completed, run.failed, run.incomplete, run.asked) == (16, 0, 3, 19)


@pytest.mark.parametrize("how", ["another run", "fewer", "cut", "not JSON"])
def test_records_beside_a_summary_must_be_its_own(tmp_path: Path, how: str) -> None:
    folder = Path(shutil.copytree(DATA / "aiperf-good", tmp_path / "a"))
    records = folder / "profile_export.jsonl"
    lines = records.read_bytes().splitlines(keepends=True)
    if how == "another run":
        shutil.copy(DATA / "aiperf-same2/profile_export.jsonl", records)
    else:
        records.write_bytes({"fewer": b"".join(lines[:9]), "cut": b"".join(lines)[:-40], "not JSON": b"x"}[how])
    (run,) = read(folder)
    assert run.unlisted and run.requests == () and run.records == () and run.send_lag_s == ()
    assert run.stat("ttft").p50 == pytest.approx(1.0, rel=0.03) and run.completed == 16 and run.contradicts == ()


def test_failed_is_unknown_where_nothing_counts_it(tmp_path: Path) -> None:
    doc = json.loads((DATA / "aiperf-good/profile_export_aiperf.json").read_text())
    for kept, failed in ((doc, 0), ({k: v for k, v in doc.items() if k != "error_summary"}, None)):
        (tmp_path / "a.json").write_text(json.dumps(kept))
        assert read(tmp_path / "a.json")[0].failed == failed
    assert changed(tmp_path, "vllm-aggregates.json", failed=...).failed is None
    assert changed(tmp_path, "sglang-ratio.jsonl").failed is None


def zeros(metric: str) -> dict[str, float]:
    return {f"{k}_{metric}_ms": 0.0 for k in ("mean", "median", "p50", "p90", "p99")}


def test_zeros_are_unknown_and_the_tpot_that_rests_on_them_is_named(tmp_path: Path) -> None:
    run = changed(tmp_path, "vllm-aggregates.json", **zeros("ttft"), **zeros("itl"))
    assert set(run.metrics) == {"e2e_latency"} and set(run.zeros) == {"ttft", "itl"}
    assert [name.split(",")[0] for name in run.aside] == ["tpot"]
    one_token = changed(tmp_path, "vllm-aggregates.json", **zeros("tpot"))
    assert set(one_token.zeros) == {"tpot"} and not one_token.stat("ttft").empty and one_token.aside == {}


def test_answers_without_text_among_others_are_counted(tmp_path: Path) -> None:
    doc = json.loads((DATA / "vllm-good1.json").read_text())
    run = changed(tmp_path, "vllm-good1.json", ttfts=[0.0] * 4 + doc["ttfts"][4:], itls=[[]] * 4 + doc["itls"][4:])
    assert run.zeros["ttft"] == ("4 of 16 answers",) and run.stat("ttft").n == 12 and run.failed == 0
    assert "tpot" not in run.metrics


def test_a_text_of_no_token_is_no_answer(tmp_path: Path) -> None:
    run = changed(tmp_path, "sglang-good.jsonl", total_output_tokens_retokenized=0)
    assert "counted as completed" in run.silent and dict(run.metrics) == {}
    assert (run.output_throughput, run.output_tokens, run.request_throughput) == (None, None, None)


@pytest.mark.parametrize(("values", "said"), [
    ({"request_throughput": 29.4}, "request throughput"), ({"output_throughput": 2352.0}, "output throughput"),
    ({"mean_ttft_ms": 1.0}, "by its list"), ({"p99_tpot_ms": 1.0}, "is above its p99"), ({"num_prompts": 9}, ""),
])  # fmt: skip
def test_figures_that_the_file_disproves_are_named(tmp_path: Path, values: dict[str, Any], said: str) -> None:
    run = changed(tmp_path, "vllm-good1.json", **values)
    assert any(said in c for c in run.contradicts) if said else run.unlisted


RELATIVES: dict[str, Any] = {
    "genai-bench": {"aggregated_metrics": {}, "individual_request_metrics": []},
    "inference-perf": {"load_summary": {"count": 3}, "successes": {"count": 3}, "failures": {"count": 0}},
    "guidellm before 0.2": {"benchmarks": [{"mode": "sweep", "results": []}]},
    "perf_analyzer": {"experiments": [], "service_kind": "openai"},
    "vllm bench throughput": {"elapsed_time": 1.0, "num_requests": 4, "tokens_per_second": 9.0},
}


@pytest.mark.parametrize("name", RELATIVES)
def test_a_relative_is_refused_by_name(tmp_path: Path, name: str) -> None:
    (tmp_path / "x.json").write_text(json.dumps(RELATIVES[name]))
    for path in (tmp_path, tmp_path / "x.json"):
        with pytest.raises(WrongUse, match=name):
            read(path)


@pytest.mark.parametrize("unit", ["_s", "", "_us"])
@pytest.mark.parametrize("name", ["vllm-aggregates.json", "sglang-ratio.jsonl"])
def test_a_fork_in_another_unit_is_refused_and_not_half_read(tmp_path: Path, name: str, unit: str) -> None:
    doc = json.loads((DATA / name).read_text().splitlines()[0])
    (tmp_path / "x.json").write_text(
        json.dumps({k.removesuffix("_ms") + (unit if k.endswith("_ms") else ""): v for k, v in doc.items()})
    )
    with pytest.raises(WrongUse, match="not in milliseconds"):
        read(tmp_path / "x.json")
