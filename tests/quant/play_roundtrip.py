"""Runs in the ptq environment: quantizes by each job, reads the export back, then plants faults into it, one at a time.

python play_roundtrip.py FOLDER_OF_PAO_PTQ JOB.json...    the last line of stdout is JSON: by target, by fault, the reason
"""

import contextlib
import importlib
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, sys.argv[1])
program, jobs, roundtrip, stop = (
    importlib.import_module(f"pao_ptq.{n}") for n in ("__main__", "job", "roundtrip", "stop")
)


def change(name_ends: str, new: Callable[[Any], Any]) -> Callable[[dict[str, Any]], None]:
    def plant(tensors: dict[str, Any]) -> None:
        name = next(n for n in sorted(tensors) if n.endswith(name_ends))
        tensors[name] = new(tensors[name])

    return plant


def lose(tensors: dict[str, Any]) -> None:
    for name in [n for n in tensors if "layers.1.mlp.experts.2.up_proj" in n]:
        del tensors[name]


def doubled(scale: Any) -> Any:
    import torch

    return (scale.float() * 2).to(torch.float8_e4m3fn)


FAULTS: dict[str, Callable[[dict[str, Any]], None]] = {
    "swapped nibbles": change("o_proj.weight", lambda w: (w >> 4) | (w << 4)),
    "a global scale dropped": change("o_proj.weight_scale_2", lambda s: s * 0 + 1),
    "one expert's scales doubled": change("experts.1.down_proj.weight_scale", doubled),
    "an input scale wrong": change("o_proj.input_scale", lambda s: s * 0.001),
    "an expert lost": lose,
}


def reason(job: Any) -> str:
    try:
        roundtrip.run(job)
    except stop.Stop as said:
        return str(said.message)
    return ""


def told_of(job: Any, file: str, faulty: bool) -> dict[str, str]:
    from safetensors.torch import load_file, save_file

    for step in ("calibrate", "quantize"):
        if program.main([step, file]) != 0:
            raise SystemExit(f"{step} failed")
    export = job.export
    told = {"whole": reason(job)}
    record = json.loads((export / "roundtrip.json").read_text())
    told |= {"kl": str(record["kl_in_process_reloaded"]), "kl_recoded": str((record["codes"] or {}).get("kl_recoded"))}
    if not faulty:
        return told
    sound = shutil.copytree(export, export.with_name("sound"))
    for fault, plant in FAULTS.items():
        tensors = load_file(sound / "model.safetensors")
        plant(tensors)
        save_file(
            {n: t.contiguous() for n, t in tensors.items()}, export / "model.safetensors", metadata={"format": "pt"}
        )
        told[fault] = reason(job)
    try:
        roundtrip.loaded(job, sound)
    except stop.Stop as said:
        told["the export in plain transformers"] = str(said.message)
    return told


def main() -> None:
    answer = {}
    with contextlib.redirect_stdout(sys.stderr):
        for i, file in enumerate(sys.argv[2:]):
            job = jobs.read_job(Path(file))
            answer[job.target] = told_of(job, file, faulty=i == 0)
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
