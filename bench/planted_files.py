"""Faults in the files that hold the tensors, and changes of them without harm."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from planted_space import Entry, Hand, Kind, Planted, Tensors, read_file, replace, write_file


def cut(keep: Callable[[int], int]) -> Hand:
    def hand(p: Planted) -> tuple[str, ...]:
        data = p.file.read_bytes()
        replace(p.file, data[: keep(len(data))])
        return (p.file.name, *p.tensors)

    return hand


def longer(p: Planted) -> tuple[str, ...]:
    replace(p.file, p.file.read_bytes() + b"\1" * 4096)
    return (p.file.name,)


def missing(p: Planted) -> tuple[str, ...]:
    p.file.unlink()
    return (p.file.name, "safetensors")


def overlapping(p: Planted) -> tuple[str, ...] | None:
    """Two tensors of one size share their bytes."""
    data = p.file.read_bytes()
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    sizes: dict[tuple[object, ...], list[str]] = {}
    for n, e in header.items():
        if n != "__metadata__" and len(p.tensors[n].raw) > 64:
            sizes.setdefault((e["dtype"], tuple(e["shape"])), []).append(n)
    twins = [names for names in sizes.values() if len(names) > 1]
    if not twins:
        return None
    a, b = p.rng.sample(p.rng.choice(twins), 2)
    if p.tensors[a].raw == p.tensors[b].raw:
        return None
    header[a]["data_offsets"] = header[b]["data_offsets"]
    head = json.dumps(header).encode()
    head += b" " * (-len(head) % 8)
    replace(p.file, len(head).to_bytes(8, "little") + head + data[8 + size :])
    return (a, p.file.name)


def named_twice(p: Planted) -> tuple[str, ...] | None:
    """One name twice in the header; readers take the last."""
    data = p.file.read_bytes()
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    by_shape: dict[str, list[str]] = {}
    for n, e in header.items():
        if n != "__metadata__" and "norm" in n and n.endswith("weight"):
            by_shape.setdefault(f"{e['dtype']}{e['shape']}", []).append(n)
    twins = [names for names in by_shape.values() if len(names) > 1]
    if not twins:
        return None
    a, b = p.rng.choice(twins)[:2]
    # Without another copy of its bytes a file's length would not fit: the second entry points at another norm's.
    more = f"{json.dumps(a)}: {json.dumps(header[b])}"
    head = json.dumps(header)[:-1].encode() + f", {more}}}".encode()
    head += b" " * (-len(head) % 8)
    replace(p.file, len(head).to_bytes(8, "little") + head + data[8 + size :])
    return (a, p.file.name)


def shards(p: Planted, count: int) -> tuple[list[Path], Path]:
    """The same tensors in several files with an index that is right."""
    names = list(p.tensors)
    files, where = [], {}
    for i in range(count):
        file = p.folder / f"model-{i + 1:05d}-of-{count:05d}.safetensors"
        part = {n: p.tensors[n] for n in names[i::count]}
        write_file(file, part, p.meta or {"format": "pt"})
        where |= dict.fromkeys(part, file.name)
        files.append(file)
    p.file.unlink()
    index = p.folder / "model.safetensors.index.json"
    total = sum(len(e.raw) for e in p.tensors.values())
    index.write_text(json.dumps({"metadata": {"total_size": total}, "weight_map": where}, indent=1) + "\n")
    return files, index


def split(p: Planted) -> tuple[str, ...]:
    shards(p, 3)
    return ()


def shard_missing(p: Planted) -> tuple[str, ...]:
    files, _ = shards(p, 3)
    files[1].unlink()
    return (files[1].name, *read_names(p, 1, 3))


def read_names(p: Planted, i: int, count: int) -> list[str]:
    return list(p.tensors)[i::count]


def index_wrong(p: Planted) -> tuple[str, ...]:
    """The index sends one tensor to a file that does not hold it."""
    files, index = shards(p, 2)
    told = json.loads(index.read_text())
    name = p.rng.choice(list(told["weight_map"]))
    old = told["weight_map"][name]
    told["weight_map"][name] = next(f.name for f in files if f.name != old)
    replace(index, json.dumps(told).encode())
    return (name,)


def index_short(p: Planted) -> tuple[str, ...]:
    _, index = shards(p, 2)
    told = json.loads(index.read_text())
    name = p.rng.choice(list(told["weight_map"]))
    del told["weight_map"][name]
    replace(index, json.dumps(told).encode())
    return (name,)


def index_of_another(p: Planted) -> tuple[str, ...]:
    """An index beside the one file, of files that are not there."""
    where = {n: "model-00001-of-00002.safetensors" for n in p.tensors}
    (p.folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": where}))
    return ("model-00001-of-00002.safetensors", "model.safetensors.index.json")


def turned_values(tensors: Tensors) -> Tensors:
    out = {n: e.copy() for n, e in tensors.items()}
    for e in out.values():
        if e.dtype == "BF16":
            e.raw[1::2] = bytes(b ^ 0x80 for b in e.raw[1::2])
        elif e.dtype in ("U8", "I8", "F8_E4M3"):
            e.raw[:] = bytes(b ^ 0x08 for b in e.raw)
    return out


def stale_shards(p: Planted) -> tuple[str, ...]:
    """A second set of files with other values beside the one that counts."""
    other = turned_values(p.tensors)
    names = list(other)
    files = [p.folder / f"model-{i + 1:05d}-of-00002.safetensors" for i in range(2)]
    for i, file in enumerate(files):
        write_file(file, {n: other[n] for n in names[i::2]}, p.meta)
    return tuple(f.name for f in files)


def extra_file(p: Planted) -> tuple[str, ...]:
    write_file(p.folder / "adapter.safetensors", {"model.adapter.weight": Entry("F32", (4,), bytearray(16))}, None)
    return ("adapter.safetensors", "model.adapter.weight")


def pickle(p: Planted) -> tuple[str, ...]:
    (p.folder / "pytorch_model.bin").write_bytes(b"\x80\x04N.")
    return ("pytorch_model.bin",)


def other_framework(p: Planted) -> tuple[str, ...]:
    p.meta = {"format": "tf"}
    p.save()
    return ("__metadata__", "metadata", '"format"')


def reordered(p: Planted) -> tuple[str, ...]:
    names = list(p.tensors)
    p.rng.shuffle(names)
    p.tensors = {n: p.tensors[n] for n in names}
    p.save()
    return ()


def told_more(p: Planted) -> tuple[str, ...]:
    p.meta = {**(p.meta or {"format": "pt"}), "made": "once more"}
    p.save()
    return ()


def respaced(p: Planted) -> tuple[str, ...]:
    """config.json with its keys in another order and other blanks."""
    file = p.folder / "config.json"
    told = json.loads(file.read_text())
    replace(file, json.dumps(dict(sorted(told.items(), reverse=True)), indent=4).encode())
    return ()


def bigger_header(p: Planted) -> tuple[str, ...]:
    """The header padded by blanks, as some writers do."""
    data = p.file.read_bytes()
    size = int.from_bytes(data[:8], "little")
    replace(p.file, (size + 512).to_bytes(8, "little") + data[8 : 8 + size] + b" " * 512 + data[8 + size :])
    assert set(read_file(p.file)[0]) == set(p.tensors)
    return ()


FILES: dict[str, Hand] = {
    "file cut by 5000 bytes": cut(lambda n: n - 5000),
    "file cut in half": cut(lambda n: n // 2),
    "file cut in its header": cut(lambda n: 300),
    "file emptied": cut(lambda n: 0),
    "junk after the tensors": longer,
    "file missing": missing,
    "two tensors share bytes": overlapping,
    "a name twice in a header": named_twice,
    "shard missing": shard_missing,
    "index names a wrong file": index_wrong,
    "index leaves a tensor out": index_short,
    "index of other files": index_of_another,
    "stale shards beside": stale_shards,
    "an extra safetensors file": extra_file,
    "a pickle beside": pickle,
    "metadata of another framework": other_framework,
}
HARMLESS: dict[str, Hand] = {
    "tensors in another order": reordered,
    "split into three files": split,
    "more metadata": told_more,
    "config.json respaced": respaced,
    "a longer header": bigger_header,
}
KINDS = [
    *(Kind("files", n, h) for n, h in FILES.items()),
    *(Kind("harmless", n, h, harmless=True) for n, h in HARMLESS.items()),
]
