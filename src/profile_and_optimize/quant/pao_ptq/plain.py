"""A plain bf16 checkpoint made from an export, for any loader."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .dequantize import dequantize
from .files import read_json
from .headers import BYTES, CHUNK
from .job import Job
from .layouts import Weight, quantized_weights
from .names import is_buffer, is_spare
from .recode import Neighbours, recoded
from .recorded import facts_from
from .stacks import stacks_apart
from .stop import Stop
from .tensors import Tensor, numbers, read_folder


@dataclass(frozen=True, slots=True)
class Plain:
    """A bf16 checkpoint made from the export. `errors` is each weight's relative error to the base."""

    folder: Path
    errors: dict[str, float]
    bits: dict[str, int]


def write_plain(job: Job, folder: Path, say: Callable[[int, int, str], None], tally: Neighbours | None = None) -> Plain:
    """Streams every tensor of the export, dequantized, into files that plain transformers reads. With a `tally`, codes
    are not the written ones but those of float32 quotients, and how they differ is counted.

    Raises Stop for a tensor of the base that the export has in no form, and for a full disk.
    """
    base, export = read_folder(job.base), read_folder(job.export)
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
        *job.base.glob("*.py"),
        *job.base.glob("config*.json"),
        *job.base.glob("generation*.json"),
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


def absent_tensors(job: Job, base: dict[str, Tensor], names: list[str]) -> None:
    """Raises Stop for what is in the base and not in the export: else the loader would fill it with noise."""
    there = set(names)
    facts = facts_from(read_json(job.work / "facts.json"))
    tied = {f"{n}.weight" for pair in facts.tied for n in pair}
    config = json.loads((job.export / "config.json").read_text())
    layers = config.get("text_config", config).get("num_hidden_layers")

    lost = sorted(n for n in base if n not in there and n not in tied and not is_spare(n, layers) and not is_buffer(n))
    if lost:
        raise Stop("refused", f"the export lacks {len(lost)} tensors of the base: {', '.join(lost[:3])}",
                   where=str(job.export), next="quantize again")  # fmt: skip
