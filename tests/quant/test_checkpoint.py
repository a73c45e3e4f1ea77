"""What a checkpoint folder says of itself."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from small import write_base

from profile_and_optimize.core.errors import Corrupted, WrongUse
from profile_and_optimize.quant.checkpoint import read_checkpoint
from profile_and_optimize.quant.pao_ptq.speaks import files_told


def made(folder: Path, **files: Any) -> Path:
    write_base(folder, quantization_config={"quant_method": "modelopt", "quant_algo": "NVFP4", "ignore": ["lm_head"]})
    records = {
        "quantize": {"job": {"job_digest": "d1", "base_digest": "sha256:b"}, "base_digest": "sha256:b"},
        "coverage": {"passed": True, "bits_per_weight": 4.5},
        "roundtrip": {"passed": True, "kl_base": {"reloaded": 0.004}, "top1_base": {"reloaded": 0.98}},
    }  # fmt: skip
    for name, value in (records | files).items():
        (folder / f"{name}.json").write_text(json.dumps(value))
    told = records["coverage"] | files.get("coverage", {}) if files.get("coverage") != {} else {}
    (folder / "coverage.json").write_text(json.dumps({"files": files_told(folder)} | told))
    return folder


def cut(file: Path) -> None:
    os.truncate(file, file.stat().st_size - 5)


AFTERWARDS: dict[str, tuple[Callable[[Path], object], str]] = {
    "weights cut short": (lambda f: cut(f / "model.safetensors"), "model.safetensors: not the bytes"),
    "weights gone": (lambda f: (f / "model.safetensors").unlink(), "model.safetensors: not there any more"),
    "a bit of the weights": (
        lambda f: (f / "model.safetensors").write_bytes(bytes([*(f / "model.safetensors").read_bytes()[:-1], 1])), "not the bytes",
    ),
    "config.json edited": (lambda f: (f / "config.json").write_text((f / "config.json").read_text() + " "), "config.json: not the"),
    "another tokenizer": (lambda f: (f / "tokenizer.json").write_text("{}"), "tokenizer.json: not the bytes"),
    "another shard beside": (lambda f: (f / "model-2.safetensors").write_bytes(b"x"), "model-2.safetensors: was not there"),
    "a template in a folder": (lambda f: put(f / "chat_templates/a.jinja"), "chat_templates/a.jinja: was not there"),
    "a record edited": (lambda f: (f / "roundtrip.json").write_text('{"passed": true}'), "roundtrip.json: not the bytes"),
}  # fmt: skip


def put(file: Path) -> None:
    file.parent.mkdir()
    file.write_text("{}")


@pytest.mark.parametrize("what", AFTERWARDS)
def test_what_was_changed_after_its_checks_is_not_proven_and_named(tmp_path: Path, what: str) -> None:
    folder = made(tmp_path / "c")
    assert read_checkpoint(folder).proven
    change, says = AFTERWARDS[what]
    change(folder)
    found = read_checkpoint(folder)
    assert not found.proven and says in found.not_proven_words


def test_a_record_that_does_not_say_which_files_it_saw_proves_nothing(tmp_path: Path) -> None:
    folder = made(tmp_path / "c")
    (folder / "coverage.json").write_text('{"passed": true}')
    found = read_checkpoint(folder)
    assert found.changed is None and not found.proven and "no coverage.json with the files" in found.not_proven_words


def test_one_of_ours_carries_its_proof(tmp_path: Path) -> None:
    found = read_checkpoint(made(tmp_path / "c"))
    assert (found.quant_method, found.algo, found.excludes) == ("modelopt", "NVFP4", ("lm_head",))
    assert (found.base_digest, found.job_digest, found.kl, found.top1) == ("sha256:b", "d1", 0.004, 0.98)
    assert (
        found.proven
        and found.bits_per_weight == 4.5
        and found.bytes == (tmp_path / "c/model.safetensors").stat().st_size
    )
    assert found.to_json()["folder"] == str(tmp_path / "c")


@pytest.mark.parametrize("record", ["coverage", "roundtrip"])
@pytest.mark.parametrize("told", [{"passed": False}, {"passed": None}, {}, {"passed": 1}])
def test_without_both_records_passed_it_is_not_proven(tmp_path: Path, record: str, told: dict[str, Any]) -> None:
    assert not read_checkpoint(made(tmp_path / "c", **{record: told})).proven


def test_a_vendors_has_no_records_of_ours(tmp_path: Path) -> None:
    folder = write_base(tmp_path / "v")
    (folder / "hf_quant_config.json").write_text(
        json.dumps(
            {"producer": {"name": "modelopt"}, "quantization": {"quant_algo": "FP8", "exclude_modules": ["lm_head"]}}
        )
    )
    found = read_checkpoint(folder)
    assert (found.quant_method, found.algo, found.excludes) == ("modelopt", "FP8", ("lm_head",))
    assert found.base_digest == found.job_digest == "unknown"
    assert found.coverage is None and found.roundtrip is None and found.kl is None and not found.ours


def test_compressed_tensors_says_its_format(tmp_path: Path) -> None:
    quantization = {"quant_method": "compressed-tensors", "format": "int-quantized", "ignore": ["lm_head"]}
    found = read_checkpoint(write_base(tmp_path / "c", quantization_config=quantization))
    assert (found.quant_method, found.algo) == ("compressed-tensors", "int-quantized")


def test_a_base_is_not_quantized(tmp_path: Path) -> None:
    assert read_checkpoint(write_base(tmp_path / "b")).quant_method is None


def test_a_config_with_infinity_is_read(tmp_path: Path) -> None:
    """Hybrid models have limits that are infinite."""
    folder = write_base(tmp_path / "b")
    (folder / "config.json").write_text('{"model_type": "nemotron_h", "time_step_limit": [0.0, Infinity]}')
    assert read_checkpoint(folder).model_type == "nemotron_h"


def test_what_is_half_made_is_no_checkpoint(tmp_path: Path) -> None:
    folder = made(tmp_path / "c")
    (folder / "NOT_A_CHECKPOINT.txt").write_text("half")
    with pytest.raises(WrongUse, match="half made"):
        read_checkpoint(folder)
    with pytest.raises(WrongUse, match="half made"):
        read_checkpoint(made(tmp_path / "out.partial"))


def test_an_empty_folder_and_a_broken_record_are_named(tmp_path: Path) -> None:
    with pytest.raises(WrongUse, match=r"no config\.json"):
        read_checkpoint(tmp_path)
    folder = made(tmp_path / "c")
    (folder / "coverage.json").write_text('{"passed": true, "passed": false}')
    with pytest.raises(Corrupted, match="stands twice"):
        read_checkpoint(folder)
