"""What an arm serves in the model's place: the checkpoint's own records, kept in the run at admission.

The weights stay where they are; their digest, and what their maker wrote of them, become evidence.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from profile_and_optimize.campaign import PRODUCER
from profile_and_optimize.core.cell import Arm
from profile_and_optimize.core.errors import Corrupted, WrongUse
from profile_and_optimize.core.names import digest
from profile_and_optimize.core.plan import Plan
from profile_and_optimize.engines.base import EngineFailed
from profile_and_optimize.evidence.folder import RunFolder, read_json
from profile_and_optimize.evidence.modelfolder import model_digest
from profile_and_optimize.quant.checkpoint import read_checkpoint

KEPT = "raw/checkpoint.json"
# How the checkpoints of ours were asked for: what a run that goes on makes them by.
JOBS = "quantize"
RECORDS = ("quantize.json", "calibration.json", "coverage.json", "roundtrip.json")
TOKENIZER = "tokenizer.json"


def place(arm: str) -> str:
    return f"cells/{arm}/{KEPT}"


def is_kept(folder: RunFolder, arm: Arm) -> bool:
    return (folder.path / place(arm.id)).exists()


def keep(folder: RunFolder, plan: Plan, arm: Arm) -> None:
    """Write down what the arm's checkpoint says of itself, once. Raises EngineFailed for one that cannot stand in for the
    campaign's model."""
    if not arm.checkpoint or is_kept(folder, arm):
        return
    path = Path(arm.checkpoint)
    try:
        told = read_checkpoint(path)
    except (WrongUse, Corrupted) as e:
        raise EngineFailed(e.message, where=f"cell {arm.id}: {e.where}", next=e.next or "pao quantize") from e
    same = _same_tokenizer(Path(plan.model), path)
    if same is False:
        raise EngineFailed(
            "its tokenizer.json is not the model's, so its tokens would be others", where=str(path), next="copy the model's"
        )  # fmt: skip
    found: dict[str, Any] = {
        "schema": 1, "checkpoint": told.to_json(), "digest": model_digest(arm.checkpoint), "same_tokenizer": same,
        "base_bytes": _weights(plan.model),
        "records": {name: read_json(path / name) for name in RECORDS if (path / name).is_file()},
    }  # fmt: skip
    folder.write_json(place(arm.id), found, producer=PRODUCER)


def _weights(model: str) -> int | None:
    """Bytes of a folder's weights; None for a model on a hub."""
    return sum(p.stat().st_size for p in Path(model).glob("*.safetensors")) or None


def _same_tokenizer(model: Path, checkpoint: Path) -> bool | None:
    """None where the model is no folder, so that there is nothing to compare with."""
    if not (model / TOKENIZER).is_file():
        return None
    there = checkpoint / TOKENIZER
    return there.is_file() and digest(there.read_bytes()) == digest((model / TOKENIZER).read_bytes())
