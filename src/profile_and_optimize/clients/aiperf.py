"""`aiperf profile` as a client.

It is asked through one file, so that nothing of a load stands in the process list; the file names the variable that
holds the token. Its per-request export gives times on the wall clock, in nanoseconds; a request is intended when its
credit was issued. It sends three identifying headers of its own with every request.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from profile_and_optimize.clients.base import LoadRequest
from profile_and_optimize.clients.external import (
    GRACE_S,
    PromptIndex,
    Told,
    bearer,
    drive,
    environment,
    stand_in_tokenizer,
    whole_order,
)  # fmt: skip
from profile_and_optimize.core.records import ClientRun
from profile_and_optimize.engines.base import Command
from profile_and_optimize.importers import aiperf
from profile_and_optimize.importers.base import Imported
from profile_and_optimize.importers.reading import read_values
from profile_and_optimize.toolenv.find import ToolEnv

KEY_VARIABLE = "PAO_CLIENT_KEY"
RESULTS = "results"


class AiperfClient:
    """See `Client`. `grace_s` is what it may take beyond the requests' own timeouts."""

    name = "aiperf"
    tool = "aiperf"

    def __init__(self, env: ToolEnv, grace_s: float = GRACE_S) -> None:
        self.env, self.grace_s = env, grace_s
        self.version = env.version("aiperf") or "unknown"

    def run(self, load: LoadRequest, *, workdir: Path) -> ClientRun:
        return drive(self, load, workdir, grace_s=self.grace_s)

    def command(self, load: LoadRequest, workdir: Path) -> Command:
        prompts, config = workdir / "prompts.jsonl", workdir / "config.yaml"
        rows = ({"text": prompt, "output_length": load.max_tokens(i)} for i, prompt in enumerate(load.prompts))
        prompts.write_text("".join(json.dumps(row) + "\n" for row in rows))
        tokenizer = stand_in_tokenizer(workdir / "tokenizer")
        config.write_text(json.dumps(_config(load, prompts, tokenizer, workdir / RESULTS)))
        # Offline, its check of the tokenizer's name would refuse a folder; the unreachable hub keeps it from looking.
        extra = {"HF_HUB_OFFLINE": None, KEY_VARIABLE: bearer(load)}
        return Command((str(self.env.bin_dir / "aiperf"), "profile", "-f", str(config)), environment(workdir, extra))

    def told(self, load: LoadRequest, workdir: Path) -> Told:
        folder = workdir / RESULTS
        path = folder / aiperf.SUMMARY
        found = aiperf.as_told(read_values(path)[0], str(path), folder)
        if not found.records:
            raise ValueError("no request times in it")
        by_server = found.facts.get("token_counts") == "server"
        order = _order(load, found)
        records = tuple(
            replace(r, index=at, completion_tokens=r.completion_tokens if by_server else None,
                    prompt_tokens=r.prompt_tokens if by_server else None)
            for r, at in zip(found.records, order, strict=True)
        )  # fmt: skip
        span_s = (max(r.done_ns for r in records) - min(r.sent_ns for r in records)) * 1e-9
        return Told(records, _t0_s(folder / aiperf.RECORDS), found.duration_s or span_s)


def _config(load: LoadRequest, prompts: Path, tokenizer: Path, results: Path) -> dict[str, Any]:
    endpoint: dict[str, Any] = {
        "url": load.url, "type": load.api, "streaming": True, "timeout": load.timeout_s, "useServerTokenCount": True,
        "useLegacyMaxTokens": True, "extra": {"temperature": load.temperature} | ({"ignore_eos": True} if load.ignore_eos else {}),
    }  # fmt: skip
    if bearer(load):
        endpoint["apiKey"] = f"${{{KEY_VARIABLE}}}"
    phase = {"name": "profiling", "type": "concurrency", "concurrency": load.concurrency, "requests": len(load.prompts)}
    return {
        "schemaVersion": "2.0",
        "benchmark": {
            "model": load.model, "endpoint": endpoint, "tokenizer": {"name": str(tokenizer)}, "phases": [phase],
            "dataset": {"type": "file", "path": str(prompts), "format": "single_turn", "sampling": "sequential"},
            "gpuTelemetry": {"enabled": False}, "serverMetrics": {"enabled": False}, "runtime": {"ui": "none"},
            "artifacts": {"dir": str(results), "summary": ["json"], "records": ["jsonl"], "raw": False},
        },
    }  # fmt: skip


def _order(load: LoadRequest, found: Imported) -> list[int]:
    """Which prompt each listed request had; it lists them in the order in which they ended."""
    where = PromptIndex(load.prompts)
    taken = [where.take(digest) for digest in found.prompts] or [None] * len(found.requests)
    return whole_order(taken, len(load.prompts), name="aiperf", failed=[not r.ok for r in found.requests])


def _t0_s(path: Path) -> float:
    """The moment its records count from: the first credit of the timed phase, seconds on the wall clock."""
    lines = [line["metadata"] for line in read_values(path)]
    timed = [m for m in lines if m.get("benchmark_phase") in (None, "profiling")]
    return float(min(m.get("credit_issued_ns") or m["request_start_ns"] for m in timed)) * 1e-9
