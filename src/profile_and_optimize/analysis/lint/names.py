"""Figures whose name means something else here: what they are in our terms."""

from __future__ import annotations

from collections.abc import Iterator

from profile_and_optimize.analysis.lint.finding import Finding, Said, Severity, ms
from profile_and_optimize.importers.base import Imported
from profile_and_optimize.importers.settle import E2E_OVER_TOKENS


def tpot_by_another_name(run: Imported) -> Iterator[Said]:
    """aiperf, genai-perf and guidellm call TPOT inter-token latency; guidellm's TPOT is the end-to-end time over all tokens."""
    name, tpot = run.named.get("tpot", ""), run.stat("tpot").p50
    if not name.startswith("inter_token_latency") or tpot is None:
        return
    said = [f"its {name} p50 {ms(tpot)} is TPOT, (last - first) / (osl - 1)"]
    if (itl := run.stat("itl").p50) is not None:
        said.append(f"its {run.named['itl']} p50 {ms(itl)} is ITL, the gaps")
    said += [
        f"its {n} p50 {ms(s.p50)} is end-to-end latency / osl, which holds the TTFT"
        for n, s in run.aside.items()
        if s.p50 and n != E2E_OVER_TOKENS
    ]
    if run.tool == "genai-perf" and run.version is None:
        said.append(
            "so in newer genai-perf; the file names no version, and older ones averaged the gaps between responses"
        )
    yield Finding(
        "tpot-by-another-name", Severity.WEAK, run.path, "; ".join(said),
        "set beside another tool's column of the same name it compares two different formulas",
        "read them under the names above, as `pao lint RESULT --json` gives them",
    )  # fmt: skip
