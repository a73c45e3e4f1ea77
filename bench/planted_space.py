"""One export as whoever plants faults sees it: its tensors by their bytes, its JSON files, the job folder around it.

Files of a planted copy are hard links of the clean export: nothing is ever written in place.
"""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

WIDTH = {"BOOL": 1, "U8": 1, "I8": 1, "F8_E4M3": 1, "F8_E8M0": 1, "BF16": 2, "F16": 2, "I32": 4, "F32": 4, "I64": 8}
SCALES = ("weight_scale", "weight_scale_2", "weight_global_scale", "input_scale", "input_global_scale", "pre_quant_scale",
          "weight_zero_point", "weight_shape", "weight_g_idx")  # fmt: skip


@dataclass
class Entry:
    """A tensor by its bytes."""

    dtype: str
    shape: tuple[int, ...]
    raw: bytearray

    @property
    def bytes_(self) -> np.ndarray:
        return np.frombuffer(self.raw, np.uint8)

    def rows(self) -> np.ndarray:
        """Its bytes by rows of the last axis, to be written to."""
        width = WIDTH[self.dtype] * (self.shape[-1] if self.shape else 1)
        return np.frombuffer(self.raw, np.uint8).reshape(-1, width)

    def numbers(self) -> np.ndarray:
        """Plain floats as float32, flat."""
        if self.dtype == "BF16":
            return (np.frombuffer(self.raw, np.uint16).astype(np.uint32) << 16).view(np.float32)
        return np.frombuffer(self.raw, {"F16": np.float16, "F32": np.float32}[self.dtype]).astype(np.float32)

    def put(self, numbers: np.ndarray) -> None:
        flat = np.ascontiguousarray(numbers, np.float32).reshape(-1)
        if self.dtype == "BF16":
            bits = flat.view(np.uint32)
            self.raw[:] = (
                np.where(np.isnan(flat), 0x7FC0, (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16).tobytes()
            )
        else:
            self.raw[:] = flat.astype({"F16": np.float16, "F32": np.float32}[self.dtype]).tobytes()

    def copy(self) -> Entry:
        return Entry(self.dtype, self.shape, bytearray(self.raw))


Tensors = dict[str, Entry]


def read_file(file: Path) -> tuple[Tensors, dict[str, str] | None]:
    data = file.read_bytes()
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    meta = header.pop("__metadata__", None)
    out = {}
    for name, e in header.items():
        begin, end = e["data_offsets"]
        out[name] = Entry(e["dtype"], tuple(e["shape"]), bytearray(data[8 + size + begin : 8 + size + end]))
    return out, meta


def write_file(file: Path, tensors: Tensors, meta: dict[str, str] | None) -> None:
    header: dict[str, Any] = {"__metadata__": meta} if meta else {}
    at = 0
    for name, e in tensors.items():
        header[name] = {"dtype": e.dtype, "shape": list(e.shape), "data_offsets": [at, at + len(e.raw)]}
        at += len(e.raw)
    head = json.dumps(header).encode()
    head += b" " * (-len(head) % 8)
    replace(file, len(head).to_bytes(8, "little") + head + b"".join(bytes(e.raw) for e in tensors.values()))


def replace(file: Path, data: bytes) -> None:
    beside = file.with_name(f".{file.name}.planted")
    beside.write_bytes(data)
    os.replace(beside, file)


def linked(source: Path, target: Path) -> None:
    """The same tree by hard links."""
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(source, target, copy_function=os.link)


@dataclass(frozen=True)
class Packed:
    """A quantized weight: `module` by its name, the tensor with its codes, its scales by their endings."""

    module: str
    codes: str
    scales: dict[str, str]
    kind: str

    @property
    def four(self) -> bool:
        return self.kind in ("nvfp4", "mxfp4", "int4")


class Planted:
    """An export to be spoiled. `folder` holds the checkpoint, `work` the records of its making; `others` are exports of
    other jobs. Change `tensors`, then `save`."""

    def __init__(self, job: dict[str, Any], folder: Path, work: Path, others: dict[str, Path], seed: str) -> None:
        self.job, self.folder, self.work, self.others = job, folder, work, others
        self.rng = random.Random(seed)
        self.file = sorted(folder.glob("*.safetensors"))[0]
        self.tensors, self.meta = read_file(self.file)

    def save(self) -> None:
        write_file(self.file, self.tensors, self.meta)

    @cached_property
    def packed(self) -> list[Packed]:
        found = []
        for name, e in self.tensors.items():
            for stem, prefix in (
                (name.removesuffix(".weight_packed"), "."),
                (name.removesuffix(".weight"), "."),
                (name, "_"),
            ):
                scales = {s: f"{stem}{prefix}{s}" for s in SCALES if f"{stem}{prefix}{s}" in self.tensors}
                if (
                    "weight_scale" in scales
                    and name != scales["weight_scale"]
                    and e.dtype in ("U8", "I8", "I32", "F8_E4M3")
                ):
                    found.append(Packed(stem, name, scales, self._kind(e.dtype, scales)))
                    break
        return found

    def _kind(self, dtype: str, scales: dict[str, str]) -> str:
        if dtype == "U8":
            return "nvfp4" if {"weight_scale_2", "weight_global_scale"} & set(scales) else "mxfp4"
        return {"I32": "int4", "I8": "int8", "F8_E4M3": "fp8"}[dtype]

    @cached_property
    def plain(self) -> list[str]:
        """Tensors that are not part of a quantized weight."""
        mine = {n for p in self.packed for n in (p.codes, *p.scales.values())}
        return [n for n in self.tensors if n not in mine]

    def one(self, *, wide: int = 0) -> Packed | None:
        """A quantized weight by chance, with at least `wide` rows."""
        fit = [p for p in self.packed if len(self.tensors[p.codes].rows()) >= wide]
        return self.rng.choice(fit) if fit else None

    def pick(self, names: list[str]) -> str | None:
        return self.rng.choice(names) if names else None

    # ---- files beside

    def json(self, name: str, change: Callable[[dict[str, Any]], object], *, work: bool = False) -> bool:
        """Changes one JSON file; False where it is not there or stays the same."""
        file = (self.work if work else self.folder) / name
        if not file.exists():
            return False
        before = json.loads(file.read_text())
        value = json.loads(json.dumps(before))
        change(value)
        replace(file, (json.dumps(value, indent=1) + "\n").encode())
        return bool(value != before)

    def config(self) -> dict[str, Any]:
        return dict(json.loads((self.folder / "config.json").read_text()))


Hand = Callable[[Planted], tuple[str, ...] | None]


@dataclass(frozen=True)
class Kind:
    """One way to spoil an export. `hand` does it and returns the tensors, keys or files of which a refusal must name one; None
    where there is nothing of the kind to spoil. `after` is the step after which it happens: quantize, roundtrip, or finish
    (a checkpoint under its final name). `harmless`: it must pass."""

    group: str
    name: str
    hand: Hand
    after: str = "quantize"
    harmless: bool = False
