"""Is tampering with a finished run found?

    python bench/tamper.py [--clean 100] [--runs 3] [--only WORD] [--out bench/results]

Each kind of tampering (`tamper_kinds.py`) is done to several finished campaigns on fakes whose clocks, counters and kept bytes
agree: with accuracy answers and checkpoints, failing requests, servers that die, a race, a PDF. Three times: as it is, where
every one must be found; by somebody who re-hashes, re-derives and lists everything anew, where the share found without a root
is printed by kind; and the same against the root that was published before, where every one must be found. Clean runs hold.
"""

from __future__ import annotations

import argparse
import json
import platform
import random
import shutil
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

from profile_and_optimize.analysis.decide import decide
from profile_and_optimize.campaign.evidence_of import load_evidence
from profile_and_optimize.core.cell import Arm, Role
from profile_and_optimize.ops.verify import look_at
from profile_and_optimize.ops.verifying.findings import BAD, Answer
from profile_and_optimize.ops.verifying.roots import Roots, published_root
from profile_and_optimize.optimize import publish as publishing
from profile_and_optimize.report.pages.source import Options
from profile_and_optimize.testing.forge import Forged, publish, relist, root_of
from profile_and_optimize.testing.living import living_run
from profile_and_optimize.testing.quantized import forgetful, quantized_plan
from profile_and_optimize.testing.synthetic import synthetic_plan
from tamper_kinds import BESIDE, EVIDENCE, GROUPS, Kind, copy_beside

FLAVOURS = ("", "failures", "died", "checkpoint", "race", "proof")
# What a run of one flavour has besides.
HAS = {
    "checkpoint": {"checkpoint", "answers"},
    "failures": {"failures"},
    "died": {"died"},
    "race": set(),
    "proof": {"proof"},
    "": set(),
    "pdf": {"pdf"},
}


def finished(space: Path, number: int, flavour: str) -> Path:
    """A closed campaign of that flavour, in a folder of its own: beside others it would be one more of the same variants.
    `number` is its seed."""
    space = space / f"{flavour or 'plain'}-{number}"
    space.mkdir()
    path = space / f"20261201T{number:06d}Z-{flavour or 'plain'}"
    plan = replace(synthetic_plan(blocks=3), client="stream", seed=number)
    if flavour == "checkpoint":
        folder = space / f"made-{number}"
        folder.mkdir()
        plan = replace(quantized_plan(folder), seed=number, blocks=3)
        speeds = {"baseline": 10.0, "aa": 10.0, "ours": 8.0, "vendor": 8.5}
        lost = set(range(number % 7, 600, 150))
        return publish(living_run(path, plan, speeds=speeds, ask=forgetful({"ours": lost, "vendor": lost | {3, 5}})))
    if flavour == "race":
        more = tuple(Arm(f"x{i}", "fake", Role.CANDIDATE) for i in range(3))
        plan = replace(plan, arms=(*plan.arms, *more), race_rounds=2)
    if flavour == "proof":
        plan = replace(plan, proof_blocks=8, points=plan.points[:1])
    dies = {"slow": (3, 4), "fast": (2,)} if flavour == "died" else None
    run = living_run(path, plan, error_every=11 if flavour == "failures" else 0, fails=dies)
    if flavour != "pdf":
        return publish(run)
    ev = load_evidence(run)
    publishing.publish(ev, decide(ev), Options())
    return run


@dataclass
class Row:
    """How often one kind was tried, and found: as it is, without a root (`part`: it held in part), against the root."""

    group: str
    kind: str
    tried: int = 0
    again: int = 0
    plain: int = 0
    alone: int = 0
    part: int = 0
    warned: int = 0
    against: int = 0


def attack(run: Path, scratch: Path, name: str, kind: Kind, seed: int, row: Row) -> None:
    row.tried += 1
    published = Roots(root_of(run), root_of(run))
    for again in (False, True) if kind.inside else (False,):
        copy = Path(shutil.copytree(run, scratch / run.name, symlinks=True))
        copy_beside(run, scratch)
        forged = Forged(copy, random.Random(f"{name}{seed}"))
        kind.hand(forged)
        made = _saved(forged, kind, again)
        if not again:
            there = published_root(str(scratch / f"{run.name}.root")) if kind.what == BESIDE else None
            row.plain += look_at(copy, there).answer is Answer.BROKEN
        else:
            row.again += 1
            found = look_at(copy) if made else None
            row.alone += found is None or found.answer is Answer.BROKEN
            row.part += found is not None and found.answer is Answer.IN_PART
            row.warned += found is not None and found.answer is Answer.HOLDS and bool(found.warnings)
            row.against += not made or look_at(copy, published).answer is Answer.BROKEN
        shutil.rmtree(copy)


def _saved(forged: Forged, kind: Kind, again: bool) -> bool:
    """Written as it is or `again` with everything anew; False when what was made cannot even be read back."""
    try:
        if kind.what == EVIDENCE:
            forged.save(rehash=again)
        elif kind.what != BESIDE and again:
            relist(forged.run, kind.version)
    except BAD:
        return False
    return True


def table(rows: list[Row], clean: tuple[int, int], bases: int, took_s: float) -> str:
    tried, again, plain, against = (sum(getattr(r, n) for r in rows) for n in ("tried", "again", "plain", "against"))
    alone, part = sum(r.alone for r in rows), sum(r.part for r in rows)
    inside = [r for r in rows if r.again]
    passed = plain == tried and against == again and clean[0] == clean[1] and len(rows) >= 60
    lines = [
        "# Tampering", "",
        f"{time.strftime('%Y-%m-%d')}, {platform.machine()}, Python {platform.python_version()}; {len(rows)} kinds on {bases} runs, "
        f"{took_s:.0f} s.", "",
        f"- As it is: {plain} of {tried} found.",
        f"- Re-hashed, re-derived and listed anew, against the root published before: {against} of {again} found.",
        f"- The same without a root: {alone} of {again} BROKEN ({alone / max(1, again):.0%}), {part} more HOLDS IN PART, "
        f"{sum(r.warned for r in rows)} more with a warning.",
        f"- Kinds that no check finds without a root: {sum(not (r.alone or r.part or r.warned) for r in inside)} of {len(inside)}.",
        f"- Clean runs: {clean[0]} of {clean[1]} hold, without a warning.",
        f"- Bar (100%, 100%, 100%, 60 kinds): {'PASS' if passed else 'FAIL'}.", "",
        "| of | kind | as it is | without a root | in part | warned | against the root |",
        "|---|---|---|---|---|---|---|",
    ]  # fmt: skip
    for r in rows:
        found = f"{r.alone} of {r.again} | {r.part} | {r.warned} | {r.against} of {r.again}"
        lines.append(f"| {r.group} | {r.kind} | {r.plain} of {r.tried} | {found} |")
    return "\n".join(lines) + "\n"


def clean_runs(space: Path, count: int) -> tuple[int, int]:
    """(how many hold without a warning, how many there were), of every flavour in turn."""
    held = 0
    for number in range(count):
        run = finished(space, 1000 + number, FLAVOURS[number % len(FLAVOURS)])
        found = look_at(run)
        held += found.answer is Answer.HOLDS and not found.warnings
        if found.answer is not Answer.HOLDS or found.warnings:
            print(run.name, found.answer, found.problems[:3], found.not_covered[:3], found.warnings[:3], flush=True)
        shutil.rmtree(run.parent)
    return held, count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clean", type=int, default=100, help="clean runs that have to hold")
    parser.add_argument("--runs", type=int, default=3, help="runs of each flavour that every kind is done to")
    parser.add_argument("--only", default="", help="kinds whose group or name holds this word")
    parser.add_argument("--out", type=Path, default=None, help="write the table there")
    args = parser.parse_args()
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="pao-tamper-") as name:
        space = Path(name)
        bases = {
            f: [finished(space, 100 * i + n, f) for n in range(args.runs)] for i, f in enumerate((*FLAVOURS, "pdf"))
        }
        scratch = space / "scratch"
        scratch.mkdir()
        rows = []
        for group, kinds in GROUPS.items():
            for kind, how in kinds.items():
                if args.only and args.only not in f"{group} {kind}":
                    continue
                row = Row(group, kind)
                flavour = next(f for f in (*FLAVOURS, "pdf") if how.needs in HAS[f] or not how.needs)
                for i, run in enumerate(bases[flavour]):
                    attack(run, scratch, kind, how, i, row)
                rows.append(row)
                print(json.dumps(vars(row)), flush=True)
        clean = clean_runs(space, args.clean)
    text = table(rows, clean, sum(map(len, bases.values())), time.monotonic() - began)
    if args.out:
        args.out.mkdir(parents=True, exist_ok=True)
        (args.out / f"tamper-{time.strftime('%Y-%m-%d')}.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
