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


# The eight sizes of E2M1, and the 127 of E4M3, written out from the formats' definitions.
E2M1 = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6])
E4M3 = np.array(
    [(m / 8 * 2.0**-6) if e == 0 else (1 + m / 8) * 2.0 ** (e - 7) for e in range(16) for m in range(8)][:127]
)
# One global scale for all: what a kernel runs as one matrix has to share it. Values go up to about five.
WHOLE = 8.0 / 2688.0
# The largest input that was recorded.
PEAK = 2.0


def values_of(array: Array) -> np.ndarray:
    """Numbers of a bf16 tensor."""
    return (
        (np.frombuffer(array[2], np.uint16).astype(np.uint32) << 16)
        .view(np.float32)
        .reshape(array[1])
        .astype(np.float64)
    )


def nearest(values: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Place of the nearest size to each magnitude."""
    return np.abs(np.abs(values)[..., None] - sizes).argmin(-1).astype(np.uint8)


def nvfp4(values: np.ndarray) -> tuple[Array, Array]:
    """(codes, two in a byte, the even one low; block scales) in blocks of 16."""
    rows, columns = values.shape
    blocks = values.reshape(rows, -1, 16)
    scale = nearest(np.abs(blocks).max(-1) / 6 / WHOLE, E4M3)
    codes = nearest(blocks / (E4M3[scale] * WHOLE)[..., None], E2M1) | (np.signbit(blocks) * 8).astype(np.uint8)
    flat = codes.reshape(rows, columns)
    return (
        ("U8", (rows, columns // 2), (flat[:, ::2] | flat[:, 1::2] << 4).tobytes()),
        ("F8_E4M3", scale.shape, scale.tobytes()),
    )


def nvfp4_modelopt(name: str, base: Array) -> dict[str, Array]:
    stem, (codes, scale) = name.removesuffix(".weight"), nvfp4(values_of(base))
    more = {f"{stem}.weight_scale_2": f32(WHOLE), f"{stem}.input_scale": f32(PEAK / 2688)}
    return {name: codes, f"{stem}.weight_scale": scale, **more}


def nvfp4_compressed(name: str, base: Array) -> dict[str, Array]:
    stem, (codes, scale) = name.removesuffix(".weight"), nvfp4(values_of(base))
    more = {f"{stem}.weight_global_scale": f32(1 / WHOLE), f"{stem}.input_global_scale": f32(2688 / PEAK)}
    return {f"{stem}.weight_packed": codes, f"{stem}.weight_scale": scale, **more}


def fp8_compressed(name: str, base: Array) -> dict[str, Array]:
    values = values_of(base)
    scale = to_bf16(np.abs(values).max(-1) / 448)
    codes = nearest(values / values_of(("BF16", scale.shape, scale.tobytes()))[:, None], E4M3)
    codes |= (np.signbit(values) * 128).astype(np.uint8)
    return {name: ("F8_E4M3", base[1], codes.tobytes()), f"{name}_scale": ("BF16", (base[1][0], 1), scale.tobytes())}


def int8_modelopt(name: str, base: Array) -> dict[str, Array]:
    stem, values = name.removesuffix(".weight"), values_of(base)
    scale = (np.abs(values).max(-1) / 127).astype(np.float32)
    codes = np.rint(values / scale[:, None]).astype(np.int8)
    more = {f"{stem}.weight_scale": ("F32", scale.shape, scale.tobytes()), f"{stem}.input_scale": f32(PEAK / 127)}
    return {name: ("I8", base[1], codes.tobytes()), **more}


def int4_compressed(name: str, base: Array) -> dict[str, Array]:
    """Groups of 32, eight codes in a word, lowest first, offset by 8."""
    stem, values = name.removesuffix(".weight"), values_of(base)
    rows, columns = values.shape
    groups = values.reshape(rows, -1, 32)
    scale = to_bf16(np.abs(groups).max(-1) / 7.5)
    steps = values_of(("BF16", scale.shape, scale.tobytes()))
    codes = (np.clip(np.rint(groups / steps[..., None]), -8, 7) + 8).astype(np.uint32).reshape(rows, -1, 8)
    words = (codes << (4 * np.arange(8, dtype=np.uint32))).sum(-1).astype(np.uint32)
    return {
        f"{stem}.weight_packed": ("I32", words.shape, words.tobytes()),
        f"{stem}.weight_scale": ("BF16", scale.shape, scale.tobytes()),
        f"{stem}.weight_shape": ("I64", (2,), np.array(base[1], np.int64).tobytes()),
    }


def to_bf16(values: np.ndarray) -> np.ndarray:
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)
