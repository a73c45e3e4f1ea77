"""What does each format cost, ours beside the libraries' own defaults, and is all of it covered?

    python bench/small_models.py MODELS            once, in the ptq environment: a few minutes each
    python bench/quantize.py --models MODELS [--out bench/results]

For the demo model and each small model in MODELS, and each format of both backends: KL to the base and agreement of the first
token on held-out text, of the model in process and of what was written and read back; the size beside what the format
implies; how much is covered. The library's own default runs in the same process, right after, on the same text. Bars: every
export passes all of its checks, sizes are within 2%, and ours is no worse than the default (KL within 10% of it, or 1e-4).
About ten minutes of CPU; timings are not what it is about, so a busy machine only makes it longer.
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
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from profile_and_optimize.core.errors import PaoError
from profile_and_optimize.quant.job import Calibration, Heldout, Job, new_job
from profile_and_optimize.toolenv.find import ToolEnv, find, from_python
from profile_and_optimize.workloads.recorded import digest_file

ROOT = Path(__file__).parents[1]
DEMO, QUESTIONS = ROOT / "demo/model", ROOT / "demo/heldout_more.jsonl"
WORKERS = ROOT / "src/profile_and_optimize/quant"
FORMATS = {
    "modelopt": ("nvfp4", "w4a16_nvfp4", "fp8", "int8"),
    "llm-compressor": ("nvfp4", "w4a16_nvfp4", "fp8", "int8", "w4a16"),
}
SIZE_BAR, WORSE, TINY = 0.02, 0.10, 1e-4


@dataclass(frozen=True)
class Row:
    """One model in one format. `ours` and `theirs` as the side said it."""

    model: str
    backend: str
    target: str
    ours: dict[str, Any]
    theirs: dict[str, Any]

    @property
    def failed(self) -> str:
        return str(self.ours.get("failed", ""))

    @property
    def size(self) -> float:
        """Over what the format implies, as a share."""
        there = self.ours["coverage"]["bytes"]
        return float(there["actual"] / there["expected"] - 1)

    @property
    def holds(self) -> bool:
        if self.failed or not self.ours["coverage"]["passed"] or abs(self.size) > SIZE_BAR:
            return False
        default = self.theirs.get("kl")
        return default is None or self.ours["roundtrip"]["kl_base"]["reloaded"] <= max(
            (1 + WORSE) * default, default + TINY
        )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--models", type=Path, help="folder that small_models.py wrote; without it, the demo model alone"
    )
    parser.add_argument("--python", type=Path, help="the bin/python of an environment with the quantizers")
    parser.add_argument("--only", default="", help="formats, with commas; default all")
    parser.add_argument("--samples", type=int, default=128)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    asked = parser.parse_args()
    env = from_python(asked.python, "ptq") if asked.python else find("ptq")
    if env is None:
        raise SystemExit("the tool environment ptq is not installed: pao tools install ptq")
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="pao-quantize-") as scratch:
        rows = [row for backend in FORMATS for row in side(env, backend, jobs(asked, backend, Path(scratch)))]
    text = table(env, rows, asked, time.monotonic() - began)
    print(text)
    asked.out.mkdir(parents=True, exist_ok=True)
    name = asked.out / f"quantize-{time.strftime('%Y-%m-%d')}"
    name.with_suffix(".md").write_text(text)
    name.with_suffix(".json").write_text(json.dumps([vars(row) for row in rows], indent=1) + "\n")
    return 0 if all(row.holds for row in rows) else 1


def models(asked: argparse.Namespace) -> Iterator[tuple[str, Path, Calibration, Heldout]]:
    """Each with the kind of text it was trained on."""
    questions = Calibration("the demo's questions", str(QUESTIONS), digest_file(QUESTIONS), asked.samples, 64)
    yield "demo", DEMO, questions, Heldout(32, 64)
    if asked.models:
        for recipe in sorted(asked.models.glob("*/recipe.json")):
            yield (
                recipe.parent.name,
                recipe.parent,
                Calibration("builtin", None, None, asked.samples, 256),
                Heldout(16, 256),
            )


def jobs(asked: argparse.Namespace, backend: str, scratch: Path) -> list[tuple[str, Job, Path]]:
    """Those that can be asked for; what a backend does not take is said."""
    found = []
    wanted = [t for t in FORMATS[backend] if not asked.only or t in asked.only.split(",")]
    for name, base, text, heldout in models(asked):
        for target in wanted:
            out = scratch / f"{name}-{target}-{backend}"
            try:
                job = new_job(base, out, backend=backend, target=target, calibration=text, heldout=heldout)
            except PaoError as e:
                print(f"{name} {backend} {target}: {e}", file=sys.stderr)
                continue
            file = scratch / f"{out.name}.json"
            file.write_text(json.dumps(job.to_json()))
            found.append((name, job, file))
    return found


def side(env: ToolEnv, backend: str, given: list[tuple[str, Job, Path]]) -> list[Row]:
    """One process for all: the libraries take longer to load than these models to quantize."""
    if not given:
        return []
    argv = [env.python, Path(__file__).with_name("quantize_side.py"), WORKERS, *(file for _, _, file in given)]
    quiet = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "PYTHONSAFEPATH": "1"}
    print(f"{backend}: {len(given)} checkpoints", file=sys.stderr, flush=True)
    done = subprocess.run(argv, capture_output=True, text=True, timeout=3600, env=os.environ | quiet)
    told = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    if len(told) != len(given):
        raise SystemExit(f"{backend}: {len(told)} of {len(given)} answers\n{done.stderr[-3000:]}")
    for answer in told:
        if answer.get("failed"):
            print(f"{answer['job']}: {answer['failed']}", file=sys.stderr)
    return [
        Row(
            name, backend, job.target, {k: v for k, v in answer.items() if k not in ("job", "theirs")}, answer["theirs"]
        )
        for (name, job, _), answer in zip(given, told, strict=True)
    ]


def table(env: ToolEnv, rows: list[Row], asked: argparse.Namespace, seconds: float) -> str:
    held = sum(row.holds for row in rows)
    versions = ", ".join(f"{p} {env.version(p)}" for p in ("torch", "transformers", "nvidia-modelopt", "llmcompressor"))
    lines = [
        "# Quantization, what each format costs", "",
        f"{time.strftime('%Y-%m-%d')}, {platform.machine()}, Python {platform.python_version()}, {versions}; {seconds / 60:.0f} minutes, "
        "one thread.", "",
        f"- {held} of {len(rows)} hold the bars: all checks passed, size within {SIZE_BAR:.0%} of what the format implies, KL to the "
        f"base no more than {WORSE:.0%} (or {TINY:g}) over the library's own default.",
        "- KL in nats a token to the bf16 base, on held-out text; `read back` is what was written, by our own dequantization; `in "
        "process` is the model before it was written; `default` is the library as it ships, on the same text.",
        f"- Calibrated on {asked.samples} samples.", "",
        "| model | backend | format | KL read back | in process | default | top-1 ours | default | bits a weight | size over implied | "
        "quantized | checks |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
        *(line(row) for row in rows),
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def line(row: Row) -> str:
    kl, top1 = row.theirs.get("kl"), row.theirs.get("top1")
    theirs = [f"{kl:.5f}" if kl is not None else "cannot", f"{top1:.2%}" if top1 is not None else "unknown"]
    if row.failed:
        return f"| {row.model} | {row.backend} | {row.target} | {row.failed} | | {theirs[0]} | | {theirs[1]} | | | | |"
    trip, cover = row.ours["roundtrip"], row.ours["coverage"]
    passed = sum(c["passed"] is True for c in cover["checks"])
    return (
        f"| {row.model} | {row.backend} | {row.target} | {trip['kl_base']['reloaded']:.5f} | {trip['kl_base']['in_process']:.5f} | "
        f"{theirs[0]} | {trip['top1_base']['reloaded']:.2%} | {theirs[1]} | {cover['bits_per_weight']:.2f} | {row.size:+.2%} | "
        f"{cover['quantized_share']:.1%} | {passed} of {len(cover['checks'])} |"
    )


if __name__ == "__main__":
    sys.exit(main())
