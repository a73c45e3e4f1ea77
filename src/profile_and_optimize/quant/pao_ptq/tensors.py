"""Tensors of safetensors files and their numbers, read without the libraries that wrote them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .headers import BYTES, CHUNK, INDEX, weight_files, weight_map
from .stop import Stop


@dataclass(frozen=True, slots=True)
class Tensor:
    """One tensor of a safetensors file: where it lies, not its content."""

    file: Path
    name: str
    dtype: str
    shape: tuple[int, ...]
    start: int
    nbytes: int

    @property
    def params(self) -> int:
        return int(np.prod(self.shape, dtype=np.int64)) if self.shape else 1

    def pieces(self) -> Iterator[np.ndarray]:
        """Its bytes, at most `CHUNK` at a time."""
        with self.file.open("rb") as f:
            f.seek(self.start)
            left = self.nbytes
            while left:
                raw = f.read(min(CHUNK, left))
                if not raw:
                    raise Stop("broke", f"{self.name} is cut short", where=str(self.file), next="quantize again")
                left -= len(raw)
                yield np.frombuffer(raw, dtype=np.uint8)

    def raw(self) -> np.ndarray:
        """Its bytes, mapped and not read."""
        return np.memmap(self.file, np.uint8, "r", self.start, (self.nbytes,)) if self.nbytes else np.zeros(0, np.uint8)

    def values(self) -> np.ndarray:
        """Its numbers: float32 for floats, integers as they are, in its shape."""
        return numbers(self.raw(), self.dtype).reshape(self.shape)

    def rows(self, start: int, stop: int) -> np.ndarray:
        """As `values`, of a slice along the first axis alone."""
        each = self.nbytes // max(1, self.shape[0])
        part = self.raw()[start * each : min(stop, self.shape[0]) * each]
        return numbers(part, self.dtype).reshape(-1, *self.shape[1:])

    def digest(self) -> str:
        sha = hashlib.sha256(f"{self.dtype}{self.shape}".encode())
        for piece in self.pieces():
            sha.update(piece.tobytes())
        return sha.hexdigest()


def read_header(file: Path) -> dict[str, Tensor]:
    """The tensors of one file. Raises Stop for a file that is not whole, or holds bytes that belong to no tensor."""
    size = file.stat().st_size
    with file.open("rb") as f:
        length = int.from_bytes(f.read(8), "little")
        if not 0 < length <= size - 8:
            raise Stop("broke", "not a whole safetensors file", where=str(file), next="quantize again")
        try:
            header = json.loads(f.read(length))
        except ValueError as error:
            raise Stop("broke", f"no table of contents: {error}", where=str(file), next="quantize again") from error
    told = header.pop("__metadata__", {})
    if told.get("format", "pt") not in ("pt", "np"):
        raise Stop(
            "refused",
            f"__metadata__ has format {told['format']!r}: loaders take pt",
            where=str(file),
            next="quantize again",
        )
    found, at = {}, 0
    for name, entry in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
        begin, end = entry["data_offsets"]
        tensor = Tensor(file, name, entry["dtype"], tuple(entry["shape"]), 8 + length + begin, end - begin)
        width = BYTES.get(tensor.dtype)
        if 8 + length + end > size or begin != at or (width is not None and width * tensor.params != tensor.nbytes):
            raise Stop("broke", f"{name} does not fit its file", where=str(file), next="quantize again")
        found[name], at = tensor, end
    if 8 + length + at != size:
        told = f"{size - 8 - length - at} bytes after the last tensor"
        raise Stop("refused", told, where=str(file), next="quantize again")
    return found


def read_folder(folder: Path) -> dict[str, Tensor]:
    """Every tensor of a checkpoint by name, of the files that are its own; an index must name exactly those there are."""
    found: dict[str, Tensor] = {}
    for file in weight_files(folder):
        found.update(read_header(file))
    index = folder / INDEX
    if index.is_file():
        named = set(weight_map(index))
        if named != set(found):
            odd = sorted(named ^ set(found))[0]
            raise Stop("broke", f"index and files differ, first at {odd}", where=str(index), next="quantize again")
    return found


def numbers(raw: np.ndarray, dtype: str) -> np.ndarray:
    raw = np.ascontiguousarray(raw)
    if dtype == "BF16":
        return (raw.view(np.uint16).astype(np.uint32) << 16).view(np.float32)
    if dtype == "F8_E4M3":
        return E4M3[raw]
    if dtype == "F8_E8M0":
        return np.exp2(raw.astype(np.float32) - 127)
    return raw.view({"U8": np.uint8, "I8": np.int8, "F16": np.float16, "F32": np.float32, "F64": np.float64,
                     "I32": np.uint32, "I64": np.int64}[dtype])  # fmt: skip


def _e4m3() -> np.ndarray:
    """Every byte of the format: sign, four bits of exponent with bias 7, three of fraction; 0x7f is no number."""
    code = np.arange(256)
    exponent, fraction = (code >> 3) & 15, code & 7
    size = np.where(exponent > 0, (1 + fraction / 8) * np.exp2(exponent - 7.0), fraction / 8 * np.exp2(-6.0))
    size[(code & 0x7F) == 0x7F] = np.nan
    return np.where(code & 0x80, -size, size).astype(np.float32)


E4M3 = _e4m3()


def to_bf16(values: np.ndarray) -> np.ndarray:
    """To the nearest, ties to even, as torch rounds."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)
