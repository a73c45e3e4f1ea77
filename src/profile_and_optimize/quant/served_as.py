"""Do an arm's flags speak of another quantization than the checkpoint that it serves? Read before anything starts."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from profile_and_optimize.core.argv import Given, given
from profile_and_optimize.core.cell import Arm
from profile_and_optimize.core.errors import WrongUse
from profile_and_optimize.quant.checkpoint import UNKNOWN, read_checkpoint

# By quant_method: the words of `--quantization` under which vLLM 0.32.0 or SGLang 0.5.23 serves it. The algorithm that a word
# stands for alone is in _ALGOS. A method that is not listed is left to the engine.
_WORDS: dict[str, frozenset[str]] = {
    "modelopt": frozenset({
        "modelopt", "modelopt_fp4", "modelopt_fp8", "modelopt_mxfp8", "modelopt_mixed", "petit_nvfp4",
    }),
    "compressed-tensors": frozenset({"compressed-tensors", "w8a8_int8", "w8a8_fp8"}),
    "gptq": frozenset({"gptq", "gptq_marlin", "gptq_bitblas", "moe_wna16"}),
    "awq": frozenset({"awq", "awq_marlin", "moe_wna16"}),
    "fp8": frozenset({"fp8"}),
    "mxfp4": frozenset({"mxfp4"}),
}  # fmt: skip
_ALGOS: dict[str, tuple[str, ...]] = {
    "modelopt_fp4": ("nvfp4", "w4a16_nvfp4"), "petit_nvfp4": ("nvfp4", "w4a16_nvfp4"), "modelopt_fp8": ("fp8",),
    "modelopt_mxfp8": ("mxfp8",), "modelopt_mixed": ("mixed",), "w8a8_int8": ("int-quantized", "naive-quantized"),
    "w8a8_fp8": ("float-quantized", "naive-quantized"),
}  # fmt: skip
_QUANTIZES = ("quantization",)
# Options of SGLang and vLLM that quantize weights while they are loaded, and those that replace parts of config.json.
_AGAIN = ("quantization-config", "torchao-config", "modelopt-quant", "quantize-and-serve")
_REPLACES = ("hf-overrides", "json-model-override-args")
# vLLM's short spelling, with its value attached or not.
_SHORT = re.compile(r"-q(?:=(.*)|([^=].*))?")


def require_agreeing(arm: Arm, common_flags: tuple[str, ...] = ()) -> None:
    """Raises WrongUse, naming arm and flag, where a flag contradicts the quantization in the checkpoint's own config.json. A
    folder that is still to be made is judged at admission; an unquantized one may be quantized by a flag."""
    folder = Path(arm.checkpoint)
    if not arm.checkpoint or not folder.is_dir():
        return
    found = read_checkpoint(folder)
    if found.quant_method is None:
        return
    told = next(_contradictions((*common_flags, *arm.flags), found.quant_method, found.algo), None)
    if told is not None:
        raise WrongUse(
            f"{told}, and the checkpoint {folder.name} is {found.quant_method} {found.algo}",
            where=f"cell {arm.id}", next="remove the flag: engines read the method from the checkpoint's config.json",
        )  # fmt: skip


def _contradictions(flags: tuple[str, ...], method: str, algo: str) -> Iterator[str]:
    for flag in given(tuple(word for f in flags for word in _long(f))):
        said = f"--{flag.option} {' '.join(flag.values)}".strip()
        if _is(flag, _QUANTIZES) and flag.values and not _fits(flag.values[-1], method, algo):
            yield f"{said} names another method"
        if _is(flag, _AGAIN):
            yield f"{said} quantizes once more"
        if _is(flag, _REPLACES) and _names_quantization(flag):
            yield f"--{flag.option} replaces its quantization_config"
        if flag.option == "load-format" and flag.values[-1:] == ("dummy",):
            yield f"{said} serves random weights in its place"


def _long(flag: str) -> tuple[str, ...]:
    hit = _SHORT.fullmatch(flag.strip())
    return (flag,) if hit is None else ("--quantization", *(v for v in hit.groups() if v))


def _is(flag: Given, options: tuple[str, ...]) -> bool:
    """By its whole name, or by a beginning that argparse completes."""
    every = (*_QUANTIZES, *_AGAIN, *_REPLACES)
    if flag.option in every or len(flag.option) < 4:
        return flag.option in options
    return any(option.startswith(flag.option) for option in options)


def _fits(word: str, method: str, algo: str) -> bool:
    said, own = _one_spelling(word), _one_spelling(method)
    known = {_one_spelling(m): {_one_spelling(w) for w in words} for m, words in _WORDS.items()}
    if own in known and said not in known[own]:
        return False
    only = next((algos for w, algos in _ALGOS.items() if _one_spelling(w) == said), None)
    return only is None or algo == UNKNOWN or algo.lower().startswith(only)


def _one_spelling(word: str) -> str:
    return word.strip("'\"").lower().replace("-", "_")


def _names_quantization(flag: Given) -> bool:
    return any("quantization" in text for text in (*flag.keys, *flag.values))
