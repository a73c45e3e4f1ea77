"""Does `make demo` keep its promises on a fresh clone with empty caches?

    python bench/demo.py [--busy-core] [--avx2] [--work DIR] [--log FILE] [--out bench/results]

Clones this repository's HEAD into a new folder, gives it caches and tool environments of its own, runs `make demo`, and stamps
every line of its log. Bars: 15 minutes without downloads (20 with --busy-core), at least 3 whole blocks, the accuracy questions asked
or named as left out, both reports, `pao verify` HOLDS, no gap over 30 s in the log. --busy-core keeps one core busy meanwhile (the
page must then say that the machine was not quiet); --avx2 runs it as on a processor without AVX-512. --log judges a log that was
kept, whose run is in --work.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LIMIT_S, BUSY_LIMIT_S, GAP_S, BLOCKS = 900.0, 1200.0, 30.0, 3
STAMP = re.compile(r"^ *(\d+\.\d) ")
DOWNLOAD = re.compile(r"download \d+ MB in (\d+) s")
BUSY = "while True: pass"


@dataclass(frozen=True)
class Bar:
    name: str
    held: bool
    value: str


def stamped(command: Sequence[str], cwd: Path, env: dict[str, str], log: Path) -> int:
    """Runs it; every line of its output goes to the log behind the seconds since the start."""
    began = time.monotonic()
    with log.open("w") as out, subprocess.Popen(
        command, cwd=cwd, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    ) as process:  # fmt: skip
        assert process.stdout is not None
        for line in process.stdout:
            out.write(f"{time.monotonic() - began:8.1f} {line.rstrip()}\n")
            out.flush()
        code = process.wait()
        out.write(f"{time.monotonic() - began:8.1f} ended with {code}\n")
    return code


@contextmanager
def busy(wanted: bool) -> Iterator[None]:
    """One core kept busy by a process of ours."""
    process = subprocess.Popen([sys.executable, "-c", BUSY]) if wanted else None
    try:
        yield
    finally:
        if process is not None:
            process.kill()
            process.wait()


def gap_of(lines: Sequence[str]) -> tuple[float, str]:
    """The largest time without a line, and the line before it."""
    times = [(float(hit.group(1)), line) for line in lines if (hit := STAMP.match(line))]
    gaps = [(b[0] - a[0], a[1]) for a, b in pairwise(times)]
    return max(gaps, default=(0.0, ""))


def bars(lines: Sequence[str], run: Path, verified: str, *, busy_core: bool) -> list[Bar]:
    """What was promised and what came of it. Pure, but for reading the run."""
    gap, before = gap_of(lines)
    whole_s = float(STAMP.match(lines[-1]).group(1))  # type: ignore[union-attr]
    downloads = sum(float(s) for line in lines for s in DOWNLOAD.findall(line))
    limit = BUSY_LIMIT_S if busy_core else LIMIT_S
    page = (run / "report.txt").read_text() if (run / "report.txt").exists() else ""
    blocks = blocks_in(lines)
    asked = [line for line in lines if "accuracy questions" in line]
    reports = [n for n in ("report.html", "report.pdf") if (run / n).exists() and (run / n).stat().st_size]
    found = [
        Bar(
            "time without downloads",
            whole_s - downloads <= limit,
            f"{whole_s - downloads:.0f} s of {limit:.0f}, {downloads:.0f} s of downloads apart",
        ),
        Bar("whole blocks", blocks >= BLOCKS, f"{blocks}"),
        Bar(
            "questions asked or named",
            bool(asked),
            asked[-1].split(" ", 1)[-1].strip() if asked else "not a word of them",
        ),
        Bar("both reports", len(reports) == 2, ", ".join(reports) or "none"),
        Bar(
            "verify",
            re.search(r"\bHOLDS\b(?! IN PART)", verified) is not None,
            verified.splitlines()[0] if verified else "nothing",
        ),
        Bar("largest gap in the log", gap <= GAP_S, f"{gap:.0f} s, after: {before.strip()[:90]}"),
    ]
    if busy_core:
        said = re.search(r"^\s*(open|failed|not evaluated|fail)\s+quiet machine.*", page, re.M)
        found.append(
            Bar(
                "the page says that the machine was not quiet",
                said is not None,
                said.group(0).strip()[:90] if said else "no",
            )
        )
    return found


def blocks_in(lines: Sequence[str]) -> int:
    """Whole blocks, as the gate of the phase counts them."""
    hits = [int(n) for line in lines for n in re.findall(r"(\d+) whole blocks", line)]
    return hits[-1] if hits else 0


def page_of(found: Sequence[Bar], args: argparse.Namespace, commit: str, times: str) -> str:
    kind = (
        ", ".join([*(["AVX2 alone"] if args.avx2 else []), *(["one core kept busy"] if args.busy_core else [])])
        or "as it is"
    )
    rows = [f"| {b.name} | {b.value.replace('|', '/')} | {'yes' if b.held else 'NO'} |" for b in found]
    head = [
        f"# make demo, {time.strftime('%Y-%m-%d')}", "",
        f"`python bench/demo.py`: a fresh clone of {commit} with empty caches; machine: {kind}.",
    ]  # fmt: skip
    return "\n".join(
        [*head, "", "| bar | value | held |", "|---|---|---|", *rows, "", "```", times.rstrip(), "```", ""]
    )


def judged(work: Path, log: Path, args: argparse.Namespace) -> list[Bar]:
    clone = work / "clone"
    runs = sorted((clone / "campaigns").glob("*Z-demo"))
    if not runs:
        return [Bar("a run", False, f"none in {clone.name}/campaigns: the last line of the log says why")]
    told = subprocess.run(
        [str(clone / ".venv/bin/pao"), "verify", str(runs[-1])], capture_output=True, text=True, cwd=clone
    )
    return bars(log.read_text().splitlines(), runs[-1], told.stdout + told.stderr, busy_core=args.busy_core)


def run(work: Path, log: Path, args: argparse.Namespace) -> None:
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(work / "clone")], check=True)
    homes = {f"XDG_{kind}_HOME": str(work / kind.lower()) for kind in ("CACHE", "DATA")}
    env = {**os.environ, **homes, "PIP_CACHE_DIR": str(work / "pip"), "VLLM_CACHE_ROOT": str(work / "cache/vllm")}
    command = ["make", "demo"]
    if args.avx2:
        command = [sys.executable, str(ROOT / "bench/as_avx2.py"), *command]
    with busy(args.busy_core):
        stamped(command, work / "clone", env, log)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--busy-core", action="store_true")
    parser.add_argument("--avx2", action="store_true")
    parser.add_argument("--work", type=Path, help="default: a new folder, removed afterwards")
    parser.add_argument("--log", type=Path, help="judge this log; nothing is run")
    parser.add_argument("--out", type=Path, default=ROOT / "bench/results")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="pao-demo-") as scratch:
        work = (args.work or Path(scratch)).resolve()
        work.mkdir(parents=True, exist_ok=True)
        log = args.log or work / "demo.log"
        if args.log is None:
            run(work, log, args)
        found = judged(work, log, args)
        lines = log.read_text().splitlines()
    times = "\n".join(line for line in lines if re.search(r"^ *\d+\.\d +\d+ s  ", line))
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True
    ).stdout.strip()
    kind = "".join([*(["-avx2"] if args.avx2 else []), *(["-busy"] if args.busy_core else [])])
    page = page_of(found, args, commit, times)
    (args.out / f"demo{kind}-{time.strftime('%Y-%m-%d')}.md").write_text(page)
    print(page)
    return 0 if all(b.held for b in found) else 1


if __name__ == "__main__":
    sys.exit(main())
