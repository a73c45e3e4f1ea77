"""Content digests of a model folder."""

from __future__ import annotations

import hashlib
from pathlib import Path

FULL_DIGEST_BYTES = 16 * 10**9
SAMPLE = 1 << 20


def model_digest(model: str) -> str:
    """sha256 over names, sizes and bytes of config, tokenizer and weights; above 16 GB the weights are sampled, and it says so."""
    path = Path(model)
    if not path.is_dir():
        return "unknown"
    files = sorted(p for p in path.iterdir() if p.suffix in (".json", ".safetensors", ".jinja") and p.is_file())
    sampled = sum(p.stat().st_size for p in files) > FULL_DIGEST_BYTES
    total = hashlib.sha256()
    for p in files:
        total.update(f"{p.name}\0{p.stat().st_size}\0".encode())
        total.update(_bytes_digest(p, sampled))
    return ("sampled-sha256:" if sampled else "sha256:") + total.hexdigest()


def _bytes_digest(path: Path, sampled: bool) -> bytes:
    with open(path, "rb") as f:
        if not sampled or path.stat().st_size <= 2 * SAMPLE:
            return hashlib.file_digest(f, "sha256").digest()
        head = f.read(SAMPLE)
        f.seek(-SAMPLE, 2)
        return hashlib.sha256(head + f.read(SAMPLE)).digest()


def weights_sha256(folder: Path) -> str:
    """Over names and contents of the safetensors files, as the round trip takes it of what it has read back."""
    total = hashlib.sha256()
    for file in sorted(folder.glob("*.safetensors")):
        total.update(file.name.encode() + b"\0")
        with file.open("rb") as f:
            while piece := f.read(SAMPLE):
                total.update(piece)
    return total.hexdigest()
