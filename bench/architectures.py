"""Which architectures go through, by which backend? One small model with random weights of each, through all four steps.

    python bench/architectures.py --space DIR [--only llama,opt] [--again]

Each is made with every check passed, or refused before anything is calibrated, with the reason; all else is a FAULT. The models are
those of tests/quant/make_model.py. What DIR holds already is not done again, unless the workers changed since (--keep: nor then) or
--again is given; a fault always is. A few seconds each. At the end the table is written to bench/results/architectures.json and into
docs/quantization.md between its markers.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from profile_and_optimize.core.errors import PaoError
from profile_and_optimize.quant.job import Calibration, Heldout, Job, job_bytes, new_job
from profile_and_optimize.quant.pao_ptq.files import worker_sha256
from profile_and_optimize.quant.run import worker_env
from profile_and_optimize.toolenv.find import ToolEnv, find
from profile_and_optimize.workloads.recorded import digest_file

ROOT = Path(__file__).parents[1]
MAKERS = ROOT / "tests/quant"
WORKERS, QUESTIONS = ROOT / "src/profile_and_optimize/quant", ROOT / "demo/heldout.jsonl"
PAGE, RESULTS = ROOT / "docs/quantization.md", ROOT / "bench/results/architectures.json"
BEGIN, END = "<!-- architectures: written by bench/architectures.py -->", "<!-- end of architectures -->"
TARGETS = {"modelopt": "nvfp4", "llm-compressor": "int8"}
MADE, REFUSED, FAULT = "made", "refused", "FAULT"
AT_ONCE = 8
WORKERS_NOW = worker_sha256()[:12]


@dataclass(frozen=True)
class Row:
    """One architecture by one backend. `reason` is what a refusal said, or a fault; `kl` that to the base, in nats."""

    arch: str
    backend: str
    target: str
    outcome: str
    reason: str
    kl: float | None
    bits: float | None
    workers: str


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--space", required=True, type=Path, help="folder for models, checkpoints and what is known")
    parser.add_argument("--only", help="architectures, separated by commas; the table is then printed, not written")
    parser.add_argument("--keep", action="store_true", help="also what other workers than today's did")
    parser.add_argument("--again", action="store_true", help="forget what is known of them")
    asked = parser.parse_args()
    env = find("ptq")
    if env is None:
        raise SystemExit("the tool environment ptq is not installed: pao tools install ptq")
    space = asked.space.absolute()
    archs = asked.only.split(",") if asked.only else architectures(env)
    make(env, space / "models", archs)
    known = Known(space / "rows.json", None if asked.keep else WORKERS_NOW)
    if asked.again:
        known.forget(archs)
    road(env, space, [(a, b) for a in archs for b in TARGETS if (a, b) not in known.rows], known)
    rows = [known.rows[a, b] for a in archs for b in TARGETS]
    print(table(rows))
    faults = [r for r in rows if r.outcome == FAULT]
    if not asked.only and not faults:
        write(rows, env)
    print(f"{count(rows, MADE)} made, {count(rows, REFUSED)} refused, {len(faults)} faults")
    return 1 if faults else 0


def count(rows: list[Row], outcome: str) -> int:
    return sum(r.outcome == outcome for r in rows)


def architectures(env: ToolEnv) -> list[str]:
    code = "import json, make_model as m; print(json.dumps(sorted(m.EVERY)))"
    told = subprocess.run([env.python, "-c", code], cwd=MAKERS, capture_output=True, text=True, timeout=60, check=True)
    return list(json.loads(told.stdout))


def make(env: ToolEnv, folder: Path, archs: list[str]) -> None:
    """The models that are not there yet: one import of torch for all of them."""
    lacking = [a for a in archs if not (folder / a / "tokenizer.json").exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(0, len(lacking), AT_ONCE):
        some = lacking[i : i + AT_ONCE]
        out = folder if len(some) > 1 else folder / some[0]
        argv = [env.python, MAKERS / "make_model.py", ",".join(some), out]
        subprocess.run(argv, check=True, timeout=600, env=environment(), stdout=sys.stderr)


def environment() -> dict[str, str]:
    return {**os.environ, **dict(worker_env(1)), "PYTHONPATH": str(MAKERS)}


class Known:
    """What is known by now, in a file that each new row is added to."""

    def __init__(self, file: Path, workers: str | None) -> None:
        self.file = file
        rows = [Row(**r) for r in json.loads(file.read_text())] if file.exists() else []
        kept = [r for r in rows if r.outcome != FAULT and workers in (None, r.workers)]
        self.rows = {(r.arch, r.backend): r for r in kept}

    def add(self, row: Row) -> None:
        self.rows[row.arch, row.backend] = row
        self.save()
        print(f"{row.arch:20} {row.backend:15} {row.outcome:8} {row.reason[:200]}", file=sys.stderr, flush=True)

    def forget(self, archs: list[str]) -> None:
        self.rows = {key: row for key, row in self.rows.items() if key[0] not in archs}
        self.save()

    def save(self) -> None:
        self.file.write_text(json.dumps([asdict(r) for r in self.rows.values()], indent=1) + "\n")


def road(env: ToolEnv, space: Path, wanted: list[tuple[str, str]], known: Known) -> None:
    """Several through one process that has loaded the libraries; one that dies takes the one it was at with it."""
    jobs: dict[tuple[str, str], Job] = {}
    for arch, backend in wanted:
        try:
            jobs[arch, backend] = job_of(space, arch, backend)
        except PaoError as error:
            known.add(Row(arch, backend, TARGETS[backend], REFUSED, error.message, None, None, WORKERS_NOW))
    left = list(jobs)
    while left:
        some = left[:AT_ONCE]
        done = 0
        for key, told in zip(some, answers(env, [jobs[k] for k in some]), strict=False):
            known.add(row_of(key, jobs[key], told))
            done += 1
        if done < len(some):
            known.add(Row(*some[done], TARGETS[some[done][1]], FAULT, "the process died", None, None, WORKERS_NOW))
            done += 1
        left = left[done:]


def job_of(space: Path, arch: str, backend: str) -> Job:
    out = space / "made" / f"{arch}-{backend}"
    for path in (out, out.with_name(out.name + ".partial")):
        shutil.rmtree(path, ignore_errors=True)
    text = Calibration("questions", str(QUESTIONS), digest_file(QUESTIONS), samples=24, seq_len=64)
    return new_job(space / "models" / arch, out, backend=backend, target=TARGETS[backend], calibration=text,
                   heldout=Heldout(8, 64))  # fmt: skip


def answers(env: ToolEnv, jobs: list[Job]) -> Iterator[Mapping[str, object]]:
    files = []
    for job in jobs:
        file = job.out.with_name(job.out.name + ".json")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(job_bytes(job))
        files.append(file)
    argv = [env.python, MAKERS / "road.py", WORKERS, *files]
    log = jobs[0].out.parent / "log.txt"
    with log.open("ab") as errors:
        child = subprocess.Popen(argv, env=environment(), stdout=subprocess.PIPE, stderr=errors, text=True)
        try:
            for line in child.stdout or ():
                if line.startswith('{"job"'):
                    yield json.loads(line)
        finally:
            child.kill()
            child.wait(60)


def row_of(key: tuple[str, str], job: Job, told: Mapping[str, object]) -> Row:
    """Made; refused before the base was asked anything, which comes before all calibration; or a fault."""
    arch, backend = key
    error = told["error"]
    if told["statuses"] == [0, 0, 0, 0]:
        kl = json.loads((job.out / "roundtrip.json").read_text())["kl_base"]["reloaded"]
        coverage = json.loads((job.out / "coverage.json").read_text())
        shutil.rmtree(job.out)
        return Row(arch, backend, job.target, MADE, "", float(kl), float(coverage["bits_per_weight"]), WORKERS_NOW)
    begun = (job.partial / "work" / "base.safetensors").exists()
    said = error if isinstance(error, dict) else {"message": "died", "where": ""}
    statuses = told["statuses"]
    named = said.get("code") in ("wrong_use", "refused") and isinstance(statuses, list) and len(statuses) == 2
    reason = str(said["message"]) if not begun and named else f"{said} {told['failed']} statuses {told['statuses']}"
    return Row(arch, backend, job.target, FAULT if begun or not named else REFUSED, reason, None, None, WORKERS_NOW)


def table(rows: list[Row]) -> str:
    """architecture | a column for each backend | reason."""
    by = {(r.arch, r.backend): r for r in rows}
    head = f"| architecture | {' | '.join(f'{b}, {t}' for b, t in TARGETS.items())} | reason |"
    lines = [head, "|---|---|---|---|"]
    for arch in dict.fromkeys(r.arch for r in rows):
        mine = [by[arch, b] for b in TARGETS]
        reasons = dict.fromkeys(r.reason.replace("|", "/") for r in mine if r.reason)
        lines.append(f"| `{arch}` | {' | '.join(cell(r) for r in mine)} | {'; '.join(reasons)} |")
    return "\n".join(lines)


def cell(row: Row) -> str:
    return f"made, KL {row.kl:.2g}" if row.outcome == MADE and row.kl is not None else row.outcome


def section(told: Mapping[str, object]) -> str:
    """What lies between the markers of the page, from the result file."""
    rows = [Row(**r) for r in told["rows"]]  # type: ignore[attr-defined]
    both = sum(all(r.outcome == MADE for r in rows if r.arch == a) for a in {r.arch for r in rows})
    made = len({r.arch for r in rows if r.outcome == MADE})
    return (
        f"{len({r.arch for r in rows})} small models with random weights, by what transformers {told['transformers']} calls them "
        f"(`_f16`, `_f32`: bases that are not in bf16): {made} are made, {both} of them by both backends, with every check passed; the "
        "others are refused before anything is calibrated. KL is that of a model of random weights: a signal that the format was "
        "applied, not what it costs yours. Written by `python bench/architectures.py --space DIR`.\n\n"
        f"{table(rows)}"
    )


def write(rows: list[Row], env: ToolEnv) -> None:
    told = {"transformers": env.version("transformers"), "rows": [asdict(r) for r in rows]}
    RESULTS.write_text(json.dumps(told, indent=1) + "\n")
    before, rest = PAGE.read_text().split(BEGIN)
    PAGE.write_text(f"{before}{BEGIN}\n{section(told)}\n{END}{rest.split(END)[1]}")


if __name__ == "__main__":
    sys.exit(main())
