"""Documents of a calibration corpus: text, JSON lines, Parquet, or Python's own library."""

from __future__ import annotations

import gzip
import json
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .job import Asked
from .stop import Stop

TEXTS = ("text", "article", "content")
MOST_LINE = 32_000_000
# A plain text is cut into documents of about this size; no document is longer than the second figure.
DOCUMENT_CHARS, LONGEST_DOCUMENT = 4000, 40_000
# A document: text, a conversation as (role, text) pairs, or token ids of an earlier run.
Document = str | tuple[tuple[str, str], ...] | tuple[int, ...]


def corpus_of(job: Asked) -> Iterator[Document]:
    """Every document of the job's corpus, in its order."""
    told = job.calibration.text
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
