"""Lets torchvision from PyPI be imported beside a CPU build of torch. Run at every start of this environment's Python.

Its compiled half is built against CUDA and does not load here, so the two operators that its Python half describes do
not exist, and the import ends in "operator torchvision::nms does not exist". Their schemas alone are enough: SGLang
imports torchvision for images, which no text model sends through it.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from types import ModuleType
from typing import Any

SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)
_kept: list[Any] = []  # a library that is collected takes its schemas with it


class BeforeTorchvision:
    """A finder that finds nothing, and defines the schemas when torchvision is first looked for."""

    def find_spec(self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None) -> None:
        if name == "torchvision" and not _kept:
            _define()


def _define() -> None:
    import torch

    library = torch.library.Library("torchvision", "FRAGMENT")
    _kept.append(library)
    for schema in SCHEMAS:
        library.define(schema)


sys.meta_path.insert(0, BeforeTorchvision())
