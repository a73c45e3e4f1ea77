"""What a checkpoint folder says of itself: the method, what it left out, how big it is, and whether ours were checked."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from profile_and_optimize.core.errors import Corrupted, WrongUse
from profile_and_optimize.evidence.reading import read_json
from profile_and_optimize.quant.pao_ptq.folder import MARKER
from profile_and_optimize.quant.pao_ptq.headers import weights_bytes
from profile_and_optimize.quant.pao_ptq.speaks import changed, files_told
from profile_and_optimize.quant.pao_ptq.stop import Stop

# What a campaign asks of a checkpoint without knowing its workers.
__all__ = [
    "MARKER",
    "UNKNOWN",
    "Checkpoint",
    "changed",
    "files_told",
    "quantization_of",
    "read_checkpoint",
    "weights_of",
]

UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """One model folder. `quant_method` is None for an unquantized one. `base_digest` and `job_digest` are "unknown" for
    one that we did not make; `coverage` and `roundtrip` are None there, as is everything measured. `changed` names files that
    are not what the checks saw; None where no record says what they saw."""

    folder: Path
    model_type: str
    quant_method: str | None
    algo: str
    excludes: tuple[str, ...]
    bytes: int
    base_digest: str = UNKNOWN
    job_digest: str = UNKNOWN
    coverage: bool | None = None
    roundtrip: bool | None = None
    bits_per_weight: float | None = None
    kl: float | None = None
    top1: float | None = None
    changed: tuple[str, ...] | None = None

    @property
    def ours(self) -> bool:
        return self.job_digest != UNKNOWN

    @property
    def proven(self) -> bool:
        """Made by us, every check passed, read back as it was written, and still the bytes that were checked."""
        return self.ours and self.coverage is True and self.roundtrip is True and self.changed == ()

    @property
    def not_proven_words(self) -> str:
        """Why it is not; empty where it is."""
        if self.proven:
            return ""
        if self.changed:
            return f"is not what was checked: {'; '.join(self.changed[:4])}"
        if self.ours and self.changed is None:
            return "has no coverage.json with the files that its checks saw"
        if not self.ours:
            return "is not of our making"
        bad = [
            name
            for name, ok in (("coverage.json", self.coverage), ("roundtrip.json", self.roundtrip))
            if ok is not True
        ]
        return f"did not pass its checks, by {' and '.join(bad)}"

    def to_json(self) -> dict[str, Any]:
        return {
            "folder": str(self.folder), "model_type": self.model_type, "quant_method": self.quant_method, "algo": self.algo,
            "excludes": list(self.excludes), "bytes": self.bytes, "base_digest": self.base_digest,
            "job_digest": self.job_digest, "coverage": self.coverage, "roundtrip": self.roundtrip,
            "bits_per_weight": self.bits_per_weight, "kl": self.kl, "top1": self.top1,
            "changed": None if self.changed is None else list(self.changed),
        }  # fmt: skip


def weights_of(folder: Path) -> int | None:
    """Bytes of the files that hold a model's weights; None where there is no such folder, or loaders would differ in which
    files those are."""
    try:
        return weights_bytes(folder)
    except Stop:
        return None


def read_checkpoint(folder: Path) -> Checkpoint:
    """Raises WrongUse for what is no model folder or a half-made one, Corrupted for files that cannot be read."""
    if (folder / MARKER).exists() or folder.name.endswith(".partial"):
        raise WrongUse(
            "is half made, not a checkpoint", where=str(folder), next="run the same pao quantize again: it resumes"
        )
    if not (folder / "config.json").is_file():
        raise WrongUse("no config.json: not a model folder", where=str(folder), next="give a folder with a checkpoint")
    config = _object(folder / "config.json")
    method, algo, excludes = quantization_of(config, _optional(folder / "hf_quant_config.json"))
    made, coverage, trip = (_optional(folder / n) for n in ("quantize.json", "coverage.json", "roundtrip.json"))
    return Checkpoint(
        folder=folder.absolute(), model_type=str(config.get("model_type", UNKNOWN)), quant_method=method, algo=algo,
        excludes=excludes, bytes=sum(p.stat().st_size for p in folder.glob("*.safetensors")),
        base_digest=str(made.get("base_digest") or _part(made, "job").get("base_digest") or UNKNOWN),
        job_digest=str(_part(made, "job").get("job_digest") or UNKNOWN),
        coverage=_covered(coverage), roundtrip=_flag(trip), bits_per_weight=_number(coverage.get("bits_per_weight")),
        kl=_number(_part(trip, "kl_base").get("reloaded")), top1=_number(_part(trip, "top1_base").get("reloaded")),
        changed=_changed(folder, coverage),
    )  # fmt: skip


def _changed(folder: Path, coverage: Mapping[str, Any]) -> tuple[str, ...] | None:
    """Files that are not what the checks saw; None where their record does not say."""
    told = coverage.get("files")
    return tuple(changed(folder, told)) if isinstance(told, dict) else None


def quantization_of(config: Mapping[str, Any], beside: Mapping[str, Any]) -> tuple[str | None, str, tuple[str, ...]]:
    """(method, algorithm or format, what is left out), of config.json and the hf_quant_config.json beside it."""
    text = config.get("text_config")
    part = config.get("quantization_config") or (text.get("quantization_config") if isinstance(text, Mapping) else None)
    more = beside.get("quantization")
    if not isinstance(part, Mapping):
        part = more if isinstance(more, Mapping) else None
        if part is None:
            return None, UNKNOWN, ()
    method = str(part.get("quant_method") or ("modelopt" if isinstance(more, Mapping) else UNKNOWN))
    algo = part.get("quant_algo") or (more or {}).get("quant_algo") or part.get("format") or UNKNOWN
    left = next((part[k] for k in ("ignore", "exclude_modules", "modules_to_not_convert") if part.get(k)), ())
    return method, str(algo), tuple(str(e) for e in left)


def _object(file: Path) -> dict[str, Any]:
    # A config may hold Infinity (hybrid models do): it is read as Python reads it.
    try:
        found = json.loads(file.read_text())
    except (OSError, ValueError, RecursionError) as e:
        raise Corrupted(f"not JSON: {e}", where=str(file), next="fetch or make the checkpoint again") from e
    if not isinstance(found, dict):
        raise Corrupted("no JSON object", where=str(file), next="fetch or make the checkpoint again")
    return found


def _optional(file: Path) -> dict[str, Any]:
    if not file.is_file():
        return {}
    found = read_json(file) if file.name != "hf_quant_config.json" else _object(file)
    if not isinstance(found, dict):
        raise Corrupted("no JSON object", where=str(file), next="make the checkpoint again")
    return found


def _part(record: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """An object within a record; empty where it is none: a vendor's files of these names may hold anything."""
    found = record.get(name)
    return found if isinstance(found, dict) else {}


def _flag(record: Mapping[str, Any]) -> bool | None:
    found = record.get("passed")
    return found if isinstance(found, bool) else None


def _covered(record: Mapping[str, Any]) -> bool | None:
    """By every single check where the record lists them: the word above them is theirs to bear out."""
    checks = record.get("checks")
    if not isinstance(checks, list) or not checks:
        return _flag(record)
    return bool(record.get("passed") is True and all(isinstance(c, dict) and c.get("passed") is True for c in checks))


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
