"""Reads a written checkpoint back by a path of its own and asks: does it answer as the model did before it was written?

    python roundtrip.py JOB.json

Run as a file of its own, after `quantize.py`, where torch and transformers are. Each packed tensor is dequantized here, in
numpy and without the library that wrote it, into a plain bf16 checkpoint beside the export; plain transformers loads that,
a hook rounds inputs where the recipe rounds them, and the log-probabilities on the held-out text are compared with those
the quantized model gave in the process that made it. Loading the export itself proves nothing: transformers takes a
checkpoint with `quant_method: modelopt` for a plain one and leaves its FP8 scales out without a word, and reads NVFP4
experts of compressed-tensors wrongly. Writes export/roundtrip.json. Exit 0 when it holds, 1 when not.

Needs the base's size in bf16 on the disk for a while; memory holds one tensor, then the model, or its layers one by one.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

# KL(in process || read back) as a share of KL(base || in process). The same weights and the same rounding leave only the
# order of additions in bf16, which now and then tips an activation over into its neighbour's four-bit code: on small
# models in one process that was under 2%, while a wrong scale or swapped nibbles give more than the whole.
SHARE = 0.05
# Below this two log-probabilities stored in float16 do not differ: their own rounding gives about 1e-7.
FLOOR = 1e-6
# Relative error of a dequantized weight against the base, above which it is another matrix and no rounding of this one.
# Rounding to four bits gives 0.1 to 0.15 and to eight 0.01 to 0.03; swapped nibbles 1.4, a scale twice too large 1.0. One
# weight at five times the usual error of the checkpoint is none of it either.
WORST = {4: 0.3, 8: 0.1}
# ModelOpt takes FP8 and INT8 quotients in float32 while it runs and in bf16 when it writes: one code in thirty becomes its
# neighbour. The written codes are then held to that, and the answer to be about as good (measured: 0.7 to 1.5 times).
BY_ONE, WELL = 0.1, 2.0
NEAR = "codes are written from bf16 quotients: with those of float32 ones it is the model in process, and none is off by more than one"
E2M1 = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.0, -0.5, -1, -1.5, -2, -3, -4, -6], np.float32)
ROWS = 4096
CHUNK = 1 << 24
REFERENCE_BYTES = 512_000_000
BYTES = {"U8": 1, "I8": 1, "F8_E4M3": 1, "F8_E8M0": 1, "BF16": 2, "F16": 2, "I32": 4, "F32": 4, "I64": 8, "F64": 8}
VISION = ("vision", "visual", "audio", "multi_modal_projector", "mm_projector")


class Stop(Exception):
    """An end with a reason. `code` is wrong_use, broke or refused."""

    def __init__(self, code: str, message: str, *, where: str = "", next: str = "") -> None:
        super().__init__(message)
        self.code, self.message, self.where, self.next = code, message, where, next


# ---- tensors in files


@dataclass(frozen=True, slots=True)
class Tensor:
    file: Path
    name: str
    dtype: str
    shape: tuple[int, ...]
    start: int
    nbytes: int

    def raw(self) -> np.ndarray:
        """Its bytes, mapped and not read."""
        return np.memmap(self.file, np.uint8, "r", self.start, (self.nbytes,)) if self.nbytes else np.zeros(0, np.uint8)

    def values(self) -> np.ndarray:
        """Its numbers: float32 for floats, integers as they are, in its shape."""
        return numbers(self.raw(), self.dtype).reshape(self.shape)


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


def read_folder(folder: Path) -> dict[str, Tensor]:
    """Raises Stop when there is none, or one is not whole."""
    found: dict[str, Tensor] = {}
    for file in sorted(folder.glob("*.safetensors")):
        with file.open("rb") as f:
            length = int.from_bytes(f.read(8), "little")
            header = json.loads(f.read(length))
        header.pop("__metadata__", None)
        for name, entry in header.items():
            begin, end = entry["data_offsets"]
            found[name] = Tensor(file, name, entry["dtype"], tuple(entry["shape"]), 8 + length + begin, end - begin)
            if 8 + length + end > file.stat().st_size:
                raise Stop("broke", f"{name} is cut short", where=str(file), next="quantize again")
    if not found:
        raise Stop("wrong_use", "no safetensors file", where=str(folder), next="run quantize.py first")
    return found


def weights_digest(folder: Path) -> str:
    """sha256 over the names and contents of the safetensors files: the guard asks whether it is still these."""
    sha = hashlib.sha256()
    for file in sorted(folder.glob("*.safetensors")):
        sha.update(file.name.encode() + b"\0")
        with file.open("rb") as f:
            while piece := f.read(CHUNK):
                sha.update(piece)
    return sha.hexdigest()


# ---- dequantization


@dataclass(frozen=True, slots=True)
class Weight:
    """A quantized weight: where its codes and scales lie. `name` and `shape` are the base's."""

    name: str
    shape: tuple[int, ...]
    codes: Tensor
    scales: dict[str, Tensor]

    @property
    def module(self) -> str:
        return self.name.removesuffix(".weight")

    @property
    def bits(self) -> int:
        return 4 if self.codes.dtype in ("U8", "I32") else 8


EXTRA = ("weight_scale", "weight_scale_2", "weight_global_scale", "input_scale", "input_global_scale", "pre_quant_scale",
         "weight_zero_point", "weight_g_idx", "weight_shape", "input_zero_point")  # fmt: skip


def quantized_weights(export: dict[str, Tensor], base: dict[str, Tensor]) -> dict[str, Weight]:
    """Those of the base that the export holds as codes and scales, in either layout."""
    found = {}
    for name, tensor in base.items():
        held = held_weight(export, name, tensor.shape)
        if held is not None:
            found[name] = held
    return found


def held_weight(export: dict[str, Tensor], name: str, shape: tuple[int, ...] | None = None) -> Weight | None:
    stem = name.removesuffix(".weight")
    for codes, prefix in ((f"{stem}.weight_packed", f"{stem}."), (name, f"{stem}."), (name, f"{name}_")):
        if codes in export and prefix + "weight_scale" in export:
            scales = {e: export[prefix + e] for e in EXTRA if prefix + e in export}
            return Weight(name, shape or natural_shape(export[codes], scales), export[codes], scales)
    return None


def natural_shape(codes: Tensor, scales: dict[str, Tensor]) -> tuple[int, ...]:
    if "weight_shape" in scales:
        return tuple(int(n) for n in scales["weight_shape"].values())
    return (*codes.shape[:-1], codes.shape[-1] * 2) if codes.dtype == "U8" else codes.shape


# What a backend writes apart for each expert, where the base has all experts in one tensor.
APART = {"gate_up_proj": (("gate_proj", "up_proj"), ("w1", "w3")), "down_proj": (("down_proj",), ("w2",))}


@dataclass(frozen=True, slots=True)
class Stack:
    """A tensor of all experts, in the base, that the export holds in parts: of each expert its one or two matrices, or
    their biases. `joined` finds how they lie in the base from the base itself: rows one after the other or by turns,
    as they are or transposed."""

    name: str
    shape: tuple[int, ...]
    parts: tuple[tuple[Weight | Tensor, ...], ...]

    @property
    def weights(self) -> list[Weight]:
        return [w for each in self.parts for w in each if isinstance(w, Weight)]

    def joined(self, base: Tensor) -> Iterator[np.ndarray]:
        """bf16 bits of one expert after the other. Raises Stop where no way to join them gives the base's shape."""
        theirs, way = base.values(), None
        for e, each in enumerate(self.parts):
            mine = [np.concatenate(list(dequantize(p))) if isinstance(p, Weight) else to_bf16(p.values()) for p in each]
            ways = [w for w in _ways(mine) if w.shape == self.shape[1:]]
            if not ways:
                raise Stop(
                    "refused",
                    f"parts of expert {e} do not make {self.shape[1:]}",
                    where=self.name,
                    next="another backend",
                )
            if way is None:
                off = [
                    float(np.linalg.norm(numbers(w.reshape(-1).view(np.uint8), "BF16") - theirs[e].reshape(-1)))
                    for w in ways
                ]
                way = int(np.argmin(off))
            yield ways[way][None]


def _ways(parts: list[np.ndarray]) -> list[np.ndarray]:
    """Ways to lay one expert's matrices together; always in this order, and always as many for the same shapes."""
    if len(parts) == 1:
        laid = [parts[0]]
    else:
        turns = np.stack(parts, axis=1).reshape(-1, *parts[0].shape[1:])
        laid = [np.concatenate(parts), turns]
    both = [*laid, *(m.T for m in laid if m.ndim == 2)]
    return [np.ascontiguousarray(m) for m in both]


def stacks_apart(export: dict[str, Tensor], base: dict[str, Tensor]) -> dict[str, Stack]:
    """Tensors of all experts that the export holds expert by expert."""
    found = {}
    for name, tensor in base.items():
        stem, _, last = name.rpartition(".")
        kind = "bias" if last.endswith("_bias") else "weight"
        if name in export or not stem.endswith("experts") or len(tensor.shape) != (2 if kind == "bias" else 3):
            continue
        for projections in APART.get(last.removesuffix("_bias"), ()):
            parts = [
                tuple(_part(export, f"{stem}.{e}.{p}.{kind}") for p in projections) for e in range(tensor.shape[0])
            ]
            whole = tuple(tuple(p for p in each if p is not None) for each in parts)
            if all(len(each) == len(projections) for each in whole):
                found[name] = Stack(name, tensor.shape, whole)
    return found


def _part(export: dict[str, Tensor], name: str) -> Weight | Tensor | None:
    return held_weight(export, name) or export.get(name)


def dequantize(w: Weight) -> Iterator[np.ndarray]:
    """The weight as bf16 bits, in pieces along its first axis. Raises Stop for a layout that is not known here."""
    if "weight_zero_point" in w.scales and w.scales["weight_zero_point"].values().any():
        raise Stop("refused", "zero points are not known here", where=w.name, next="a symmetric recipe")
    codes, scale = w.codes.values(), w.scales["weight_scale"].values()
    if w.scales["weight_scale"].dtype == "U8":
        scale = np.exp2(scale.astype(np.float32) - 127)  # E8M0 as bytes
    scale = np.asarray(scale, np.float32) * np.float32(_whole(w))
    if w.codes.dtype == "U8" and w.scales["weight_scale"].dtype not in ("F8_E4M3", "U8", "F8_E8M0"):
        yield from _int4_by_rows(w, codes, scale)
        return
    step = max(1, ROWS if len(w.shape) == 2 else 1)
    ratio = scale.shape[0] if scale.ndim and scale.shape[0] > 1 else 0
    if ratio and ratio != w.shape[0]:
        step = w.shape[0]  # blocks of rows: all at once
    for at in range(0, w.shape[0], step):
        part = unpack(w, codes[at : at + step])
        mine = scale[at : at + step] if ratio == w.shape[0] else scale
        yield to_bf16(part * spread(mine, part.shape, w))


def _whole(w: Weight) -> float:
    """The second, global scale: ModelOpt stores what to multiply with, compressed-tensors what to divide by."""
    if "weight_scale_2" in w.scales:
        return float(w.scales["weight_scale_2"].values().reshape(-1)[0])
    if "weight_global_scale" in w.scales:
        return float(1 / w.scales["weight_global_scale"].values().reshape(-1)[0])
    return 1.0


def unpack(w: Weight, codes: np.ndarray) -> np.ndarray:
    """Codes to float32 numbers before scaling, in the base's shape."""
    if w.codes.dtype == "U8":  # two of E2M1 in a byte, the even one low, along the axis that is half as long
        pairs = np.stack([E2M1[codes & 15], E2M1[codes >> 4]], axis=-1)
        axis = next(i for i in range(1, codes.ndim) if codes.shape[i] * 2 == w.shape[i])
        pairs = np.moveaxis(pairs, -1, axis + 1)
        return pairs.reshape(*codes.shape[:axis], -1, *codes.shape[axis + 1 :])
    if w.codes.dtype == "I32":  # eight of four bits in a word, lowest first, offset by 8
        nibbles = (codes[..., None] >> (4 * np.arange(8, dtype=np.uint32))) & 15
        return nibbles.reshape(*codes.shape[:-1], -1)[..., : w.shape[-1]].astype(np.float32) - 8
    return codes.astype(np.float32)


def _int4_by_rows(w: Weight, codes: np.ndarray, scale: np.ndarray) -> Iterator[np.ndarray]:
    """ModelOpt's INT4: two's complement, two rows in a byte, the even one low."""
    rows = np.stack([codes & 15, codes >> 4], axis=1).reshape(w.shape).astype(np.int8)
    values = np.where(rows > 7, rows - 16, rows).astype(np.float32)
    yield to_bf16(values * spread(scale, values.shape, w))


def spread(scale: np.ndarray, shape: tuple[int, ...], w: Weight) -> np.ndarray:
    """A scale for each value: of the tensor, a row, or blocks along any axis."""
    if scale.size == 1:
        return scale.reshape((1,) * len(shape))
    if scale.ndim < len(shape):
        scale = scale.reshape(*scale.shape, *(1,) * (len(shape) - scale.ndim))
    if any(n % s for n, s in zip(shape, scale.shape, strict=True)):
        raise Stop(
            "refused", f"scales {scale.shape} do not fit a weight of {shape}", where=w.name, next="another target"
        )
    for axis, (n, s) in enumerate(zip(shape, scale.shape, strict=True)):
        if s not in (1, n):
            scale = np.repeat(scale, n // s, axis=axis)
    return scale


# ---- the codes that rounding in float32 gives


@dataclass
class Neighbours:
    """Written codes beside those that float32 quotients give with the written scales: how many differ by one, by more."""

    weights: int = 0
    by_one: int = 0
    by_more: int = 0

    @property
    def share(self) -> float:
        return self.by_one / self.weights if self.weights else 0.0


def e4m3_codes(x: np.ndarray) -> np.ndarray:
    """Signed places in the list of E4M3 numbers, of the nearest one to each value; ties go to the even place."""
    sizes = E4M3[:127].astype(np.float64)
    size = np.minimum(np.abs(x), 448.0)
    edges = (sizes[:-1] + sizes[1:]) / 2
    place = np.searchsorted(edges, size)
    place += (place < 126) & (size == edges[np.minimum(place, 125)]) & (place % 2 == 1)
    return np.where(x < 0, -place, place)


def peak(scale: np.ndarray | np.floating[Any], top: int) -> np.ndarray:
    """The largest magnitude that a scale came from: a bf16 number, mostly. Its quotients often end just at the middle of
    two codes, and which is taken hangs on the last bit; so it is found again before anything is divided by it."""
    raw = np.asarray(scale, np.float32) * np.float32(top)
    snapped = numbers(to_bf16(raw).reshape(-1).view(np.uint8), "BF16").reshape(raw.shape)
    return np.where(np.abs(snapped - raw) <= 1e-6 * np.abs(raw), snapped, raw).astype(np.float32)


def recoded(w: Weight, base: Tensor, tally: Neighbours) -> Iterator[np.ndarray]:
    """An eight-bit weight as rounding the base anew with its written scales gives it, as bf16 bits; differences counted."""
    scale = np.asarray(w.scales["weight_scale"].values(), np.float32)
    whole, codes = base.values(), w.codes.values()
    rows = ROWS if len(w.shape) == 2 else 1
    for at in range(0, w.shape[0], rows):
        piece = slice(at, at + rows)
        mine = scale[piece] if scale.ndim and scale.shape[0] == w.shape[0] else scale
        top = 127 if w.codes.dtype == "I8" else 448
        largest = spread(peak(mine, top), whole[piece].shape, w)
        # torch takes a number over a tensor as its inverse times the number, and that last bit decides ties.
        per_step = np.float32(127) / largest if top == 127 else (np.float32(1) / largest) * np.float32(448)
        quotient = whole[piece].astype(np.float32) * per_step
        if w.codes.dtype == "I8":
            own, theirs = np.clip(np.rint(quotient), -128, 127), codes[piece].astype(np.float32)
            values = own
        else:
            own, theirs = e4m3_codes(quotient), e4m3_codes(codes[piece])
            values = np.sign(own).astype(np.float32) * E4M3[np.abs(own).astype(np.int64)]
        off = np.abs(own - theirs)
        tally.weights += off.size
        tally.by_one += int(np.count_nonzero(off == 1))
        tally.by_more += int(np.count_nonzero(off > 1))
        yield to_bf16(values / per_step if top == 127 else values * (1 / per_step))


# ---- the plain checkpoint


@dataclass(frozen=True, slots=True)
class Plain:
    """A bf16 checkpoint made from the export. `errors` is each weight's relative error to the base."""

    folder: Path
    errors: dict[str, float]
    bits: dict[str, int]


def write_plain(
    job: dict[str, Any], folder: Path, say: Callable[[int, int, str], None], tally: Neighbours | None = None
) -> Plain:
    """Streams every tensor of the export, dequantized, into files that plain transformers reads. With a `tally`, codes
    are not the written ones but those of float32 quotients, and how they differ is counted.

    Raises Stop for a tensor of the base that the export has in no form, and for a full disk.
    """
    base, export = read_folder(Path(job["base"])), read_folder(export_of(job))
    weights, apart = quantized_weights(export, base), stacks_apart(export, base)
    names = [n for n in base if n in weights or n in apart or n in export]
    absent_tensors(job, base, names)
    anew = {*weights, *apart}
    need = sum(2 * int(np.prod(base[n].shape)) if n in anew else export[n].nbytes for n in names)
    if shutil.disk_usage(folder.parent).free < need * 1.02:
        raise Stop("broke", f"{need / 1e9:.1f} GB are needed for a while to read the export back", where=str(folder),
                   next="make room and run it again")  # fmt: skip
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for file in [
        *Path(job["base"]).glob("*.py"),
        *Path(job["base"]).glob("config*.json"),
        *Path(job["base"]).glob("generation*.json"),
    ]:
        shutil.copy(file, folder)
    header, at = {}, 0
    for n in names:
        size = 2 * int(np.prod(base[n].shape)) if n in anew else export[n].nbytes
        header[n] = {
            "dtype": "BF16" if n in anew else export[n].dtype,
            "shape": base[n].shape,
            "data_offsets": [at, at + size],
        }
        at += size
    errors: dict[str, float] = {}
    text = json.dumps(header | {"__metadata__": {"format": "pt"}}).encode()
    with (folder / "model.safetensors").open("wb") as out:
        out.write(len(text).to_bytes(8, "little") + text)
        for i, n in enumerate(names):
            if i % max(1, len(names) // 20) == 0:
                say(i, len(names), f"dequantize {n}")
            if n in weights:
                pieces = dequantize(weights[n]) if tally is None else recoded(weights[n], base[n], tally)
                errors[n] = _write_dequantized(out, weights[n], base[n], pieces)
            elif n in apart:
                error = _write_pieces(out, n, base[n], apart[n].joined(base[n]))
                errors |= {n: error} if apart[n].weights else {}
            else:
                _write_as_it_is(out, export[n])
    bits = {n: w.bits for n, w in weights.items()} | {n: a.weights[0].bits for n, a in apart.items() if a.weights}
    return Plain(folder, errors, bits)


def _write_dequantized(out: Any, w: Weight, base: Tensor, pieces: Iterator[np.ndarray]) -> float:
    wide = w.bits == 4 and w.codes.dtype == "U8" and int(np.prod(w.codes.shape)) * 2 != int(np.prod(w.shape))
    if wide:
        raise Stop("refused", f"codes {w.codes.shape} for a weight of {w.shape}", where=w.name, next="quantize again")
    return _write_pieces(out, w.name, base, pieces)


def _write_pieces(out: Any, name: str, base: Tensor, pieces: Iterator[np.ndarray]) -> float:
    """Returns how far they are from the base, as a share of its size."""
    off = size = 0.0
    at, width = 0, BYTES[base.dtype]
    for piece in pieces:
        out.write(piece.tobytes())
        mine = numbers(piece.reshape(-1).view(np.uint8), "BF16")
        theirs = numbers(base.raw()[at : at + mine.size * width], base.dtype).astype(np.float32)
        off += float(np.sum((mine - theirs).astype(np.float64) ** 2))
        size += float(np.sum(theirs.astype(np.float64) ** 2))
        at += mine.size * width
    if at != base.nbytes:
        raise Stop(
            "refused", f"{at // width} weights read back of {base.nbytes // width}", where=name, next="quantize again"
        )
    return (off / size) ** 0.5 if size else off**0.5


def _write_as_it_is(out: Any, tensor: Tensor) -> None:
    raw = tensor.raw()
    for at in range(0, tensor.nbytes, CHUNK):
        out.write(raw[at : at + CHUNK].tobytes())


def absent_tensors(job: dict[str, Any], base: dict[str, Tensor], names: list[str]) -> None:
    """Raises Stop for what is in the base and not in the export: else the loader would fill it with noise."""
    there = set(names)
    facts = json.loads((partial_of(job) / "work" / "facts.json").read_text())
    tied = {f"{n}.weight" for pair in facts["tied"] for n in pair}
    config = json.loads((export_of(job) / "config.json").read_text())
    layers = config.get("text_config", config).get("num_hidden_layers")

    def spare(name: str) -> bool:
        """A layer for multi-token prediction, which transformers does not load."""
        number = re.match(r"^(?:\w+\.)*layers\.(\d+)\.", name)
        return bool(
            re.search(r"(^|\.)mtp(\.|$)", name) or (number and isinstance(layers, int) and int(number[1]) >= layers)
        )

    lost = sorted(n for n in base if n not in there and n not in tied and not spare(n))
    if lost:
        raise Stop("refused", f"the export lacks {len(lost)} tensors of the base: {', '.join(lost[:3])}",
                   where=str(export_of(job)), next="quantize again")  # fmt: skip


# ---- inputs, rounded as the recipe rounds them


@dataclass(frozen=True, slots=True)
class Inputs:
    """How activations are rounded before a matrix product: `format` nvfp4, fp8, int8, mxfp4, mxfp8 or none; `static`
    says that their range was calibrated, else each token's own is taken."""

    format: str
    static: bool


ALGOS = {
    "NVFP4": Inputs("nvfp4", True), "NVFP4_AWQ": Inputs("nvfp4", True), "W4A16_NVFP4": Inputs("none", False),
    "FP8": Inputs("fp8", True), "W8A8_SQ_PER_CHANNEL": Inputs("int8", True), "W4A16_AWQ": Inputs("none", False),
    "INT4_AWQ": Inputs("none", False), "MXFP4": Inputs("mxfp4", False), "MXFP8": Inputs("mxfp8", False),
}  # fmt: skip


def inputs_of(config: dict[str, Any]) -> Inputs:
    """From config.json's quantization_config. Raises Stop for a recipe that is not known here."""
    quant = config.get("quantization_config") or {}
    if quant.get("quant_method") == "modelopt":
        algo = str(quant.get("quant_algo")).upper()
        if algo in ALGOS:
            return ALGOS[algo]
        raise Stop(
            "refused",
            f"ModelOpt's {quant.get('quant_algo')} is not known here",
            where="config.json",
            next="another target",
        )
    if quant.get("quant_method") != "compressed-tensors":
        raise Stop(
            "refused",
            f"quant_method {quant.get('quant_method')!r} is not known here",
            where="config.json",
            next="quantize again",
        )
    found = {_compressed_inputs(g.get("input_activations")) for g in quant["config_groups"].values()}
    if len(found) != 1:
        raise Stop(
            "refused",
            f"{len(found)} ways to round inputs in one checkpoint",
            where="config.json",
            next="one target for all",
        )
    return found.pop()


def _compressed_inputs(entry: dict[str, Any] | None) -> Inputs:
    if entry is None:
        return Inputs("none", False)
    kind = (entry["type"], entry["num_bits"], entry.get("strategy"), entry.get("dynamic"))
    known = {
        ("float", 4, "tensor_group", "local"): Inputs("narrow nvfp4", True), ("float", 8, "tensor", False): Inputs("narrow fp8", True),
        ("float", 8, "token", True): Inputs("narrow fp8", False), ("int", 8, "token", True): Inputs("narrow int8", False),
        ("int", 8, "tensor", False): Inputs("narrow int8", True),
    }  # fmt: skip
    if kind not in known:
        raise Stop("refused", f"inputs {kind} are not known here", where="config.json", next="another target")
    return known[kind]


@dataclass(frozen=True, slots=True)
class Rounding:
    """What is done to one matrix's input. `scale`: the calibrated one (of nvfp4 the global), None where taken by token."""

    format: str
    scale: float | None
    smooth: Any = None

    def __call__(self, x: Any) -> Any:
        if self.smooth is not None:
            x = x * self.smooth.to(x)
        return ROUND[self.format](x, self.scale) if self.format != "none" else x


def _nvfp4(x: Any, scale: float | None) -> Any:
    """Blocks of 16: their own scale in E4M3, over the calibrated global one."""
    import torch

    assert scale is not None
    whole = torch.tensor(scale, dtype=torch.float32, device=x.device)
    blocks = x.float().unflatten(-1, (-1, 16))
    step = blocks.abs().amax(-1, keepdim=True) / (6 * whole)
    step = torch.where(step == 0, torch.ones_like(step), step).clamp(2**-9, 448).to(torch.float8_e4m3fn).float() * whole
    return (_e2m1(blocks / step) * step).flatten(-2).to(x.dtype)


def _e2m1(x: Any, *, even: bool = True) -> Any:
    """To the nearest of the eight sizes; ties go to the even code, or to the smaller size."""
    import torch

    edges = torch.tensor([0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5.0], device=x.device)
    sizes = torch.tensor([0, 0.5, 1, 1.5, 2, 3, 4, 6.0], device=x.device)
    code = torch.bucketize(x.abs(), edges)
    tie = (x.abs() == edges[code.clamp(max=6)]) & (code % 2 == 1) & even
    return sizes[(code + tie).clamp(max=7)] * torch.sign(x)


def _mx(top: float) -> Callable[[Any, float | None], Any]:
    def rounded(x: Any, scale: float | None) -> Any:
        """Blocks of 32 with a power of two: the smallest that keeps the largest value in range. ModelOpt's MXFP4 takes a
        tie down."""
        import torch

        blocks = x.float().unflatten(-1, (-1, 32))
        peak = blocks.abs().amax(-1, keepdim=True) / top
        step = torch.exp2(
            torch.where(peak > 0, torch.log2(peak), torch.full_like(peak, -127.0)).ceil().clamp(-127, 127)
        )
        small = blocks / step
        kept = _e2m1(small, even=False) if top == 6 else small.clamp(-top, top).to(torch.float8_e4m3fn).float()
        return (kept * step).flatten(-2).to(x.dtype)

    return rounded


def _fp8(x: Any, scale: float | None) -> Any:
    """As ModelOpt: times 448 / peak, and back with the inverse of that."""
    import torch

    per_step = 448 / torch.tensor(peak(np.float32(scale or 0), 448), dtype=torch.float32, device=x.device)
    return ((x.float() * per_step).clamp(-448, 448).to(torch.float8_e4m3fn).float() * (1 / per_step)).to(x.dtype)


def _int8(x: Any, scale: float | None) -> Any:
    """As ModelOpt: times 127 / peak."""
    import torch

    top = torch.tensor(127.0, device=x.device)
    per_step = top / torch.tensor(peak(np.float32(scale or 0), 127), dtype=torch.float32, device=x.device)
    return ((x.float() * per_step).round().clamp(-128, 127) / per_step).to(x.dtype)


# compressed-tensors works in the activations' own bf16: its quotients are rounded twice, which tips one code in thirty over
# and would look like a third of the whole error. The comparison is with what it did, so it is done here as there.


def _narrow_nvfp4(x: Any, scale: float | None) -> Any:
    import torch

    assert scale is not None
    whole = torch.tensor(1 / scale, dtype=torch.float32, device=x.device)
    blocks = x.unflatten(-1, (-1, 16))
    step = (blocks.abs().amax(-1, keepdim=True) / 6).float() * whole
    step = step.to(torch.float8_e4m3fn).float()
    step = torch.where(step == 0, torch.full_like(step, 0.125), step) / whole
    return (_e2m1((blocks / step).clamp(-6, 6)) * step).flatten(-2).to(x.dtype)


def _largest(x: Any) -> Any:
    """Of each token; of all tokens where they come without a batch, as to an expert: so its own observer takes them."""
    return (x.abs().amax(-1, keepdim=True) if x.dim() > 2 else x.abs().amax()).clamp(min=1e-12)


def _narrow_fp8(x: Any, scale: float | None) -> Any:
    import torch

    step = _largest(x) / 448 if scale is None else torch.tensor([scale], dtype=x.dtype, device=x.device)
    return (x / step).clamp(-448, 448).to(torch.float8_e4m3fn).to(x.dtype) * step


def _narrow_int8(x: Any, scale: float | None) -> Any:
    """The largest value is spread over half of the 255 steps."""
    import torch

    step = _largest(x) / 127.5 if scale is None else torch.tensor([scale], dtype=x.dtype, device=x.device)
    return (x / step).round().clamp(-128, 127) * step


ROUND = {"nvfp4": _nvfp4, "fp8": _fp8, "int8": _int8, "mxfp4": _mx(6), "mxfp8": _mx(448),
         "narrow nvfp4": _narrow_nvfp4, "narrow fp8": _narrow_fp8, "narrow int8": _narrow_int8}  # fmt: skip


def roundings(job: dict[str, Any], how: Inputs) -> dict[str, Rounding]:
    """By the module's name in the files. Raises Stop where a calibrated scale is missing."""
    import torch

    export, base = read_folder(export_of(job)), read_folder(Path(job["base"]))
    weights = [
        *quantized_weights(export, base).values(),
        *(w for a in stacks_apart(export, base).values() for w in a.weights),
    ]
    found = {}
    for w in weights:
        scale = None
        if how.static:
            held = w.scales.get("input_scale") or w.scales.get("input_global_scale")
            if held is None:
                raise Stop(
                    "refused", "the recipe rounds inputs and no scale is stored", where=w.name, next="quantize again"
                )
            scale = float(held.values().reshape(-1)[0])
            scale = 1 / scale if "input_global_scale" in w.scales else scale
        smooth = w.scales.get("pre_quant_scale")
        found[w.module] = Rounding(how.format, scale, None if smooth is None else torch.tensor(smooth.values()))
    if how.format == "none" and all(r.smooth is None for r in found.values()):
        return {}
    return found


# ---- the model


def tail(name: str) -> str:
    """A module's name from its layer on: what comes before may differ between files and memory."""
    at = name.find("layers.")
    return ("vision " if any(v in name for v in VISION) else "") + (name[at:] if at >= 0 else name.rpartition(".")[2])


class Placed:
    """Hooks that round inputs: on linear modules, and inside modules that hold experts as 3D parameters."""

    def __init__(self, model: Any, given: dict[str, Rounding]) -> None:
        import torch

        self.inside: list[tuple[Any, dict[str, list[Rounding]]]] = []
        left, by_tail = dict(given), {tail(n): n for n in given}
        for name, module in model.named_modules():
            stacks = {
                n: p
                for n, p in module.named_parameters(recurse=False)
                if p.ndim == 3 and "Conv" not in type(module).__name__
            }
            if isinstance(module, torch.nn.Linear):
                mine = name if name in left else by_tail.get(tail(name))
                if mine in left:
                    module.register_forward_pre_hook(_first_input(left.pop(mine)))
            elif stacks and given:
                by_stack = {n: self._of_stack(name, n, p.shape[0], left) for n, p in stacks.items()}
                if any(by_stack.values()):
                    module.register_forward_pre_hook(self._enter(by_stack))
                    module.register_forward_hook(self._leave)
        if left:
            raise Stop("refused", f"{len(left)} quantized matrices were not found in the model that was read back",
                       where=sorted(left)[0], next="another backend, or leave them out")  # fmt: skip

    @staticmethod
    def _of_stack(module: str, parameter: str, count: int, left: dict[str, Rounding]) -> list[Rounding]:
        """Of each expert; `gate_up_proj` has the input of gate and of up."""
        whole = next((n for n in left if tail(n) == tail(f"{module}.{parameter}")), None)
        if whole is not None:
            return [left.pop(whole)] * count
        last = (
            ("down_proj", "w2")
            if parameter in ("down_proj", "w2")
            else ("gate_proj", "w1", "up_proj", "w3", "gate_up_proj")
        )
        found: list[Rounding] = []
        for e in range(count):
            wanted = [*re.findall(r"\d+", module), str(e)]
            mine = [
                n
                for n in left
                if "experts." in n
                and n.rpartition(".")[2] in last
                and re.findall(r"\d+", n.rpartition(".")[0]) == wanted
            ]
            taken = [left.pop(n) for n in sorted(mine)]
            if len({(t.format, t.scale) for t in taken}) > 1:
                raise Stop(
                    "refused", "gate and up have one input and two scales for it", where=mine[0], next="quantize again"
                )
            found += taken[:1]
        return found if len(found) == count else []

    def _enter(self, by_stack: dict[str, list[Rounding]]) -> Callable[..., None]:
        def hook(module: Any, args: Any) -> None:
            self.inside.append((module, by_stack))

        return hook

    def _leave(self, module: Any, args: Any, output: Any) -> None:
        self.inside.pop()

    def rounding(self, weight: Any) -> Rounding | None:
        """For a matrix product inside a module of experts: which of its parameters, and which expert, is `weight`?"""
        import torch

        if not self.inside or not isinstance(weight, torch.Tensor) or weight.dim() < 2:
            return None
        module, by_stack = self.inside[-1]
        for name, given in by_stack.items():
            stack = getattr(module, name)
            if given and stack.untyped_storage().data_ptr() == weight.untyped_storage().data_ptr():
                at = (weight.storage_offset() - stack.storage_offset()) // stack.stride(0)
                if 0 <= at < len(given):
                    return given[at]
        return None

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Inside, a product with an expert's matrix has its input rounded first."""
        import torch
        from torch.overrides import TorchFunctionMode

        placed = self
        products = {
            torch.nn.functional.linear,
            torch.matmul,
            torch.bmm,
            torch.Tensor.matmul,
            torch.Tensor.bmm,
            torch.Tensor.__matmul__,
        }

        class Watch(TorchFunctionMode):
            def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
                if func in products and len(args) > 1 and (how := placed.rounding(args[1])) is not None:
                    args = (how(args[0]), *args[1:])
                return func(*args, **(kwargs or {}))

        with Watch():
            yield


def _first_input(how: Rounding) -> Callable[..., Any]:
    def hook(module: Any, args: Any) -> Any:
        return (how(args[0]), *args[1:])

    return hook


def load(job: dict[str, Any], folder: Path) -> Any:
    """The plain checkpoint in bf16, whole or with what does not fit left on the disk. Raises Stop for missing weights."""
    import torch
    import transformers

    config = json.loads((folder / "config.json").read_text())
    if (config.get("quantization_config") or {}).get("quant_method") == "modelopt":
        raise Stop("refused", "plain transformers loads this without its scales and says nothing", where=str(folder),
                   next="serve it with vLLM or SGLang")  # fmt: skip
    cls = None if config.get("auto_map") else getattr(transformers, config["architectures"][0], None)
    cls = cls or transformers.AutoModelForCausalLM
    for known in getattr(cls, "__mro__", ()):
        keys = vars(known).get("_tied_weights_keys")
        if isinstance(keys, (list, tuple, set)):
            known._tied_weights_keys = {key: "model.embed_tokens.weight" for key in keys}
    place = placement(job, folder, cls)
    model, told = cls.from_pretrained(
        folder, dtype=torch.bfloat16, use_safetensors=True, output_loading_info=True,
        trust_remote_code=bool(job.get("trust_remote_code")), **place,
    )  # fmt: skip
    lacking = [*told["missing_keys"], *(told.get("mismatched_keys") or [])]
    if lacking:
        raise Stop("refused", f"read back, the model lacks {', '.join(sorted(map(str, lacking))[:3])}", where=str(folder),
                   next="quantize again")  # fmt: skip
    for module in (model, *model.modules()):
        for part in (getattr(module, "config", None), getattr(getattr(module, "config", None), "text_config", None)):
            if part is not None and hasattr(part, "_experts_implementation"):
                part._experts_implementation = "eager"
    return model.eval()


def placement(job: dict[str, Any], folder: Path, cls: Any) -> dict[str, Any]:
    """Arguments that say where the weights lie: on the GPU, in memory, or by layers on the disk."""
    import torch

    if job.get("device") != "cpu" and torch.cuda.is_available():
        return {"device_map": "auto"}
    size = sum(f.stat().st_size for f in folder.glob("*.safetensors"))
    if job.get("memory", "auto") != "layers" and size * 1.3 + 1e9 < free_memory():
        return {}
    return {"device_map": layers_on_disk(job, folder, cls), "offload_folder": str(partial_of(job) / "work" / "offload")}


def layers_on_disk(job: dict[str, Any], folder: Path, cls: Any) -> dict[str, str]:
    """Each repeated layer on the disk, everything around them in memory."""
    import torch
    from transformers import AutoConfig

    trust = bool(job.get("trust_remote_code"))
    config = AutoConfig.from_pretrained(folder, trust_remote_code=trust)
    with torch.device("meta"):
        empty = (
            cls._from_config(config)
            if hasattr(cls, "_from_config")
            else cls.from_config(config, trust_remote_code=trust)
        )
    lists = [n for n, m in empty.named_modules() if isinstance(m, torch.nn.ModuleList)]
    outer = [n for n in lists if not any(n.startswith(f"{other}.") for other in lists)]
    places = {n: "disk" for n, _ in empty.named_modules() if n.rpartition(".")[0] in outer}
    for name, _ in [*empty.named_parameters(), *empty.named_buffers()]:
        if not any(name.startswith(f"{place}.") for place in places):
            module = name.rpartition(".")[0]
            places[module or name] = "cpu"
    return places


def free_memory() -> int:
    told = re.search(r"MemAvailable:\s+(\d+) kB", Path("/proc/meminfo").read_text())
    return int(told[1]) * 1024 if told else 8 << 30


def batches_of(rows: list[list[int]], vocabulary: int) -> list[list[list[int]]]:
    """Neighbours of one length together, as many as in `quantize.py`: what an expert is given at once, and with it a range
    taken as it runs, hangs on the batch."""
    most = max(1, REFERENCE_BYTES // (4 * vocabulary * max(map(len, rows))))
    out: list[list[list[int]]] = []
    for row in rows:
        if out and len(out[-1]) < most and len(out[-1][0]) == len(row):
            out[-1].append(row)
        else:
            out.append([row])
    return out


def log_probabilities(
    model: Any, rows: list[list[int]], most: int, placed: Placed | None, say: Callable[[int, int, str], None]
) -> Iterator[Any]:
    """[tokens, vocabulary] float32 of a few tokens after the other, `most` rows in all."""
    import torch

    done, told = 0, 0
    for batch in batches_of(rows, model.get_output_embeddings().weight.shape[0]):
        if done >= most:
            return
        say(told, len(rows), f"held-out sample {told + 1} of {len(rows)}")
        told += len(batch)
        ids = torch.tensor(batch, device="cpu" if model.device.type == "meta" else model.device)
        with torch.no_grad(), placed.watching() if placed else nullcontext():
            logits = model(input_ids=ids, use_cache=False).logits.flatten(0, 1)
        for part in logits[: most - done].split(256):
            done += len(part)
            yield torch.log_softmax(part.float().cpu(), dim=-1)


# ---- the comparison


@dataclass
class Sums:
    """Sums over rows: of KL(p || q) in nats, and of agreeing first choices."""

    kl: float = 0.0
    agree: int = 0
    rows: int = 0

    def add(self, p: Any, q: Any) -> None:
        """Log-probabilities, [rows, vocabulary]. `p` is normalized again: float16 had rounded it."""
        import torch

        p, q = torch.log_softmax(p.double(), -1), torch.log_softmax(q.double(), -1)
        self.kl += float((p.exp() * (p - q)).sum())
        self.agree += int((p.argmax(-1) == q.argmax(-1)).sum())
        self.rows += len(p)

    @property
    def mean(self) -> float:
        return max(0.0, self.kl / self.rows)

    @property
    def top1(self) -> float:
        return self.agree / self.rows


@dataclass(frozen=True)
class Compared:
    base_in_process: Sums
    base_back: Sums
    back: Sums


def compare(job: dict[str, Any], reloaded: Iterator[Any]) -> Compared:
    from safetensors import safe_open

    sums, at = Compared(Sums(), Sums(), Sums()), 0
    with safe_open(partial_of(job) / "work" / "reference.safetensors", framework="pt") as file:
        base, quantized = file.get_slice("base"), file.get_slice("quantized")
        for mine in reloaded:
            b, q = base[at : at + len(mine)], quantized[at : at + len(mine)]
            sums.base_in_process.add(b, q)
            sums.base_back.add(b, mine)
            sums.back.add(q, mine)
            at += len(mine)
    return sums


def jitter(model: Any, seed: int) -> None:
    """Every matrix product's result moved by up to half a bf16 step, as another order of additions may: a mixture's too,
    which is summed expert by expert."""
    import torch

    draw = torch.Generator(device="cpu").manual_seed(seed)

    def moved(module: Any, args: Any, output: Any) -> Any:
        if not torch.is_tensor(output):
            return output
        shift = (torch.rand(output.shape, generator=draw).to(output.device) - 0.5) * 2**-7
        return (output.float() * (1 + shift)).to(output.dtype)

    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Linear) or name.endswith("experts"):
            module.register_forward_hook(moved)


@dataclass(frozen=True)
class Reading:
    """One reading of the export. `second`: the same with codes of float32 quotients, where the first was over the limit."""

    plain: Plain
    sums: Compared
    folded: bool
    noise: float | None = None
    second: float | None = None
    tally: Neighbours | None = None

    @property
    def limit(self) -> float:
        return max(SHARE * self.sums.base_in_process.mean, FLOOR, self.noise or 0.0)

    @property
    def far(self) -> list[str]:
        """Weights that are not the base's rounded. Scales that a method moved between weights make that untold."""
        usual = float(np.median(list(self.plain.errors.values()))) if self.plain.errors else 0.0
        bound = {bits: min(worst, 5 * usual) for bits, worst in WORST.items()}
        return [] if self.folded else [n for n, e in self.plain.errors.items() if not e <= bound[self.plain.bits[n]]]

    @property
    def near(self) -> bool:
        """Whether what is written differs from the model in process by neighbouring codes alone, and answers as well."""
        if self.second is None or self.tally is None:
            return False
        well = self.sums.base_back.mean <= WELL * self.sums.base_in_process.mean
        return self.second <= self.limit and self.tally.by_more == 0 and self.tally.share <= BY_ONE and well

    def reason(self) -> str:
        """Empty when it holds."""
        if not self.plain.errors:
            return "the export holds no quantized weight"
        if self.far:
            worst = self.far[0]
            return f"{len(self.far)} weights read back are not the base's: {worst} differs by {self.plain.errors[worst]:.2f} of its size"
        if self.sums.back.mean <= self.limit or self.near:
            return ""
        told = f"KL {self.sums.back.mean:.3g} between the model in process and read back, over {self.limit:.3g}"
        if self.second is not None and self.tally is not None:
            told += f"; {self.second:.3g} with codes rounded anew, {self.tally.share:.1%} of codes off by one, {self.tally.by_more} by more"
        return told


def verdict(r: Reading) -> dict[str, Any]:
    """roundtrip.json, but for the digest."""
    sums, errors = r.sums, r.plain.errors
    worst = max(errors, key=lambda n: errors[n] / WORST[r.plain.bits[n]], default=None)
    limit = f"{SHARE:.0%} of KL(base || in process), at least {FLOOR:g}" + (
        f", or {r.noise:.2g}: what half a bf16 step in each product does" if r.noise else ""
    )
    codes = (
        None
        if r.tally is None
        else {"off_by_one": r.tally.share, "off_by_more": r.tally.by_more, "kl_recoded": r.second}
    )
    return {
        "schema": 1, "passed": not r.reason(), "tokens": sums.back.rows,
        "kl_base": {"in_process": sums.base_in_process.mean, "reloaded": sums.base_back.mean},
        "kl_in_process_reloaded": sums.back.mean, "kl_limit": r.limit, "kl_noise": r.noise, "codes": codes,
        "top1_base": {"in_process": sums.base_in_process.top1, "reloaded": sums.base_back.top1},
        "top1_in_process_reloaded": sums.back.top1, "limit": limit,
        "weights": {"checked": 0 if r.folded else len(errors), "worst": None if worst is None else errors[worst], "worst_name": worst,
                    "note": "scales were moved into the weights, so they are not the base's" if r.folded else ""},
        "path": "own dequantization into plain bf16, inputs rounded by hooks", "reason": r.reason(),
        "note": NEAR if r.near and sums.back.mean > r.limit else "",
    }  # fmt: skip


def is_folded(job: dict[str, Any]) -> bool:
    """Whether a method moved scales between weights (AWQ, SmoothQuant): then norms differ from the base's, or are beside."""
    base, export = read_folder(Path(job["base"])), read_folder(export_of(job))
    if any(n.endswith("pre_quant_scale") for n in export):
        return True
    norms = [n for n in base if "norm" in n and n in export and len(base[n].shape) == 1]
    return any(
        not np.array_equal(to_bf16(base[n].values().astype(np.float32)), to_bf16(export[n].values().astype(np.float32)))
        for n in norms
    )


# ---- the step


def partial_of(job: dict[str, Any]) -> Path:
    out = Path(job["out"])
    return out.with_name(out.name + ".partial")


def export_of(job: dict[str, Any]) -> Path:
    return partial_of(job) / "export"


def progress(done: int, of: int, says: str) -> None:
    print("PAO", json.dumps({"stage": "roundtrip", "done": done, "of": of, "says": says, "left_s": None}), flush=True)


def write_json(file: Path, value: Any) -> None:
    beside = file.with_name(file.name + ".new")
    with beside.open("w") as f:
        json.dump(value, f, indent=1)
        f.write("\n")
        f.flush()
        os.fsync(f.fileno())
    os.replace(beside, file)


def run(job: dict[str, Any]) -> int:
    import torch

    work, export = partial_of(job) / "work", export_of(job)
    for needed in (work / "reference.safetensors", work / "facts.json", work / "heldout.jsonl", export / "config.json"):
        if not needed.exists():
            raise Stop(
                "wrong_use",
                "the steps before this one have not finished",
                where=str(needed),
                next="run quantize.py first",
            )
    digest = weights_digest(export)
    done = export / "roundtrip.json"
    if (
        done.exists()
        and json.loads(done.read_text()).get("weights_sha256") == digest
        and json.loads(done.read_text())["passed"]
    ):
        progress(1, 1, "read back before, with these weights")
        return 0
    torch.set_num_threads(job.get("threads") or 1)
    given = roundings(job, inputs_of(json.loads((export / "config.json").read_text())))
    rows = [json.loads(line)["input_ids"] for line in (work / "heldout.jsonl").read_text().splitlines() if line.strip()]
    answer = {**verdict(read_back(job, given, rows)), "weights_sha256": digest}
    for used in ("plain", "offload"):
        shutil.rmtree(work / used, ignore_errors=True)
    write_json(done, answer)
    if not answer["passed"]:
        raise Stop(
            "refused", answer["reason"], where=str(done), next="report it with the backend's version; do not serve it"
        )
    progress(len(rows), len(rows), f"KL to the model before it was written {answer['kl_in_process_reloaded']:.2g}")
    return 0


def read_back(job: dict[str, Any], given: dict[str, Rounding], rows: list[list[int]]) -> Reading:
    """The written codes; and only where those are over the limit, what may excuse them."""
    work = partial_of(job) / "work"
    most = reference_rows(work / "reference.safetensors")

    def compared(folder: Path) -> Compared:
        model = load(job, folder)
        sums = compare(job, log_probabilities(model, rows, most, Placed(model, given), progress))
        if sums.back.rows != most:
            raise Stop(
                "broke", f"{sums.back.rows} tokens of {most} in the reference", where=str(work), next="quantize again"
            )
        return sums

    plain = write_plain(job, work / "plain", progress)
    first = Reading(plain, compared(plain.folder), is_folded(job))
    if not first.reason() or first.far or not plain.errors:
        return first
    if set(plain.bits.values()) == {8} and not first.folded:
        tally = Neighbours()
        again = write_plain(job, work / "plain", progress, tally)
        first = replace(first, second=compared(again.folder).back.mean, tally=tally)
    if not first.reason():
        return first
    # Additions in another order, on a GPU or in a library's own expert modules, tip rounded inputs over. How much that
    # does is measured on the written codes themselves: two readings, each with its own last bits.
    plain = write_plain(job, work / "plain", progress)
    return replace(first, noise=between(job, rows, most, given, plain.folder))


def between(job: dict[str, Any], rows: list[list[int]], most: int, given: dict[str, Rounding], folder: Path) -> float:
    """KL from one reading with jitter to another."""
    sums, kept = Sums(), []
    for seed in (1, 2):
        model = load(job, folder)
        placed = Placed(model, given)
        jitter(model, seed)
        for i, mine in enumerate(log_probabilities(model, rows, most, placed, progress)):
            if seed == 1:
                kept.append(mine.half())
            else:
                sums.add(kept[i], mine)
    return sums.mean


def reference_rows(file: Path) -> int:
    with file.open("rb") as f:
        header = json.loads(f.read(int.from_bytes(f.read(8), "little")))
    return int(header["quantized"]["shape"][0])


def state(job: dict[str, Any], fault: dict[str, str] | None) -> None:
    file = partial_of(job) / "STATE.json"
    if file.exists():
        now = json.loads(file.read_text())
        finished = [s for s in now.get("done", []) if s != "roundtrip"] + ([] if fault else ["roundtrip"])
        failed = fault and {"stage": "roundtrip", **fault}
        write_json(file, {**now, "stage": "roundtrip", "done": finished, "failed": failed})


def main(arguments: list[str]) -> int:
    job: dict[str, Any] = {}
    try:
        if len(arguments) != 1:
            raise Stop("wrong_use", "one argument: JOB.json", next="python roundtrip.py JOB.json")
        job = json.loads(Path(arguments[0]).read_text())
        code = run(job)
        state(job, None)
        return code
    except Stop as stop:
        fault = stop
    except OSError as e:
        full = e.errno == errno.ENOSPC
        fault = Stop("broke", "the disk is full" if full else str(e), where=str(e.filename or job.get("out", "")),
                     next="make room and run it again" if full else "run it again")  # fmt: skip
    except (ValueError, KeyError, RuntimeError, ImportError) as e:
        fault = Stop("broke", f"{type(e).__name__}: {e}", where=str(job.get("out", "")), next="run it again")
    shown = {"code": fault.code, "message": fault.message, "where": fault.where, "next": fault.next}
    try:
        if job:
            state(job, shown)
    except OSError:
        pass  # a full disk: the line below still says so
    print("PAO-ERROR", json.dumps(shown), file=sys.stderr, flush=True)
    return {"wrong_use": 2, "refused": 1}.get(fault.code, 3)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
