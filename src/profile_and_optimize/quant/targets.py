"""What can be asked of which backend, what it stores for a weight, and where the result can be served.

A bit count here is what the format implies for the weights it covers; what is left out of a recipe stays in bf16.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from profile_and_optimize.core.errors import WrongUse

MODELOPT, LLM_COMPRESSOR = "modelopt", "llm-compressor"
BACKENDS = (MODELOPT, LLM_COMPRESSOR)
METHOD = {MODELOPT: "modelopt", LLM_COMPRESSOR: "compressed-tensors"}


@dataclass(frozen=True, slots=True)
class Served:
    """An engine that has a kernel for it on a device. `moe` says whether its experts are served too; `note` how."""

    engine: str
    device: str
    moe: bool
    note: str = ""

    def words(self) -> str:
        scope = "" if self.moe else ", dense models alone"
        return f"{self.engine} on {self.device}{scope}" + (f" ({self.note})" if self.note else "")


@dataclass(frozen=True, slots=True)
class Scheme:
    """A backend's target. `group` is the number of weights that share a scale, None for one scale a row or a tensor.

    `weight_bits` and `scale_bits` are bits in the file: of one weight, and of one group's scale (and zero point). `algo`
    is what the checkpoint's own configuration calls it. `needs_data` says whether ranges are taken from calibration
    text; the others still load it, for the round trip's held-out part.
    """

    backend: str
    target: str
    weight_format: str
    weight_bits: int
    group: int | None
    scale_bits: int
    activations: str
    algo: str
    needs_data: bool
    served: tuple[Served, ...]

    def __post_init__(self) -> None:
        if self.backend not in BACKENDS:
            raise ValueError(f"backend {self.backend!r}")
        if self.weight_bits not in (4, 8) or self.scale_bits < 0 or (self.group is not None and self.group < 2):
            raise ValueError(f"{self.target}: {self.weight_bits} bits, group {self.group}")

    @property
    def quant_method(self) -> str:
        return METHOD[self.backend]

    @property
    def bits_per_weight(self) -> float:
        """Of a covered weight, scales included; a scale for each row or tensor is not counted (under 0.02 bits)."""
        return self.weight_bits + (self.scale_bits / self.group if self.group else 0.0)

    def served_by(self, engine: str, device: str, *, moe: bool) -> bool:
        return any(s.engine == engine and s.device == device and (s.moe or not moe) for s in self.served)


# Dense models on a CPU: run. GPUs, and experts on a CPU: read in what vLLM 0.32.0 and SGLang 0.5.23 accept, and not run.
_CUDA = (Served("vllm", "cuda", True), Served("sglang", "cuda", True))
_VLLM_CUDA = (Served("vllm", "cuda", True),)
_EMULATED = Served("vllm", "cpu", False, "emulated, by a plugin of ours")
_CPU_INT8 = Served("vllm", "cpu", True, "experts with plain softmax routing alone")
_CPU_INT4 = Served("vllm", "cpu", True)
_CPU_FP8 = Served("vllm", "cpu", False, "slow")

# backend, target, format, bits, group, scale bits, activations, algo, needs_data, where
_ROWS: tuple[tuple[str, str, str, int, int | None, int, str, str, bool, tuple[Served, ...]], ...] = (
    (MODELOPT, "nvfp4", "nvfp4", 4, 16, 8, "nvfp4, dynamic in blocks", "NVFP4", True, (*_CUDA, _EMULATED)),
    (MODELOPT, "w4a16_nvfp4", "nvfp4", 4, 16, 8, "bf16", "W4A16_NVFP4", False, (*_VLLM_CUDA, _EMULATED)),
    (MODELOPT, "nvfp4_awq", "nvfp4", 4, 16, 8, "nvfp4, dynamic in blocks", "NVFP4_AWQ", True, ()),
    (MODELOPT, "fp8", "fp8", 8, None, 32, "fp8, static", "FP8", True, _CUDA),
    (MODELOPT, "int8", "int8", 8, None, 32, "int8, static", "W8A8_SQ_PER_CHANNEL", True, ()),
    (MODELOPT, "int4_awq", "int4", 4, 128, 16, "bf16", "W4A16_AWQ", True, ()),
    (MODELOPT, "mxfp4", "mxfp4", 4, 32, 8, "mxfp4, dynamic", "MXFP4", False, ()),
    (MODELOPT, "mxfp8", "mxfp8", 8, 32, 8, "mxfp8, dynamic", "MXFP8", False, _VLLM_CUDA),
    (LLM_COMPRESSOR, "nvfp4", "nvfp4", 4, 16, 8, "nvfp4, dynamic in blocks", "nvfp4-pack-quantized", True, (*_CUDA, _EMULATED)),
    (LLM_COMPRESSOR, "w4a16_nvfp4", "nvfp4", 4, 16, 8, "bf16", "nvfp4-pack-quantized", False, (*_CUDA, _EMULATED)),
    (LLM_COMPRESSOR, "fp8", "fp8", 8, None, 16, "fp8, dynamic by token", "float-quantized", False, (*_CUDA, _CPU_FP8)),
    (LLM_COMPRESSOR, "fp8_static", "fp8", 8, None, 16, "fp8, static", "float-quantized", True, (*_CUDA, _CPU_FP8)),
    (LLM_COMPRESSOR, "int8", "int8", 8, None, 16, "int8, dynamic by token", "int-quantized", False, (*_CUDA, _CPU_INT8)),
    (LLM_COMPRESSOR, "w4a16", "int4", 4, 128, 16, "bf16", "pack-quantized", False, (*_CUDA, _CPU_INT4)),
    (LLM_COMPRESSOR, "w4a16_gptq", "int4", 4, 128, 16, "bf16", "pack-quantized", True, (*_CUDA, _CPU_INT4)),
    (LLM_COMPRESSOR, "w4a16_awq", "int4", 4, 128, 16, "bf16", "pack-quantized", True, (*_CUDA, _CPU_INT4)),
)  # fmt: skip
SCHEMES = tuple(Scheme(*row) for row in _ROWS)


def targets_of(backend: str, schemes: Iterable[Scheme] = SCHEMES) -> tuple[str, ...]:
    return tuple(s.target for s in schemes if s.backend == backend)


def scheme_of(backend: str, target: str) -> Scheme:
    """Raises WrongUse for a pair that there is not, naming those there are."""
    if backend not in BACKENDS:
        raise WrongUse(
            f"no backend {backend!r}; there are {', '.join(BACKENDS)}", where="--backend", next="pao quantize --help"
        )
    for scheme in SCHEMES:
        if (scheme.backend, scheme.target) == (backend, target):
            return scheme
    others = [s.backend for s in SCHEMES if s.target == target]
    raise WrongUse(
        f"{backend} has no target {target!r}; it has {', '.join(targets_of(backend))}",
        where="--target",
        next=f"--backend {others[0]} --target {target}" if others else "choose one of them",
    )


def served_words(scheme: Scheme) -> str:
    return "; ".join(s.words() for s in scheme.served) or "no engine that is known here"
