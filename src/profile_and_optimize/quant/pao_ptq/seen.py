"""What a quantizer's range is, as recorded; and experts that a backend does not know."""

from __future__ import annotations

from typing import Any

from .recorded import Range
from .stop import Stop


def range_of(amax: Any) -> Range:
    import torch

    if amax is None or amax.numel() == 0 or amax.is_meta:
        return Range()
    amax = amax.detach().float()
    finite = bool(torch.isfinite(amax).all())
    return Range(True, float(amax.min()), float(amax.max())) if finite else Range(False)


def refuse_unknown(names: list[str]) -> None:
    if names:
        told = f"the backend does not know {len(names)} modules of experts and would leave them as they are: {names[0]}"
        raise Stop(
            "refused", told, where=names[0], next="another backend, or --exclude-pattern to leave them out knowingly"
        )
