"""Tensors of all experts in the base that the export holds expert by expert."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from .dequantize import dequantize
from .layouts import Weight, held_weight
from .names import APART, stacked_name
from .stop import Stop
from .tensors import Tensor, numbers, to_bf16


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
        way = self.way(base)
        for each in self.parts:
            yield _ways([_bits(p) for p in each])[way][None]

    def way(self, base: Tensor) -> int:
        """Which of `_ways` the base has its experts laid in: the one that is nearest to its first expert."""
        ways = _ways([_bits(p) for p in self.parts[0]])
        theirs = base.rows(0, 1).reshape(-1)
        off = [
            float(np.linalg.norm(numbers(w.reshape(-1).view(np.uint8), "BF16") - theirs))
            if w.shape == self.shape[1:]
            else np.inf
            for w in ways
        ]
        if not np.isfinite(min(off)):
            told = f"parts of expert 0 do not make {self.shape[1:]}"
            raise Stop("refused", told, where=self.name, next="another backend")
        return int(np.argmin(off))

    def base_parts(self, base: Tensor) -> Iterator[tuple[Weight | Tensor, np.ndarray]]:
        """(part in the export, the same part of the base as float32 numbers), expert by expert."""
        way, count = self.way(base), len(self.parts[0])
        for e, each in enumerate(self.parts):
            whole = base.rows(e, e + 1)[0]
            yield from zip(each, _taken_apart(whole, way, count), strict=True)


def _bits(part: Weight | Tensor) -> np.ndarray:
    return np.concatenate(list(dequantize(part))) if isinstance(part, Weight) else to_bf16(part.values())


def _taken_apart(whole: np.ndarray, way: int, count: int) -> list[np.ndarray]:
    """The parts that `_ways` would lay together in this way."""
    if count == 1:
        return [whole.T if way == 1 else whole]
    straight = whole.T if way >= 2 else whole
    return list(np.split(straight, count)) if way % 2 == 0 else [straight[i::count] for i in range(count)]


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
        stem, _, last = stacked_name(name).rpartition(".")
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
