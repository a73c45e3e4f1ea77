"""From a bf16 model to a quantized champion in one `pao optimize`: INT8 and NVFP4, gate, three-way, champion.

    python bench/quant_road.py --model DIR --questions FILE.jsonl [--targets int8,nvfp4] [--vendor DIR] [--blocks 4]

Quantizes, asks the questions, measures base, its twin and every checkpoint in shared blocks, and verifies. Needs the tool
environments vllm and ptq, and a machine that does nothing else. Two runs are of interest: a small model with both targets and
a vendor's checkpoint, and one of 400M parameters or more with int8 alone, which is to be BETTER at equal accuracy.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

PAO = Path(sys.executable).with_name("pao")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, type=Path)
    parser.add_argument("--questions", required=True)
    parser.add_argument("--targets", default="int8,nvfp4")
    parser.add_argument("--vendor")
    parser.add_argument("--suite", default="demo-short")
    parser.add_argument("--blocks", type=int, default=4)
    parser.add_argument("--concurrency", type=int)
    parser.add_argument("--requests", type=int)
    parser.add_argument("--calib", help="calibration text; default that of pao quantize")
    parser.add_argument("--samples", type=int, default=64)
    parser.add_argument("--seq-len", type=int, default=256)
    parser.add_argument("--keep", type=Path, help="folder for the run and the checkpoints")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="pao-road-") as scratch:
        answer, minutes = road(asked, (asked.keep or Path(scratch)).absolute() / "campaigns")
        result = answer["result"]
        compared = json.loads((Path(result["path"]) / "quant_compare.json").read_text())
        verified = subprocess.run([PAO, "verify", result["path"]], stdout=subprocess.DEVNULL).returncode == 0
    text = table(asked, result, compared, verified, minutes)
    print(text)
    asked.out.mkdir(parents=True, exist_ok=True)
    (asked.out / f"quant_road-{asked.model.name}-{time.strftime('%Y-%m-%d')}.md").write_text(text)
    return 0 if verified else 1


def road(asked: argparse.Namespace, space: Path) -> tuple[dict[str, Any], float]:
    began = time.monotonic()
    named = {n: getattr(asked, n) for n in ("vendor", "concurrency", "requests", "calib")}
    more = [f"--{n}={v}" for n, v in named.items() if v is not None]
    argv = [
        str(PAO), "optimize", "--model", str(asked.model.resolve()), "--engines", "vllm", "--suite", asked.suite,
        "--quant-target", asked.targets, "--questions", asked.questions, "--samples", str(asked.samples),
        "--seq-len", str(asked.seq_len), "--max-arms", str(arms(asked)), "--blocks", str(asked.blocks),
        "--campaigns-dir", str(space), "--budget-minutes", "600", "--i-understand-this-submits-jobs", "--json", *more,
    ]  # fmt: skip
    print(" ".join(argv), file=sys.stderr, flush=True)
    done = subprocess.run(argv, stdout=subprocess.PIPE, text=True)
    answer = json.loads(done.stdout)
    if not answer["ok"]:
        raise SystemExit(str(answer["error"]))
    return answer, (time.monotonic() - began) / 60


def arms(asked: argparse.Namespace) -> int:
    """Base, twin and checkpoints, so that no lever of the engine is among them."""
    return max(3, 2 + len(asked.targets.split(",")) + bool(asked.vendor))


def table(
    asked: argparse.Namespace, result: dict[str, Any], compared: dict[str, Any], verified: bool, minutes: float
) -> str:
    lines = [
        f"# A quantized champion: {asked.model.name}", "",
        f"{time.strftime('%Y-%m-%d')}, {platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}; suite "
        f"{asked.suite}, at most {asked.blocks} blocks, calibration {asked.samples} x {asked.seq_len} tokens, tolerance "
        f"{compared['tolerance_points']:g} points, {minutes:.0f} minutes in all, verify {'holds' if verified else 'DOES NOT HOLD'}.", "",
        "| checkpoint | role | format | size | KL to base | right | net loss, points | accuracy | median TPOT ms | tok/s | speed |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]  # fmt: skip
    lines += [row(r) for r in compared["rows"]]
    lines += ["", *(f"- {v['ours']}: **{v['verdict']}** ({v['tier']}): {v['why']}" for v in compared["verdicts"])]
    lines += [f"- {name}: {effect(e)}" for name, e in compared["between"].items()]
    lines += [f"- champion: {result['pick']} ({result['tier']}): {result['why']}"]
    lines += [f"- not passed: {g['name']}: {g['reason']}" for g in result["gates"] if g["passed"] is not True]
    return "\n".join(lines) + "\n"


def row(r: dict[str, Any]) -> str:
    right, kl = r["accuracy"], (r["kl_base"] or {}).get("reloaded")
    ends = [r[f"loss_{end}points"] for end in ("", "lower_", "upper_")]
    loss = "" if ends[0] is None else f"{ends[0]:+.2f} ({ends[1]:+.2f} to {ends[2]:+.2f})"
    cells = (
        r["cell"], r["role"], r["format"], number(r["size_ratio"], ".2f"), number(kl, ".2g"),
        f"{right['right']} of {right['n']}" if right else "unknown", loss, r["accuracy_gate"] or "",
        number(r["tpot_ms_median"], ".2f"), number(r["output_throughput_tok_s_median"], ".1f"),
        r["failure"] or ("the reference" if r["role"] == "base" else effect(r["effect"])),
    )  # fmt: skip
    return "| " + " | ".join(cells) + " |"


def number(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)


def effect(e: dict[str, Any] | None) -> str:
    if e is None or e["lower"] is None:
        return "unknown"
    return f"{e['call']} {e['estimate']:+.1%} ({e['lower']:+.1%} to {e['upper']:+.1%}), {e['blocks']} blocks"


if __name__ == "__main__":
    sys.exit(main())
