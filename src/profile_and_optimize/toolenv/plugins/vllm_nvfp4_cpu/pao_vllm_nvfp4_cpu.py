"""Lets the CPU build of vLLM serve dense NVFP4 checkpoints, by the arithmetic of the emulation that it ships for GPUs.

Loaded by vLLM itself in each of its processes, by the entry point beside this file, and only in a server that has this
folder on its PYTHONPATH. The same bits as that emulation, but weights are widened once, after loading, and activations are
rounded without a mask for every value: the emulation itself gives 0.5 tok/s at 120M parameters on two cores. A number from
such a server is about answers; it says nothing of the speed of NVFP4, nor of the memory it saves.
"""

from __future__ import annotations

from typing import Any

BLOCK = 16
LARGEST, LARGEST_SCALE = 6.0, 448.0  # of E2M1 and of E4M3


def register() -> None:
    """Give CPUs kernels for layers in NVFP4, with activations in NVFP4 too or left as they are. Does it once, however often
    it is called."""
    from vllm.model_executor.kernels import linear
    from vllm.platforms import PlatformEnum

    both, weights = kernels()
    # vLLM's own stays within reach: --linear-backend emulation.
    linear._POSSIBLE_NVFP4_KERNELS.setdefault(PlatformEnum.CPU, [both, linear.EmulationNvFp4LinearKernel])
    # For weights alone vLLM takes Marlin without looking further; no CPU runs it.
    linear.MarlinNvFp4LinearKernel = weights


def rounded(x: Any, scale: Any) -> Any:
    """`x` [tokens, features] rounded to NVFP4 and widened again: E2M1 in blocks of 16 whose scale is an E4M3 number times
    1 / `scale`. Half-way cases go to the even neighbour, as in the emulation."""
    import torch

    blocks = x.reshape(x.shape[0], -1, BLOCK).float()
    largest = blocks.abs().amax(-1, keepdim=True)
    steps = (scale * (largest * (1 / LARGEST))).clamp(-LARGEST_SCALE, LARGEST_SCALE).to(torch.float8_e4m3fn).float()
    small = (blocks * _inverse(steps * _inverse(scale))).clamp(-LARGEST, LARGEST)
    size = small.abs()
    # E2M1 lies 0.5 apart below 2, 1 apart below 4, and 2 apart up to 6.
    gap = torch.where(size < 2, 0.5, torch.where(size < 4, 1.0, 2.0))
    return (torch.round(small / gap) * gap * (steps / scale)).reshape(x.shape).to(x.dtype)


def _inverse(x: Any) -> Any:
    """1 / x, and next to nothing instead of infinity for a block of zeros."""
    return 1.0 / (x + (x == 0) * 1e8)


def kernels() -> tuple[type, type]:
    """The kernel for weights and activations in NVFP4, and the one for weights alone."""
    import torch
    from vllm.model_executor.kernels.linear import EmulationNvFp4LinearKernel
    from vllm.model_executor.layers.quantization.utils.nvfp4_emulation_utils import dequantize_to_dtype

    class WidenedNvFp4W4A16LinearKernel(EmulationNvFp4LinearKernel):
        """Activations stay as they are."""

        def process_weights_after_loading(self, layer: Any) -> None:
            if layer.weight.dtype != torch.uint8:
                return  # loaded again
            wide = dequantize_to_dtype(
                layer.weight.data, layer.weight_scale.data, layer.weight_global_scale, torch.get_default_dtype(), BLOCK,
                swizzle=False,
            )  # fmt: skip
            layer.weight = torch.nn.Parameter(wide, requires_grad=False)

        def apply_weights(self, layer: Any, x: Any, bias: Any = None) -> Any:
            out = torch.matmul(x, layer.weight.t())
            return out if bias is None else out + bias

    class WidenedNvFp4LinearKernel(WidenedNvFp4W4A16LinearKernel):
        """Activations are rounded to NVFP4 and widened again at every step."""

        def apply_weights(self, layer: Any, x: Any, bias: Any = None) -> Any:
            return super().apply_weights(layer, rounded(x, layer.input_global_scale_inv), bias)

    return WidenedNvFp4LinearKernel, WidenedNvFp4W4A16LinearKernel
