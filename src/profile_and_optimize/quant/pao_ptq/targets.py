"""The only table of recipes: what each backend makes of a weight, by which of its settings, and where the result is served.

A bit count here is what the format implies for the weights it covers; what is left out of a recipe stays in bf16.
"""

from __future__ import annotations

from dataclasses import dataclass

from .stop import Stop

MODELOPT, LLM_COMPRESSOR = "modelopt", "llm-compressor"
BACKENDS = (MODELOPT, LLM_COMPRESSOR)
METHOD = {MODELOPT: "modelopt", LLM_COMPRESSOR: "compressed-tensors"}
DATA = ("none", "ranges", "search")


@dataclass(frozen=True, slots=True)
class Format:
    """How a weight lies in a file: its bits, how many share a scale (None: a row or the tensor does), bits of that scale."""

    name: str
    bits: int
    group: int | None
    scale_bits: int

    def __post_init__(self) -> None:
        if self.bits not in (4, 8) or (self.group is None) != (self.scale_bits == 0):
            raise ValueError(f"{self.name}: {self.bits} bits, a scale of {self.scale_bits} for each {self.group}")

    @property
    def bits_per_weight(self) -> float:
        """Scales of groups included; a scale for each row or tensor is not counted (under 0.02 bits)."""
        return self.bits + (self.scale_bits / self.group if self.group else 0.0)


FORMATS = {
    f.name: f
    for f in (
        Format("nvfp4", 4, 16, 8), Format("mxfp4", 4, 32, 8), Format("mxfp8", 8, 32, 8), Format("int4", 4, 128, 16),
        Format("fp8", 8, None, 0), Format("int8", 8, None, 0),
    )
}  # fmt: skip


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
class Recipe:
    """How a backend makes a target.

    `settings` names ModelOpt's configuration or llm-compressor's scheme. `data` is what the calibration text is for:
    nothing, the ranges of activations, or a search over weights too, by `method`. `algo` is what the checkpoint's own
    configuration calls it.
    """

    backend: str
    target: str
    settings: str
    format: Format
    data: str
    method: str
    activations: str
    algo: str
    served: tuple[Served, ...]

    def __post_init__(self) -> None:
        if self.backend not in BACKENDS or self.data not in DATA:
            raise ValueError(f"{self.target}: backend {self.backend!r}, text for {self.data!r}")

    @property
    def weight_format(self) -> str:
        return self.format.name

    @property
    def group(self) -> int | None:
        return self.format.group

    @property
    def bits_per_weight(self) -> float:
        return self.format.bits_per_weight

    @property
    def needs_data(self) -> bool:
        """Whether ranges or weights hang on the calibration text. The others load it too, for the round trip's held-out part."""
        return self.data != "none"

    @property
    def quant_method(self) -> str:
        return METHOD[self.backend]

    def served_by(self, engine: str, device: str, *, moe: bool) -> bool:
        return any(s.engine == engine and s.device == device and (s.moe or not moe) for s in self.served)


# Dense models on a CPU: run. GPUs, and experts on a CPU: read in what vLLM 0.32.0 and SGLang 0.5.23 accept, and not run.
_CUDA = (Served("vllm", "cuda", True), Served("sglang", "cuda", True))
_VLLM_CUDA = (Served("vllm", "cuda", True),)
_EMULATED = Served("vllm", "cpu", False, "emulated, by a plugin of ours")
_CPU_INT8 = Served("vllm", "cpu", True, "experts with plain softmax routing alone")
_CPU_INT4 = Served("vllm", "cpu", True)
_CPU_FP8 = Served("vllm", "cpu", False, "slow")

# target, settings, format, data, method, activations, algo, where
_MODELOPT = (
    ("nvfp4", "NVFP4_DEFAULT_CFG", "nvfp4", "ranges", "", "nvfp4, dynamic in blocks", "NVFP4", (*_CUDA, _EMULATED)),
    ("w4a16_nvfp4", "W4A16_NVFP4_CFG", "nvfp4", "none", "", "bf16", "W4A16_NVFP4", (*_VLLM_CUDA, _EMULATED)),
    ("nvfp4_awq", "NVFP4_AWQ_LITE_CFG", "nvfp4", "search", "", "nvfp4, dynamic in blocks", "NVFP4_AWQ", ()),
    ("fp8", "FP8_DEFAULT_CFG", "fp8", "ranges", "", "fp8, static", "FP8", _CUDA),
    ("int8", "INT8_DEFAULT_CFG", "int8", "ranges", "", "int8, static", "W8A8_SQ_PER_CHANNEL", ()),
    ("int4_awq", "INT4_AWQ_CFG", "int4", "search", "", "bf16", "W4A16_AWQ", ()),
    ("mxfp4", "MXFP4_DEFAULT_CFG", "mxfp4", "none", "", "mxfp4, dynamic", "MXFP4", ()),
    ("mxfp8", "MXFP8_DEFAULT_CFG", "mxfp8", "none", "", "mxfp8, dynamic", "MXFP8", _VLLM_CUDA),
)
_COMPRESSOR = (
    ("nvfp4", "NVFP4", "nvfp4", "ranges", "", "nvfp4, dynamic in blocks", "nvfp4-pack-quantized", (*_CUDA, _EMULATED)),
    ("w4a16_nvfp4", "NVFP4A16", "nvfp4", "none", "", "bf16", "nvfp4-pack-quantized", (*_CUDA, _EMULATED)),
    ("fp8", "FP8_DYNAMIC", "fp8", "none", "", "fp8, dynamic by token", "float-quantized", (*_CUDA, _CPU_FP8)),
    ("fp8_static", "FP8", "fp8", "ranges", "", "fp8, static", "float-quantized", (*_CUDA, _CPU_FP8)),
    ("int8", "W8A8", "int8", "none", "", "int8, dynamic by token", "int-quantized", (*_CUDA, _CPU_INT8)),
    ("w4a16", "W4A16", "int4", "none", "", "bf16", "pack-quantized", (*_CUDA, _CPU_INT4)),
    ("w4a16_gptq", "W4A16", "int4", "search", "gptq", "bf16", "pack-quantized", (*_CUDA, _CPU_INT4)),
    ("w4a16_awq", "W4A16", "int4", "search", "awq", "bf16", "pack-quantized", (*_CUDA, _CPU_INT4)),
)
RECIPES = tuple(
    Recipe(backend, target, settings, FORMATS[form], data, method, activations, algo, served)
    for backend, rows in ((MODELOPT, _MODELOPT), (LLM_COMPRESSOR, _COMPRESSOR))
    for target, settings, form, data, method, activations, algo, served in rows
)


def targets_of(backend: str) -> tuple[str, ...]:
    return tuple(r.target for r in RECIPES if r.backend == backend)


def recipe_of(backend: str, target: str) -> Recipe:
    """Raises Stop for a pair that there is not, naming those there are."""
    if backend not in BACKENDS:
        told = f"no backend {backend!r}; there are {', '.join(BACKENDS)}"
        raise Stop("wrong_use", told, where="--backend", next="pao quantize --help")
    for recipe in RECIPES:
        if (recipe.backend, recipe.target) == (backend, target):
            return recipe
    others = [r.backend for r in RECIPES if r.target == target]
    raise Stop(
        "wrong_use",
        f"{backend} has no target {target!r}; it has {', '.join(targets_of(backend))}",
        where="--target",
        next=f"--backend {others[0]} --target {target}" if others else "choose one of them",
    )
