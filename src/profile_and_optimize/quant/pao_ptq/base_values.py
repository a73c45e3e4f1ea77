"""Is every number of the base one? Looked at before anything is calibrated: a NaN in one norm answers NaN to everything, and a
maximum or a mean over that may come out as nothing wrong."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from .headers import BYTES, CHUNK, header_of, unnamed_files, weight_files
from .stop import Stop
from .work import Work

# The bits of the exponent: all set in a NaN and in an infinity, and in no other number.
EXPONENT = {
    "BF16": (np.uint16, 0x7F80),
    "F16": (np.uint16, 0x7C00),
    "F32": (np.uint32, 0x7F800000),
    "F64": (np.uint64, 0x7FF0 << 48),
}
QUANTIZED = ("F8_E4M3", "F8_E5M2", "F8_E8M0", "F4", "F6_E2M3", "F6_E3M2", "I8", "U8")


def require_finite(work: Work) -> None:
    """Raises Stop, naming the tensor, for a base with a NaN or an infinity in it, one that is cut short, or one whose tensors are
    quantized while its configuration does not say so."""
    files = weight_files(work.base)
    beside = unnamed_files(work.base)
    if beside:
        work.note(f"not the model's, and not read: {', '.join(beside)}")
    for i, file in enumerate(files):
        work.say(f"looking at the base, {file.name}", done=i, of=len(files))
        for name, entry, pieces in tensors_of(file):
            _require(file, name, entry, pieces)


def tensors_of(file: Path) -> Iterator[tuple[str, dict[str, Any], Iterator[bytes]]]:
    """(name, entry, its bytes in pieces). Raises Stop for a file that is not whole."""
    size = file.stat().st_size
    try:
        table, start = header_of(file)
    except (ValueError, OSError) as error:
        told = f"no safetensors file: {error}"
        raise Stop("wrong_use", told, where=str(file), next="fetch the model again") from error
    for name, entry in table.items():
        if name == "__metadata__":
            continue
        begin, end = entry["data_offsets"]
        if start + end > size or end - begin != _bytes(entry):
            raise Stop("wrong_use", f"{name} is cut short", where=str(file), next="fetch the model again")
        yield name, entry, _pieces(file, start + begin, end - begin)


def _bytes(entry: dict[str, Any]) -> int:
    count = 1
    for n in entry["shape"]:
        count *= n
    return count * BYTES.get(entry["dtype"], 0)


def _pieces(file: Path, start: int, size: int) -> Iterator[bytes]:
    with file.open("rb") as f:
        f.seek(start)
        while size:
            piece = f.read(min(CHUNK, size))
            size -= len(piece)
            yield piece


def _require(file: Path, name: str, entry: dict[str, Any], pieces: Iterator[bytes]) -> None:
    dtype = entry["dtype"]
    if dtype in QUANTIZED:
        told = f"{name} is {dtype}: the base is quantized already, and its config.json does not say so"
        raise Stop("wrong_use", told, where=str(file), next="give the bf16 base")
    if dtype not in EXPONENT:
        return
    kind, mask = EXPONENT[dtype]
    bad = 0
    for piece in pieces:
        bits = np.frombuffer(piece, kind) & kind(mask)
        bad += int(np.count_nonzero(bits == kind(mask)))
    if bad:
        told = f"{name}: {bad} numbers of the base are NaN or infinite"
        raise Stop("wrong_use", told, where=str(file), next="fetch the model again, or another release of it")
