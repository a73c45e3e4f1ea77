"""Widens the experts of a checkpoint with zeros, so that each rank's share fits a kernel that wants multiples of 64.

A gated expert computes down(act(gate(x)) * up(x)). A row of zeros in gate and up and a column of zeros in down add nothing to
any sum: the answers are the same numbers, and nothing is quantized again. The stored codes are shifted into a wider tensor as
they are. Numpy and the standard library; memory holds one tensor.

A new block of codes needs a scale, though none of its codes is read: the smallest that is no zero, since an engine may refuse
zeros and a NaN times zero is a NaN. Only on request: an aligned model is better left as its maker wrote it.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from profile_and_optimize.core.errors import BrokeMidway, Corrupted, WrongUse

ALIGN = 64
WIDTH_KEYS = ("moe_intermediate_size", "expert_intermediate_size", "intermediate_size")
ROWS, COLUMNS = ("gate_proj", "up_proj", "w1", "w3"), ("down_proj", "w2")
EXPERT = re.compile(r"(^|\.)experts\.\d+\.(\w+?)\.(weight\w*|bias|pre_quant_scale)$")
FUSED = re.compile(r"(^|\.)experts\.(gate_up_proj|down_proj)(_\w+)?$")
# One bit pattern for a scale that multiplies nothing but zeros: 2^-6 in E4M3, 1 in the wider floats, 2^0 in E8M0.
FILLER = {
    "F8_E4M3": b"\x08",
    "BF16": b"\x80\x3f",
    "F16": b"\x00\x3c",
    "F32": b"\x00\x00\x80\x3f",
    "U8": b"\x7f",
    "F8_E8M0": b"\x7f",
}
WIDTH = {"U8": 1, "I8": 1, "F8_E4M3": 1, "F8_E8M0": 1, "BF16": 2, "F16": 2, "I32": 4, "F32": 4, "I64": 8}

# Records of a quantization speak of the bytes that were checked; of these there are now others.
OF_OTHER_BYTES = ("coverage.json", "roundtrip.json")

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Padded:
    """What was done: the experts' width before and after, and how many tensors grew."""

    folder: Path
    before: int
    after: int
    tensors: int
    bytes_before: int
    bytes_after: int


@dataclass(frozen=True, slots=True)
class Growth:
    """How one tensor grows: along `axis` from `old` to `new` places, filled with `filler` (one element's bytes)."""

    axis: int
    old: int
    new: int
    filler: bytes


def pad_experts(model: Path, out: Path, tp: int, say: Say) -> Padded:
    """Writes a copy of the checkpoint with experts as wide as the next multiple of 64 x `tp`.

    Raises WrongUse when there are no experts, they are aligned already, a layout is not known here, or `out` exists;
    BrokeMidway when the disk is full. A half-made copy lies under `OUT.partial` and never under `out`.
    """
    config, key, before = widths(model)
    after = aligned(before, tp)
    if after == before:
        raise WrongUse(
            f"the experts are {before} wide, a multiple of {ALIGN} x {tp} already",
            where=str(model),
            next="serve it as it is",
        )
    if os.path.lexists(out):
        raise WrongUse("is there already", where=f"--out {out}", next="give another --out")
    half = out.with_name(out.name + ".partial")
    shutil.rmtree(half, ignore_errors=True)
    half.mkdir(parents=True)
    try:
        grown, sizes = _copy_tensors(model, half, before, after, say)
        _copy_rest(model, half, config, key, after)
    except OSError as e:
        raise BrokeMidway(f"{e.strerror or e}", where=str(half), next="make room and run it again") from e
    if not grown:
        raise WrongUse("no tensor of an expert was found", where=str(model), next="this layout of experts is not known")
    os.rename(half, out)
    return Padded(out, before, after, grown, *sizes)


def aligned(width: int, tp: int) -> int:
    """The next multiple of 64 x tp."""
    if tp < 1:
        raise WrongUse(f"{tp} ranks", where="--tp", next="1 or more")
    return -(-width // (ALIGN * tp)) * ALIGN * tp


def widths(model: Path) -> tuple[dict[str, Any], str, int]:
    """The configuration, the key that holds the experts' width, and that width."""
    try:
        config = json.loads((model / "config.json").read_text())
    except (OSError, ValueError) as e:
        raise WrongUse(
            f"config.json cannot be read: {e}", where=str(model), next="--model DIR, with config.json"
        ) from e
    text = config.get("text_config", config)
    if not any(text.get(k) for k in ("num_experts", "n_routed_experts", "num_local_experts", "moe_num_experts")):
        raise WrongUse("has no experts", where=str(model), next="only a mixture of experts needs this")
    key = next((k for k in WIDTH_KEYS if isinstance(text.get(k), int)), None)
    if key is None:
        raise WrongUse(
            "config.json does not say how wide an expert is", where=str(model), next=f"one of {', '.join(WIDTH_KEYS)}"
        )
    return config, key, int(text[key])


def _copy_tensors(model: Path, half: Path, before: int, after: int, say: Say) -> tuple[int, tuple[int, int]]:
    files = sorted(model.glob("*.safetensors"))
    if not files:
        raise WrongUse("no safetensors file", where=str(model), next="--model DIR")
    grown = 0
    for i, file in enumerate(files):
        say(f"{file.name}, {i + 1} of {len(files)}")
        grown += _copy_file(file, half / file.name, before, after)
    old, new = (sum(f.stat().st_size for f in folder.glob("*.safetensors")) for folder in (model, half))
    return grown, (old, new)


def _copy_file(source: Path, target: Path, before: int, after: int) -> int:
    with source.open("rb") as f:
        length = int.from_bytes(f.read(8), "little")
        try:
            header = json.loads(f.read(length))
        except ValueError as e:
            raise Corrupted("not a whole safetensors file", where=str(source), next="fetch the model again") from e
        metadata = header.pop("__metadata__", None)
        plan = {n: growths(n, e["dtype"], tuple(e["shape"]), before, after) for n, e in header.items()}
        fresh, at = {}, 0
        for name, entry in header.items():
            shape = list(entry["shape"])
            for g in plan[name]:
                shape[g.axis] = g.new
            size = int(np.prod(shape, dtype=np.int64)) * WIDTH[entry["dtype"]] if plan[name] else _size(entry)
            fresh[name] = {"dtype": entry["dtype"], "shape": shape, "data_offsets": [at, at + size]}
            at += size
        with target.open("wb") as out:
            text = json.dumps(fresh | ({"__metadata__": metadata} if metadata else {})).encode()
            out.write(len(text).to_bytes(8, "little") + text)
            for name, entry in header.items():
                f.seek(8 + length + entry["data_offsets"][0])
                _copy_one(f, out, name, entry, plan[name], before, after)
            out.flush()
            os.fsync(out.fileno())
    return sum(bool(g) for g in plan.values())


def _size(entry: dict[str, Any]) -> int:
    begin, end = entry["data_offsets"]
    return int(end - begin)


def _copy_one(
    f: BinaryIO, out: BinaryIO, name: str, entry: dict[str, Any], plan: list[Growth], before: int, after: int
) -> None:
    raw = f.read(_size(entry))
    if not plan:
        out.write(raw)
        return
    if name.endswith("weight_shape"):
        shape = np.frombuffer(raw, np.int64).copy()
        shape[0 if _projection(name) in ROWS else 1] = after
        out.write(shape.tobytes())
        return
    array = np.frombuffer(raw, np.uint8).reshape(*entry["shape"], WIDTH[entry["dtype"]])
    for g in plan:
        array = grow(array, g)
    out.write(np.ascontiguousarray(array).tobytes())


def grow(array: np.ndarray, g: Growth) -> np.ndarray:
    """`array` is bytes, the last axis those of one element. With `old` a part of the axis (gate and up one after the
    other) each part grows."""
    parts = array.shape[g.axis] // g.old
    wide = g.new // parts
    pieces = []
    for piece in np.split(array, parts, axis=g.axis):
        shape = list(piece.shape)
        shape[g.axis] = wide - g.old
        fill = np.broadcast_to(np.frombuffer(g.filler, np.uint8), shape)
        pieces += [piece, fill]
    return np.concatenate(pieces, axis=g.axis)


def _projection(name: str) -> str:
    match = EXPERT.search(name)
    return match[2] if match else ""


def growths(name: str, dtype: str, shape: tuple[int, ...], before: int, after: int) -> list[Growth]:
    """Empty for a tensor that stays. Raises WrongUse for an expert's tensor whose layout is not known here."""
    if "shared_expert" in name:
        return []
    match, fused = EXPERT.search(name), FUSED.search(name)
    if match is not None:
        return _of_matrix(name, match[2], match[3], dtype, shape, before, after)
    return _of_stack(name, fused[2], fused[3] or "", dtype, shape, before, after) if fused is not None else []


def _of_matrix(
    name: str, projection: str, what: str, dtype: str, shape: tuple[int, ...], before: int, after: int
) -> list[Growth]:
    if projection not in (*ROWS, *COLUMNS) or what in ("weight_scale_2", "weight_global_scale"):
        return []
    if what in ("weight_zero_point", "weight_g_idx"):
        raise WrongUse(
            "zero points and reordered groups are not known here", where=name, next="pad the base, then quantize it"
        )
    # Words of eight nibbles hold a zero as 8.
    zero = b"\x88" * 4 if dtype == "I32" else b"\0" * WIDTH[dtype]
    filler = FILLER[dtype] if what.startswith("weight_scale") else zero
    if what == "weight_shape":
        return [Growth(0, shape[0], shape[0], filler)]
    if what == "pre_quant_scale":
        return [Growth(0, before, after, FILLER[dtype])] if projection in COLUMNS else []
    if len(shape) == 0 or shape == (1,) or (what == "bias" and projection in COLUMNS):
        return []
    if projection in ROWS:
        return [_along(name, 0, shape[0], before, after, filler)]
    if len(shape) < 2 or shape[1] == 1:
        return []  # a scale for each row of down: its rows stay
    return [_along(name, 1, shape[1], before, after, filler)]


def _along(name: str, axis: int, there: int, before: int, after: int, filler: bytes) -> Growth:
    """`there` may be the width over the weights in one byte, word or group."""
    if before % there or after % (before // there):
        share = before / there
        raise WrongUse(
            f"{there} places for a width of {before}: {after} is no multiple of {share:g}", where=name,
            next="another group size, or a larger --tp",
        )  # fmt: skip
    return Growth(axis, there, after // (before // there), filler)


def _of_stack(
    name: str, projection: str, what: str, dtype: str, shape: tuple[int, ...], before: int, after: int
) -> list[Growth]:
    """Experts in one tensor [experts, rows, columns], in bf16: which axis holds the width is seen from its size."""
    if what or dtype not in ("BF16", "F16", "F32") or len(shape) != 3:
        raise WrongUse(
            f"experts in one tensor of {dtype} {list(shape)}", where=name, next="pad the base, then quantize it"
        )
    wanted = 2 * before if projection == "gate_up_proj" else before
    axes = [a for a in (1, 2) if shape[a] == wanted]
    if projection == "gate_up_proj" and axes == [2]:
        raise WrongUse("gate and up may lie by turns here", where=name, next="pad another layout")
    if len(axes) != 1:
        raise WrongUse(
            f"{list(shape)} does not show which axis is {wanted} wide", where=name, next="pad another layout"
        )
    zero = b"\0" * WIDTH[dtype]
    return [Growth(axes[0], before, 2 * after if projection == "gate_up_proj" else after, zero)]


def _copy_rest(model: Path, half: Path, config: dict[str, Any], key: str, after: int) -> None:
    for file in model.iterdir():
        if file.is_file() and file.suffix != ".safetensors" and file.name not in ("config.json", *OF_OTHER_BYTES):
            shutil.copy(file, half / file.name)
    config.get("text_config", config)[key] = after
    told = {"schema": 1, "padded_from": str(model), "key": key, "width": after}
    (half / "padding.json").write_text(json.dumps(told, indent=2) + "\n")
    (half / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    index = half / "model.safetensors.index.json"
    if index.exists():
        told = json.loads(index.read_text())
        told.setdefault("metadata", {})["total_size"] = sum(f.stat().st_size for f in half.glob("*.safetensors"))
        index.write_text(json.dumps(told, indent=2) + "\n")
