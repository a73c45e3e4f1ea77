"""Base, ours and a vendor's checkpoint live on vLLM: the vendor's is made by the other backend and stripped of our records.

    python bench/three_way_live.py --model DIR --questions FILE.jsonl --ours modelopt:nvfp4 --vendor llm-compressor:nvfp4

Quantizes the base with both backends, makes of one a folder as a vendor publishes it (a shard with its index, a card, no record
of ours), runs `pao quant_compare` and `pao verify`, and prints what each row says. What is not known of the vendor's has to be
unknown: its KL, what it was made of, hence a DRAFT where it ships. Needs the tool environments vllm and ptq.
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

from profile_and_optimize.quant.vendor import vendor_scope
from profile_and_optimize.testing.quantized import vendor_like
from quant_road import effect, row

PAO = Path(sys.executable).with_name("pao")
ACK = "--i-understand-this-submits-jobs"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, type=Path)
    parser.add_argument("--questions", required=True)
    parser.add_argument("--ours", default="modelopt:nvfp4", help="BACKEND:TARGET")
    parser.add_argument(
        "--vendor", default="llm-compressor:nvfp4", help="BACKEND:TARGET of the one that plays the vendor's"
    )
    parser.add_argument("--flags", default="", help="of every arm, such as --flags=--enforce-eager")
    parser.add_argument("--blocks", type=int, default=2)
    parser.add_argument("--proof-blocks", type=int, default=0)
    parser.add_argument("--requests", type=int, default=8)
    parser.add_argument("--concurrency", type=int, default=2)
    parser.add_argument("--keep", type=Path, help="folder for the checkpoints and the run; what lies there is taken")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="pao-three-") as scratch:
        space = (asked.keep or Path(scratch)).absolute()
        ours, made = (quantized(asked, pair, space) for pair in (asked.ours, asked.vendor))
        theirs = space / f"vendor-{made.name}"
        vendor = theirs if theirs.is_dir() else vendor_like(made, theirs)
        result = compared(asked, ours, vendor, space)
        verified = subprocess.run([PAO, "verify", result["path"]], stdout=subprocess.DEVNULL).returncode == 0
    text = table(asked, result, vendor_scope(vendor).exclude, verified)
    print(text)
    asked.out.mkdir(parents=True, exist_ok=True)
    name = f"three_way_live-{asked.ours}-{asked.vendor}-{time.strftime('%Y-%m-%d')}.md".replace(":", "-")
    (asked.out / name).write_text(text)
    return 0 if verified and not known_of(result) else 1


def quantized(asked: argparse.Namespace, pair: str, space: Path) -> Path:
    backend, _, target = pair.partition(":")
    out = space / f"{target}-{backend}"
    if not out.is_dir():
        argv = [
            "quantize", "--model", str(asked.model.resolve()), "--backend", backend, "--target", target, "--samples", "64",
            "--seq-len", "128", "--out", str(out), ACK,
        ]  # fmt: skip
        subprocess.run([PAO, *argv], check=True)
    return out


def compared(asked: argparse.Namespace, ours: Path, vendor: Path, space: Path) -> dict[str, Any]:
    numbers = {n: getattr(asked, n.replace("-", "_")) for n in ("blocks", "proof-blocks", "requests", "concurrency")}
    argv = [
        str(PAO), "quant_compare", "--base", str(asked.model.resolve()), "--ours", str(ours), "--vendor", str(vendor),
        "--questions", asked.questions, "--suite", "demo-short", "--campaigns-dir", str(space / "campaigns"),
        "--name", f"{ours.name}-against-{vendor.name}", "--budget-minutes", "600", "--json",
        f"--flags={asked.flags}", *(f"--{n}={v}" for n, v in numbers.items()),
    ]  # fmt: skip
    print(" ".join(argv), file=sys.stderr, flush=True)
    answer = json.loads(subprocess.run(argv, stdout=subprocess.PIPE, text=True).stdout)
    if not answer["ok"]:
        raise SystemExit(str(answer["error"]))
    return dict(answer["result"])


def known_of(result: dict[str, Any]) -> list[str]:
    """Facts that the run claims to know of the vendor's checkpoint and cannot: none."""
    there = next(r for r in result["quant_compare"]["rows"] if r["role"] == "vendor")
    kept = json.loads((Path(result["path"]) / f"cells/{there['cell']}/raw/checkpoint.json").read_text())
    facts = {"kl_base": there["kl_base"], "records": kept["records"]}
    told = {n: kept["checkpoint"][n] for n in ("coverage", "roundtrip", "kl", "top1", "bits_per_weight")}
    names = {n: v for n, v in kept["checkpoint"].items() if n in ("base_digest", "job_digest") and v != "unknown"}
    return [n for n, v in {**facts, **told, **names}.items() if v not in (None, {})]


def table(asked: argparse.Namespace, result: dict[str, Any], scope: tuple[str, ...], verified: bool) -> str:
    found, model = result["quant_compare"], "/".join(asked.model.resolve().parts[-2:])
    lines = [
        f"# Ours ({asked.ours}) against a vendor-like checkpoint ({asked.vendor}), live on vLLM", "",
        f"{time.strftime('%Y-%m-%d')}, {platform.machine()}, {os.cpu_count()} cores, model {model}; suite demo-short, at "
        f"most {asked.blocks} blocks, proof of at most {asked.proof_blocks}, tolerance {found['tolerance_points']:g} points, "
        f"flags {asked.flags or 'none'}; verify "
        f"{'holds' if verified else 'DOES NOT HOLD'}.", "",
        "| checkpoint | role | format | size | KL to base | right | net loss, points | accuracy | median TPOT ms | tok/s | speed |",
        "|---|---|---|---|---|---|---|---|---|---|---|", *map(row, found["rows"]), "",
    ]  # fmt: skip
    for v in found["verdicts"]:
        lines.append(f"- {v['ours']}: **{v['verdict']}** ({v['tier']}): {v['why']}")
        lines += [f"  - open: {o}" for o in v["open"]]
    lines += [f"- {name}: {effect(e)}" for name, e in found["between"].items()]
    known = known_of(result)
    lines += [
        f"- {'FAIL' if known else 'PASS'} of the vendor's nothing is claimed that it does not say: {known or 'all unknown'}"
    ]
    lines += [f"- its scope, by --match-vendor: {', '.join(scope)}"]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
