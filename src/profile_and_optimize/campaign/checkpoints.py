"""What an arm serves in the model's place: the checkpoint's own records, kept in the run at admission.

The weights stay where they are; their digest, and what their maker wrote of them, become evidence.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from profile_and_optimize.campaign import PRODUCER
from profile_and_optimize.core.cell import Arm
from profile_and_optimize.core.errors import Corrupted, WrongUse
from profile_and_optimize.core.plan import Plan
from profile_and_optimize.engines.base import EngineFailed
from profile_and_optimize.evidence.folder import RunFolder, read_json
from profile_and_optimize.evidence.modelfolder import model_digest, weights_sha256
from profile_and_optimize.quant.checkpoint import changed, files_told, read_checkpoint, weights_of
from profile_and_optimize.quant.served_as import require_agreeing

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
    """Write down what the arm's checkpoint says of itself, once.

    Raises EngineFailed for one that cannot stand in for the campaign's model, WrongUse for one that is still to be made,
    Corrupted for one that changed since it was written down.
    """
    if not arm.checkpoint:
        return
    path = Path(arm.checkpoint)
    if is_kept(folder, arm):
        require_same(folder, arm)
        return
    if not path.is_dir() and any((folder.path / JOBS / f"{name}.json").exists() for name in plan.sharing(arm)):
        raise WrongUse(
            f"the checkpoint of {arm.id} is still to be made",
            where=str(path),
            next=f"pao optimize --resume {folder.path}",
        )
    try:
        require_agreeing(arm, plan.common_flags)
    except (WrongUse, Corrupted) as e:
        raise EngineFailed(e.message, where=e.where, next=e.next) from e
    same = _same_tokenizer(Path(plan.model), path)
    if same is False:
        raise EngineFailed("its tokenizer is not the model's, so its tokens would be others", where=str(path))
    folder.write_json(
        place(arm.id),
        {**_told(arm, path), "same_tokenizer": same, "base_bytes": weights_of(Path(plan.model))},
        producer=PRODUCER,
    )


def _told(arm: Arm, path: Path) -> dict[str, Any]:
    """What the folder says of itself, and what its weights are."""
    try:
        told = read_checkpoint(path)
        if told.changed:
            raise Corrupted(told.not_proven_words, where=str(path), next="quantize again")
        records = {name: read_json(path / name) for name in RECORDS if (path / name).is_file()}
    except (WrongUse, Corrupted) as e:
        raise EngineFailed(e.message, where=f"cell {arm.id}: {e.where}", next=e.next or "pao quantize") from e
    return {
        "schema": 1, "checkpoint": told.to_json(), "digest": model_digest(arm.checkpoint),
        "weights_sha256": weights_sha256(path), "records": records, "files": files_told(path),
    }  # fmt: skip


def require_same(folder: RunFolder, arm: Arm) -> None:
    """Raises Corrupted where other weights lie there now: answers and speed would be those of two checkpoints."""
    if not arm.checkpoint:
        return
    kept = folder.read_json(place(arm.id))
    told = kept.get("files")
    # A record of an earlier release holds one digest of all, sampled where they are large.
    faults = changed(Path(arm.checkpoint), told) if isinstance(told, dict) else []
    if faults or (told is None and kept["digest"] != model_digest(arm.checkpoint)):
        raise Corrupted(
            f"the checkpoint of {arm.id} is not the one that was admitted" + (f": {'; '.join(faults[:3])}" if faults else ""),
            where=arm.checkpoint, next="put that one back, or begin a new campaign",
        )  # fmt: skip


def _same_tokenizer(model: Path, checkpoint: Path) -> bool | None:
    """None where the model is no folder, so that there is nothing to compare with. Savers write the same one in other bytes."""
    if not (model / TOKENIZER).is_file():
        return None
    there = checkpoint / TOKENIZER
    if not there.is_file():
        return False
    one, two = ((f / TOKENIZER).read_bytes() for f in (model, checkpoint))
    return one == two or _meant(one) == _meant(two)


def _meant(data: bytes) -> Any:
    """Without what is set anew for every call."""
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        return data
    return {k: v for k, v in found.items() if k not in ("truncation", "padding")} if isinstance(found, dict) else found
