"""Compares a padded checkpoint with its source, tensor by tensor, by arithmetic of its own: what was there is there, byte for
byte, and what was added is exactly zero once it is dequantized. Memory holds one matrix."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from profile_and_optimize.core.errors import Corrupted, GateRefused
from profile_and_optimize.quant.pad_growth import Stored

# Bytes of one element, and how numpy reads it; BF16 and E4M3 are decoded below.
READ = {
    "U8": "u1",
    "I8": "i1",
    "F8_E4M3": "u1",
    "F8_E8M0": "u1",
    "BF16": "<u2",
    "F16": "<f2",
    "I32": "<u4",
    "F32": "<f4",
    "I64": "<i8",
}
E2M1 = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.0, -0.5, -1, -1.5, -2, -3, -4, -6], np.float32)


@dataclass(frozen=True, slots=True)
class Checked:
    """How many tensors are the source's bytes, and how many grew by what is zero."""

    equal: int
    grown: int


@dataclass(frozen=True, slots=True)
class Tensor:
    """One tensor where it lies. `data` are its elements as bits, or as numbers where numpy has the type."""

    dtype: str
    shape: tuple[int, ...]
    file: Path
    at: int

    @property
    def data(self) -> np.ndarray:
        if not math.prod(self.shape):
            return np.empty(self.shape, READ[self.dtype])
        return np.memmap(self.file, READ[self.dtype], "r", self.at, self.shape or (1,)).reshape(self.shape)


Tensors = Mapping[str, Tensor]


def tensors_in(files: Mapping[str, Path]) -> dict[str, Tensor]:
    """Every tensor of these safetensors files, by name. Raises Corrupted for a file that is cut short or no such file."""
    found: dict[str, Tensor] = {}
    for file in files.values():
        size = file.stat().st_size
        with file.open("rb") as f:
            length = int.from_bytes(f.read(8), "little")
            try:
                header: dict[str, Any] = json.loads(f.read(length) if length < size else b"")
                header.pop("__metadata__", None)
            except (ValueError, AttributeError) as e:
                raise Corrupted("not a whole safetensors file", where=str(file), next="fetch the model again") from e
        for name, entry in header.items():
            if name in found:
                raise Corrupted(f"tensor {name} is in two files", where=str(file), next="fetch the model again")
            if 8 + length + entry["data_offsets"][1] > size:
                raise Corrupted(f"ends before tensor {name} does", where=str(file), next="fetch the model again")
            found[name] = Tensor(entry["dtype"], tuple(entry["shape"]), file, 8 + length + entry["data_offsets"][0])
    return found


def compare(old: Tensors, new: Tensors, stored: Stored) -> Checked:
    """Raises GateRefused, naming the tensor, where the padded checkpoint is not the source with zeros around it."""
    if set(old) != set(new):
        name = sorted(set(old) ^ set(new))[0]
        raise _refused(name, "is in one of the two checkpoints only")
    grown = []
    for name, was in old.items():
        now = new[name]
        if was.dtype != now.dtype:
            raise _refused(name, f"was {was.dtype} and is {now.dtype}")
        words = name.removesuffix("weight_shape") + "weight_packed"
        if name.endswith("weight_shape") and words in old and old[words].shape != new[words].shape:
            continue  # compared with the weight whose shape it gives
        if was.shape == now.shape:
            _same(name, was.data, now.data)
        else:
            grown.append(name)
            _grown(name, was, now)
    for name in grown:
        if len(old[name].shape) == 2 and name.rpartition(".")[2] in ("weight", "weight_packed"):
            _weights(name, old, new, stored)
    return Checked(len(old) - len(grown), len(grown))


def _same(name: str, was: np.ndarray, now: np.ndarray) -> None:
    if was.tobytes() != now.tobytes():
        raise _refused(name, "is not the source's, byte for byte")


def _grown(name: str, was: Tensor, now: Tensor) -> None:
    """The kept part is the source's bytes; of a weight what was added is zero, of a scale it is finite and not zero."""
    axis = _axis(name, was.shape, now.shape)
    for a, b in _pieces(name, was.data, now.data, axis):
        kept, added = np.split(b, [a.shape[axis]], axis=axis)
        _same(name, a, kept)
        if _is_scale(name):
            numbers = decoded(added, was.dtype)
            if not np.isfinite(numbers).all() or not (numbers > 0).all():
                raise _refused(name, "a scale that was added is not a number above 0")
        elif len(was.shape) != 2 and np.any(decoded(added, was.dtype)):
            raise _refused(name, "what was added is not zero")


def _weights(name: str, old: Tensors, new: Tensors, stored: Stored) -> None:
    axis = _axis(name, old[name].shape, new[name].shape)
    a, b = values(name, old, stored), values(name, new, stored)
    kept, added = np.split(b, [a.shape[axis]], axis=axis)
    if a.shape == b.shape or kept.shape != a.shape:
        raise _refused(name, f"{list(a.shape)} weights became {list(b.shape)}")
    if not np.isfinite(b).all():
        raise _refused(name, "holds what is not a number once dequantized")
    if not np.array_equal(a, kept):
        raise _refused(name, "the weights that were there have other values once dequantized")
    if np.any(added):
        raise _refused(name, "what was added is not zero once dequantized")


def _axis(name: str, was: tuple[int, ...], now: tuple[int, ...]) -> int:
    axes = [i for i, (a, b) in enumerate(zip(was, now, strict=False)) if a != b]
    if len(was) != len(now) or len(axes) != 1 or now[axes[0]] < was[axes[0]]:
        raise _refused(name, f"{list(was)} became {list(now)}")
    return axes[0]


def _pieces(name: str, was: np.ndarray, now: np.ndarray, axis: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Of a stack an expert at a time, and of gate and up in one tensor each by itself."""
    parts = 2 if was.ndim == 3 and ("gate_up" in name or "input_linear" in name) else 1
    for a, b in zip(*(np.split(x, parts, axis=axis) for x in (was, now)), strict=True):
        if a.ndim == 3:
            yield from ((a[i : i + 1], b[i : i + 1]) for i in range(a.shape[0]))
        else:
            yield a, b


def _is_scale(name: str) -> bool:
    return "scale" in name.rpartition(".")[2]


# ---- numbers of what is stored -----------------------------------------------------------------------------------------


def decoded(data: np.ndarray, dtype: str) -> np.ndarray:
    """Every element as float32."""
    if dtype == "BF16":
        return (data.astype(np.uint32) << 16).view(np.float32)
    if dtype == "F8_E4M3":
        return _e4m3()[data]
    if dtype == "F8_E8M0":
        return np.where(data == 255, np.nan, np.ldexp(np.float32(1), data.astype(np.int32) - 127)).astype(np.float32)
    return data.astype(np.float32)


def _e4m3() -> np.ndarray:
    """E4M3 without infinities: 4 bits of exponent with bias 7, 3 of mantissa, all ones is not a number."""
    code = np.arange(256)
    exponent, mantissa = (code >> 3) & 15, code & 7
    size = np.where(exponent == 0, mantissa * 2.0**-9, (8 + mantissa) * 2.0 ** (exponent - 10.0))
    size[(code & 127) == 127] = np.nan
    return np.where(code & 128, -size, size).astype(np.float32)


def values(name: str, tensors: Tensors, stored: Stored) -> np.ndarray:
    """The weights [rows, columns] of a stored matrix as float32, scales applied. Raises GateRefused for another layout."""
    stem, held = name.rpartition(".")[0], tensors[name]
    scale = next((tensors[n] for n in (f"{stem}.weight_scale", f"{stem}.weight_scale_inv") if n in tensors), None)
    codes = _codes(name, held, tensors.get(f"{stem}.weight_shape"), scale, stored)
    if scale is None:
        return codes
    spread = _spread(name, _scales(scale), codes.shape, scale, stored)
    for part, inverse in ((f"{stem}.weight_scale_2", False), (f"{stem}.weight_global_scale", True)):
        if part in tensors:
            factor = decoded(tensors[part].data, tensors[part].dtype).reshape(())
            spread = spread / factor if inverse else spread * factor
    with np.errstate(invalid="ignore", over="ignore"):
        return codes * spread


def _scales(scale: Tensor) -> np.ndarray:
    return decoded(scale.data, "F8_E8M0" if scale.dtype == "U8" else scale.dtype)


def _codes(name: str, held: Tensor, told: Tensor | None, scale: Tensor | None, stored: Stored) -> np.ndarray:
    data = held.data
    if held.dtype == "I32":
        bits = stored.bits or 0
        words = [((data >> shift) & ((1 << bits) - 1)) for shift in range(0, 32, bits)]
        wide = np.stack(words, axis=-1).reshape(data.shape[0], -1).astype(np.float32) - (1 << (bits - 1))
        return wide[:, : _told(name, told, wide.shape)]
    if held.dtype != "U8":
        return decoded(data, held.dtype)
    low, high = data & 15, data >> 4
    if scale is not None and scale.dtype in ("F8_E4M3", "F8_E8M0", "U8"):
        return E2M1[np.stack([low, high], axis=-1).reshape(data.shape[0], -1)]
    signed = np.stack([low, high], axis=1).reshape(-1, data.shape[1]).astype(np.float32)
    return np.where(signed > 7, signed - 16, signed)


def _told(name: str, told: Tensor | None, shape: tuple[int, ...]) -> int:
    """Columns by weight_shape, which must be those of the words."""
    if told is None:
        return shape[1]
    rows, columns = (int(n) for n in told.data)
    if rows != shape[0] or not shape[1] - 8 < columns <= shape[1]:
        raise _refused(name, f"weight_shape is {[rows, columns]}, the words hold {list(shape)}")
    return columns


def _spread(name: str, numbers: np.ndarray, shape: tuple[int, ...], scale: Tensor, stored: Stored) -> np.ndarray:
    """A factor for every weight."""
    if numbers.size == 1:
        return numbers.reshape(())
    if numbers.size == shape[0]:
        return numbers.reshape(-1, 1)
    group = {"F8_E4M3": 16, "F8_E8M0": 32, "U8": 32}.get(scale.dtype) or stored.group or shape[1]
    sides = stored.block or (1, group)
    wanted = tuple(-(-n // side) for n, side in zip(shape, sides, strict=True))
    if numbers.shape != wanted:
        raise _refused(name, f"scales of {list(numbers.shape)}, blocks of {list(sides)} would take {list(wanted)}")
    return np.repeat(np.repeat(numbers, sides[0], 0), sides[1], 1)[: shape[0], : shape[1]]


def _refused(name: str, why: str) -> GateRefused:
    return GateRefused(why, where=name, next="check the source's tensor; if it is sound, report its layout")
