"""Small safetensors files written with numpy: quantized weights in the layouts of ModelOpt and compressed-tensors."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

Array = tuple[str, tuple[int, ...], bytes]


def bf16(shape: tuple[int, ...], seed: int) -> Array:
    values = np.random.default_rng(seed).normal(size=shape).astype(np.float32)
    return "BF16", shape, (values.view(np.uint32) >> 16).astype(np.uint16).tobytes()


def octets(dtype: str, shape: tuple[int, ...], seed: int, low: int = 0x28, high: int = 0x70) -> Array:
    return dtype, shape, np.random.default_rng(seed).integers(low, high, shape, dtype=np.uint8).tobytes()


def f32(value: float) -> Array:
    return "F32", (), np.float32(value).tobytes()


def write(file: Path, tensors: dict[str, Array]) -> None:
    header, data = {}, b""
    for name, (dtype, shape, raw) in tensors.items():
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    text = json.dumps(header).encode()
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(len(text).to_bytes(8, "little") + text + data)


def nvfp4_modelopt(name: str, shape: tuple[int, ...], seed: int) -> dict[str, Array]:
    stem, (rows, columns) = name.removesuffix(".weight"), shape
    return {
        name: octets("U8", (rows, columns // 2), seed, 0, 256),
        f"{stem}.weight_scale": octets("F8_E4M3", (rows, columns // 16), seed),
        f"{stem}.weight_scale_2": f32(0.01),
        f"{stem}.input_scale": f32(0.02),
    }


def nvfp4_compressed(name: str, shape: tuple[int, ...], seed: int) -> dict[str, Array]:
    stem, (rows, columns) = name.removesuffix(".weight"), shape
    return {
        f"{stem}.weight_packed": octets("U8", (rows, columns // 2), seed, 0, 256),
        f"{stem}.weight_scale": octets("F8_E4M3", (rows, columns // 16), seed),
        f"{stem}.weight_global_scale": f32(900.0),
        f"{stem}.input_global_scale": f32(30.0),
    }


def fp8_compressed(name: str, shape: tuple[int, ...], seed: int) -> dict[str, Array]:
    rows = ("BF16", (shape[0], 1), np.full(shape[0], 0x3C00, np.uint16).tobytes())
    return {name: octets("F8_E4M3", shape, seed), f"{name}_scale": rows}


def int8_modelopt(name: str, shape: tuple[int, ...], seed: int) -> dict[str, Array]:
    stem = name.removesuffix(".weight")
    rows = ("F32", (shape[0],), np.full(shape[0], 0.01, np.float32).tobytes())
    return {name: octets("I8", shape, seed, 0, 255), f"{stem}.weight_scale": rows, f"{stem}.input_scale": f32(0.02)}


def int4_compressed(name: str, shape: tuple[int, ...], seed: int) -> dict[str, Array]:
    stem, (rows, columns) = name.removesuffix(".weight"), shape
    groups = columns // 32
    return {
        f"{stem}.weight_packed": ("I32", (rows, columns // 8), octets("U8", (rows, columns // 2), seed)[2]),
        f"{stem}.weight_scale": ("BF16", (rows, groups), np.full(rows * groups, 0x3C00, np.uint16).tobytes()),
        f"{stem}.weight_shape": ("I64", (2,), np.array(shape, np.int64).tobytes()),
    }
