"""The format of a checkpoint is read from its own config, and what cannot be read is unknown."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from profile_and_optimize.engines.formats import FORMATS, format_of


def group(kind: str, bits: int, size: int | None = None, inputs: int | None = None) -> dict[str, Any]:
    activations = {"num_bits": inputs, "type": kind} if inputs else None
    return {"weights": {"type": kind, "num_bits": bits, "group_size": size}, "input_activations": activations}


def compressed(*groups: dict[str, Any]) -> dict[str, Any]:
    return {"quant_method": "compressed-tensors", "config_groups": {f"g{i}": g for i, g in enumerate(groups)}}


@pytest.mark.parametrize(("quantized", "form"), [
    ({"quant_method": "modelopt", "quant_algo": "NVFP4"}, "nvfp4"),
    ({"quant_method": "modelopt", "quant_algo": "W4A16_NVFP4"}, "w4a16_nvfp4"),
    ({"quant_method": "modelopt_fp4", "quant_algo": "nvfp4"}, "nvfp4"), ({"quant_method": "modelopt", "quant_algo": "FP8"}, "fp8"),
    ({"quant_method": "modelopt", "quant_algo": "MIXED_PRECISION"}, "mixed"),
    ({"quant_method": "modelopt", "quant_algo": "NEW"}, "unknown"),
    (compressed(group("float", 4, 16, 4)), "nvfp4"), (compressed(group("float", 4, 16)), "w4a16_nvfp4"),
    (compressed(group("float", 4, 32, 4)), "mxfp4"), (compressed(group("float", 8, None, 8)), "fp8"),
    (compressed(group("float", 8, 32, 8)), "mxfp8"), (compressed(group("int", 8, None, 8)), "int8"), (compressed(group("int", 8)), "w8a16"),
    (compressed(group("int", 4, 128)), "w4a16"), (compressed(group("int", 4, 128, 8)), "unknown"),
    (compressed(group("int", 4, 128), group("float", 8, None, 8)), "mixed"), (compressed(), "unknown"),
    ({"quant_method": "gptq", "bits": 4}, "w4a16"), ({"quant_method": "gptq", "bits": 2}, "unknown"), ({"quant_method": "fp8"}, "fp8"),
    ({"quant_method": "strange"}, "unknown"), ([1], "unknown"), ({"quant_method": "compressed-tensors"}, "unknown"),
])  # fmt: skip
def test_what_a_config_says(quantized: Any, form: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"quantization_config": quantized}))
    assert format_of(str(tmp_path)) == form and form in FORMATS
    (tmp_path / "config.json").write_text(json.dumps({"text_config": {"quantization_config": quantized}}))
    assert format_of(str(tmp_path)) == form


def test_without_a_config_it_is_unknown_and_without_a_word_of_it_there_is_none(tmp_path: Path) -> None:
    assert format_of(str(tmp_path)) == "unknown" == format_of("owner/name")
    (tmp_path / "config.json").write_text("{}")
    assert format_of(str(tmp_path)) == "none"
    (tmp_path / "hf_quant_config.json").write_text('{"quantization": {"quant_algo": "NVFP4"}}')
    assert format_of(str(tmp_path)) == "nvfp4"
    (tmp_path / "config.json").write_text("not json")
    assert format_of(str(tmp_path)) == "unknown"
