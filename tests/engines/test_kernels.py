"""The kernel of a group of layers is what every log of its servers names, or it is unknown with the reason."""

from __future__ import annotations

import pytest

from profile_and_optimize.engines.kernel_table import Message, Releases, table, widens_by
from profile_and_optimize.engines.kernels import (
    CUT,
    OWN_CHOICE,
    SOME,
    Asked,
    Layers,
    Log,
    another_than_asked,
    layers_of,
)

DUMP = "(EngineCore pid=1) INFO 12-01 04:15:33 [core.py:133] Initializing a V1 LLM engine (v0.32.0) with config: model='m', "
BEGINS = (
    DUMP + "dtype=torch.bfloat16, quantization=modelopt_fp4, enforce_eager=True, kv_cache_dtype=auto, device_config=cpu"
)
READY = "(APIServer pid=1) INFO 12-01 04:15:59 [entry.py:140] Starting vLLM server on http://127.0.0.1:1"
SGLANG = (
    "[2026-12-01 04:15:33] server_args={'prefill_attention_backend': None, 'attention_backend': 'fa3', 'kv_cache_dtype': 'auto'}",
    "[2026-12-01 04:15:59] The server is fired up and ready to roll!",
)
NVFP4_GEMM = "(Worker pid=2) INFO 12-01 04:15:44 [__init__.py:1240] Using {} for NVFP4 GEMM"
VLLM = Asked("vllm", "0.32.0+cpu", "nvfp4")


def log(*lines: str, path: str = "cells/ours/raw/log-admission.txt", ends: tuple[str, str] = (BEGINS, READY)) -> Log:
    return Log(path, "\n".join([ends[0], *lines, ends[1], ""]))


def seen(asked: Asked, *logs: Log) -> dict[str, Layers]:
    return {x.group: x for x in layers_of(asked, logs)}


def test_what_a_server_names_is_observed_with_its_line_and_what_it_does_not_name_is_unknown() -> None:
    found = seen(VLLM, log("Loading", NVFP4_GEMM.format("WidenedNvFp4LinearKernel")))
    linear = found["linear"]
    assert (linear.asked, linear.observed, linear.widened_by) == (
        OWN_CHOICE,
        "WidenedNvFp4LinearKernel",
        "our plugin for CPUs",
    )
    assert linear.line is not None and linear.line.place == "cells/ours/raw/log-admission.txt:3"
    assert (found["quantization"].asked, found["quantization"].observed) == ("nvfp4", "modelopt_fp4")
    assert found["kv_cache"].observed == "auto"
    assert [(found[g].observed, found[g].why) for g in ("attention", "lm_head")] == [
        ("unknown", "the log names none")
    ] * 2
    assert "experts" not in found and SOME not in found


@pytest.mark.parametrize(("words", "group", "kernel"), [
    ("Selected CPUInt8ScaledMMLinearKernel for CompressedTensorsW8A8Int8", "linear", "CPUInt8ScaledMMLinearKernel"),
    ("Using CPUWNA16LinearKernel for mixed-precision linear", "linear", "CPUWNA16LinearKernel"),
    ("Using 'FLASHINFER_CUTLASS' NvFp4 MoE backend out of potential backends: ['MARLIN'].", "experts", "FLASHINFER_CUTLASS"),
    ("Using 'MARLIN' WNA16 MoE backend.", "experts", "MARLIN"),
    ("Using TRITON Fp8 MoE backend out of potential backends: ['TRITON'].", "experts", "TRITON"),
    ("Using FlashInfer CUTLASS Unquantized MoE backend out of", "experts", "FlashInfer CUTLASS"),
    ("Using CPU W4A8 Int8 MoE backend out of potential backends", "experts", "CPU"),
    ("Using Nvfp4QuantizationEmulationTritonExperts MOE backend. This will", "experts", "EMULATION"),
    ("Using FLASH_ATTN attention backend out of potential backends: ['FLASH_ATTN'].", "attention", "FLASH_ATTN"),
    ("Using CPU_MLA backend.", "attention", "CPU_MLA"),
])  # fmt: skip
def test_the_words_of_vllm_are_read(words: str, group: str, kernel: str) -> None:
    assert seen(VLLM, log(f"(Worker pid=2) INFO 12-01 04:15:44 [x.py:1] {words}"))[group].observed == kernel


def test_two_names_for_one_group_are_unknown_with_both_places() -> None:
    two = log(
        NVFP4_GEMM.format("MarlinNvFp4LinearKernel"), "Selected CutlassFP8ScaledMMLinearKernel for Fp8LinearMethod"
    )
    linear = seen(VLLM, two)["linear"]
    assert linear.observed == "unknown" and linear.widened_by is None
    assert linear.why == (
        "several are named: CutlassFP8ScaledMMLinearKernel (cells/ours/raw/log-admission.txt:3), "
        "MarlinNvFp4LinearKernel (cells/ours/raw/log-admission.txt:2)"
    )
    again = log(NVFP4_GEMM.format("CutlassNvFp4LinearKernel"), path="cells/ours/raw/log-b001-ours.txt")
    first = log(NVFP4_GEMM.format("MarlinNvFp4LinearKernel"))
    assert seen(VLLM, first, again)["linear"].why.startswith("several are named")
    assert seen(VLLM, first, log(path="cells/ours/raw/log-b001-ours.txt"))["linear"].why == "one start names none"
    assert seen(VLLM, first, first)["linear"].observed == "MarlinNvFp4LinearKernel"


@pytest.mark.parametrize(("text", "why"), [
    ("\n".join([NVFP4_GEMM.format("XKernel"), READY]), "does not hold the beginning of the start"),
    ("\n".join([BEGINS, NVFP4_GEMM.format("XKernel")]), "ends before the server was ready"),
    ("\n".join([BEGINS, NVFP4_GEMM.format("XKernel"), f"{CUT} 9 bytes]", READY]), "was cut before the server was ready"),
    ("", "does not hold the beginning of the start"),
])  # fmt: skip
def test_a_log_without_the_whole_start_says_nothing(text: str, why: str) -> None:
    for layers in layers_of(VLLM, [Log("log.txt", text)]):
        assert layers.observed == "unknown" and why in layers.why


def test_what_is_said_after_the_start_and_the_cut_after_it_change_nothing() -> None:
    # A prompt in the log of requests may hold any words.
    late = Log("log.txt", log().text + f"prompt: 'Using EvilKernel for NVFP4 GEMM'\n{CUT} 9 bytes]\n")
    assert seen(VLLM, late)["linear"].why == "the log names none"


@pytest.mark.parametrize("version", ["0.31.0", "0.33.0", "1.0", "", "main"])
def test_the_words_of_a_release_that_was_not_read_are_not_guessed(version: str) -> None:
    found = seen(Asked("vllm", version, "nvfp4"), log(NVFP4_GEMM.format("MarlinNvFp4LinearKernel")))
    assert found["linear"].observed == "unknown" and "is not known" in found["linear"].why
    assert seen(Asked("transformers", "5.19.0", "none"), log())["linear"].observed == "unknown"
    assert layers_of(VLLM, [])[0].why == "no log of a server was kept"


def test_sglang_says_that_it_serves_weights_alone() -> None:
    words = (
        "NVFP4 w4a4 requires compute capability >= 10.0; serving this checkpoint weight-only via FP4 Marlin instead. Activation "
        "quantization is ignored."
    )
    asked = Asked("sglang", "0.5.23", "nvfp4", ("--fp4-gemm-backend", "flashinfer_cutlass"))
    found = seen(asked, log(words, "KV Cache is allocated. dtype: torch.bfloat16, #tokens: 9", ends=SGLANG))
    linear = found["linear"]
    assert (linear.asked, linear.observed) == ("--fp4-gemm-backend flashinfer_cutlass", "FP4 Marlin")
    assert linear.fell_back == linear.line and linear.widened_by == "Marlin" and another_than_asked(asked, linear)
    assert (found["kv_cache"].observed, found["attention"].observed) == ("bfloat16", "fa3")


@pytest.mark.parametrize(("flags", "kernel", "other"), [
    (("--linear-backend", "marlin"), "MarlinNvFp4LinearKernel", False),
    (("--linear-backend=cutlass",), "MarlinNvFp4LinearKernel", True),
    (("--linear-backend", "cutlass", "--linear_backend", "marlin"), "MarlinNvFp4LinearKernel", False),
    (("--linear-backend", "auto"), "MarlinNvFp4LinearKernel", None),
    (("--linear-backend", "a-value-of-tomorrow"), "MarlinNvFp4LinearKernel", None),
    ((), "MarlinNvFp4LinearKernel", None),
])  # fmt: skip
def test_asked_is_compared_with_observed_where_both_are_known(
    flags: tuple[str, ...], kernel: str, other: bool | None
) -> None:
    asked = Asked("vllm", "0.32.0", "nvfp4", flags)
    assert another_than_asked(asked, seen(asked, log(NVFP4_GEMM.format(kernel)))["linear"]) is other
    assert another_than_asked(asked, seen(asked, log())["linear"]) is None


def test_only_kernels_known_to_widen_weights_are_said_to() -> None:
    assert widens_by("EmulationNvFp4LinearKernel") == "the emulation" and widens_by("BATCHED_MARLIN") == "Marlin"
    assert widens_by("CPUWNA16LinearKernel") == "a kernel for weights alone"
    for kernel in (
        "CPUInt8ScaledMMLinearKernel",
        "CutlassNvFp4LinearKernel",
        "HummingLinearKernel",
        "CutlassW4A8LinearKernel",
    ):
        assert widens_by(kernel) is None


def test_the_table_of_messages_is_checked_when_it_is_read() -> None:
    assert (
        {m.releases.engine for m in table().messages}
        == {b.releases.engine for b in table().bounds}
        == {"vllm", "sglang"}
    )
    with pytest.raises(ValueError, match="no group of layers 'router'"):
        Message(Releases("vllm", "0.32", "0.33"), "router", table().messages[0].says)
