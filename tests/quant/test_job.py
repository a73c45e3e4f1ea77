"""A job: checked before anything is loaded, one digest for one result."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from small import safetensors, small_job, write_base

from profile_and_optimize.core.errors import Corrupted, WrongUse
from profile_and_optimize.quant.job import Calibration, Heldout, base_bytes, job_bytes, new_job, read_job
from profile_and_optimize.quant.vendor import as_pattern, vendor_scope

TEXT = Calibration("builtin", None, None, 4, 64)


def asked(base: Path, **differs: Any) -> Any:
    return new_job(
        base, base.parent / "out", **({"backend": "modelopt", "target": "nvfp4", "calibration": TEXT} | differs)
    )


def test_a_job_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    job = small_job(tmp_path, exclude=["*o_proj"])
    (tmp_path / "job.json").write_bytes(job_bytes(job))
    assert read_job(tmp_path / "job.json") == job
    assert job.exclude == ("lm_head", "*o_proj")
    assert job.base_digest.startswith("sha256:")


def test_a_job_file_that_was_changed_is_found(tmp_path: Path) -> None:
    told = small_job(tmp_path).to_json()
    (tmp_path / "job.json").write_text(json.dumps(told | {"target": "fp8"}))
    with pytest.raises(Corrupted, match="its digest differs from that of its content"):
        read_job(tmp_path / "job.json")


def test_a_job_of_the_release_before_is_named_as_one(tmp_path: Path) -> None:
    """It had no `worker_sha256`: which code made a checkpoint of it is not known."""
    told = {k: v for k, v in small_job(tmp_path).to_json().items() if k != "worker_sha256"} | {"schema": 1}
    (tmp_path / "job.json").write_text(json.dumps(told))
    with pytest.raises(WrongUse, match="a job of schema 1, and this release reads 2"):
        read_job(tmp_path / "job.json")


def test_the_digest_follows_the_result_and_not_where_things_lie(tmp_path: Path) -> None:
    job = small_job(tmp_path)
    moved = Path(shutil.copytree(tmp_path / "base", tmp_path / "elsewhere" / "base"))
    assert asked(moved, heldout=Heldout(2, 32), calibration=job.calibration).digest == job.digest
    assert replace(job, threads=8).digest == job.digest
    others = [
        replace(job, target="fp8"), replace(job, seed=1), replace(job, exclude=("lm_head", "*.up_proj")),
        replace(job, calibration=replace(TEXT, samples=5)), replace(job, heldout=Heldout(3, 32)), replace(job, base_digest="sha256:0"),
    ]  # fmt: skip
    assert len({job.digest, *(o.digest for o in others)}) == 1 + len(others)


@pytest.mark.parametrize(
    ("config", "says", "then"),
    [
        ({"quantization_config": {"quant_method": "fp8"}}, "quantized already \\(fp8\\)", "the bf16 base"),
        (
            {"text_config": {"quantization_config": {"quant_method": "mxfp4"}}},
            "quantized already \\(mxfp4\\)",
            "the bf16 base",
        ),
        ({"architectures": None}, "names no architectures", "architectures"),
        ({"architectures": "LlamaForCausalLM"}, "names no architectures", "architectures"),
        ({"text_config": ["a"]}, "text_config is not an object", "fetch the model again"),
        ({"quantization_config": ["a"]}, "quantized already", "the bf16 base"),
        ({"model_type": None}, "names no model_type", "layout"),
        ({"auto_map": {"AutoConfig": "x.Y"}}, "brings its own Python code", "--trust-remote-code"),
        ({"num_experts": 8, "model_type": "brand_new"}, "8 experts and no entry", "families.toml"),
        ({"max_position_embeddings": 32}, "the model takes 32 tokens at most", "--seq-len 32"),
    ],
)
def test_a_base_that_cannot_be_quantized_is_refused_with_the_reason(
    tmp_path: Path, config: dict[str, Any], says: str, then: str
) -> None:
    base = write_base(tmp_path / "base", **config)
    with pytest.raises(WrongUse, match=says) as e:
        asked(base)
    assert then in e.value.next
    assert [p.name for p in tmp_path.iterdir()] == ["base"]


def test_weights_are_the_files_that_the_index_names(tmp_path: Path) -> None:
    """A second set beside them is counted nowhere; one that loaders would take instead, or a missing shard, is refused."""
    base = write_base(tmp_path / "base")
    shard = base / "model-00001-of-00001.safetensors"
    (base / "model.safetensors").rename(shard)
    (base / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"lm_head.weight": shard.name}}))
    (base / "consolidated.safetensors").write_bytes(bytes(1000))
    assert asked(base).base == base and base_bytes(base) == shard.stat().st_size
    (base / "model.safetensors").write_bytes(bytes(1000))
    with pytest.raises(WrongUse, match="two sets of weights"):
        asked(base)
    (base / "model.safetensors").unlink()
    shard.unlink()
    with pytest.raises(WrongUse, match="named by the index and not there"):
        asked(base)
    for name in ("pytorch_model.bin", "../other.safetensors", 7):
        (base / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"lm_head.weight": name}}))
        with pytest.raises(WrongUse, match=r"names of \.safetensors files"):
            asked(base)


def test_a_vendors_export_is_quantized_already_even_where_its_config_is_silent(tmp_path: Path) -> None:
    base = write_base(tmp_path / "base")
    (base / "hf_quant_config.json").write_text("{}")
    with pytest.raises(WrongUse, match="quantized already \\(modelopt"):
        asked(base)


@pytest.mark.parametrize(
    ("missing", "says"),
    [
        ("tokenizer.json", "no tokenizer"),
        ("model.safetensors", "neither model.safetensors nor model.safetensors.index.json"),
    ],
)
def test_a_folder_that_lacks_a_part_is_refused(tmp_path: Path, missing: str, says: str) -> None:
    base = write_base(tmp_path / "base")
    (base / missing).unlink()
    with pytest.raises(WrongUse, match=says):
        asked(base)


def test_what_is_no_folder_is_not_looked_up_elsewhere(tmp_path: Path) -> None:
    with pytest.raises(WrongUse, match="does not exist"):
        asked(tmp_path / "owner" / "name")


def test_rows_that_the_groups_do_not_divide_are_refused_where_they_are_in_scope(tmp_path: Path) -> None:
    """llama with an intermediate size of 192: rows of 128 everywhere but in down_proj. Tables and norms have no groups."""
    base = write_base(tmp_path / "base", intermediate_size=192)
    shapes = {
        "model.embed_tokens.weight": (8, 100), "model.layers.0.mlp.up_proj.weight": (192, 128),
        "model.layers.0.mlp.down_proj.weight": (128, 192), "model.layers.0.mlp.gate.weight": (4, 100), "model.norm.weight": (100,),
    }  # fmt: skip
    (base / "model.safetensors").write_bytes(safetensors(shapes))
    w4a16 = {"backend": "llm-compressor", "target": "w4a16"}
    assert asked(base, target="nvfp4").target == "nvfp4"
    with pytest.raises(
        WrongUse, match=r"layers\.0\.mlp\.down_proj\.weight \[128, 192\]: .* not a multiple of 128"
    ) as e:
        asked(base, **w4a16)
    assert "--exclude-pattern '*down_proj'" in e.value.next
    assert asked(base, **w4a16, exclude=["*down_proj"]).target == "w4a16"


def test_stacks_of_experts_are_judged_by_both_of_their_sides(tmp_path: Path) -> None:
    """As the experts are taken apart, either side may be the rows; Granite's files call them input_linear and output_linear."""
    base = write_base(tmp_path / "base")
    for name in ("mlp.experts.gate_up_proj", "block_sparse_moe.input_linear.weight"):
        (base / "model.safetensors").write_bytes(safetensors({f"model.layers.0.{name}": (2, 40, 16)}))
        with pytest.raises(WrongUse, match="not a multiple of 16"):
            asked(base)
        assert asked(base, exclude=["*experts"]).target == "nvfp4"


def test_the_result_may_not_lie_in_the_base(tmp_path: Path) -> None:
    base = write_base(tmp_path / "base")
    for out in (base, base / "out", tmp_path):
        with pytest.raises(WrongUse, match="must not contain one another"):
            new_job(base, out, backend="modelopt", target="nvfp4", calibration=TEXT)


@pytest.mark.parametrize(
    "differs",
    [
        {"exclude": ["a\x00b"]},
        {"exclude": ["-x"]},
        {"device": "tpu"},
        {"threads": 0},
        {"target": "int3"},
        {"backend": "x"},
    ],
)
def test_what_cannot_be_asked_is_refused(tmp_path: Path, differs: dict[str, Any]) -> None:
    with pytest.raises(WrongUse):
        small_job(tmp_path, **differs)


@pytest.mark.parametrize(("samples", "seq_len"), [(0, 2048), (512, 7), (10**6, 2048)])
def test_calibration_of_nothing_is_refused(samples: int, seq_len: int) -> None:
    with pytest.raises(WrongUse, match="samples of"):
        Calibration("builtin", None, None, samples, seq_len)


# ---- a vendor's own list


def vendor(folder: Path, **files: Any) -> Path:
    folder.mkdir()
    for name, value in files.items():
        (folder / f"{name}.json").write_text(json.dumps(value))
    return folder


def test_a_vendors_list_takes_the_place_of_the_familys(tmp_path: Path) -> None:
    folder = vendor(
        tmp_path / "v",
        hf_quant_config={"quantization": {"quant_algo": "NVFP4", "exclude_modules": ["lm_head", "model.layers.0*"]}},
    )
    scope = vendor_scope(folder)
    assert scope.exclude == ("lm_head", "model.layers.0*") and scope.faulty == ()
    base = write_base(tmp_path / "base")
    job = asked(base, vendor_exclude=scope.exclude, exclude=["*down_proj"])
    assert job.exclude == ("lm_head", "model.layers.0*", "*down_proj")


def test_an_entry_with_a_control_character_names_nothing_and_is_told(tmp_path: Path) -> None:
    folder = vendor(
        tmp_path / "v", hf_quant_config={"quantization": {"exclude_modules": ["lm_head", "lm_head.\x00backbone.x"]}}
    )
    assert vendor_scope(folder).exclude == ("lm_head",)
    assert vendor_scope(folder).faulty == ("lm_head.\x00backbone.x",)


def test_a_compressed_tensors_list_is_taken_as_well(tmp_path: Path) -> None:
    quantization = {"quant_method": "compressed-tensors", "ignore": ["lm_head", "re:.*mlp\\.gate$", "re:^visual.*"]}
    folder = vendor(tmp_path / "v", config={"model_type": "llama", "quantization_config": quantization})
    assert vendor_scope(folder).exclude == ("lm_head", "*mlp.gate", "visual*")


@pytest.mark.parametrize(
    ("entry", "pattern"),
    [
        ("re:.*lm_head", "*lm_head*"),
        ("re:model\\.layers\\.\\d+\\.mlp\\.gate$", "model.layers.*.mlp.gate"),
        ("lm_head", "lm_head"),
    ],
)
def test_an_expression_becomes_a_pattern(entry: str, pattern: str) -> None:
    assert as_pattern(entry, Path("v")) == pattern


def test_an_expression_that_no_pattern_can_say_is_refused() -> None:
    with pytest.raises(WrongUse, match="has no equal among shell patterns"):
        as_pattern("re:model\\.layers\\.(0|1)\\.mlp", Path("v"))


def test_a_folder_that_is_not_quantized_is_no_vendors(tmp_path: Path) -> None:
    with pytest.raises(WrongUse, match="is not a quantized checkpoint"):
        vendor_scope(write_base(tmp_path / "base"))
