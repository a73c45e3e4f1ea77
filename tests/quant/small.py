"""A base folder of a few bytes, and a Python that plays the workers: for tests that load no model."""

from __future__ import annotations

import json
import os
import shutil
import stat
import sys
from pathlib import Path
from typing import Any

from profile_and_optimize.quant.job import Calibration, Heldout, Job, new_job
from profile_and_optimize.quant.pao_ptq.files import worker_sha256
from profile_and_optimize.workloads.recorded import digest_file

ROOT = Path(__file__).parents[2]
DEMO = ROOT / "demo" / "model"
QUESTIONS = ROOT / "demo" / "heldout.jsonl"


# A few of the demo's questions: the text that is always here takes a second to read.
SHORT = Calibration(QUESTIONS.name, str(QUESTIONS), digest_file(QUESTIONS), 4, 64)


def safetensors(tensors: dict[str, tuple[int, ...]]) -> bytes:
    """A whole file of zeros in bf16, by shape."""
    header, at = {}, 0
    for name, shape in tensors.items():
        size = 2
        for n in shape:
            size *= n
        header[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [at, at + size]}
        at += size
    head = json.dumps(header).encode()
    return len(head).to_bytes(8, "little") + head + bytes(at)


def write_base(folder: Path, **config: Any) -> Path:
    """A dense llama of one layer; `config` lays over its config.json, None takes a key away."""
    plain = {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 718, "hidden_size": 128,
        "intermediate_size": 256, "num_hidden_layers": 1, "num_attention_heads": 4, "max_position_embeddings": 2048,
        "hidden_act": "silu",
    }  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps({k: v for k, v in (plain | config).items() if v is not None}))
    (folder / "model.safetensors").write_bytes(safetensors({"lm_head.weight": (8, 8)}))
    shutil.copy(DEMO / "tokenizer.json", folder / "tokenizer.json")
    return folder


def small_job(space: Path, **differs: Any) -> Job:
    """NVFP4 by ModelOpt of a small base in `space`, calibrated on the text that is always here."""
    asked = {"backend": "modelopt", "target": "nvfp4", "calibration": SHORT}
    return new_job(write_base(space / "base"), space / "out", **(asked | {"heldout": Heldout(2, 32)} | differs))


def worker_job(space: Path, **differs: Any) -> dict[str, Any]:
    """job.json of a base in `space`, as the workers read it; `differs` lays over it."""
    return {
        "schema": 2, "base": str(space / "base"), "base_digest": "sha256:b", "out": str(space / "out"), "backend": "modelopt",
        "target": "nvfp4", "family": {}, "exclude": ["lm_head"], "seed": 0, "threads": 1, "device": "cpu",
        "calibration": {"source": "a text", "text": None, "text_sha256": None, "samples": 4, "seq_len": 64},
        "heldout": {"samples": 2, "seq_len": 32}, "trust_remote_code": False, "worker_sha256": worker_sha256(),
        "job_digest": "d1",
    } | differs  # fmt: skip


# Stands where an environment's bin/python would. The first step is the real one; the others do what plan.json says.
PLAYER = """#!{python}
import json, os, signal, subprocess, sys, time
from pathlib import Path

plan = json.loads(Path({plan!r}).read_text())
if "-I" in sys.argv:
    print(json.dumps(plan["versions"]))
    sys.exit(0)
if sys.argv[1] == "-c":
    code, sys.argv = sys.argv[2], sys.argv[1:2] + sys.argv[3:]
    exec(code)
    sys.exit(0)
assert sys.argv[1:3] == ["-m", "pao_ptq"], sys.argv
step, file = sys.argv[3:]
with open({ran!r}, "a") as f:
    print(step, os.environ.get("OMP_NUM_THREADS"), file=f)
job = json.loads(Path(file).read_text())
act = plan["steps"].get(step, "")
out = Path(job["out"])
partial = out.with_name(out.name + ".partial")
if act == "hang":
    child = subprocess.Popen(["sleep", "600"])
    Path({pids!r}).write_text(f"{{os.getpid()}} {{child.pid}}")
    print('PAO {{"stage": "%s", "done": 1, "of": 3, "says": "at work"}}' % step, flush=True)
    time.sleep(600)
if act == "crash":
    raise RuntimeError("the library says no")
if act == "memory":
    os.kill(os.getpid(), signal.SIGKILL)
if act in ("wrong_use", "broke", "refused"):
    print("FAIL no-zero-scale: 3 scales are zero", flush=True)
    told = {{"code": act, "message": "why it stopped", "where": "a place", "next": "what to do"}}
    print("PAO-ERROR " + json.dumps(told), file=sys.stderr)
    sys.exit({{"wrong_use": 2, "broke": 3, "refused": 1}}[act])
if step == "calibrate":
    worker = subprocess.run([sys.executable, "-m", "pao_ptq", step, file])
    if worker.returncode:
        sys.exit(worker.returncode)
print('PAO {{"stage": "%s", "done": 3, "of": 3, "says": "done"}}' % step, flush=True)
if step == "guard" and act != "nothing":
    export = partial / "export"
    export.mkdir()
    method = plan.get("method", "modelopt")
    quantization = {{"quant_method": method, "quant_algo": "NVFP4", "ignore": ["lm_head"]}}
    records = {{
        "config.json": {{"model_type": "llama", "quantization_config": quantization}},
        "quantize.json": {{"job": job, "base_digest": job["base_digest"], "seconds": {{}}}},
        "coverage.json": {{"passed": True, "bits_per_weight": 4.5, "checks": [{{"name": "no-zero-scale", "passed": True}}]}},
        "roundtrip.json": {{"passed": True, "tokens": 64, "kl_base": {{"reloaded": 0.003, "in_process": 0.003}}}},
        "calibration.json": json.loads((partial / "work" / "calibration.json").read_text()),
    }}
    for name, told in records.items():
        (export / name).write_text(json.dumps(told))
    (export / "model.safetensors").write_bytes(bytes(100))
    from pao_ptq.speaks import files_told
    told = records["coverage.json"] | {{"files": files_told(export)}}
    (export / "coverage.json").write_text(json.dumps(told))
    os.rename(export, out)
    import shutil
    shutil.rmtree(partial)
"""


class Player:
    """The Python of a made-up environment, in its folder."""

    def __init__(self, folder: Path, **steps: str) -> None:
        self.folder = folder
        (folder / "bin").mkdir(parents=True)
        self.python = folder / "bin" / "python"
        self._ran, self._pids = folder / "ran.txt", folder / "pids.txt"
        names = {"plan": str(folder / "plan.json"), "ran": str(self._ran), "pids": str(self._pids)}
        self.python.write_text(PLAYER.format(python=sys.executable, **names))
        self.python.chmod(self.python.stat().st_mode | stat.S_IXUSR)
        self.does(**steps)

    def does(self, *, transformers: str = "5.14.1", method: str = "modelopt", **steps: str) -> None:
        versions = [["nvidia-modelopt", "0.47.0"], ["transformers", transformers], ["torch", "2.13.0+cpu"]]
        (self.folder / "plan.json").write_text(json.dumps({"versions": versions, "steps": steps, "method": method}))

    @property
    def ran(self) -> list[str]:
        """The steps that were started, in their order."""
        return [line.split()[0] for line in self._lines()]

    @property
    def threads(self) -> set[str]:
        return {line.split()[1] for line in self._lines()}

    def _lines(self) -> list[str]:
        return self._ran.read_text().splitlines() if self._ran.exists() else []

    def pids(self) -> list[int]:
        """Of a step that hangs, and of the child it started; empty before it does."""
        return [int(p) for p in self._pids.read_text().split()] if self._pids.exists() else []


def alive(pid: int) -> bool:
    """A zombie that nobody has waited for is none."""
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (OSError, IndexError):
        return False
