"""The levers whose effect is known, on a real vLLM: does a campaign call them right?

    python bench/live_levers.py --model .demo/model [--blocks 3] [--out bench/results]

At concurrency 8 against the engine's own defaults: `max_num_seqs=1` must be WORSE, `--enforce-eager` WORSE or UNKNOWN
with the blocks it would take, the A/A arm must not win, an arm that cannot start must be a failed cell with its
reason. Beside it: client mean TPOT against the engine's own histogram, and the share of valid trials.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

import yaml

from profile_and_optimize.analysis.decide import Decision, decide, ratio_words
from profile_and_optimize.campaign.evidence_of import Evidence, load_evidence
from profile_and_optimize.cli.main import run as pao
from profile_and_optimize.core.trial import Validity
from profile_and_optimize.core.verdict import Call

ACK = "--i-understand-this-submits-jobs"


def config(model: str, blocks: int, questions: str) -> dict[str, object]:
    cells: list[dict[str, object]] = [
        {"cell_id": "defaults", "role": "baseline"},
        {"cell_id": "defaults-again", "role": "aa"},
        {
            "cell_id": "one-sequence",
            "flags": {"max-num-seqs": 1},
            "lever": "one sequence at a time",
            "predicted": [0.2, 0.5],
        },
        {"cell_id": "eager", "flags": ["--enforce-eager"], "lever": "no compilation", "predicted": [0.75, 0.95]},
        {"cell_id": "fp8-online", "flags": {"quantization": "fp8"}, "lever": "a kernel this device lacks"},
    ]
    return {
        "name": "live-levers", "model": model, "engine": "vllm", "focus": "throughput", "blocks": blocks, "concurrencies": [8],
        "requests": 32, "questions": questions, "workloads": [{"name": "short-chat", "isl": 64, "osl": 64}], "cells": cells,
    }  # fmt: skip


def campaign(args: argparse.Namespace, space: Path) -> Path:
    file = space / "live-levers.yaml"
    file.write_text(yaml.safe_dump(config(args.model, args.blocks, args.questions)))
    where = ("--campaigns-dir", str(space))
    for argv in (
        ("campaign_init", "--config", str(file)),
        ("campaign_run", "live-levers", ACK),
        ("report_render", "live-levers"),
    ):
        code = pao([*argv, *where])
        if code != 0:
            sys.exit(code)
    return next(p for p in space.iterdir() if p.name.endswith("-live-levers"))


def bars(ev: Evidence, d: Decision) -> list[tuple[str, bool, str]]:
    one, eager, failed = d.effects["one-sequence"], d.effects["eager"], d.failed
    ratios = [t.honesty.server_tpot_ratio for t in ev.trials if t.honesty.server_tpot_ratio is not None]
    fifo = all(t.honesty.scheduler == "fifo" for t in ev.trials)
    limit = 0.02 if fifo else 0.05
    worst = max(ratios, key=lambda r: abs(r - 1)) if ratios else float("nan")
    valid = sum(t.honesty.validity is Validity.VALID for t in ev.trials) / max(1, len(ev.trials))
    told = eager.call is Call.WORSE or (eager.call is Call.UNKNOWN and "blocks" in eager.reason)
    aa = d.aa
    return [
        ("max_num_seqs=1 is WORSE", one.call is Call.WORSE, f"{one.call}: {ratio_words(one)}"),
        ("--enforce-eager is WORSE, or UNKNOWN with the blocks it would take", told, f"{eager.call}: {ratio_words(eager)}; {eager.reason}"),
        ("the A/A arm does not win", aa is not None and aa.call is not Call.BETTER, ratio_words(aa) if aa else "not run"),
        ("an arm that cannot start is a failed cell", bool(failed.get("fp8-online")), failed.get("fp8-online", "it started")),
        (f"client mean TPOT within {limit:.0%} of the engine's histogram ({'FIFO' if fifo else 'no FIFO'})", abs(worst - 1) <= limit,
         f"worst of {len(ratios)} trials {worst:.4f}"),
        ("at least 90% of trials valid", valid >= 0.9, f"{valid:.0%} of {len(ev.trials)}"),
    ]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--questions", default="demo/heldout.jsonl")
    parser.add_argument("--blocks", type=int, default=3)
    parser.add_argument("--space", type=Path, default=None, help="keep the campaign here")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    args = parser.parse_args()
    load = os.getloadavg()[0]
    space = args.space or Path(tempfile.mkdtemp(prefix="pao-live-"))
    space.mkdir(parents=True, exist_ok=True)
    run = campaign(args, space)
    ev = load_evidence(run)
    d = decide(ev)
    rows = bars(ev, d)
    engine = ev.trials[0].file.context["engine_version"]["observed"]
    text = "\n".join([
        "# Live levers on vLLM", "",
        f"{time.strftime('%Y-%m-%d')}, {platform.machine()}, {ev.trials[0].file.context['hardware']['observed']}, {os.cpu_count()} cores, "
        f"load before {load:.2f}; vLLM {engine}, profile-and-optimize {version('profile-and-optimize')}; {len(d.selection.blocks)} blocks, "
        f"{len(ev.trials)} trials, concurrency 8, 64 in, 64 out.", "",
        "| bar | held | figure |", "|---|---|---|",
        *(f"| {name} | {'PASS' if ok else 'FAIL'} | {figure} |" for name, ok, figure in rows), "",
        f"Evidence root {ev.root}", "",
    ])  # fmt: skip
    args.out.mkdir(parents=True, exist_ok=True)
    stem = args.out / f"live_levers-{time.strftime('%Y-%m-%d')}"
    stem.with_suffix(".md").write_text(text)
    stem.with_suffix(".json").write_text(
        json.dumps({"rows": rows, "load_before": load, "root": ev.root}, indent=1) + "\n"
    )
    print(text)
    sys.exit(0 if all(ok for _, ok, _ in rows) else 1)


if __name__ == "__main__":
    main()
