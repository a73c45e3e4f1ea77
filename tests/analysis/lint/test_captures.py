"""Real captures with a planted fault: each fault is found, and nothing in a good run is called wrong."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from profile_and_optimize.analysis.lint import lint
from profile_and_optimize.analysis.lint.finding import Finding, Given, Lint, Severity
from profile_and_optimize.importers import read
from profile_and_optimize.ops.base import all_ops

DATA = Path(__file__).parents[2] / "data/importers"

# capture -> codes called wrong, all of them; codes called weak, at least these.
PLANTED: dict[str, tuple[set[str], set[str]]] = {
    "vllm-good1.json": (set(), {"one-run", "p99-from-too-few"}),
    "vllm-aggregates.json": (set(), {"one-run"}),
    "vllm-rate.json": (set(), set()),
    "vllm-sweep": (set(), set()),
    "vllm-role.json": ({"role-chunk"}, set()),
    "vllm-chunks-of-4.json": (set(), {"coalesced-chunks"}),
    "vllm-errors.json": ({"failed-hidden"}, set()),
    "vllm-cut.json": ({"failed-hidden"}, set()),
    "vllm-cap.json": ({"semaphore", "rate-not-delivered"}, set()),
    "vllm-few.json": ({"too-few-requests"}, set()),
    "vllm-late.json": ({"late-client", "coalesced-chunks"}, set()),
    "sglang-good.jsonl": (set(), {"tokens-assumed"}),
    "sglang-two.jsonl": ({"warm-prefix"}, set()),
    "sglang-errors.jsonl": ({"failed-hidden"}, set()),
    "sglang-cap.jsonl": ({"semaphore"}, set()),
    "sglang-ratio.jsonl": (set(), {"lengths"}),
    "sglang-late.jsonl": ({"coalesced-chunks"}, set()),
    "aiperf-good": (set(), {"tpot-by-another-name", "lengths"}),
    "aiperf-chunks-of-4": (set(), {"coalesced-chunks"}),
    "aiperf-errors": ({"failed-hidden"}, set()),
    "aiperf-few-prompts": (set(), {"warm-prefix"}),
    "aiperf-cap": ({"semaphore"}, set()),
    "guidellm-good1.json": (set(), {"tpot-by-another-name"}),
    "guidellm-chunks-of-4.json": (set(), {"coalesced-chunks"}),
    "guidellm-errors.json": ({"failed-hidden"}, set()),
    "guidellm-cap.json": ({"semaphore"}, set()),
}


def linted(*names: str | Path) -> Lint:
    """Each name is one side."""
    return lint([Given(str(n), read(DATA / n)) for n in names])


def codes(found: Lint, severity: Severity) -> set[str]:
    return {f.code for f in found.findings if f.severity is severity}


def the(found: Lint, code: str) -> Finding:
    return next(f for f in found.findings if f.code == code)


@pytest.mark.parametrize("name", PLANTED)
def test_what_was_planted_is_what_is_found(name: str) -> None:
    found = linted(name)
    wrong, weak = PLANTED[name]
    assert codes(found, Severity.WRONG) == wrong
    assert weak <= codes(found, Severity.WEAK)


def test_a_role_chunk_gives_the_ttft_without_it() -> None:
    seen = the(linted("vllm-role.json"), "role-chunk").seen
    assert "TTFT p50 3.8 ms" in seen and "1006 ms" in seen  # the truth is 1000 ms


def test_a_role_chunk_is_not_suspected_where_the_tool_skips_it() -> None:
    for name in ("sglang-good.jsonl", "aiperf-good", "vllm-good1.json"):
        assert "role-chunk" not in {f.code for f in linted(name).findings}


def test_latency_under_a_cap_is_given_from_when_requests_were_due() -> None:
    seen = the(linted("vllm-cap.json"), "semaphore").seen
    assert "E2E p50 is 1353 ms as reported, 2655 ms from when it was due" in seen


def test_names_are_translated_with_their_values() -> None:
    seen = the(linted("guidellm-good1.json"), "tpot-by-another-name").seen
    assert "inter_token_latency_ms p50 49.9 ms is TPOT" in seen
    assert "time_per_output_token_ms p50 169.5 ms is end-to-end latency / osl" in seen
    seen = the(linted("aiperf-chunks-of-4"), "tpot-by-another-name").seen
    assert "its inter_token_latency p50 7.2 ms is TPOT" in seen and "inter_chunk_latency p50 50.7 ms is ITL" in seen


def test_a_p99_of_16_requests_has_no_upper_bound() -> None:
    assert "no upper bound" in the(linted("vllm-good1.json"), "p99-from-too-few").seen


def test_the_same_seed_twice_is_seen_in_prompts_and_in_lengths(tmp_path: Path) -> None:
    for tool, names in (
        ("vllm", ("vllm-same-seed1.json", "vllm-same-seed2.json")), ("guidellm", ("guidellm-good1.json", "guidellm-good2.json")),
        ("aiperf", ("aiperf-same1", "aiperf-same2")),
    ):  # fmt: skip
        for name in names:
            copy = shutil.copytree if (DATA / name).is_dir() else shutil.copy
            (tmp_path / tool).mkdir(exist_ok=True)
            copy(DATA / name, tmp_path / tool / name)
        finding = the(linted(tmp_path / tool), "warm-prefix")
        assert finding.severity is Severity.WRONG, tool
        assert "those of" in finding.seen, tool


def test_another_seed_in_each_run_is_not_called_warm(tmp_path: Path) -> None:
    for name in ("vllm-good1.json", "vllm-good2.json"):
        shutil.copy(DATA / name, tmp_path)
    found = linted(tmp_path)
    assert not {f.code for f in found.findings} & {"warm-prefix", "one-run"}


def test_what_a_file_cannot_show_is_said() -> None:
    unchecked = {u.code for u in linted("vllm-aggregates.json").unchecked}
    assert {"late-client", "role-chunk", "warm-prefix", "ramp-in-throughput"} <= unchecked
    assert "late-client" in {u.code for u in linted("sglang-good.jsonl").unchecked}


def test_a_run_of_a_sweep_that_died_is_no_secret(tmp_path: Path) -> None:
    shutil.copytree(DATA / "vllm-sweep", tmp_path / "sweep")
    (tmp_path / "sweep/BENCH--max_concurrency=4/run=2.failure.json").write_text('{"error": "died"}')
    assert "run=2.failure.json" in the(linted(tmp_path / "sweep"), "failed-hidden").seen


def test_two_tools_side_by_side_at_one_load_are_two_contexts() -> None:
    finding = the(linted("vllm-good1.json", "guidellm-good1.json"), "different-context")
    assert finding.severity is Severity.WRONG and "client: vllm | guidellm 0.8.1" in finding.seen


def test_two_loads_side_by_side_are_a_sweep_and_no_comparison() -> None:
    folder = DATA / "vllm-sweep"
    found = linted(folder / "BENCH--max_concurrency=2", folder / "BENCH--max_concurrency=4")
    assert not {f.code for f in found.findings} & {"different-context", "order"}


def test_every_finding_says_what_why_and_what_to_do() -> None:
    for name in PLANTED:
        for f in linted(name).findings:
            assert len(f.seen) > 10 and len(f.why) > 20 and len(f.fix) > 10 and "None" not in f.seen + f.fix, f


def test_every_command_of_ours_that_a_fix_names_is_one_the_program_takes() -> None:
    named = {line for name in PLANTED for f in linted(name).findings for line in re.findall(r"pao [^;,(`]*", f.fix)}
    assert len(named) > 5
    for line in named:
        verb, *rest = line.split()[1:]
        op = all_ops()[verb]
        flags = {word.removeprefix("--").replace("-", "_") for word in rest if word.startswith("--")} - {"json"}
        assert flags <= set(op.request.model_fields), line
