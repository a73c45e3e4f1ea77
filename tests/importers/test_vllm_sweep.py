"""The layout of a vLLM sweep: a real one that started its own server, and what damage makes of it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from profile_and_optimize.importers import read
from profile_and_optimize.importers.vllm_sweep import Combination, combination_of, read_sweep

DATA = Path(__file__).parents[1] / "data/importers"
SERVED = DATA / "vllm-sweep-served"


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    return Path(shutil.copytree(SERVED, tmp_path / "sweep"))


@pytest.mark.parametrize(("name", "said"), [
    ("SERVE--eager-BENCH--chat.c8", Combination("eager", "chat.c8")),
    ("BENCH--max_concurrency=2", Combination("", "max_concurrency=2")),
    ("SERVE--mns16-WL--max_concurrency=11", Combination("mns16", "", "max_concurrency", 11.0)),
    ("SERVE--a-b-BENCH--short-WL--request_rate=2.5", Combination("a-b", "short", "request_rate", 2.5)),
    ("WL--max_concurrency=1", Combination("", "", "max_concurrency", 1.0)),
    ("elsewhere", Combination()),
])  # fmt: skip
def test_a_combination_is_named_by_its_folder(name: str, said: Combination) -> None:
    assert combination_of(name) == said


def test_a_real_sweep_is_its_runs_without_warm_ups_and_summaries() -> None:
    found = read_sweep(SERVED)
    assert found.lost == ()
    assert [(r.combination.serve, r.combination.bench, r.number, r.path) for r in found.runs] == [
        ("base", "short.c1", 0, "SERVE--base-BENCH--short.c1/run=0.json"),
        ("base", "short.c4", 0, "SERVE--base-BENCH--short.c4/run=0.json"),
    ]
    one, four = (r.result for r in found.runs)
    assert (one.concurrency, one.asked, one.completed, one.failed, len(one.records)) == (1, 12, 12, 0, 12)
    assert four.facts["random_input_len"] == "48" and four.facts["seed"] == "2" and one.facts["seed"] == "1"
    # 192 tokens in 2.672 s.
    assert four.output_throughput == pytest.approx(four.output_tokens / four.duration_s) and four.output_tokens == 192
    # Of the slots of a closed loop: what four slots could at most give at the median's pace.
    assert four.stat("e2e_latency").p50 == pytest.approx(four.stat("ttft").p50 + 15 * four.stat("tpot").p50, rel=0.25)


def test_the_general_reader_finds_the_same_runs() -> None:
    general = [Path(r.path).relative_to(SERVED).as_posix() for r in read(SERVED) if not r.path.endswith("warmup.json")]
    assert general == [r.path for r in read_sweep(SERVED).runs]


def test_where_the_runs_are_gone_the_summary_stands_in_for_them(sweep: Path) -> None:
    (sweep / "SERVE--base-BENCH--short.c1/run=0.json").unlink()
    paths = [r.path for r in read_sweep(sweep).runs]
    assert paths == ["SERVE--base-BENCH--short.c1/summary.json", "SERVE--base-BENCH--short.c4/run=0.json"]


def test_a_run_that_died_is_lost_with_its_reason(sweep: Path) -> None:
    folder = sweep / "SERVE--base-BENCH--short.c1"
    (folder / "run=0.json").rename(folder / "run=0.failure.json")
    (folder / "summary.json").unlink()
    told = {"error_type": "CalledProcessError", "error": "Command failed\nexit status 1"}
    (folder / "run=0.failure.json").write_text(json.dumps(told))
    found = read_sweep(sweep)
    assert [(x.combination.bench, x.reason) for x in found.lost] == [("short.c1", "CalledProcessError: exit status 1")]
    assert len(found.runs) == 1


@pytest.mark.parametrize("bad", [b"", b"{", b"\x00\xff", b"[]", b'{"num_prompts": "twelve"}', b"[" * 100_000])
def test_a_file_that_is_no_result_is_lost_and_not_a_crash(sweep: Path, bad: bytes) -> None:
    (sweep / "SERVE--base-BENCH--short.c4/run=0.json").write_bytes(bad)
    found = read_sweep(sweep)
    assert [x.path for x in found.lost] == ["SERVE--base-BENCH--short.c4/run=0.json"] and len(found.runs) == 1


def test_links_are_not_followed(sweep: Path, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    shutil.copy(sweep / "SERVE--base-BENCH--short.c4/run=0.json", tmp_path / "outside/run=0.json")
    (sweep / "SERVE--evil-BENCH--x").symlink_to(tmp_path / "outside")
    (sweep / "SERVE--base-BENCH--short.c4/run=1.json").symlink_to(tmp_path / "outside/run=0.json")
    assert len(read_sweep(sweep).runs) == 2
