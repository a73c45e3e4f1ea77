"""A slower checkpoint is explained by its kernels only where it was shown to be slower and a log names one that widens."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from profile_and_optimize.analysis.decide import decide
from profile_and_optimize.analysis.kernels import FALLBACK, SLOWER
from profile_and_optimize.analysis.three_way import three_way
from profile_and_optimize.campaign.evidence_of import load_evidence
from profile_and_optimize.campaign.session import ends_of
from profile_and_optimize.engines.kernels import CUT
from profile_and_optimize.ops.verify import check
from profile_and_optimize.optimize.publish import publish
from profile_and_optimize.testing.living import living_run
from profile_and_optimize.testing.quantized import QUANT, quantized_plan

BEGINS = (
    "INFO [core.py:133] Initializing a V1 LLM engine (v0.32.0) with config: model='m', quantization=modelopt_fp4, "
    "kv_cache_dtype=auto\n"
)
READY = "INFO [entry.py:140] Starting vLLM server on http://127.0.0.1:1\n"
MARLIN, CUTLASS = (
    f"INFO [__init__.py:1240] Using {k}NvFp4LinearKernel for NVFP4 GEMM\n" for k in ("Marlin", "Cutlass")
)


def campaign(
    folder: Path, words: str, *, tpot_ms: float = 14.0, flags: tuple[str, ...] = (), base: object = None, release: str = "0.32.0"
) -> Path:  # fmt: skip
    """Base and ours, served by vLLM at these speeds, 10 ms of the base; `words` are those of ours between start and ready."""
    (folder / "model").mkdir(parents=True)
    (folder / "model/config.json").write_text(json.dumps({"quantization_config": base} if base else {}))
    plan = quantized_plan(folder, vendor=False)
    arms = tuple(replace(a, engine="vllm", flags=flags if a.id == "ours" else ()) for a in plan.arms)
    speeds = {"baseline": 10.0, "aa": 10.0, "ours": tpot_ms}
    logs = {a.id: BEGINS + (words if a.id == "ours" else "") + READY for a in arms}
    whole = replace(plan, arms=arms, model=str(folder / "model"))
    return living_run(folder / "20261121T090000Z-q", whole, speeds=speeds, noise=0.002, logs=logs, release=release)


def findings(run: Path) -> list[dict[str, Any]]:
    ev = load_evidence(run)
    found = three_way(ev, decide(ev))
    assert found is not None
    return list(found["kernel_findings"])


def kinds(run: Path) -> list[str]:
    return [f["kind"] for f in findings(run)]


def test_slower_by_a_kernel_that_widens_is_a_finding_with_its_line_and_its_ratio(tmp_path: Path) -> None:
    run = campaign(tmp_path, MARLIN)
    fell, slow = findings(run)
    assert (fell["kind"], slow["kind"]) == (FALLBACK, SLOWER)
    assert fell["says"] == (
        "ours: linear: the checkpoint is made for arithmetic in nvfp4, MarlinNvFp4LinearKernel widens its weights instead"
    )
    # 14 ms a token where the base takes 10: about 28.6% less throughput, and a line that can be looked up.
    assert slow["effect"]["call"] == "WORSE" and slow["effect"]["estimate"] == pytest.approx(-0.27, abs=0.03)
    assert slow["says"].startswith("ours is slower than the unquantized baseline (-")
    assert slow["says"].endswith("the weights of its linear layers are dequantized by Marlin (MarlinNvFp4LinearKernel)")
    at = slow["line"]
    assert (run / at["log"]).read_text().split("\n")[at["number"] - 1] == at["says"] == MARLIN.rstrip("\n")


@pytest.mark.parametrize(("words", "tpot_ms", "flags", "found"), [
    (MARLIN, 7.0, (), [FALLBACK]),  # not slower
    (MARLIN, 10.0, (), [FALLBACK]),  # as fast
    (CUTLASS, 14.0, (), []),  # slower, by a kernel that does not widen
    ("", 14.0, (), []),  # slower, and no kernel named
    (MARLIN + CUTLASS, 14.0, (), []),  # two names
    (MARLIN, 14.0, ("--linear-backend", "marlin"), [SLOWER]),  # slower by what was asked for
    (MARLIN, 14.0, ("--linear-backend", "cutlass"), [FALLBACK, SLOWER]),
    (MARLIN, 14.0, ("--max-num-seqs", "1"), [FALLBACK]),  # the loss may be that of the other flag
])  # fmt: skip
def test_nothing_is_said_that_was_not_measured_and_named(
    words: str, tpot_ms: float, flags: tuple[str, ...], found: list[str], tmp_path: Path
) -> None:
    assert kinds(campaign(tmp_path, words, tpot_ms=tpot_ms, flags=flags)) == found


def test_no_arm_is_slower_than_an_unquantized_one_that_is_not_there(tmp_path: Path) -> None:
    assert kinds(campaign(tmp_path / "a", MARLIN, base=QUANT)) == [FALLBACK]
    assert kinds(campaign(tmp_path / "b", MARLIN, release="0.31.0")) == []


def test_pages_show_it_and_verify_derives_it_from_the_log(tmp_path: Path) -> None:
    run = campaign(tmp_path, MARLIN)
    ev = load_evidence(run)
    publish(ev, decide(ev))
    assert check(run)[0] == []
    page, told = (run / "report.html").read_text(), json.loads((run / "quant_compare.json").read_text())
    for text in ("Kernel asked", "MarlinNvFp4LinearKernel", "are dequantized by Marlin", "unknown: the log names none"):
        assert text in page
    assert told["schema"] == 2 and [x["group"] for x in told["layers"]["ours"]][:2] == ["quantization", "linear"]
    log = run / "cells/ours/raw/log-admission.txt"
    log.write_text(log.read_text().replace("Marlin", "Cutlas"))
    problems = check(run)[0]
    assert any("log-admission.txt" in p for p in problems) and any("quant_compare.json" in p for p in problems)


def test_a_long_log_keeps_its_start_and_its_end_in_whole_lines(tmp_path: Path) -> None:
    log = tmp_path / "engine.log"
    log.write_text("first\n" + "x" * 30 + "\n" + "y" * 30 + "\nlast\n")
    assert ends_of(log, 20).decode() == f"first\n{CUT} 62 bytes]\nlast\n"
    assert ends_of(log, 200) == log.read_bytes()
