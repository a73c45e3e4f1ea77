"""Padding of experts: the same numbers with zeros around them, read back by the round trip's own dequantization."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from packed import (
    Array,
    bf16,
    fp8_compressed,
    int4_compressed,
    int8_modelopt,
    nvfp4_compressed,
    nvfp4_modelopt,
    octets,
    write,
)

from profile_and_optimize.core.errors import Corrupted, GateRefused, WrongUse
from profile_and_optimize.evidence.modelfolder import weights_sha256
from profile_and_optimize.quant.experts import layouts, unpaddable
from profile_and_optimize.quant.pad import Padded, pad_experts
from profile_and_optimize.quant.pad_check import compare, tensors_in
from profile_and_optimize.quant.pad_plan import planned
from profile_and_optimize.quant.pao_ptq.dequantize import dequantize
from profile_and_optimize.quant.pao_ptq.layouts import held_weight
from profile_and_optimize.quant.pao_ptq.tensors import numbers, read_folder

HIDDEN, INNER, WIDE = 64, 96, 128
STEM = "model.layers.0.mlp.experts.0"
WORDS = {"quantization_config": {"quant_method": "compressed-tensors", "config_groups": {
    "group_0": {"weights": {"num_bits": 4, "group_size": 32, "type": "int"}}}}}  # fmt: skip


def model_in(folder: Path, tensors: dict[str, Array], **config: object) -> Path:
    told = {
        "model_type": "qwen3_moe", "num_experts": 1, "moe_intermediate_size": INNER, "intermediate_size": 256,
        "quantization_config": {"quant_method": "modelopt"},
    } | config  # fmt: skip
    write(folder / "model.safetensors", tensors)
    (folder / "config.json").write_text(json.dumps({k: v for k, v in told.items() if v is not None}))
    (folder / "coverage.json").write_text("{}")
    (folder / "tokenizer.json").write_text("{}")
    return folder


def quiet(line: str) -> None:
    """Says nothing."""


def padded(model: Path, out: Path, tp: int = 2, **options: Any) -> Padded:
    """Unquantized copies are written without comparing answers: the slow tests do that."""
    return pad_experts(model, out, tp, quiet, unchecked=True, **options)


def shapes(inner: int) -> dict[str, tuple[int, int]]:
    return {
        f"{STEM}.gate_proj.weight": (inner, HIDDEN), f"{STEM}.up_proj.weight": (inner, HIDDEN),
        f"{STEM}.down_proj.weight": (HIDDEN, inner),
    }  # fmt: skip


def read(folder: Path, inner: int) -> dict[str, np.ndarray]:
    """Every expert matrix as float32, dequantized where it is quantized."""
    found = read_folder(folder)
    out = {}
    for name, shape in shapes(inner).items():
        held = held_weight(found, name, shape)
        bits = np.concatenate(list(dequantize(held))) if held else found[name].raw().view(np.uint16).reshape(shape)
        out[name] = numbers(bits.reshape(-1).view(np.uint8), "BF16").reshape(shape)
    return out


PACKS = {
    "nvfp4 modelopt": nvfp4_modelopt, "nvfp4 compressed-tensors": nvfp4_compressed, "fp8": fp8_compressed,
    "int8": int8_modelopt, "int4": int4_compressed, "bf16": lambda name, base: {name: base},
}  # fmt: skip


@pytest.mark.parametrize("layout", PACKS)
def test_the_padded_weights_are_the_same_with_zeros_around(tmp_path: Path, layout: str) -> None:
    """96 wide, tensor parallel 2: to 128. Gate and up gain 32 rows of zeros, down 32 columns, and all else is equal."""
    tensors: dict[str, Array] = {"model.norm.weight": bf16((HIDDEN,), 9)}
    for seed, (name, shape) in enumerate(shapes(INNER).items()):
        tensors |= PACKS[layout](name, bf16(shape, seed))
    config = WORDS if layout == "int4" else {}
    made = padded(model_in(tmp_path / "in", tensors, **config), tmp_path / "out")
    assert (made.before, made.after) == (INNER, WIDE)
    before, after = read(tmp_path / "in", INNER), read(tmp_path / "out", WIDE)
    for name, old in before.items():
        new = after[name]
        kept, added = (new[:, :INNER], new[:, INNER:]) if "down" in name else (new[:INNER], new[INNER:])
        assert np.isfinite(new).all() and np.array_equal(kept, old) and not added.any()
    assert read_folder(tmp_path / "out")["model.norm.weight"].raw().tobytes() == tensors["model.norm.weight"][2]
    written = json.loads((tmp_path / "out/config.json").read_text())
    assert (written["moe_intermediate_size"], written["intermediate_size"]) == (WIDE, 256)
    assert (tmp_path / "out/tokenizer.json").exists() and not (tmp_path / "out/coverage.json").exists()


def test_no_scale_of_the_new_blocks_is_zero_or_no_number(tmp_path: Path) -> None:
    tensors: dict[str, Array] = {}
    for seed, (name, shape) in enumerate(shapes(INNER).items()):
        tensors |= nvfp4_modelopt(name, bf16(shape, seed))
    padded(model_in(tmp_path / "in", tensors), tmp_path / "out")
    for name, tensor in read_folder(tmp_path / "out").items():
        if name.endswith("weight_scale"):
            assert np.isfinite(tensor.values()).all() and (tensor.values() > 0).all()


def test_the_answer_of_an_expert_does_not_change(tmp_path: Path) -> None:
    """down(silu(gate x) * (up x)) in float64: bit for bit, since zeros add nothing."""
    tensors: dict[str, Array] = {}
    for seed, (name, shape) in enumerate(shapes(INNER).items()):
        tensors |= nvfp4_modelopt(name, bf16(shape, seed))
    padded(model_in(tmp_path / "in", tensors), tmp_path / "out")
    x = np.random.default_rng(0).normal(size=HIDDEN)

    def answer(w: dict[str, np.ndarray]) -> np.ndarray:
        gate, up, down = (w[f"{STEM}.{p}_proj.weight"].astype(np.float64) for p in ("gate", "up", "down"))
        inner = gate @ x / (1 + np.exp(-np.clip(gate @ x, -50, 50))) * (up @ x)
        return np.array([np.sum(row[row != 0] * inner[row != 0]) for row in down])

    assert np.array_equal(answer(read(tmp_path / "in", INNER)), answer(read(tmp_path / "out", WIDE)))


def test_experts_in_one_bf16_tensor_grow_in_both_halves(tmp_path: Path) -> None:
    """gate_up [1, 192, 64] holds gate's 96 rows and then up's: each half gains its own 32."""
    stem = "model.layers.0.mlp.experts"
    gate_up, down = bf16((1, 2 * INNER, HIDDEN), 1), bf16((1, HIDDEN, INNER), 2)
    tensors: dict[str, Array] = {f"{stem}.gate_up_proj": gate_up, f"{stem}.down_proj": down}
    padded(model_in(tmp_path / "in", tensors), tmp_path / "out")
    after = read_folder(tmp_path / "out")
    old = np.frombuffer(gate_up[2], np.uint16).reshape(2, INNER, HIDDEN)
    new = after[f"{stem}.gate_up_proj"].raw().view(np.uint16).reshape(2, WIDE, HIDDEN)
    assert np.array_equal(new[:, :INNER], old) and not new[:, INNER:].any()
    assert after[f"{stem}.down_proj"].shape == (1, HIDDEN, WIDE)


def plain(inner: int = INNER, stem: str = STEM, seed: int = 1) -> dict[str, Array]:
    return {
        f"{stem}.gate_proj.weight": bf16((inner, HIDDEN), seed), f"{stem}.up_proj.weight": bf16((inner, HIDDEN), seed + 1),
        f"{stem}.down_proj.weight": bf16((HIDDEN, inner), seed + 2),
    }  # fmt: skip


def test_shared_experts_grow_where_they_depend_on_the_same_key_and_dense_layers_do_not(tmp_path: Path) -> None:
    """deepseek_v3 with two shared experts: one matrix of 2 x 96 rows becomes 2 x 128, its new rows at the end."""
    shared, dense = "model.layers.0.mlp.shared_experts", "model.layers.1.mlp"
    tensors = plain() | plain(2 * INNER, shared, 4) | plain(INNER, dense, 7)
    asked = {"model_type": "deepseek_v3", "n_routed_experts": 1, "n_shared_experts": 2, "quantization_config": None}
    padded(model_in(tmp_path / "in", tensors, **asked), tmp_path / "out")
    after = read_folder(tmp_path / "out")
    gate = after[f"{shared}.gate_proj.weight"].raw().view(np.uint16).reshape(2 * WIDE, HIDDEN)
    old = np.frombuffer(tensors[f"{shared}.gate_proj.weight"][2], np.uint16).reshape(2 * INNER, HIDDEN)
    assert np.array_equal(gate[: 2 * INNER], old) and not gate[2 * INNER :].any()
    assert after[f"{shared}.down_proj.weight"].shape == (HIDDEN, 2 * WIDE)
    assert after[f"{dense}.gate_proj.weight"].shape == (INNER, HIDDEN)


def test_shared_experts_with_a_width_of_their_own_stay(tmp_path: Path) -> None:
    shared = "model.layers.0.mlp.shared_expert"
    tensors = plain() | plain(INNER, shared, 4) | {"model.layers.0.mlp.shared_expert_gate.weight": bf16((1, HIDDEN), 9)}
    padded(
        model_in(tmp_path / "in", tensors, model_type="qwen2_moe", shared_expert_intermediate_size=INNER),
        tmp_path / "out",
    )
    assert read_folder(tmp_path / "out")[f"{shared}.gate_proj.weight"].shape == (INNER, HIDDEN)


def test_shared_experts_that_the_config_does_not_count_are_refused_by_name(tmp_path: Path) -> None:
    shared = "model.layers.0.mlp.shared_experts"
    for kind in ("deepseek_v3", "qwen3_moe"):
        model = model_in(tmp_path / kind, plain() | plain(INNER, shared, 4), model_type=kind)
        with pytest.raises(WrongUse, match="config counts none") as told:
            padded(model, tmp_path / "out")
        assert shared in str(told.value.where)


def test_keys_of_a_nested_text_part_are_the_ones_that_count(tmp_path: Path) -> None:
    """The vision tower's intermediate_size beside it, and a key of the same name at the top, stay."""
    text = {"model_type": "qwen3_5_moe_text", "num_experts": 1, "moe_intermediate_size": INNER}
    asked = {
        "model_type": "qwen3_5_moe",
        "text_config": text,
        "vision_config": {"intermediate_size": 48},
        "moe_intermediate_size": 77,
    }
    padded(model_in(tmp_path / "in", plain(), **asked), tmp_path / "out")
    config = json.loads((tmp_path / "out/config.json").read_text())
    assert config["text_config"]["moe_intermediate_size"] == WIDE
    assert config["moe_intermediate_size"] == 77 and config["vision_config"] == {"intermediate_size": 48}


def test_a_zero_of_eight_bits_in_words_is_128(tmp_path: Path) -> None:
    """Four weights a word, stored with an offset of 128; a nibble's 8 would read as 8 x 17 - 128 = 8."""
    tensors: dict[str, Array] = {}
    for seed, (name, shape) in enumerate(shapes(INNER).items()):
        stem, (rows, columns) = name.removesuffix(".weight"), shape
        tensors |= {
            f"{stem}.weight_packed": ("I32", (rows, columns // 4), octets("U8", shape, seed, 0, 256)[2]),
            f"{stem}.weight_scale": ("BF16", (rows, 1), np.full(rows, 0x3C00, np.uint16).tobytes()),
            f"{stem}.weight_shape": ("I64", (2,), np.array(shape, np.int64).tobytes()),
        }
    eight = {"quantization_config": {"config_groups": {"group_0": {"weights": {"num_bits": 8, "group_size": None}}}}}
    made = padded(model_in(tmp_path / "in", tensors, **eight), tmp_path / "out")
    words = read_folder(tmp_path / "out")[f"{STEM}.gate_proj.weight_packed"].raw().view(np.uint8).reshape(WIDE, HIDDEN)
    assert (words[INNER:] == 0x80).all() and made.compared == "bytes"


def test_a_group_that_the_width_cuts_is_refused(tmp_path: Path) -> None:
    """Groups of 128 over 64 columns are one scale; at 128 columns they are one too, and not two."""
    tensors: dict[str, Array] = {}
    for seed, (name, shape) in enumerate(shapes(64).items()):
        tensors |= int4_compressed(name, bf16(shape, seed))
    cut = {"quantization_config": {"config_groups": {"g": {"weights": {"num_bits": 4, "group_size": 128}}}}}
    with pytest.raises(WrongUse, match=r"is not an expert 64 wide \(axis 1, 128 weights") as told:
        padded(model_in(tmp_path / "in", tensors, moe_intermediate_size=64, **cut), tmp_path / "out", 2)
    assert told.value.where.endswith("down_proj.weight_scale") and not (tmp_path / "out.partial").exists()


def test_blocks_of_fp8_grow_by_whole_blocks(tmp_path: Path) -> None:
    """Blocks of 32 x 32: 96 x 64 weights have 3 x 2 scales, at 128 rows 4 x 2."""
    tensors: dict[str, Array] = {}
    for seed, (name, shape) in enumerate(shapes(INNER).items()):
        blocks = shape[0] // 32, shape[1] // 32
        scales = ("F32", blocks, np.full(blocks, 0.01, np.float32).tobytes())
        tensors |= {name: octets("F8_E4M3", shape, seed), f"{name}_scale_inv": scales}
    asked = {"quantization_config": {"quant_method": "fp8", "weight_block_size": [32, 32]}}
    padded(model_in(tmp_path / "in", tensors, **asked), tmp_path / "out")
    after = read_folder(tmp_path / "out")
    assert after[f"{STEM}.gate_proj.weight_scale_inv"].shape == (4, 2)
    assert after[f"{STEM}.down_proj.weight_scale_inv"].shape == (2, 4)


def test_the_record_speaks_of_the_weights_that_were_compared(tmp_path: Path) -> None:
    model = model_in(tmp_path / "in", plain(), quantization_config=None)
    assert padded(model, tmp_path / "out").compared == "UNKNOWN"
    told = json.loads((tmp_path / "out/padding.json").read_text())
    assert (told["compared"], told["answers"], told["tensors"]) == ("UNKNOWN", "UNKNOWN", {"equal": 0, "grown": 3})
    assert (told["width_before"], told["width"], told["key"]) == (INNER, WIDE, "moe_intermediate_size")
    assert told["weights_sha256"] == weights_sha256(tmp_path / "out")
    assert told["config_sha256"] == hashlib.sha256((tmp_path / "out/config.json").read_bytes()).hexdigest()
    assert told["source"]["files_sha256"] == {
        "model.safetensors": hashlib.sha256((model / "model.safetensors").read_bytes()).hexdigest()
    }
    assert not (tmp_path / "out.partial").exists()


def test_without_an_environment_to_compare_in_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PAO_TOOLS_DIR", str(tmp_path / "no tools"))
    model = model_in(tmp_path / "in", plain(), quantization_config=None)
    with pytest.raises(WrongUse, match="in which the answers are compared, is not installed"):
        pad_experts(model, tmp_path / "out", 2, quiet)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in"]


FAULTS = {
    "one kept code": ("up_proj.weight", 0, "not the source's"),
    "one new code": ("up_proj.weight", -1, "not zero once dequantized"),
    "one kept scale": ("down_proj.weight_scale", 0, "not the source's"),
    "a norm": ("norm.weight", 0, "not the source's"),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_a_copy_that_is_not_the_source_with_zeros_around_is_refused_by_name(tmp_path: Path, fault: str) -> None:
    tensors: dict[str, Array] = {"model.norm.weight": bf16((HIDDEN,), 9)}
    for seed, (name, shape) in enumerate(shapes(INNER).items()):
        tensors |= nvfp4_modelopt(name, bf16(shape, seed))
    plan = planned(model_in(tmp_path / "in", tensors), 2)
    padded(tmp_path / "in", tmp_path / "out")
    file, (end, at, why) = tmp_path / "out/model.safetensors", FAULTS[fault]
    found = tensors_in({"": file})
    name = next(n for n in found if n.endswith(end))
    data = bytearray(file.read_bytes())
    data[found[name].at + at % found[name].data.nbytes] ^= 0x11
    file.write_bytes(data)
    with pytest.raises(GateRefused, match=why) as told:
        compare(plan.tensors, tensors_in({"": file}), plan.stored)
    assert told.value.where == name


@pytest.mark.parametrize("code", [0x7F, 0x00, 0x88])
def test_a_new_scale_that_is_no_number_above_zero_is_refused(tmp_path: Path, code: int) -> None:
    tensors: dict[str, Array] = {}
    for seed, (name, shape) in enumerate(shapes(INNER).items()):
        tensors |= nvfp4_modelopt(name, bf16(shape, seed))
    plan = planned(model_in(tmp_path / "in", tensors), 2)
    padded(tmp_path / "in", tmp_path / "out")
    file = tmp_path / "out/model.safetensors"
    scale = tensors_in({"": file})[f"{STEM}.gate_proj.weight_scale"]
    data = bytearray(file.read_bytes())
    data[scale.at + scale.data.nbytes - 1] = code
    file.write_bytes(data)
    with pytest.raises(GateRefused, match="not a number above 0"):
        compare(plan.tensors, tensors_in({"": file}), plan.stored)


def test_only_the_files_that_the_index_names_are_the_model(tmp_path: Path) -> None:
    model = model_in(tmp_path / "in", plain())
    write(model / "consolidated.safetensors", plain(INNER, STEM, 30))
    index = model / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": dict.fromkeys(plain(), "model.safetensors")}))
    padded(model, tmp_path / "out")
    assert not (tmp_path / "out/consolidated.safetensors").exists()
    told = json.loads((tmp_path / "out/model.safetensors.index.json").read_text())
    assert told["metadata"]["total_size"] == 3 * WIDE * HIDDEN * 2
    index.write_text(json.dumps({"weight_map": {"a": "model-2.safetensors"}}))
    with pytest.raises(WrongUse, match=r"names model-2\.safetensors, which is not there"):
        padded(model, tmp_path / "again")


def test_what_cannot_be_padded_is_refused_and_nothing_is_left(tmp_path: Path) -> None:
    model = model_in(tmp_path / "in", plain())
    for why, config in {
        "a multiple of 64 x 1 already": {"moe_intermediate_size": 128}, "has no experts": {"num_experts": None},
        "model type zzz lie is not known": {"model_type": "zzz"}, "rows of gate and up alternate": {"model_type": "gpt_oss"},
        "two widths": {"model_type": "ernie4_5_vl_moe"}, r"is \[96, 32\]": {"moe_intermediate_size": [96, 32]},
        "is None": {"moe_intermediate_size": None}, "is True": {"moe_intermediate_size": True},
        r"is not an expert 48 wide": {"moe_intermediate_size": 48},
    }.items():  # fmt: skip
        with pytest.raises(WrongUse, match=why):
            padded(model_in(tmp_path / "odd", plain(), **config), tmp_path / "out", 1)  # type: ignore[arg-type]
    (tmp_path / "taken").mkdir()
    with pytest.raises(WrongUse, match="is there already"):
        padded(model, tmp_path / "taken")
    for inside in (model / "out", tmp_path / "in"):
        with pytest.raises(WrongUse, match=r"contain one another|is there already"):
            padded(model, inside)
    with pytest.raises(Corrupted, match="ends before tensor"):
        padded(_short(tmp_path), tmp_path / "out")
    assert not (tmp_path / "out").exists() and not (tmp_path / "out.partial").exists()


def _short(folder: Path) -> Path:
    model = model_in(folder / "short", plain())
    file = model / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-2])
    return model


def test_a_folder_of_somebody_else_under_the_name_of_the_work_is_not_cleared(tmp_path: Path) -> None:
    model = model_in(tmp_path / "out.partial", plain())
    with pytest.raises(WrongUse, match="contain one another"):
        padded(model, tmp_path / "out")
    model.rename(tmp_path / "in")
    (tmp_path / "out.partial").mkdir()
    (tmp_path / "out.partial/mine.txt").write_text("kept")
    with pytest.raises(WrongUse, match="was not left by this verb"):
        padded(tmp_path / "in", tmp_path / "out")
    assert (tmp_path / "out.partial/mine.txt").read_text() == "kept"


@pytest.mark.parametrize(
    "name",
    [
        "experts.0.gate_up_proj.weight",
        "experts.fc1.weight",
        "experts.0.down_proj.weight_zero_point",
        "experts.gate_up_proj_scale",
    ],
)
def test_an_experts_tensor_of_another_layout_is_refused_by_name(tmp_path: Path, name: str) -> None:
    odd = {f"model.layers.0.mlp.{name}": bf16((INNER, HIDDEN), 5)}
    with pytest.raises(WrongUse) as told:
        padded(model_in(tmp_path / "in", plain() | odd), tmp_path / "out")
    assert told.value.where == f"model.layers.0.mlp.{name}"


def test_stacked_experts_of_square_sizes_are_padded_only_where_the_layout_is_known(tmp_path: Path) -> None:
    """hidden 192 = 2 x 96: llama4 stacks in columns, by its code; of qwen3_vl_moe it cannot be seen."""
    stem = "model.layers.0.feed_forward.experts"
    tensors = {f"{stem}.gate_up_proj": bf16((1, 192, 192), 1), f"{stem}.down_proj": bf16((1, INNER, 192), 2)}
    llama = {"model_type": "llama4_text", "num_local_experts": 1, "intermediate_size": INNER}
    padded(model_in(tmp_path / "in", tensors, **llama), tmp_path / "out")
    assert read_folder(tmp_path / "out")[f"{stem}.gate_up_proj"].shape == (1, 192, 2 * WIDE)
    with pytest.raises(WrongUse, match="does not show which axis"):
        padded(model_in(tmp_path / "vl", tensors, model_type="qwen3_vl_moe"), tmp_path / "other")


def test_every_row_of_the_table_is_padded_or_refused_with_a_reason() -> None:
    counts = {"num_experts": 4, "moe_intermediate_size": INNER, "intermediate_size": INNER}
    for kind, layout in layouts().items():
        assert (unpaddable({"model_type": kind} | counts) or "").endswith(layout.refused)
    assert unpaddable({"model_type": "qwen3"}) == "has no experts"
