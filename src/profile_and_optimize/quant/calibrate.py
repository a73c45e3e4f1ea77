"""Tokenizes calibration text with the model's own tokenizer into samples of one length, and sets some aside.

    python calibrate.py JOB.json

Runs alone, wherever the tokenizers library is: in the `ptq` tool environment, a container or a Slurm job; chat templates want
transformers, .parquet files pyarrow. It imports nothing of the package. Writes under OUT.partial:

    work/calib.jsonl         lines {"input_ids": [..]}, each of `seq_len` tokens: parts of documents end to end, in an order drawn by
                             the seed. Every document gives about one sample's worth before any gives more
    work/heldout.jsonl       the same from other documents: none gives tokens to both (a long one counts as several)
    work/calibration.json    what was taken: counts, lengths, digests

The corpus is a file (.txt; .json or .jsonl, with .gz or without; .parquet), or the text of Python's standard library where the
job names none. A line holds "text", "article" or "content"; "messages"; "question" and "answer"; or "input_ids" of an earlier
run, whose held-out file beside it is taken as well. Plain text is the default, also of messages: a chat template's control
tokens stand in every sample, and skew the ranges of the experts that they are sent to.

Progress and failures as in quantize.py: lines `PAO {json}`, a last line `PAO-ERROR {json}`, exit status 2, 3 or 1.
"""

from __future__ import annotations

import errno
import gzip
import hashlib
import json
import os
import platform
import random
import sys
import sysconfig
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SCHEMA = 1
EXIT = {"refused": 1, "wrong_use": 2, "broke": 3}
TEXTS = ("text", "article", "content")
# Of a larger corpus its first part is read: more would take memory and give the same samples.
MOST_CHARS, CHARS_A_TOKEN = 64_000_000, 24
MOST_LINE = 32_000_000
# A plain text is cut into documents of about this size; no document is longer than the second figure.
DOCUMENT_CHARS, LONGEST_DOCUMENT = 4000, 40_000
CHARS_OF_A_TOKEN = 4
BATCH = 64
BUILTIN = "builtin"


class Stop(Exception):
    """An end that is said in one line: what happened, where, and what to do next."""

    def __init__(self, code: str, message: str, *, where: str = "", next: str = "") -> None:
        super().__init__(message)
        self.code, self.message, self.where, self.next = code, message, where, next

    def line(self) -> dict[str, str]:
        return {"code": self.code, "message": self.message, "where": self.where, "next": self.next}


# ---- the corpus ----------------------------------------------------------------------------------------------------------

# A document: text, a conversation as (role, text) pairs, or token ids of an earlier run.
Document = str | tuple[tuple[str, str], ...] | tuple[int, ...]


def corpus_of(job: dict[str, Any]) -> Iterator[Document]:
    """Every document of the job's corpus, in its order."""
    told = job["calibration"]["text"]
    if told is None:
        yield from own_library()
        return
    path = Path(told)
    name = path.name.removesuffix(".gz")
    try:
        if name.endswith(".parquet"):
            yield from (document(row, f"{path}, row {i}") for i, row in enumerate(parquet_rows(path), 1))
        elif name.endswith((".json", ".jsonl")):
            yield from (document(row, f"{path}, entry {i}") for i, row in enumerate(json_rows(path), 1))
        else:
            yield from paragraphs(path)
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise Stop(
            "wrong_use", f"cannot be read: {error}", where=str(path), next="give a text, JSONL or Parquet file"
        ) from error


def own_library() -> Iterator[str]:
    """The modules of this Python's standard library: English and code that are always at hand. Not a web corpus."""
    root = Path(sysconfig.get_paths()["stdlib"])
    for path in sorted(root.rglob("*.py")):
        if not {"site-packages", "dist-packages", "test", "tests", "__pycache__"} & set(path.relative_to(root).parts):
            text = path.read_text(encoding="utf-8", errors="replace")
            if len(text) > 200:
                yield text


def opened(path: Path) -> Any:
    return gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8")


def json_rows(path: Path) -> Iterator[Any]:
    """Entries of a JSON array, or of lines."""
    with opened(path) as file:
        first = file.readline(MOST_LINE)
        if first.lstrip().startswith("[") and not first.rstrip().endswith("}"):
            rows = parsed(first + file.read(), f"{path}")
            if not isinstance(rows, list):
                raise Stop("wrong_use", "no list of entries", where=str(path), next="give JSONL")
            yield from rows
            return
        number = 1
        while first:
            if len(first) >= MOST_LINE:
                raise Stop(
                    "wrong_use",
                    f"a line beyond {MOST_LINE} characters",
                    where=f"{path}, line {number}",
                    next="split it",
                )
            if first.strip():
                yield parsed(first, f"{path}, line {number}")
            first, number = file.readline(MOST_LINE), number + 1


def parsed(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Stop("wrong_use", f"no JSON: {error}", where=where, next='an entry is {"text": "..."}') from error


def parquet_rows(path: Path) -> Iterator[Any]:
    try:
        import pyarrow.parquet as parquet
    except ImportError as error:
        raise Stop(
            "wrong_use",
            "reading .parquet wants pyarrow",
            where=str(path),
            next="give JSONL, or run it in the ptq environment",
        ) from error
    for batch in parquet.ParquetFile(path).iter_batches(batch_size=256):
        yield from batch.to_pylist()


def paragraphs(path: Path) -> Iterator[str]:
    """A plain text in pieces of some thousand characters, cut at empty lines."""
    piece: list[str] = []
    size = 0
    with opened(path) as file:
        for line in file:
            piece.append(line)
            size += len(line)
            if (size >= DOCUMENT_CHARS and not line.strip()) or size >= 10 * DOCUMENT_CHARS:
                yield "".join(piece)
                piece, size = [], 0
    if "".join(piece).strip():
        yield "".join(piece)


def document(row: Any, where: str) -> Document:
    """An entry as a document. Raises Stop for one that is none."""
    if isinstance(row, dict):
        for key in TEXTS:
            if isinstance(row.get(key), str):
                return str(row[key])
        if isinstance(row.get("messages"), list):
            return turns(row["messages"], where)
        if isinstance(row.get("question"), str):
            return (("user", row["question"]), ("assistant", str(row.get("answer", ""))))
        ids = row.get("input_ids")
        if isinstance(ids, list) and ids and all(type(i) is int and i >= 0 for i in ids):
            return tuple(ids)
    keys = ", ".join(sorted(map(str, row))[:6]) if isinstance(row, dict) else type(row).__name__
    raise Stop(
        "wrong_use", f"no text in it ({keys})", where=where,
        next='an entry is {"text": ...}, {"messages": [...]} or {"question": ..., "answer": ...}',
    )  # fmt: skip


def turns(messages: list[Any], where: str) -> tuple[tuple[str, str], ...]:
    found = []
    for said in messages:
        if not (isinstance(said, dict) and isinstance(said.get("role"), str) and isinstance(said.get("content"), str)):
            raise Stop(
                "wrong_use",
                "a message without role and content",
                where=where,
                next='{"role": "user", "content": "..."}',
            )
        found.append((said["role"], said["content"]))
    return tuple(found)


# ---- from documents to tokens --------------------------------------------------------------------------------------------


@dataclass
class Speller:
    """Turns documents into token ids: `encode` takes texts, `render` a conversation, None where plain text is wanted."""

    encode: Callable[[list[str]], list[list[int]]]
    render: Callable[[tuple[tuple[str, str], ...]], str] | None

    def ids(self, documents: list[Document]) -> list[list[int]]:
        texts, places = [], []
        out: list[list[int]] = [[] for _ in documents]
        for i, doc in enumerate(documents):
            if isinstance(doc, tuple) and doc and isinstance(doc[0], int):
                out[i] = [int(t) for t in doc]
            else:
                texts.append(self.text(doc))
                places.append(i)
        for i, ids in zip(places, self.encode(texts) if texts else [], strict=True):
            out[i] = ids
        return out

    def text(self, doc: Document) -> str:
        if isinstance(doc, str):
            if self.render is not None:
                raise Stop(
                    "wrong_use", "an entry of plain text has no turns for the chat template", where="--chat",
                    next='leave --chat out, or give {"messages": [...]} or {"question": ..., "answer": ...}',
                )  # fmt: skip
            return doc
        said: tuple[tuple[str, str], ...] = doc  # type: ignore[assignment]
        return self.render(said) if self.render else "\n".join(text for _, text in said)


def speller_of(job: dict[str, Any]) -> Speller:
    """With the model's tokenizer. Raises Stop for a folder without one, and for a chat without a template."""
    base, chat = Path(job["base"]), bool(job["calibration"]["chat"])
    if (base / "tokenizer.json").is_file() and not chat:
        from tokenizers import Tokenizer

        fast = Tokenizer.from_file(str(base / "tokenizer.json"))
        fast.no_truncation()
        fast.no_padding()
        return Speller(lambda texts: [e.ids for e in fast.encode_batch(texts)], None)
    try:
        import transformers
    except ImportError as error:
        raise Stop(
            "wrong_use",
            "this tokenizer, or --chat, wants transformers",
            where=str(base),
            next="run it in the ptq environment",
        ) from error
    slow = transformers.AutoTokenizer.from_pretrained(base, trust_remote_code=bool(job.get("trust_remote_code")))
    if chat and not slow.chat_template:
        raise Stop("wrong_use", "this model has no chat template", where=str(base), next="leave --chat out")

    def render(said: tuple[tuple[str, str], ...]) -> str:
        messages = [{"role": role, "content": text} for role, text in said]
        return str(slow.apply_chat_template(messages, tokenize=False))

    def encode(texts: list[str]) -> list[list[int]]:
        # A template writes its own control tokens.
        return [list(ids) for ids in slow(texts, add_special_tokens=not chat)["input_ids"]]

    return Speller(encode, render if chat else None)


def drawn(documents: Iterable[Document], seed: int, wanted_chars: int) -> list[Document]:
    """Different documents in an order of the seed's; of a large corpus those of its first part."""
    kept: dict[Document, None] = {}
    size = 0
    for whole in documents:
        for doc in cut(whole, LONGEST_DOCUMENT) if isinstance(whole, str) else [whole]:
            if doc not in kept:
                kept[doc] = None
                size += len(doc) if isinstance(doc, str) else sum(len(str(part)) for part in doc)
        if size >= max(MOST_CHARS, wanted_chars):
            break
    found = list(kept)
    random.Random(seed).shuffle(found)
    return found


def cut(text: str, most: int) -> list[str]:
    """Its parts of at most `most` characters, cut at line ends where there are any."""
    parts = []
    while len(text) > most:
        at = text.rfind("\n", most // 2, most) + 1 or most
        parts.append(text[:at])
        text = text[at:]
    return [*parts, text] if text else parts


def in_rounds(documents: Iterable[Document], seq_len: int) -> Iterator[tuple[int, Document]]:
    """(place of its document, part): one part of each document, then a second of each that has one, and so on. A part is about
    one sample of text. Otherwise a few long documents would be all that a model is calibrated on."""
    queue: list[tuple[int, Document, list[str]]] = []
    for i, doc in enumerate(documents):
        parts = cut(doc, max(256, seq_len * CHARS_OF_A_TOKEN)) if isinstance(doc, str) else []
        yield i, parts[0] if parts else doc
        if len(parts) > 1:
            queue.append((i, doc, parts[1:]))
    while queue:
        yield from ((i, parts[0]) for i, _, parts in queue)
        queue = [(i, doc, parts[1:]) for i, doc, parts in queue if len(parts) > 1]


@dataclass
class Pack:
    """Samples of one length, cut from text laid end to end. `left` is what fills no sample yet; `sources` are the places of
    the documents that gave tokens."""

    samples: list[list[int]]
    left: list[int]
    seq_len: int
    sources: set[int]
    tokens: int = 0

    def take(self, ids: list[int], source: int) -> None:
        self.sources.add(source)
        self.tokens += len(ids)
        self.left += ids
        whole = len(self.left) // self.seq_len * self.seq_len
        self.samples += [self.left[i : i + self.seq_len] for i in range(0, whole, self.seq_len)]
        self.left = self.left[whole:]


def filled(
    wanted: int, seq_len: int, documents: Iterable[Document], speller: Speller, say: Callable[[int], None]
) -> Pack:
    """The wanted samples, or as many as the documents give."""
    pack, parts = Pack([], [], seq_len, set()), in_rounds(documents, seq_len)
    while len(pack.samples) < wanted:
        some = [part for _, part in zip(range(min(BATCH, wanted - len(pack.samples))), parts, strict=False)]
        if not some:
            break
        for (source, _), ids in zip(some, speller.ids([part for _, part in some]), strict=True):
            pack.take(ids, source)
        say(len(pack.samples))
    del pack.samples[wanted:]
    return pack


# ---- the work ------------------------------------------------------------------------------------------------------------


def prepared(job: dict[str, Any]) -> tuple[Pack, Pack]:
    """(calibration, held out). Raises Stop when the corpus is too small, saying what it holds."""
    asked, apart = job["calibration"], job["heldout"]
    say = Progress(asked["samples"])
    say(0, f"reading {asked['source']}")
    chars = (asked["samples"] * asked["seq_len"] + apart["samples"] * apart["seq_len"]) * CHARS_A_TOKEN
    documents = drawn(corpus_of(job), job["seed"], chars)
    speller = speller_of(job)
    beside = heldout_beside(asked["text"])
    held = set_aside(apart["samples"], apart["seq_len"], documents if beside is None else beside, speller)
    others = documents if beside is not None else [d for i, d in enumerate(documents) if i not in held.sources]
    calib = filled(asked["samples"], asked["seq_len"], others, speller, lambda done: say(done, "tokenizing"))
    require_enough(job, calib, held)
    require_known_ids(job, calib, held)
    return calib, held


def set_aside(wanted: int, seq_len: int, documents: list[Document], speller: Speller) -> Pack:
    """Held-out samples of an eighth of the documents, or of more where those do not suffice: the rest is for calibration."""
    count = max(1, len(documents) // 8)
    while True:
        pack = filled(wanted, seq_len, documents[:count], speller, lambda _: None)
        if len(pack.samples) >= wanted or count >= len(documents):
            return pack
        count *= 2


def heldout_beside(text: str | None) -> list[Document] | None:
    """The held-out samples of an earlier run, where the corpus is its calib.jsonl."""
    if text is None or Path(text).name != "calib.jsonl":
        return None
    file = Path(text).with_name("heldout.jsonl")
    return [document(row, f"{file}, entry {i}") for i, row in enumerate(json_rows(file), 1)] if file.is_file() else None


def require_enough(job: dict[str, Any], calib: Pack, held: Pack) -> None:
    asked, apart = job["calibration"], job["heldout"]
    have = len(calib.samples)
    if have >= asked["samples"] and len(held.samples) == apart["samples"]:
        return
    raise Stop(
        "wrong_use",
        f"{have} samples of {asked['seq_len']} tokens are there, {asked['samples']} are asked: the corpus has "
        f"{calib.tokens + held.tokens} tokens, and its first {apart['samples']} x {apart['seq_len']} are held out",
        where=str(asked["text"] or asked["source"]),
        next=f"give more text, or --samples {min(have, asked['samples'])}"
        if have
        else "give more text, or a smaller --seq-len",
    )


def require_known_ids(job: dict[str, Any], *packs: Pack) -> None:
    """An id beyond the embedding would end a GPU run without a word of why."""
    config = json.loads((Path(job["base"]) / "config.json").read_text())
    size = (config.get("text_config") or config).get("vocab_size")
    most = max(max(sample) for pack in packs for sample in pack.samples)
    if isinstance(size, int) and most >= size:
        raise Stop(
            "wrong_use",
            f"token {most} is beyond the model's {size}",
            where=job["base"],
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
        line: dict[str, Any] = {"stage": "calibrate", "done": min(done, self.of), "of": self.of, "says": says}
        if 0 < done < self.of:
            line["left_s"] = round((now - self.began) / done * (self.of - done), 1)
        print("PAO " + json.dumps(line), flush=True)


def write_whole(path: Path, data: str) -> None:
    """A reader sees the old file or the new one, never half of it."""
    half = path.with_name(f".{path.name}.half")
    with half.open("w", encoding="utf-8") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    half.replace(path)


def lines_of(pack: Pack) -> str:
    return "".join(json.dumps({"input_ids": s}, separators=(",", ":")) + "\n" for s in pack.samples)


def record(job: dict[str, Any], calib: Pack, held: Pack, texts: tuple[str, str]) -> dict[str, Any]:
    asked = job["calibration"]
    lengths = sorted(len(s) for s in calib.samples)
    source = asked["source"]
    if asked["text"] is None:
        source = f"{BUILTIN}: the standard library of Python {platform.python_version()}"
    return {
        "schema": SCHEMA, "job_digest": job["job_digest"], "source": source, "corpus_sha256": asked["text_sha256"],
        "samples": len(calib.samples), "tokens": sum(lengths),
        "lengths": {"min": lengths[0], "median": lengths[len(lengths) // 2], "max": lengths[-1]},
        "documents": len(calib.sources), "chat": bool(asked["chat"]), "seed": job["seed"],
        "sha256": hashlib.sha256(texts[0].encode()).hexdigest(),
        "heldout_samples": len(held.samples), "heldout_tokens": sum(map(len, held.samples)),
        "heldout_sha256": hashlib.sha256(texts[1].encode()).hexdigest(),
    }  # fmt: skip


def is_done(job: dict[str, Any], work: Path) -> bool:
    """Was this very calibration finished before, and is it still what it was?"""
    try:
        told = json.loads((work / "calibration.json").read_text())
        kept = [hashlib.sha256((work / name).read_bytes()).hexdigest() for name in ("calib.jsonl", "heldout.jsonl")]
    except (OSError, ValueError):
        return False
    return bool(
        told.get("job_digest") == job["job_digest"] and kept == [told.get("sha256"), told.get("heldout_sha256")]
    )


def run(job: dict[str, Any], partial: Path) -> None:
    work = partial / "work"
    if is_done(job, work):
        Progress(job["calibration"]["samples"])(job["calibration"]["samples"], "calibration is there already")
        return
    calib, held = prepared(job)
    texts = lines_of(calib), lines_of(held)
    write_whole(work / "calib.jsonl", texts[0])
    write_whole(work / "heldout.jsonl", texts[1])
    told = record(job, calib, held, texts)
    write_whole(work / "calibration.json", json.dumps(told, indent=1) + "\n")
    Progress(told["samples"])(told["samples"], f"{told['tokens']} tokens of {told['documents']} documents")


def is_made(job: dict[str, Any]) -> bool:
    """Is the checkpoint there already, of this job? Raises Stop when something else has its name."""
    out = Path(job["out"])
    if not os.path.lexists(out):
        return False
    try:
        made = json.loads((out / "quantize.json").read_text())["job"]["job_digest"]
    except (OSError, ValueError, KeyError, TypeError):
        made = None
    if made != job["job_digest"]:
        raise Stop(
            "refused", "there is something else under this name already", where=str(out), next="give another --out"
        )
    return True


def begin(job: dict[str, Any]) -> Path:
    """OUT.partial with its mark. Raises Stop when it was begun for another job."""
    out = Path(job["out"])
    partial = out.with_name(out.name + ".partial")
    (partial / "work").mkdir(parents=True, exist_ok=True)
    if not (partial / "NOT_A_CHECKPOINT.txt").exists():
        write_whole(
            partial / "NOT_A_CHECKPOINT.txt",
            f"Half made. What is checked and whole appears as {out.name}, beside this folder.\n",
        )
    state = state_of(partial)
    other = state.get("job_digest", job["job_digest"]) != job["job_digest"]
    if other and (partial / "work" / "calib.jsonl").exists():
        told = "this folder was begun for another job"
        raise Stop("wrong_use", told, where=str(partial), next="give another --out, or remove that folder")
    # A job that ended before it had any sample leaves nothing that another one could be taken for.
    state["job_digest"] = job["job_digest"]
    mark(partial, state)
    return partial


def state_of(partial: Path) -> dict[str, Any]:
    try:
        found = json.loads((partial / "STATE.json").read_text())
    except (OSError, ValueError):
        found = None
    return found if isinstance(found, dict) else {"stage": "calibrate", "done": [], "failed": None}


def mark(partial: Path, state: dict[str, Any], *, done: bool = False, failed: dict[str, str] | None = None) -> None:
    finished = [s for s in state.get("done", []) if s != "calibrate"]
    told = {"stage": "calibrate", **failed} if failed else None
    after = {"stage": "calibrate", "done": ["calibrate", *finished] if done else finished, "failed": told}
    write_whole(partial / "STATE.json", json.dumps(state | after, indent=1) + "\n")


def main(arguments: list[str]) -> int:
    partial: Path | None = None
    try:
        if len(arguments) != 1:
            raise Stop("wrong_use", "one argument: JOB.json", next="python calibrate.py JOB.json")
        job = json.loads(Path(arguments[0]).read_text())
        if is_made(job):
            Progress(1)(1, f"{job['out']} is complete")
            return 0
        partial = begin(job)
        run(job, partial)
        mark(partial, state_of(partial), done=True)
        return 0
    except Stop as stop:
        fault = stop
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        fault = Stop(
            "broke",
            "the disk is full" if full else str(error),
            where=str(error.filename or partial or ""),
            next="make room, then run it again",
        )
    except (ValueError, KeyError, TypeError) as error:
        fault = Stop(
            "broke", f"{type(error).__name__}: {error}", where=arguments[0], next="pao quantize writes the job anew"
        )
    if partial is not None:
        try:
            mark(partial, state_of(partial), failed=fault.line())
        except OSError:
            pass  # a full disk: the line below still says so
    print("PAO-ERROR " + json.dumps(fault.line()), file=sys.stderr, flush=True)
    return EXIT.get(fault.code, 3)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
