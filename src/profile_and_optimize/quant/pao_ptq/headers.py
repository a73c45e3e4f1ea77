"""What a safetensors file holds and where, read from its table of contents; no value of it is looked at here."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

from .files import read_json, write_json
from .stop import Stop

INDEX = "model.safetensors.index.json"
CHUNK = 1 << 24
BYTES = {
    "BOOL": 1, "U8": 1, "I8": 1, "F8_E4M3": 1, "F8_E5M2": 1, "F8_E8M0": 1, "I16": 2, "U16": 2, "F16": 2, "BF16": 2,
    "I32": 4, "U32": 4, "F32": 4, "I64": 8, "U64": 8, "F64": 8,
}  # fmt: skip
FLOATS = ("BF16", "F16", "F32", "F64")


def header_of(path: Path) -> tuple[dict[str, Any], int]:
    """A safetensors file's table of contents, and where its data begin."""
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        return json.loads(file.read(size)), 8 + size


def weight_files(folder: Path) -> tuple[Path, ...]:
    """The files that hold a model's weights: those that its index names, else model.safetensors. Raises Stop where there are
    none, one is missing, or two sets of weights are there and loaders would differ in which they take."""
    index, single = folder / INDEX, folder / "model.safetensors"
    if not index.is_file():
        if single.is_file():
            return (single,)
        others = sorted(p.name for p in folder.glob("*.safetensors"))
        told = f"neither {single.name} nor {INDEX}" + (f", only {', '.join(others[:3])}" if others else "")
        more = "no loader takes other names" if others else "other weight files can run code on load: convert them"
        raise Stop("wrong_use", told, where=str(folder), next=more)
    named = weight_map(index)
    missing = [n for n in sorted(set(named.values())) if not (folder / n).is_file()]
    if missing:
        told = f"{missing[0]} is named by the index and not there ({len(missing)} of {len(set(named.values()))} files)"
        raise Stop("wrong_use", told, where=str(folder), next="fetch or make the model again")
    if single.is_file() and single.name not in named.values():
        told = f"{single.name} is beside {INDEX}, which does not name it: two sets of weights"
        raise Stop("wrong_use", told, where=str(folder), next="move the one that is not meant out of the folder")
    return tuple(folder / n for n in sorted(set(named.values())))


def weight_map(index: Path) -> dict[str, str]:
    """Tensor -> file name. Raises Stop for an index that is none, or names what lies elsewhere."""
    named = read_json(index, next="fetch or make the model again").get("weight_map")
    if not isinstance(named, dict) or not named or not all(_is_weight_file(f) for f in named.values()):
        told = "holds no weight_map from tensors to names of .safetensors files"
        raise Stop("wrong_use", told, where=str(index), next="fetch or make it again")
    return named


def _is_weight_file(name: object) -> bool:
    return isinstance(name, str) and name.endswith(".safetensors") and "/" not in name


def unnamed_files(folder: Path) -> list[str]:
    """Weight files beside those that are the model's: stale shards, consolidated.safetensors. Nothing reads them."""
    mine = set(weight_files(folder))
    return sorted(p.name for p in folder.glob("*.safetensors") if p not in mine)


def weights_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in weight_files(folder))


def tensor_names(folder: Path) -> set[str]:
    return {name for path in weight_files(folder) for name in header_of(path)[0] if name != "__metadata__"}


def rename_tensors(folder: Path, names: dict[str, str]) -> None:
    """Rewrites the tables of contents; the data are copied as they are."""
    if not names:
        return
    for path in weight_files(folder):
        table, start = header_of(path)
        head = json.dumps({names.get(name, name): entry for name, entry in table.items()}).encode()
        head += b" " * (-len(head) % 8)
        half = path.with_name(f".{path.name}.half")
        with path.open("rb") as source, half.open("wb") as target:
            target.write(len(head).to_bytes(8, "little") + head)
            source.seek(start)
            shutil.copyfileobj(source, target, 1 << 24)
        half.replace(path)
    index = folder / INDEX
    if index.exists():
        listed = read_json(index)
        write_json(index, listed | {"weight_map": {names.get(n, n): file for n, file in listed["weight_map"].items()}})


def keep_tensors(path: Path, tensors: dict[str, Any]) -> None:
    from safetensors.torch import save_file

    half = path.with_name(f".{path.name}.half")
    save_file(tensors, half)
    half.replace(path)


def weights_digest(folder: Path) -> str:
    """sha256 over the names and contents of the safetensors files: the guard asks whether it is still these."""
    sha = hashlib.sha256()
    for file in sorted(folder.glob("*.safetensors")):
        sha.update(file.name.encode() + b"\0")
        with file.open("rb") as f:
            while piece := f.read(CHUNK):
                sha.update(piece)
    return sha.hexdigest()
