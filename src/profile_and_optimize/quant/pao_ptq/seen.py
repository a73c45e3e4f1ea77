"""What a quantizer's range is, as recorded; and experts that a backend does not know."""

from __future__ import annotations

from typing import Any

from .stop import Stop


def amax_facts(amax: Any) -> dict[str, Any]:
    import torch

    if amax is None or amax.numel() == 0 or amax.is_meta:
        return {"amax_finite": None, "amax_min": None, "amax_max": None}
    amax = amax.detach().float()
    finite = bool(torch.isfinite(amax).all())
    ends = (
        {"amax_min": float(amax.min()), "amax_max": float(amax.max())}
        if finite
        else {"amax_min": None, "amax_max": None}
    )
    return {"amax_finite": finite, **ends}


def refuse_unknown(names: list[str]) -> None:
    if names:
        told = f"the backend does not know {len(names)} modules of experts and would leave them as they are: {names[0]}"
        raise Stop(
            "refused", told, where=names[0], next="another backend, or --exclude-pattern to leave them out knowingly"
        )
