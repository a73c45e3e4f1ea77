"""Tensors of all experts in the base that the export holds expert by expert."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from .dequantize import dequantize
from .layouts import Weight, held_weight
from .names import APART
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
