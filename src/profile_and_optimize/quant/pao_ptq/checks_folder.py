"""Is the rest of the folder the base's? Its configuration but for the quantization, its sidecars byte for byte, its weight files
those that the index names, and the records those of this very job."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from .evidence import Check, Evidence, fail
from .files import read_json, worker_sha256
from .headers import INDEX, header_of, unnamed_files, weight_files, weight_map
from .names import DTYPES, RECORDS, is_sidecar
from .speaks import sha256
from .stop import Stop

MISSING = object()


def config_kept(ev: Evidence) -> Check:
    """Every key of the base's config.json has its value in the export's, and there is none beside but the quantization."""
    name = "config-kept"
    bad = differences(ev.base_config, {k: v for k, v in ev.config.items() if k != "quantization_config"})
    if bad:
        return fail(name, "config.json is not the base's", bad)
    return Check(name, True, f"{len(ev.base_config)} keys are the base's; weights are declared bfloat16")


def differences(base: Any, mine: Any, at: str = "") -> list[str]:
    """Where two configurations differ, by key; a type of numbers is bfloat16 in the export, whatever it was."""
    last = at.rpartition(".")[2]
    if last in DTYPES:
        untold = base is None and mine is None and at != "dtype"
        return [] if untold or mine == "bfloat16" else [f"{at}: {_shown(mine)}, where the weights are bfloat16"]
    if isinstance(base, dict) and isinstance(mine, dict):
        keys = sorted(
            {*base, *mine}
            - ({"dtype"} if not at and "dtype" not in base and mine.get("dtype") == "bfloat16" else set())
        )
        below = [differences(base.get(k, MISSING), mine.get(k, MISSING), f"{at}.{k}".lstrip(".")) for k in keys]
        return [fault for faults in below for fault in faults]
    if json.dumps(base, default=str, sort_keys=True) == json.dumps(mine, default=str, sort_keys=True) and type(
        base
    ) is type(mine):
        return []
    return [f"{at}: {_shown(mine)}, {_shown(base)} in the base"]


def _shown(value: Any) -> str:
    return "nothing" if value is MISSING else json.dumps(value, default=str)[:80]


def sidecars_kept(ev: Evidence) -> Check:
    """Tokenizer, templates, processors, code: each file of the base is there as it was, and no other one."""
    name = "sidecars-kept"
    base, mine = (_sidecars(folder) for folder in (ev.job.base, ev.folder))
    bad = [f"{n}: not in the export" for n in sorted({*base} - {*mine})]
    bad += [f"{n}: the base has no such file" for n in sorted({*mine} - {*base})]
    bad += [f"{n}: not the base's" for n in sorted({*base} & {*mine}) if sha256(base[n]) != sha256(mine[n])]
    if bad:
        return fail(name, "files beside the weights that are not the base's", bad)
    return Check(name, True, f"{len(mine)} files are the base's, byte for byte")


def _sidecars(folder: Path) -> dict[str, Path]:
    found = {p.relative_to(folder): p for p in folder.rglob("*") if p.is_file()}
    return {
        n.as_posix(): p
        for n, p in found.items()
        if is_sidecar(n.as_posix()) and not any(part.startswith(".") for part in n.parts)
    }


def files_named(ev: Evidence) -> Check:
    """The weight files are those that the index names, each holds what it says, and no other lies beside them."""
    name, bad = "files-named", [f"{n}: no loader reads it" for n in unnamed_files(ev.folder)]
    index = ev.folder / INDEX
    if index.is_file():
        there = {f.name: {n for n in header_of(f)[0] if n != "__metadata__"} for f in weight_files(ev.folder)}
        bad += [
            f"{n}: not in {f}, where the index has it"
            for n, f in sorted(weight_map(index).items())
            if n not in there[f]
        ]
        twice = sorted(n for n in ev.export if sum(n in names for names in there.values()) > 1)
        bad += [f"{n}: in more than one file" for n in twice]
    stray = [p.name for p in ev.folder.iterdir() if not _belongs(p, ev.folder)]
    bad += [f"{n}: belongs to nothing here" for n in sorted(stray)]
    if bad:
        return fail(name, "files that differ from the checkpoint's own description", bad)
    return Check(name, True, f"{len(weight_files(ev.folder))} files of weights, as named")


def _belongs(path: Path, folder: Path) -> bool:
    weights = {f.name for f in weight_files(folder)} | set(unnamed_files(folder)) | {INDEX, "config.json"}
    return path.is_dir() or path.name in weights or path.name in RECORDS or is_sidecar(path.name)


def records_match(ev: Evidence) -> Check:
    """quantize.json is of this very job and of these workers, calibration.json of these samples."""
    name = "records-match"
    bad: list[str] = []
    made = _record(ev.folder / "quantize.json", bad)
    if made is not None and made.get("job") != dict(ev.job.told):
        keys = sorted(
            k for k in {*ev.job.told, *(made.get("job") or {})} if (made.get("job") or {}).get(k) != ev.job.told.get(k)
        )
        bad.append(f"quantize.json job: another job's ({', '.join(keys[:4])})")
    if made is not None and made.get("worker_sha256") != worker_sha256():
        bad.append("quantize.json worker_sha256: made by other workers than these")
    for key, file in (("facts_sha256", "facts.json"), ("reference_sha256", "reference.safetensors")):
        there = ev.job.work / file
        if made is not None and (not there.is_file() or made.get(key) != sha256(there)):
            bad.append(f"quantize.json {key}: work/{file} is not what was recorded then")
    asked, kept = _record(ev.folder / "calibration.json", bad), _record(ev.job.work / "calibration.json", bad)
    if asked is not None and kept is not None:
        bad += [
            f"calibration.json {k}: not that of the samples"
            for k in sorted({*asked, *kept})
            if asked.get(k) != kept.get(k)
        ]
        for key, file in (("sha256", "calib.jsonl"), ("heldout_sha256", "heldout.jsonl")):
            there = ev.job.work / file
            if key in kept and (not there.is_file() or sha256(there) != kept[key]):
                bad.append(f"calibration.json {key}: {file} is not what was tokenized")
    if bad:
        return fail(name, "records of another export", bad)
    return Check(name, True, "job, workers, facts and samples are those that made it")


def _record(file: Path, bad: list[str]) -> dict[str, Any] | None:
    try:
        return read_json(file)
    except Stop as stop:
        bad.append(f"{file.name}: {stop.message}")
        return None
