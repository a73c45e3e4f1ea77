"""Does the proof of a quantized export see what is wrong with it?

    python bench/planted_faults.py [--small] [--cache DIR] [--each 5] [--seconds S] [--only WORD] [--out bench/results]

Eight small architectures (`planted_models.py`) are quantized by the product's own steps, by both backends in up to five targets
each, up to where the export would be judged. Into copies of these exports faults are planted (`planted_kinds.py`): in codes and
scales, in what no recipe touches, in files, configuration, tokenizer files and records, and in finished checkpoints. The last
steps judge each copy; a refusal has to name the tensor, key or file. Clean exports, and those changed without harm, pass. Apart
from that every export is dequantized by the bench's own code (`own_dequant.py`) and its errors compared with the theory of its rounding.

Bars: 400 faults of 40 kinds on 60 exports, 99% refused and named, every clean one passes. Needs the tool environment `ptq`.
Exports and results are kept in the cache by the digest of the workers, and a run that was stopped resumes. Exit 1: a bar failed.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from planted_kinds import KINDS
from planted_models import MODELS
from planted_report import Exports, page
from planted_space import Planted, linked
from profile_and_optimize.core.errors import PaoError
from profile_and_optimize.quant.job import Calibration, Heldout, new_job, read_job
from profile_and_optimize.quant.run import quantized
from profile_and_optimize.toolenv.find import find, from_python

HERE = Path(__file__).parent
QUANT = HERE.parent / "src/profile_and_optimize/quant"
TARGETS = {
    "modelopt": ("nvfp4", "w4a16_nvfp4", "fp8", "int8", "mxfp4"),
    "llm-compressor": ("nvfp4", "fp8", "int8", "w4a16", "w4a16_gptq"),
}
# Methods that move scales between weights, on one model each.
MORE = (("llama", "modelopt", "nvfp4_awq"), ("qwen3", "llm-compressor", "w4a16_awq"))
SMALL = (
    "llama--modelopt--nvfp4",
    "qwen3--llm-compressor--w4a16",
    "qwen3_moe--modelopt--fp8",
    "gpt_oss--llm-compressor--int8",
)
FINISHED = 10


@dataclass
class Space:
    """Where everything lies, the environment that runs the steps, and until when new work is begun."""

    cache: Path
    python: Path
    until: float
    keep: bool
    workers: str = field(default_factory=lambda: digest_of(worker_files()))

    @property
    def store(self) -> Path:
        return self.cache / "store"

    @property
    def made(self) -> Path:
        return self.cache / "made.jsonl"

    @cached_property
    def results(self) -> Path:
        hands = digest_of(
            HERE / f"planted_{n}.py"
            for n in ("codes", "scales", "plain", "files", "config", "records", "space", "steps", "models")
        )
        return self.cache / f"results-{self.workers[:10]}-{hands[:10]}.jsonl"

    def left_s(self) -> float:
        return self.until - time.monotonic()

    def run(self, *argv: str | Path) -> None:
        """A script of the bench in the `ptq` environment, one thread."""
        env = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "PYTHONNOUSERSITE": "1",
               "PATH": "/usr/bin:/bin", "HOME": str(self.cache)}  # fmt: skip
        with (self.cache / "log.txt").open("a") as log:
            subprocess.run([self.python, *argv], env=env, check=True, stderr=log)


def worker_files() -> list[Path]:
    package = QUANT / "pao_ptq"
    if package.is_dir():
        return sorted(package.rglob("*.py"))
    return [QUANT / f"{step}.py" for step in ("calibrate", "quantize", "roundtrip", "guard")]


def digest_of(files: Iterable[Path]) -> str:
    sha = hashlib.sha256()
    for file in files:
        sha.update(file.name.encode() + b"\0" + file.read_bytes())
    return sha.hexdigest()


def lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def listed(space: Space, what: str, tasks: list[dict[str, Any]], results: Path) -> None:
    """Hands tasks to the steps' process; those that the time did not allow are left."""
    if not tasks or space.left_s() < 5:
        return
    asked = {"store": str(space.store), "results": str(results), "seconds": space.left_s(), "tasks": tasks}
    with tempfile.NamedTemporaryFile("w", suffix=".json", dir=space.cache) as file:
        json.dump(asked, file)
        file.flush()
        space.run(HERE / "planted_steps.py", what, file.name)


# ---- exports


def wanted(small: bool) -> list[tuple[str, str, str]]:
    every = [(m, b, t) for m in MODELS for b, targets in TARGETS.items() for t in targets]
    every += MORE
    return [e for e in every if not small or "--".join(e) in SMALL]


def exports(space: Space, small: bool) -> tuple[list[str], dict[str, str]]:
    """Those that are made, and what was refused before or while it was made, with the reason."""
    models = space.cache / "models"
    if any(not (models / m / "config.json").exists() for m in MODELS):
        space.run(HERE / "planted_models.py", models)
    known = {r["export"]: r for r in lines(space.made) if space.keep or r["workers"] == space.workers}
    tasks, refused = [], {}
    for model, backend, target in wanted(small):
        name = f"{model}--{backend}--{target}"
        if name in known and (not known[name]["made"] or (space.store / name).exists()):
            continue
        try:
            job = new_job(
                (models / model).resolve(), (space.cache / "out" / name).resolve(), backend=backend, target=target,
                calibration=Calibration("builtin", None, None, 24, 128), heldout=Heldout(8, 64), device="cpu",
            )  # fmt: skip
        except PaoError as e:
            refused[name] = str(e)
        else:
            tasks.append({"name": name, "job": job.to_json()})
    fresh = space.cache / "made.new.jsonl"
    fresh.unlink(missing_ok=True)
    try:
        listed(space, "make", tasks, fresh)
    finally:
        with space.made.open("a") as file:
            file.writelines(json.dumps(r | {"workers": space.workers}) + "\n" for r in lines(fresh))
        fresh.unlink(missing_ok=True)
    known = {r["export"]: r for r in lines(space.made) if space.keep or r["workers"] == space.workers}
    names = ["--".join(e) for e in wanted(small)]
    refused |= {n: r["why"] for n, r in known.items() if not r["made"] and n in names}
    return [n for n in names if n in known and known[n]["made"] and (space.store / n).exists()], refused


# ---- tasks


def candidates(kind: str, names: list[str]) -> list[str]:
    """Exports in the order in which a kind takes them: by chance, another architecture and backend each time."""
    left = sorted(names)
    random.Random(kind).shuffle(left)
    used: Counter[str] = Counter()
    order = []
    while left:
        best = min(left, key=lambda n: sum(used[part] for part in n.split("--")))
        left.remove(best)
        order.append(best)
        used.update(best.split("--"))
    return order


def judged(space: Space, names: list[str], each: int, only: str) -> list[dict[str, Any]]:
    """Results of every kind before the final name. An export that has nothing of a kind is passed over for the next."""
    kinds = [k for k in KINDS.values() if k.after != "finish" and (only in f"{k.group}: {k.name}")]
    known = {(r["kind"], r["export"]): r for r in lines(space.results)}
    tasks = []
    for k in kinds:
        there = [known[k.name, n] for n in names if (k.name, n) in known]
        want = (len(names) if k.name == "clean" else each) - sum(r["planted"] is not None for r in there)
        left = [n for n in candidates(k.name, names) if (k.name, n) not in known]
        if want > 0 and left:
            tasks.append({"kind": k.name, "exports": left, "want": want, "seed": 0})
    listed(space, "judge", tasks, space.results)
    mine = {k.name for k in kinds}
    return [r for r in lines(space.results) if r["export"] in names and r["kind"] in mine]


class Began(Exception):
    """The command took up the work again instead of saying what is wrong."""


def finished(space: Space, names: list[str], each: int, only: str) -> list[dict[str, Any]]:
    """Faults on checkpoints under their final name, judged by the same `pao quantize` once more."""
    kinds = [k for k in KINDS.values() if k.after == "finish" and (only in f"{k.group}: {k.name}")]
    names = [n for n in names if (space.cache / "finished" / n).exists()]
    known = {(r["kind"], r["export"]): r for r in lines(space.results)}
    with space.results.open("a") as file:
        for k in kinds:
            want = each - sum(known[k.name, n]["planted"] is not None for n in names if (k.name, n) in known)
            for n in [n for n in candidates(k.name, names) if (k.name, n) not in known]:
                if want <= 0 or space.left_s() < 0:
                    break
                result = again(space, k.name, n)
                want -= result["planted"] is not None
                file.write(json.dumps(result) + "\n")
    mine = {k.name for k in kinds}
    return [r for r in lines(space.results) if r["export"] in names and r["kind"] in mine]


def again(space: Space, kind: str, name: str) -> dict[str, Any]:
    file = space.store / f"{name}.job.json"
    job = json.loads(file.read_text())
    out = Path(job["out"])
    linked(space.cache / "finished" / name, out)
    others = {p.name: p for p in space.store.iterdir() if p.is_dir()}
    names = KINDS[kind].hand(Planted(job, out, out, others, f"{kind} {name}"))
    if names is None:
        return {"kind": kind, "export": name, "planted": None}
    said: list[str] = []

    def say(line: str) -> None:
        said.append(line)
        if "made by this" not in line:
            raise Began(line)

    try:
        quantized(read_job(file), say)
        refused, text = False, " ".join(said)
    except PaoError as e:
        refused, text = True, f"{e} {getattr(e, 'where', '')} {getattr(e, 'next', '')}"
    except Began as e:
        refused, text = False, f"began again: {e}"
    return {"kind": kind, "export": name, "planted": names, "refused": refused, "text": text, "code": int(refused)}


def keep_finished(space: Space, names: list[str]) -> None:
    """A few judged checkpoints under their final names, for faults planted there."""
    there = {r["export"] for r in lines(space.results) if r["kind"] == "clean" and r.get("refused") is False}
    wanted = [n for n in candidates("finished", [n for n in names if n in there])][:FINISHED]
    new = [n for n in wanted if not (space.cache / "finished" / n).exists()]
    tasks = [{"kind": "clean", "exports": new, "want": len(new), "seed": 0}] if new else []
    listed(space, "finish", tasks, space.cache / "finished.jsonl")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "pao-planted")
    parser.add_argument("--small", action="store_true", help="four exports, every kind once: about three minutes")
    parser.add_argument("--each", type=int, default=5, help="exports that every kind is planted into")
    parser.add_argument("--only", default="", help="kinds whose group or name holds this word")
    parser.add_argument(
        "--seconds", type=float, default=1e9, help="begin nothing new after that; run it again to resume"
    )
    parser.add_argument("--keep-exports", action="store_true", help="judge exports that other workers made")
    parser.add_argument("--python", type=Path, help="the bin/python of an environment with the quantizers")
    parser.add_argument("--out", type=Path, default=None, help="write the tables there")
    asked = parser.parse_args()
    env = from_python(asked.python, "ptq") if asked.python else find("ptq")
    if env is None:
        raise SystemExit("the tool environment ptq is not installed: pao tools install ptq")
    asked.cache.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    space = Space(asked.cache.resolve(), env.python, began + asked.seconds, asked.keep_exports)
    names, refused = exports(space, asked.small)
    each = 1 if asked.small else asked.each
    results = judged(space, names, each, asked.only)
    keep_finished(space, names)
    results += finished(space, names, each, asked.only)
    text, passed = page(Exports(names, space.store, refused, space.workers), results, time.monotonic() - began)
    if asked.out:
        asked.out.mkdir(parents=True, exist_ok=True)
        (asked.out / f"planted_faults-{time.strftime('%Y-%m-%d')}.md").write_text(text)
    print(text)
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
