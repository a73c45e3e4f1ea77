"""Flags that speak of another quantization than the checkpoint's own are refused by arm and flag before anything starts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from profile_and_optimize.core.cell import Arm, Role
from profile_and_optimize.core.errors import WrongUse
from profile_and_optimize.quant.served_as import require_agreeing

METHODS = {
    "nvfp4": {"quant_method": "modelopt", "quant_algo": "NVFP4"},
    "int8": {"quant_method": "compressed-tensors", "format": "int-quantized"},
    "gptq": {"quant_method": "gptq", "bits": 4},
    "strange": {"quant_method": "somebody's"},
    "untold": {"quant_method": "modelopt"},
    "naive": {"quant_method": "compressed-tensors", "format": "naive-quantized"},
    "none": None,
}


def arm(folder: Path, kind: str, *flags: str) -> Arm:
    there = folder / kind
    there.mkdir()
    part = METHODS[kind]
    (there / "config.json").write_text(json.dumps({"quantization_config": part} if part else {}))
    return Arm("both", "vllm", Role.CANDIDATE, flags, checkpoint=str(there))


@pytest.mark.parametrize(
    ("kind", "flags", "named"),
    [
        ("nvfp4", ("--quantization", "fp8"), "--quantization fp8 names another method"),
        ("nvfp4", ("--quantization=modelopt_fp8",), "modelopt_fp8 names another method"),
        ("nvfp4", ("-q", "awq"), "--quantization awq"),
        ("nvfp4", ("-qawq",), "--quantization awq"),
        ("nvfp4", ("--quant", "awq"), "quantization-config awq quantizes once more"),
        ("nvfp4", ("--Quantization", "AWQ"), "AWQ names another"),
        ("int8", ("--quantization", "w8a8_fp8"), "w8a8_fp8 names another"),
        ("int8", ("--torchao-config", "int4wo-128"), "quantizes once more"),
        ("int8", ("--modelopt_quant", "fp8"), "quantizes once more"),
        ("int8", ("--hf-overrides", '{"quantization_config": {}}'), "replaces its quantization_config"),
        ("int8", ("--hf-overrides.quantization_config.quant_method", "fp8"), "replaces its quantization_config"),
        ("gptq", ("--json-model-override-args", '{"quantization_config": null}'), "replaces"),
        ("untold", ("-q=fp8",), "fp8 names another"),
        ("gptq", ("--load-format", "dummy"), "random weights"),
        ("gptq", ("--enforce-eager", "--quantization", "compressed-tensors"), "compressed-tensors names another"),
    ],
)
def test_a_contradiction_is_refused_by_arm_and_flag(
    tmp_path: Path, kind: str, flags: tuple[str, ...], named: str
) -> None:
    with pytest.raises(WrongUse, match=named) as e:
        require_agreeing(arm(tmp_path, kind, *flags))
    assert e.value.where == "cell both" and kind in e.value.message


@pytest.mark.parametrize(
    ("kind", "flags"),
    [
        ("nvfp4", ("--quantization", "modelopt")),
        ("nvfp4", ("--quantization", "modelopt_fp4")),
        ("int8", ("--quantization", "compressed_tensors")),
        ("int8", ("--quantization", "w8a8_int8")),
        ("int8", ("--enforce-eager", "--kv-cache-dtype", "fp8", "--quantization-param-path", "x.json")),
        ("int8", ("--speculative-draft-model-quantization", "fp8")),
        ("int8", ("--hf-overrides", '{"max_position_embeddings": 64}')),
        ("gptq", ("-q", "gptq_marlin")),
        ("untold", ("--quantization", "modelopt_fp4")),  # its algorithm is unknown
        ("naive", ("--quantization", "w8a8_int8")),
        ("strange", ("--quantization", "fp8")),  # only the engine knows
        ("none", ("--quantization", "fp8")),  # quantized while it is loaded: a lever
    ],
)
def test_what_agrees_or_says_nothing_of_it_goes_through(tmp_path: Path, kind: str, flags: tuple[str, ...]) -> None:
    require_agreeing(arm(tmp_path, kind, *flags))


def test_the_quantization_of_a_text_part_counts(tmp_path: Path) -> None:
    made = arm(tmp_path, "none", "--quantization", "fp8")
    config = {"text_config": {"quantization_config": METHODS["int8"]}}
    (Path(made.checkpoint) / "config.json").write_text(json.dumps(config))
    with pytest.raises(WrongUse, match="fp8 names another"):
        require_agreeing(made)


def test_flags_of_all_arms_count_and_a_checkpoint_to_be_made_is_judged_later(tmp_path: Path) -> None:
    with pytest.raises(WrongUse, match="fp8 names another"):
        require_agreeing(arm(tmp_path, "nvfp4"), ("--quantization", "fp8"))
    require_agreeing(
        Arm("both", "vllm", Role.CANDIDATE, ("--quantization", "fp8"), checkpoint=str(tmp_path / "not yet"))
    )
