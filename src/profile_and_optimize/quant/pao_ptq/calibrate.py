"""The step that tokenizes calibration text into samples of one length, and sets some aside."""

from __future__ import annotations

import hashlib
import json
import platform
import time
from pathlib import Path
from typing import Any

from .corpus import Document, corpus_of, document, json_rows
from .files import SCHEMA, write_json, write_whole
from .folder import is_made, opened
from .job import Asked
from .packing import CHARS_A_TOKEN, Pack, drawn, filled, set_aside
from .poor_text import require_fit
from .progress import tell
from .spelling import speller_of
from .stop import Stop

BUILTIN = "builtin"


def prepared(job: Asked) -> tuple[Pack, Pack]:
    """(calibration, held out). Raises Stop when the corpus is too small, saying what it holds."""
    asked, apart = job.calibration, job.heldout
    say = Progress(asked.samples)
    say(0, f"reading {asked.source}")
    chars = (asked.samples * asked.seq_len + apart.samples * apart.seq_len) * CHARS_A_TOKEN
    documents = drawn(corpus_of(job), job.seed, chars)
    speller = speller_of(job)
    beside = heldout_beside(asked.text)
    held = set_aside(apart.samples, apart.seq_len, documents if beside is None else beside, speller)
    others = documents if beside is not None else [d for i, d in enumerate(documents) if i not in held.sources]
    calib = filled(asked.samples, asked.seq_len, others, speller, lambda done: say(done, "tokenizing"))
    require_enough(job, calib, held)
    require_known_ids(job, calib, held)
    return calib, held


def heldout_beside(text: str | None) -> list[Document] | None:
    """The held-out samples of an earlier run, where the corpus is its calib.jsonl."""
    if text is None or Path(text).name != "calib.jsonl":
        return None
    file = Path(text).with_name("heldout.jsonl")
    return [document(row, f"{file}, entry {i}") for i, row in enumerate(json_rows(file), 1)] if file.is_file() else None


def require_enough(job: Asked, calib: Pack, held: Pack) -> None:
    asked, apart = job.calibration, job.heldout
    have = len(calib.samples)
    if have >= asked.samples and len(held.samples) == apart.samples:
        return
    raise Stop(
        "wrong_use",
        f"{have} samples of {asked.seq_len} tokens are there, {asked.samples} are asked: the corpus has "
        f"{calib.tokens + held.tokens} tokens, and its first {apart.samples} x {apart.seq_len} are held out",
        where=str(asked.text or asked.source),
        next=f"give more text, or --samples {min(have, asked.samples)}"
        if have
        else "give more text, or a smaller --seq-len",
    )


def require_known_ids(job: Asked, *packs: Pack) -> None:
    """An id beyond the embedding would end a GPU run without a word of why."""
    config = json.loads((job.base / "config.json").read_text())
    size = (config.get("text_config") or config).get("vocab_size")
    most = max(max(sample) for pack in packs for sample in pack.samples)
    if isinstance(size, int) and most >= size:
        raise Stop(
            "wrong_use",
            f"token {most} is beyond the model's {size}",
            where=str(job.base),
            next="this tokenizer is another model's",
        )


class Progress:
    """Lines for whoever started us, at most a few a second."""

    def __init__(self, of: int) -> None:
        self.of, self.began, self.last = of, time.monotonic(), 0.0

    def __call__(self, done: int, says: str) -> None:
        now = time.monotonic()
        if now - self.last < 0.3 and 0 < done < self.of:
            return
        self.last = now
        left = (now - self.began) / done * (self.of - done) if 0 < done < self.of else None
        tell("calibrate", says, done=min(done, self.of), of=self.of, left_s=left)


def lines_of(pack: Pack) -> str:
    return "".join(json.dumps({"input_ids": s}, separators=(",", ":")) + "\n" for s in pack.samples)


def record(job: Asked, calib: Pack, held: Pack, texts: tuple[str, str]) -> dict[str, Any]:
    asked = job.calibration
    lengths = sorted(len(s) for s in calib.samples)
    source = asked.source
    if asked.text is None:
        source = f"{BUILTIN}: the standard library of Python {platform.python_version()}"
    return {
        "schema": SCHEMA, "job_digest": job.job_digest, "source": source, "corpus_sha256": asked.text_sha256,
        "samples": len(calib.samples), "tokens": sum(lengths),
        "lengths": {"min": lengths[0], "median": lengths[len(lengths) // 2], "max": lengths[-1]},
        "documents": len(calib.sources), "chat": bool(asked.chat), "seed": job.seed,
        "sha256": hashlib.sha256(texts[0].encode()).hexdigest(),
        "heldout_samples": len(held.samples), "heldout_tokens": sum(map(len, held.samples)),
        "heldout_sha256": hashlib.sha256(texts[1].encode()).hexdigest(),
    }  # fmt: skip


def is_done(job: Asked, work: Path) -> bool:
    """Was this very calibration finished before, and is it still what it was?"""
    try:
        told = json.loads((work / "calibration.json").read_text())
        kept = [hashlib.sha256((work / name).read_bytes()).hexdigest() for name in ("calib.jsonl", "heldout.jsonl")]
    except (OSError, ValueError):
        return False
    return bool(told.get("job_digest") == job.job_digest and kept == [told.get("sha256"), told.get("heldout_sha256")])


def run(job: Asked) -> None:
    """Raises Stop when the corpus is too small, or holds what is no text."""
    say = Progress(job.calibration.samples)
    if is_made(job):
        say(job.calibration.samples, f"{job.out} is complete")
        return
    work = opened(job) / "work"
    if is_done(job, work):
        say(job.calibration.samples, "calibration is there already")
        return
    calib, held = prepared(job)
    texts = lines_of(calib), lines_of(held)
    write_whole(work / "calib.jsonl", texts[0])
    write_whole(work / "heldout.jsonl", texts[1])
    warnings = require_fit(calib.samples, held.samples, job.calibration.text or job.calibration.source)
    for warning in warnings:
        tell("calibrate", f"warning: {warning}")
    told = record(job, calib, held, texts) | {"warnings": list(warnings)}
    write_json(work / "calibration.json", told)
    say(told["samples"], f"{told['tokens']} tokens of {told['documents']} documents")
