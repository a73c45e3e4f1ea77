"""The product's own steps, as a process in the `ptq` environment calls them; `planted_faults.py` starts it.

    PTQ_PYTHON bench/planted_steps.py make  LIST.json     calibrate and quantize: [{"name", "job"}], what was made is kept
    PTQ_PYTHON bench/planted_steps.py judge LIST.json     plant and judge: [{"kind", "exports", "want"}], a JSON line each
    PTQ_PYTHON bench/planted_steps.py finish LIST.json    the same tasks; clean exports judged and kept under their names

torch and the libraries are imported once, and every job runs in a fork of that: none sees what another left behind.
"""

from __future__ import annotations

import importlib.util
import io
import json
import multiprocessing
import os
import runpy
import shutil
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from planted_kinds import KINDS, Kind
from planted_records import base_again
from planted_space import Planted, linked

QUANT = Path(__file__).parents[1] / "src/profile_and_optimize/quant"
PACKAGE = "pao_ptq"
TIMEOUT_S = 150
ANSWER = "PAO-ERROR "


@dataclass(frozen=True)
class Said:
    """How a step ended: its exit status and what a user is shown of a refusal."""

    code: int
    text: str


def call(step: str, job_file: Path) -> Said:
    """One step as its command runs it, within this process."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        code = _main(step)(job_file)
    return Said(code, shown(out.getvalue(), err.getvalue()) if code else "")


def _main(step: str) -> Callable[[Path], int]:
    """The one place that knows whether the workers are a package or files."""
    if (QUANT / PACKAGE).is_dir():
        return lambda file: _module_run(step, file)
    return lambda file: _file_run(step, file)


def _module_run(step: str, file: Path) -> int:
    sys.path[:] = [str(QUANT), *(p for p in sys.path if p != str(QUANT))]
    sys.argv = [PACKAGE, step, str(file)]
    try:
        runpy.run_module(PACKAGE, run_name="__main__", alter_sys=True)
    except SystemExit as end:
        return int(end.code or 0)
    except Exception:
        traceback.print_exc()
        return 1
    return 0


def _file_run(step: str, file: Path) -> int:
    try:
        return int(_file(step).main([str(file)]))
    except Exception:
        traceback.print_exc()
        return 1


def _file(step: str) -> ModuleType:
    name = f"pao_worker_{step}"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, QUANT / f"{step}.py")
        assert spec is not None and spec.loader is not None
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


def shown(out: str, err: str) -> str:
    """The error's line, and failed checks with their examples as the step printed them."""
    errors = [line for line in err.splitlines() if line.startswith(ANSWER)]
    lines, failing = [], False
    for line in out.splitlines():
        failing = line.startswith("FAIL") or (failing and line.startswith(" "))
        lines += [line] if failing else []
    return "\n".join([*(errors[-1:] or err.splitlines()[-1:]), *lines])


def judge(job_file: Path, *, only_guard: bool = False) -> Said:
    """What the proof says of a made export: the first refusal, or an exit of 0."""
    for step in ("guard",) if only_guard else ("roundtrip", "guard"):
        said = call(step, job_file)
        if said.code:
            return Said(said.code, f"{step}: {said.text}")
    return Said(0, "")


# ---- in a fork of its own


def forked(work: Callable[..., Any], *given: Any) -> Any:
    """What `work` returns, from a fork of this process; how it ended (`died`, `hung`) where it returned nothing."""
    context = multiprocessing.get_context("fork")
    mine, theirs = context.Pipe(duplex=False)

    def run() -> None:
        theirs.send(work(*given))
        theirs.close()
        sys.stdout.flush()
        os._exit(0)

    child = context.Process(target=run)
    child.start()
    theirs.close()
    answer, hung = None, False
    try:
        hung = not mine.poll(TIMEOUT_S)
        answer = None if hung else mine.recv()
    except EOFError:
        pass
    if hung:
        child.kill()
    child.join()
    return answer if answer is not None else {"hung": True} if hung else {"died": child.exitcode}


def preload(*, writers: bool) -> None:
    import torch

    torch.set_num_threads(1)
    import transformers
    from transformers import AutoModelForCausalLM, AutoTokenizer

    assert transformers and AutoTokenizer
    from transformers import AutoConfig

    from planted_models import MODELS

    for name in MODELS:
        AutoModelForCausalLM._model_mapping[type(AutoConfig.for_model(name))]
    if writers:
        import llmcompressor.modifiers.gptq
        import llmcompressor.modifiers.quantization
        import llmcompressor.transformers.compression.compressed_tensors_utils
        import modelopt.torch.export
        import modelopt.torch.quantization

        assert llmcompressor and modelopt


# ---- making


def make(store: Path, name: str, job: dict[str, Any]) -> dict[str, Any]:
    """One export, made by the real steps up to where it is judged, and moved into the store."""
    began, out = time.monotonic(), Path(job["out"])
    partial = out.with_name(out.name + ".partial")
    for old in (partial, out, store / name):
        shutil.rmtree(old, ignore_errors=True)
    out.parent.mkdir(parents=True, exist_ok=True)
    file = store / f"{name}.job.json"
    file.write_text(json.dumps(job, indent=1) + "\n")
    for step in ("calibrate", "quantize"):
        said = call(step, file)
        if said.code:
            shutil.rmtree(partial, ignore_errors=True)
            return {"export": name, "made": False, "why": f"{step}: {said.text}"}
    os.replace(partial, store / name)
    return {"export": name, "made": True, "seconds": round(time.monotonic() - began, 1)}


# ---- planting and judging


def attack(store: Path, task: dict[str, Any]) -> dict[str, Any]:
    """One fault in one export, judged. `planted` is None where the export has nothing that this kind could spoil."""
    kind, name = KINDS[task["kind"]], task["export"]
    job = json.loads((store / f"{name}.job.json").read_text())
    out = Path(job["out"])
    partial = out.with_name(out.name + ".partial")
    shutil.rmtree(out, ignore_errors=True)
    linked(store / name, partial)
    began = time.monotonic()
    file = out.with_name(out.name + ".job.json")
    file.write_text(json.dumps(job, indent=1) + "\n")
    first = judge_before(kind, file)
    if first is not None:
        return {**task, "planted": None, "why": first}
    names = spoil(kind, job, partial, store, task)
    if names is None:
        return {**task, "planted": None, "why": "nothing here to spoil"}
    file.write_text(json.dumps(job, indent=1) + "\n")
    said = judge(file, only_guard=kind.after == "roundtrip")
    shutil.rmtree(partial, ignore_errors=True)
    shutil.rmtree(out, ignore_errors=True)
    return {**task, "planted": names, "refused": said.code != 0, "code": said.code, "text": said.text[:3000],
            "seconds": round(time.monotonic() - began, 2)}  # fmt: skip


def judge_before(kind: Kind, file: Path) -> str | None:
    """For a fault planted after the round trip: that it passed. The reason where it did not."""
    if kind.after != "roundtrip":
        return None
    said = call("roundtrip", file)
    return f"clean, roundtrip: {said.text[:300]}" if said.code else None


def spoil(kind: Kind, job: dict[str, Any], partial: Path, store: Path, task: dict[str, Any]) -> tuple[str, ...] | None:
    others = {p.name: p for p in sorted(store.iterdir()) if p.is_dir() and p.name != task["export"]}
    planted = Planted(
        job, partial / "export", partial / "work", others, f"{task['kind']} {task['export']} {task['seed']}"
    )
    return kind.hand(planted)


def finish(store: Path, task: dict[str, Any]) -> dict[str, Any]:
    """A clean export judged and kept beside the store."""
    name = task["export"]
    job = json.loads((store / f"{name}.job.json").read_text())
    out, kept = Path(job["out"]), store.parent / "finished" / name
    shutil.rmtree(out, ignore_errors=True)
    linked(store / name, out.with_name(out.name + ".partial"))
    said = judge(store / f"{name}.job.json")
    if said.code == 0:
        kept.parent.mkdir(exist_ok=True)
        os.replace(out, kept)
    return {**task, "code": said.code}


WORK: dict[str, Callable[..., dict[str, Any]]] = {"judge": attack, "finish": finish}


def main(what: str, listed: Path) -> None:
    asked = json.loads(listed.read_text())
    store, results = Path(asked["store"]), Path(asked["results"])
    store.mkdir(parents=True, exist_ok=True)
    base_again(store.parent / "models")
    preload(writers=what == "make")
    until = time.monotonic() + asked["seconds"]
    with results.open("a") as file:

        def tell(answer: dict[str, Any]) -> None:
            file.write(json.dumps(answer) + "\n")
            file.flush()
            print(json.dumps(answer)[:300], flush=True)

        for task in asked["tasks"]:
            if time.monotonic() > until:
                break
            if what == "make":
                made = forked(make, store, task["name"], task["job"])
                tell(made if "made" in made else {"export": task["name"], "made": False, "why": f"no end: {made}"})
            else:
                until_enough(WORK[what], store, task, tell, until)


def until_enough(
    work: Callable[..., Any], store: Path, task: dict[str, Any], tell: Callable[[dict[str, Any]], None], until: float
) -> None:
    """One kind, in one export after the other, until as many as wanted had something to spoil."""
    got = 0
    for name in task["exports"]:
        if got >= task["want"] or time.monotonic() > until:
            return
        one = {"kind": task["kind"], "export": name, "seed": task["seed"]}
        answer = ended(one | forked(work, store, one))
        base_again(store.parent / "models")
        got += answer.get("planted", ()) is not None
        tell(answer)


def ended(answer: dict[str, Any]) -> dict[str, Any]:
    """A step that died of the fault ends the command too, though without a word; one that hung refuses nothing."""
    if "died" in answer:
        return answer | {
            "planted": [],
            "refused": True,
            "code": 3,
            "text": f"the step died, exit status {answer['died']}",
        }
    return (
        answer | {"planted": [], "refused": False, "code": 0, "text": f"no end in {TIMEOUT_S} s"}
        if "hung" in answer
        else answer
    )


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
