"""The step that reads an export back by a path of its own and asks: does it answer as the model did before it was written?"""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

from .checks import BYTES, by_bytes, require_passed, shown
from .compare import Compared, Sums, compare, kept_rows, log_probabilities
from .evidence import gather
from .files import read_json, write_json
from .headers import weights_digest
from .hooks import Placed, jitter
from .inputs import Rounding, inputs_of, roundings
from .job import Job
from .loading import TO_READ, load
from .plain import write_plain
from .progress import tell
from .reading import Reading, is_folded, verdict
from .recode import Neighbours
from .speaks import sha256
from .stop import Stop


def say(done: int, of: int, says: str) -> None:
    tell("roundtrip", says, done=done, of=of)


def run(job: Job) -> None:
    """Raises Stop where the export does not hold."""
    work, export = job.work, job.export
    for needed in (work / "reference.safetensors", work / "facts.json", work / "heldout.jsonl", export / "config.json"):
        if not needed.exists():
            raise Stop(
                "wrong_use",
                "the steps before this one have not finished",
                where=str(needed),
                next="run the step quantize first",
            )
    digest = weights_digest(export)
    done = export / "roundtrip.json"
    if done.exists():
        told = read_json(done)
        if (told.get("weights_sha256"), told.get("config_sha256"), told.get("passed")) == (
            digest,
            sha256(export / "config.json"),
            True,
        ):
            say(1, 1, "read back before, with these weights")
            return
    # A fault that the bytes show is named by its tensor; read back, it would be a divergence of unknown cause.
    checks = by_bytes(gather(job), lambda done, what: say(done, len(BYTES), what))
    if not all(c.passed is True for c in checks):
        shown(checks)
    require_passed(checks, work / "checked.json", job.out)
    import torch

    torch.set_num_threads(job.threads)
    given = roundings(job, inputs_of(json.loads((export / "config.json").read_text())))
    rows = [json.loads(line)["input_ids"] for line in (work / "heldout.jsonl").read_text().splitlines() if line.strip()]
    answer = {
        **verdict(read_back(job, given, rows)),
        "weights_sha256": digest,
        "config_sha256": sha256(export / "config.json"),
    }
    for used in ("plain", "offload"):
        shutil.rmtree(work / used, ignore_errors=True)
    write_json(done, answer)
    if not answer["passed"]:
        raise Stop(
            "refused", answer["reason"], where=str(done), next="report it with the backend's version; do not serve it"
        )
    say(len(rows), len(rows), f"KL to the model before it was written {answer['kl_in_process_reloaded']:.2g}")


def read_back(job: Job, given: dict[str, Rounding], rows: list[list[int]]) -> Reading:
    """The written codes; and only where those are over the limit, what may excuse them."""
    work = job.work
    most = kept_rows(work / "reference.safetensors")

    def compared(folder: Path) -> Compared:
        model = loaded(job, folder)
        sums = compare(job, log_probabilities(model, rows, most, Placed(model, given), say))
        if sums.back.rows != most:
            raise Stop(
                "broke", f"{sums.back.rows} tokens of {most} in the reference", where=str(work), next="quantize again"
            )
        return sums

    plain = write_plain(job, work / "plain", say)
    first = Reading(plain, compared(plain.folder), is_folded(job))
    if not first.reason() or first.far or not plain.errors:
        return first
    if set(plain.bits.values()) == {8} and not first.folded:
        tally = Neighbours()
        again = write_plain(job, work / "plain", say, tally)
        first = replace(first, second=compared(again.folder).back.mean, tally=tally)
    if not first.reason():
        return first
    # Additions in another order, on a GPU or in a library's own expert modules, tip rounded inputs over. How much that
    # does is measured on the written codes themselves: two readings, each with its own last bits.
    plain = write_plain(job, work / "plain", say)
    return replace(first, noise=between(job, rows, most, given, plain.folder))


def between(job: Job, rows: list[list[int]], most: int, given: dict[str, Rounding], folder: Path) -> float:
    """KL from one reading with jitter to another."""
    sums, kept = Sums(), []
    for seed in (1, 2):
        model = loaded(job, folder)
        placed = Placed(model, given)
        jitter(model, seed)
        for i, mine in enumerate(log_probabilities(model, rows, most, placed, say)):
            if seed == 1:
                kept.append(mine.half())
            else:
                sums.add(kept[i], mine)
    return sums.mean


def loaded(job: Job, folder: Path) -> Any:
    """The plain checkpoint in bf16. Raises Stop for one that is not plain, or lacks weights."""
    config = json.loads((folder / "config.json").read_text())
    if (config.get("quantization_config") or {}).get("quant_method") == "modelopt":
        told = "plain transformers loads this without its scales, silently"
        raise Stop("refused", told, where=str(folder), next="serve it with vLLM or SGLang")

    def lacks(names: list[str]) -> Stop:
        told = f"read back, the model lacks {', '.join(names[:3])}"
        return Stop("refused", told, where=str(folder), next="quantize again")

    return load(job, folder, TO_READ, lacks).model
