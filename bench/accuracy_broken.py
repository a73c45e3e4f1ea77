"""A copy of a model folder with noise on its weights: a candidate that is known to be worse, for `accuracy_gate.py --live`.

Every matrix in bfloat16 gets normal noise of `--noise` times its own standard deviation; vectors (norms) stay.

    python bench/accuracy_broken.py demo/model broken-5 --noise 0.05
    pao evaluate --model broken-5 --tasks demo
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

import numpy as np


def noisy(data: bytes, noise: float, rng: np.random.Generator) -> bytes:
    """The same safetensors file with noise on its matrices."""
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    body = bytearray(data[8 + size :])
    for name, entry in header.items():
        if name == "__metadata__" or entry["dtype"] != "BF16" or len(entry["shape"]) < 2:
            continue
        begin, end = entry["data_offsets"]
        was = np.frombuffer(bytes(body[begin:end]), np.uint16).astype(np.uint32) << 16
        weights = was.view(np.float32).astype(np.float64)
        weights += rng.standard_normal(len(weights)) * noise * weights.std()
        body[begin:end] = as_bf16(weights.astype(np.float32)).tobytes()
    return data[: 8 + size] + bytes(body)


def as_bf16(values: np.ndarray) -> np.ndarray:
    """The nearest bfloat16, ties to even, as its 16 bits."""
    bits = values.view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--noise", type=float, required=True)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    shutil.copytree(args.model, args.out)
    rng = np.random.default_rng(args.seed)
    for path in sorted(args.out.glob("*.safetensors")):
        path.write_bytes(noisy(path.read_bytes(), args.noise, rng))


if __name__ == "__main__":
    main()
