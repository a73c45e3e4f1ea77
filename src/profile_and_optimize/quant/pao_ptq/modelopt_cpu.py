"""NVFP4 and MX formats in plain torch: ModelOpt's own kernels are CUDA's alone. The writer's arithmetic; no check uses it."""

from __future__ import annotations

from typing import Any


def round_e2m1(x: Any) -> Any:
    """Each float32 to the nearest of 0, .5, 1, 1.5, 2, 3, 4, 6 with its sign; ties go to the even code, as torch rounds."""
    import torch

    size = x.abs()
    # The spacing is 0.5 below 2, then 1, then 2 from 4 on: half of the power of two that a value starts with.
    exponent = (size.view(torch.int32) >> 23).clamp_(127, 129) - 1
    spacing = (exponent << 23).view(torch.float32)
    return torch.copysign((size / spacing).round_().mul_(spacing).clamp_(max=6.0), x)


def nvfp4_fake(x: Any, amax: Any, *, block: int = 16) -> Any:
    """What NVFP4 keeps of `x` ([..., columns], columns a multiple of `block`), in its own dtype. `amax` is the tensor's
    largest magnitude, as calibrated: the global scale is amax / (6 x 448), a block's scale an E4M3 number times it."""
    import torch

    whole = amax.float().amax() / (6.0 * 448.0)
    if whole == 0:
        return torch.zeros_like(x)
    out = torch.empty_like(x)
    source, target = x.reshape(-1, x.shape[-1]), out.view(-1, x.shape[-1])
    rows = max(
        1, 262_144 // x.shape[-1]
    )  # float32 copies that stay in the cache: 14 times as fast as the whole at once
    for at in range(0, source.shape[0], rows):
        part = source[at : at + rows].unflatten(-1, (-1, block))
        scale = part.abs().amax(dim=-1, keepdim=True).float() / (6.0 * whole)
        target[at : at + rows] = (e2m1_at(part, e4m3(scale) * whole)).flatten(-2).to(x.dtype)
    return out


def e4m3(scale: Any) -> Any:
    """A block's scale as it is stored: 1 where the block is all zeros, kept off zero and infinity."""
    import torch

    scale = torch.where(scale == 0, torch.ones_like(scale), scale)
    return scale.clamp(min=2.0**-9, max=448.0).to(torch.float8_e4m3fn).float()


def e2m1_at(part: Any, step: Any) -> Any:
    return round_e2m1(part / step) * step


def mx_fake(x: Any, *, block: int, bits: tuple[int, int]) -> Any:
    """MXFP4 (bits 2, 1) and MXFP8 (4, 3): a power of two per block, the smallest that keeps its largest value in range."""
    import torch

    top = 6.0 if bits == (2, 1) else 448.0
    part = x.float().unflatten(-1, (-1, block))
    peak = part.abs().amax(dim=-1, keepdim=True) / top
    power = torch.where(peak > 0, torch.log2(peak), torch.full_like(peak, -127.0))
    step = torch.exp2(power.ceil().clamp(-127, 127))
    scaled = part / step
    kept = e2m1_down(scaled) if bits == (2, 1) else scaled.clamp(-448, 448).to(torch.float8_e4m3fn).float()
    return (kept * step).flatten(-2).to(x.dtype)


def e2m1_down(x: Any) -> Any:
    """As `round_e2m1`, but ties go to the smaller value, which is what ModelOpt packs for MXFP4."""
    import torch

    values = torch.tensor([0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0], device=x.device)
    halfway = torch.tensor([0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5.0], device=x.device)
    return torch.copysign(values[torch.bucketize(x.abs(), halfway)], x)


def static_nvfp4_fake(x: Any, amax: Any, whole: Any, *, stored_scales: bool, top: float) -> Any:
    """NVFP4 with a given largest magnitude per block; blocks are runs of x.numel() / amax.numel() values."""
    import torch

    scale = amax.float().reshape(-1, 1) / 6.0
    if stored_scales:
        peak = (amax.float().amax() if whole is None else whole.float()) * (448.0 / top) / 6.0
        scale = torch.zeros_like(scale) if peak == 0 else (scale * (448.0 / peak)).clamp(max=448.0)
        scale = scale.to(torch.float8_e4m3fn).float() * (peak / 448.0)
    part = x.reshape(scale.shape[0], -1).float()
    safe = torch.where(scale == 0, torch.ones_like(scale), scale)
    return (round_e2m1(part / safe) * scale).reshape(x.shape)


def patch_modelopt() -> None:
    """Puts the arithmetic above where ModelOpt calls its CUDA kernels."""
    from modelopt.torch.quantization import tensor_quant as tq

    def dynamic(ctx: Any, inputs: Any, block_size: int, amax: Any, num_bits: Any, scale_bits: Any, *rest: Any) -> Any:
        if scale_bits == (8, 0) and num_bits in ((2, 1), (4, 3)):
            return mx_fake(inputs, block=block_size, bits=num_bits)
        if scale_bits == (4, 3) and num_bits == (2, 1):
            return nvfp4_fake(inputs, inputs.abs().amax() if amax is None else amax, block=block_size)
        raise NotImplementedError(f"no arithmetic on this device for {num_bits} with scales {scale_bits}")

    def static(ctx: Any, x: Any, amax: Any, global_amax: Any = None, quantize_block_scales: bool = True,
               fp8_max_for_normalization: float = 448.0, out_dtype: Any = None, pass_through_bwd: bool = False) -> Any:  # fmt: skip
        out = static_nvfp4_fake(
            x, amax, global_amax, stored_scales=quantize_block_scales, top=fp8_max_for_normalization
        )
        return out.to(out_dtype or x.dtype)

    tq._dynamic_block_quantize_forward = dynamic
    tq.StaticBlockwiseFP4FakeQuantFunction.forward = staticmethod(static)


def leave_weights_on_disk() -> None:
    """ModelOpt writes a layer's weights "back" after each look at them, which for a layer on disk means into memory, until
    the whole model lies there. Ranges change no weights, so there is nothing to write. A search does change them."""
    from modelopt.torch.quantization.plugins import accelerate

    accelerate._writeback_params_to_weights_map = lambda module, hook: None
