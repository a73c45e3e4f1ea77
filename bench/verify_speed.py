"""How long does `pao verify` take on a run of a thousand cells?

    python bench/verify_speed.py [--cells 1000] [--points 4] [--keep DIR] [--out bench/results]

Builds a finished run with the product's own writers (`big_run.py`: 1,000 cells in a race and its confirmation, four points
in every session, so 5.4 trials a cell with the baseline's; 100 requests of 64 chunks in each) and verifies it with the
command line in a process of its own, then once more stage by stage. Needs a machine that does nothing else.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from big_run import Size, build
from profile_and_optimize.campaign.evidence_of import load_evidence
from profile_and_optimize.evidence.cores import cores
from profile_and_optimize.evidence.folder import JOURNAL
from profile_and_optimize.evidence.journal import read_journal
from profile_and_optimize.evidence.manifest import MANIFEST, check_manifest
from profile_and_optimize.evidence.reading import read_json
from profile_and_optimize.evidence.tree import walk
from profile_and_optimize.ops.kept import looker
from profile_and_optimize.ops.verify import _part

BAR_S = 10.0
TRIALS, REQUESTS, CHUNKS = 5000, 100, 64


@dataclass(frozen=True)
class Stage:
    name: str
    wall_s: float
    cpu_s: float


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, default=1000)
    parser.add_argument("--points", type=int, default=4)
    parser.add_argument("--remade", action="store_true", help="prompts that verify can draw again, and does")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--keep", type=Path, help="build the run there, or use the one that is there")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="pao-verify-") as scratch:
        run = (asked.keep or Path(scratch)) / "20261121T090000Z-large"
        if not run.exists():
            size = Size(asked.cells, asked.points, REQUESTS, CHUNKS, asked.remade)
            print(f"building {size}", file=sys.stderr, flush=True)
            build(run, size)
        whole = [verify(run) for _ in range(asked.runs)]
        stages = by_stage(run)
        text = table(asked, run, whole, stages)
    print(text)
    asked.out.mkdir(parents=True, exist_ok=True)
    (asked.out / f"verify_speed-{time.strftime('%Y-%m-%d')}.md").write_text(text)
    return 0 if min(s.wall_s for s, _ in whole) < BAR_S else 1


def verify(run: Path) -> tuple[Stage, dict[str, Any]]:
    """`pao verify` as a user runs it, the interpreter's own start included."""
    before, begin = _cpu(), time.perf_counter()
    pao = Path(sys.executable).with_name("pao")
    done = subprocess.run([pao, "verify", str(run), "--json"], capture_output=True, text=True, timeout=900)
    stage = Stage("all of it", time.perf_counter() - begin, _cpu() - before)
    answer = json.loads(done.stdout)
    if done.returncode != 0 or answer["result"]["problems"]:
        raise SystemExit(f"it does not hold: {answer['result'].get('problems', done.stderr)[:3]}")
    print(f"{stage.wall_s:.2f} s, {stage.cpu_s:.2f} CPU-s", file=sys.stderr, flush=True)
    return stage, answer["result"]


def by_stage(run: Path) -> list[Stage]:
    """The steps of `ops.verify.look_at`, one after the other; all of the last three run at once there."""
    stages: list[Stage] = []

    def timed(name: str, step: Callable[[], Any]) -> Any:
        before, begin = _cpu(), time.perf_counter()
        value = step()
        stages.append(Stage(name, time.perf_counter() - begin, _cpu() - before))
        return value

    tree = timed("list the folder", lambda: walk(run))
    journal = timed("journal: parse, chain", lambda: read_journal(run / JOURNAL))
    timed("manifest: every file's digest", lambda: check_manifest(run, journal, tree))
    manifest = read_json(run / MANIFEST)
    look = timed("plan", lambda: looker(run, same_version=True))
    ev = timed(
        "trials: decode, summary, honesty, own books, kept bytes, prompts; the race",
        lambda: load_evidence(run, journal=journal, look=look),
    )
    for names in (("agreement",), ("atlas_aggregate", "champion_select"), ("report_render",)):
        part = timed(f"part: {', '.join(names)}", lambda names=names: _part(run, ev, tree, manifest, names))
        assert not part.problems, part.problems
    return stages


def _cpu() -> float:
    mine, children = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return mine.ru_utime + mine.ru_stime + children.ru_utime + children.ru_stime


def table(asked: argparse.Namespace, run: Path, whole: list[tuple[Stage, dict[str, Any]]], stages: list[Stage]) -> str:
    result = whole[0][1]
    best = min(s.wall_s for s, _ in whole)
    files = [p.stat().st_size for p in run.rglob("*") if p.is_file()]
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    chunks = result["requests"] * CHUNKS
    lines = [
        "# Verify, how fast", "",
        f"{time.strftime('%Y-%m-%d')}, {platform.machine()}, {cores()} cores, Python {platform.python_version()}, load "
        f"{os.getloadavg()[0]:.2f} at the end.", "",
        f"- {asked.cells} cells, {result['trials']} trials, {result['requests']} requests, {chunks:,} chunk times; {len(files)} files, "
        f"{sum(files) / 1e6:.0f} MB; {result['derived_files']} derived files byte for byte; "
        f"prompts {'' if asked.remade else 'not '}drawn again.",
        f"- `pao verify`: {', '.join(f'{s.wall_s:.2f}' for s, _ in whole)} s (CPU {whole[0][0].cpu_s:.1f} s), "
        f"peak {peak:.0f} MB in one process.",
        f"- Bar (< {BAR_S:.0f} s for {TRIALS:,} trials x {REQUESTS} x {CHUNKS}): {'PASS' if best < BAR_S else 'FAIL'}.", "",
        "| stage | wall s | CPU s |", "|---|---|---|",
        *(f"| {s.name} | {s.wall_s:.2f} | {s.cpu_s:.2f} |" for s in stages),
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
