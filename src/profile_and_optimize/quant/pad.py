"""Widens the experts of a checkpoint with zeros, so that each rank's share fits a kernel that wants multiples of 64.

A gated expert computes down(act(gate(x)) * up(x)). A row of zeros in gate and up and a column of zeros in down add nothing to
any sum: the answers are the same numbers, and nothing is quantized again. That is shown before the copy gets its name: every
tensor is compared with the source's, and both are loaded and asked where plain transformers loads them.

Only on request: an aligned model is better left as its maker wrote it. Numpy and the standard library; memory holds one tensor.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from profile_and_optimize.core.errors import BrokeMidway, WrongUse
from profile_and_optimize.engines.base import Command
from profile_and_optimize.evidence.modelfolder import weights_sha256
from profile_and_optimize.quant import pad_answers
from profile_and_optimize.quant.families import text_part
from profile_and_optimize.quant.gaps import ALIGN
from profile_and_optimize.quant.pad_check import Checked, Tensor, compare, tensors_in
from profile_and_optimize.quant.pad_growth import grow
from profile_and_optimize.quant.pad_plan import INDEX, Plan, json_in, planned
from profile_and_optimize.quant.run import Step, available_memory, run_worker, worker_env
from profile_and_optimize.toolenv.find import ToolEnv, find, from_python
from profile_and_optimize.toolenv.specs import PTQ

SCHEMA = 2
ROWS, TOKENS = 4, 32
RECORD, MARK = "padding.json", "pad_experts.json"
# Records of a quantization speak of the bytes that were checked; of these there are now others.
OF_OTHER_BYTES = ("coverage.json", "roundtrip.json", RECORD)
ANSWERS, BYTES, UNKNOWN = "answers", "bytes", "UNKNOWN"

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Padded:
    """What was done: the experts' width before and after, how many tensors grew, and what was `compared`: answers (and bytes),
    bytes alone, or UNKNOWN (bytes alone, where answers could have been compared). `answers` is the record of the former."""

    folder: Path
    before: int
    after: int
    tensors: int
    bytes_before: int
    bytes_after: int
    compared: str
    answers: Mapping[str, Any] | None


def pad_experts(
    model: Path, out: Path, tp: int, say: Say, *, multiple: int = ALIGN, unchecked: bool = False, python: Path | None = None,
    threads: int = 1,
) -> Padded:  # fmt: skip
    """Writes a copy of the checkpoint with experts as wide as the next multiple of `multiple` x `tp`.

    `unchecked` writes an unquantized copy without comparing answers, and the record says UNKNOWN. Raises WrongUse when there
    are no experts, they are aligned already, a layout is not known, there is no environment to compare in, or `out` exists;
    GateRefused when the copy is not the same; BrokeMidway when the disk is full. Until all is compared everything lies
    under `OUT.partial`, never under `out`.
    """
    plan = planned(model, tp, multiple)
    _require_free(model, out)
    env = environment(python) if plan.plain and not unchecked else None
    if env is not None:
        _require_memory(plan)
    half = out.with_name(out.name + ".partial")
    _begin(half)
    copy = half / "checkpoint"
    try:
        write(plan, copy, say)
        result = _judged(plan, copy, half, env, threads, say)
        os.rename(copy, out)
        shutil.rmtree(half)
    except OSError as e:
        raise BrokeMidway(f"{e.strerror or e}", where=str(half), next="make room and run it again") from e
    before, after = (_weight_bytes(tensors) for tensors in (plan.tensors, tensors_in(_at(plan, out))))
    return Padded(out, plan.found.width, plan.after, len(plan.growths), before, after, *result)


def environment(python: Path | None) -> ToolEnv:
    env = from_python(python, "ptq") if python is not None else find("ptq")
    if env is None:
        raise WrongUse(
            "the tool environment ptq, in which the answers are compared, is not installed",
            next="pao tools install ptq, or --ptq-python PATH, or --unchecked (then nobody has compared the answers)",
        )  # fmt: skip
    return env


# ---- writing -----------------------------------------------------------------------------------------------------------


def _require_memory(plan: Plan) -> None:
    """One side at a time is loaded in float32. Raises BrokeMidway where the wider one cannot be held."""
    grown = sum(math.prod(plan.tensors[n].shape) for n in plan.growths)
    count = sum(math.prod(t.shape) for t in plan.tensors.values()) - grown + grown * plan.after / plan.found.width
    memory = available_memory()
    if memory is not None and memory < 4 * count + PTQ.memory_floor_bytes:
        raise BrokeMidway(
            f"to compare answers takes about {(4 * count + PTQ.memory_floor_bytes) / 1e9:.1f} GB of memory, {memory / 1e9:.1f} are free",
            where=str(plan.model),
            next="run it on a larger machine, or with --unchecked (then nobody has compared the answers)",
        )  # fmt: skip


def _require_free(model: Path, out: Path) -> None:
    if os.path.lexists(out):
        raise WrongUse("is there already", where=f"--out {out}", next="give another --out")
    here, half = model.resolve(), out.with_name(out.name + ".partial").resolve()
    for place in (out.resolve(), half):
        if place == here or here in place.parents or place in here.parents:
            raise WrongUse("--out and --model must not contain one another", where=f"--out {out}", next="give another --out")  # fmt: skip


def _begin(half: Path) -> None:
    """An empty folder for the work; one that an earlier run of this verb left is cleared, another is not touched."""
    if os.path.lexists(half):
        if not (half / MARK).is_file():
            raise WrongUse(
                "is there and was not left by this verb", where=str(half), next="move it away, or give another --out"
            )
        shutil.rmtree(half)
    half.mkdir(parents=True)
    (half / MARK).write_text("{}\n")


def write(plan: Plan, copy: Path, say: Say) -> None:
    """The padded copy, unjudged."""
    copy.mkdir()
    for i, (name, file) in enumerate(plan.files.items()):
        say(f"{name}, {i + 1} of {len(plan.files)}")
        _copy_file(plan, file, copy / name)
    skipped = {p.name for p in plan.model.glob("*.safetensors")} - set(plan.files)
    if skipped:
        say(f"left out, since the index does not name them: {', '.join(sorted(skipped))}")
    for file in plan.model.iterdir():
        if file.is_file() and file.suffix != ".safetensors" and file.name not in ("config.json", *OF_OTHER_BYTES):
            shutil.copy(file, copy / file.name)
    config: dict[str, Any] = json.loads(json.dumps(plan.config))
    inner: dict[str, Any] = config["text_config"] if text_part(config) is not config else config
    inner[plan.found.key] = plan.after
    (copy / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    if (copy / INDEX).exists():
        index = json_in(copy / INDEX)
        index["metadata"] = {**(index.get("metadata") or {}), "total_size": _weight_bytes(tensors_in(_at(plan, copy)))}
        (copy / INDEX).write_text(json.dumps(index, indent=2) + "\n")


def _copy_file(plan: Plan, source: Path, target: Path) -> None:
    with source.open("rb") as f, target.open("wb") as out:
        length = int.from_bytes(f.read(8), "little")
        header = json.loads(f.read(length))
        metadata = header.pop("__metadata__", None)
        fresh, at = {}, 0
        for name, entry in header.items():
            shape, g = list(entry["shape"]), plan.growths.get(name)
            size = entry["data_offsets"][1] - entry["data_offsets"][0]
            if g is not None and g.new > g.old:
                size = size // shape[g.axis] * g.new * g.parts
                shape[g.axis] = g.new * g.parts
            fresh[name] = {"dtype": entry["dtype"], "shape": shape, "data_offsets": [at, at + size]}
            at += size
        text = json.dumps(fresh | ({"__metadata__": metadata} if metadata else {})).encode()
        text += b" " * (-len(text) % 8)  # the format wants its data aligned
        out.write(len(text).to_bytes(8, "little") + text)
        for name, entry in header.items():
            f.seek(8 + length + entry["data_offsets"][0])
            raw = f.read(entry["data_offsets"][1] - entry["data_offsets"][0])
            out.write(_widened(plan, name, entry["shape"], raw))
        out.flush()
        os.fsync(out.fileno())


def _widened(plan: Plan, name: str, shape: list[int], raw: bytes) -> bytes:
    g = plan.growths.get(name)
    if g is None:
        return raw
    if name.endswith("weight_shape"):
        words = plan.growths[name.removesuffix("weight_shape") + "weight_packed"]
        told = np.frombuffer(raw, np.int64 if len(raw) == 16 else np.int32).copy()
        told[words.axis] = plan.after * (told[words.axis] // plan.found.width)
        return told.tobytes()
    return grow(np.frombuffer(raw, np.uint8).reshape(*shape, -1), g).tobytes()


# ---- judging -----------------------------------------------------------------------------------------------------------


def _judged(
    plan: Plan, copy: Path, half: Path, env: ToolEnv | None, threads: int, say: Say
) -> tuple[str, Mapping[str, Any] | None]:
    """Compares, and writes padding.json with the digests of the weights that were compared."""
    say("every tensor beside the source's")
    checked = compare(plan.tensors, tensors_in(_at(plan, copy)), plan.stored)
    digest, config_digest = weights_sha256(copy), _digest(copy / "config.json")
    answers = _answers(plan, copy, half, env, threads, say) if env is not None else None
    if (weights_sha256(copy), _digest(copy / "config.json")) != (digest, config_digest):
        raise BrokeMidway("the copy changed while it was compared", where=str(copy), next="run it again")
    compared = ANSWERS if answers is not None else UNKNOWN if plan.plain else BYTES
    record = _record(plan, checked, compared, answers) | {"weights_sha256": digest, "config_sha256": config_digest}
    (copy / RECORD).write_text(json.dumps(record, indent=2) + "\n")
    return compared, answers


def _record(plan: Plan, checked: Checked, compared: str, answers: Mapping[str, Any] | None) -> dict[str, Any]:
    return {
        "schema": SCHEMA, "padded_from": str(plan.model), "key": plan.found.key, "width_before": plan.found.width,
        "width": plan.after, "tensors": {"equal": checked.equal, "grown": checked.grown}, "compared": compared,
        "answers": answers if answers is not None else UNKNOWN,
        "source": {"config_sha256": _digest(plan.model / "config.json"), "files_sha256": {n: _digest(p) for n, p in plan.files.items()}},
    }  # fmt: skip


def _answers(plan: Plan, copy: Path, half: Path, env: ToolEnv, threads: int, say: Say) -> Mapping[str, Any]:
    """Both sides loaded and asked in the tool environment. Raises GateRefused where they do not agree."""
    job, told = half / "answers_job.json", half / "answers.json"
    job.write_text(json.dumps({
        "base": str(plan.model), "padded": str(copy), "key": plan.found.key, "rows": ROWS, "tokens": TOKENS, "out": str(told),
    }))  # fmt: skip
    argv = (str(env.python), pad_answers.__file__, str(job))
    run_worker(Step("pad_answers", Command(argv, worker_env(threads))), half / "log.txt", say)
    found = json_in(told, needed=True)
    if not found.get("largest_difference", np.nan) <= found.get("bound", np.nan):
        raise BrokeMidway("the comparison left no result", where=str(half / "log.txt"), next="read the log")
    return found


def _at(plan: Plan, folder: Path) -> dict[str, Path]:
    return {n: folder / n for n in plan.files}


def _weight_bytes(tensors: Mapping[str, Tensor]) -> int:
    return sum(t.data.nbytes for t in tensors.values())


def _digest(file: Path) -> str:
    with file.open("rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()
