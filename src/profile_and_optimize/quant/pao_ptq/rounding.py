"""Activations rounded as each recipe rounds them, in torch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .recode import peak


def _nvfp4(x: Any, scale: float | None) -> Any:
    """Blocks of 16: their own scale in E4M3, over the calibrated global one."""
    import torch

    assert scale is not None
    whole = torch.tensor(scale, dtype=torch.float32, device=x.device)
    blocks = x.float().unflatten(-1, (-1, 16))
    step = blocks.abs().amax(-1, keepdim=True) / (6 * whole)
    step = torch.where(step == 0, torch.ones_like(step), step).clamp(2**-9, 448).to(torch.float8_e4m3fn).float() * whole
    return (_e2m1(blocks / step) * step).flatten(-2).to(x.dtype)


def _e2m1(x: Any, *, even: bool = True) -> Any:
    """To the nearest of the eight sizes; ties go to the even code, or to the smaller size."""
    import torch

    edges = torch.tensor([0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5.0], device=x.device)
    sizes = torch.tensor([0, 0.5, 1, 1.5, 2, 3, 4, 6.0], device=x.device)
    code = torch.bucketize(x.abs(), edges)
    tie = (x.abs() == edges[code.clamp(max=6)]) & (code % 2 == 1) & even
    return sizes[(code + tie).clamp(max=7)] * torch.sign(x)


def _mx(top: float) -> Callable[[Any, float | None], Any]:
    def rounded(x: Any, scale: float | None) -> Any:
        """Blocks of 32 with a power of two: the smallest that keeps the largest value in range. ModelOpt's MXFP4 takes a
        tie down."""
        import torch

        blocks = x.float().unflatten(-1, (-1, 32))
        peak = blocks.abs().amax(-1, keepdim=True) / top
        step = torch.exp2(
            torch.where(peak > 0, torch.log2(peak), torch.full_like(peak, -127.0)).ceil().clamp(-127, 127)
        )
        small = blocks / step
        kept = _e2m1(small, even=False) if top == 6 else small.clamp(-top, top).to(torch.float8_e4m3fn).float()
        return (kept * step).flatten(-2).to(x.dtype)

    return rounded


def _fp8(x: Any, scale: float | None) -> Any:
    """As ModelOpt: times 448 / peak, and back with the inverse of that."""
    import torch

    per_step = 448 / torch.tensor(peak(np.float32(scale or 0), 448), dtype=torch.float32, device=x.device)
    return ((x.float() * per_step).clamp(-448, 448).to(torch.float8_e4m3fn).float() * (1 / per_step)).to(x.dtype)


def _int8(x: Any, scale: float | None) -> Any:
    """As ModelOpt: times 127 / peak."""
    import torch

    top = torch.tensor(127.0, device=x.device)
    per_step = top / torch.tensor(peak(np.float32(scale or 0), 127), dtype=torch.float32, device=x.device)
    return ((x.float() * per_step).round().clamp(-128, 127) / per_step).to(x.dtype)


def _narrow_nvfp4(x: Any, scale: float | None) -> Any:
    import torch

    assert scale is not None
    whole = torch.tensor(1 / scale, dtype=torch.float32, device=x.device)
    blocks = x.unflatten(-1, (-1, 16))
    step = (blocks.abs().amax(-1, keepdim=True) / 6).float() * whole
    step = step.to(torch.float8_e4m3fn).float()
    step = torch.where(step == 0, torch.full_like(step, 0.125), step) / whole
    return (_e2m1((blocks / step).clamp(-6, 6)) * step).flatten(-2).to(x.dtype)


def _largest(x: Any) -> Any:
    """Of each token; of all tokens where they come without a batch, as to an expert: so its own observer takes them."""
    return (x.abs().amax(-1, keepdim=True) if x.dim() > 2 else x.abs().amax()).clamp(min=1e-12)


def _narrow_fp8(x: Any, scale: float | None) -> Any:
    import torch

    step = _largest(x) / 448 if scale is None else torch.tensor([scale], dtype=x.dtype, device=x.device)
    return (x / step).clamp(-448, 448).to(torch.float8_e4m3fn).to(x.dtype) * step


def _narrow_int8(x: Any, scale: float | None) -> Any:
    """The largest value is spread over half of the 255 steps."""
    import torch

    step = _largest(x) / 127.5 if scale is None else torch.tensor([scale], dtype=x.dtype, device=x.device)
    return (x / step).round().clamp(-128, 127) * step


ROUND = {"nvfp4": _nvfp4, "fp8": _fp8, "int8": _int8, "mxfp4": _mx(6), "mxfp8": _mx(448),
         "narrow nvfp4": _narrow_nvfp4, "narrow fp8": _narrow_fp8, "narrow int8": _narrow_int8}  # fmt: skip
