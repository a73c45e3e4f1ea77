"""Padding of experts: the same numbers with zeros around them, read back by the round trip's own dequantization."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from packed import Array, bf16, fp8_compressed, int4_compressed, int8_modelopt, nvfp4_compressed, nvfp4_modelopt, write

from profile_and_optimize.core.errors import WrongUse
from profile_and_optimize.quant.pad import aligned, pad_experts
from profile_and_optimize.quant.pao_ptq.dequantize import dequantize
from profile_and_optimize.quant.pao_ptq.layouts import held_weight
from profile_and_optimize.quant.pao_ptq.tensors import numbers, read_folder

HIDDEN, INNER, WIDE = 64, 96, 128
STEM = "model.layers.0.mlp.experts.0"


def model_in(folder: Path, tensors: dict[str, Array], **config: object) -> Path:
    told = {"num_experts": 1, "moe_intermediate_size": INNER, "intermediate_size": 256} | config
    write(folder / "model.safetensors", tensors)
    (folder / "config.json").write_text(json.dumps({k: v for k, v in told.items() if v is not None}))
    (folder / "coverage.json").write_text("{}")
    (folder / "tokenizer.json").write_text("{}")
    return folder


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
    "int8": int8_modelopt, "int4": int4_compressed, "bf16": lambda name, shape, seed: {name: bf16(shape, seed)},
}  # fmt: skip


@pytest.mark.parametrize("layout", PACKS)
def test_the_padded_weights_are_the_same_with_zeros_around(tmp_path: Path, layout: str) -> None:
    """96 wide, tensor parallel 2: to 128. Gate and up gain 32 rows of zeros, down 32 columns, and all else is equal."""
    tensors: dict[str, Array] = {"model.norm.weight": bf16((HIDDEN,), 9)}
    for seed, (name, shape) in enumerate(shapes(INNER).items()):
        tensors |= PACKS[layout](name, shape, seed)
    made = pad_experts(model_in(tmp_path / "in", tensors), tmp_path / "out", 2, lambda line: None)
    assert (made.before, made.after) == (INNER, WIDE)
    before, after = read(tmp_path / "in", INNER), read(tmp_path / "out", WIDE)
    for name, old in before.items():
        new = after[name]
        kept, added = (new[:, :INNER], new[:, INNER:]) if "down" in name else (new[:INNER], new[INNER:])
        assert np.isfinite(new).all() and np.array_equal(kept, old) and not added.any()
    assert read_folder(tmp_path / "out")["model.norm.weight"].raw().tobytes() == tensors["model.norm.weight"][2]
    config = json.loads((tmp_path / "out/config.json").read_text())
    assert (config["moe_intermediate_size"], config["intermediate_size"]) == (WIDE, 256)
    assert (tmp_path / "out/tokenizer.json").exists() and not (tmp_path / "out/coverage.json").exists()


def test_no_scale_of_the_new_blocks_is_zero_or_no_number(tmp_path: Path) -> None:
    tensors: dict[str, Array] = {}
    for seed, (name, shape) in enumerate(shapes(INNER).items()):
        tensors |= nvfp4_modelopt(name, shape, seed)
    pad_experts(model_in(tmp_path / "in", tensors), tmp_path / "out", 2, lambda line: None)
    for name, tensor in read_folder(tmp_path / "out").items():
        if name.endswith("weight_scale"):
            assert np.isfinite(tensor.values()).all() and (tensor.values() > 0).all()


def test_the_answer_of_an_expert_does_not_change(tmp_path: Path) -> None:
    """down(silu(gate x) * (up x)) in float64: bit for bit, since zeros add nothing."""
    tensors: dict[str, Array] = {}
    for seed, (name, shape) in enumerate(shapes(INNER).items()):
        tensors |= nvfp4_modelopt(name, shape, seed)
    pad_experts(model_in(tmp_path / "in", tensors), tmp_path / "out", 2, lambda line: None)
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
    tensors = {f"{stem}.gate_up_proj": gate_up, f"{stem}.down_proj": down}
    pad_experts(model_in(tmp_path / "in", tensors), tmp_path / "out", 2, lambda line: None)
    after = read_folder(tmp_path / "out")
    old = np.frombuffer(gate_up[2], np.uint16).reshape(2, INNER, HIDDEN)
    new = after[f"{stem}.gate_up_proj"].raw().view(np.uint16).reshape(2, WIDE, HIDDEN)
    assert np.array_equal(new[:, :INNER], old) and not new[:, INNER:].any()
    assert after[f"{stem}.down_proj"].shape == (1, HIDDEN, WIDE)


@pytest.mark.parametrize(
    ("width", "tp", "wanted"), [(704, 4, 768), (704, 1, 704), (1408, 2, 1408), (96, 2, 128), (1, 1, 64)]
)
def test_the_next_multiple(width: int, tp: int, wanted: int) -> None:
    assert aligned(width, tp) == wanted


def test_what_cannot_be_padded_is_refused_and_nothing_is_left(tmp_path: Path) -> None:
    tensors = {n: bf16(s, 1) for n, s in shapes(INNER).items()}
    model = model_in(tmp_path / "in", tensors)
    with pytest.raises(WrongUse, match="a multiple of 64 x 1 already"):
        pad_experts(model_in(tmp_path / "even", tensors, moe_intermediate_size=128), tmp_path / "out", 1, print)
    with pytest.raises(WrongUse, match="has no experts"):
        pad_experts(model_in(tmp_path / "dense", tensors, num_experts=None), tmp_path / "out", 1, print)
    (tmp_path / "taken").mkdir()
    with pytest.raises(WrongUse, match="is there already"):
        pad_experts(model, tmp_path / "taken", 2, print)
    by_turns = {"model.layers.0.mlp.experts.gate_up_proj": bf16((1, HIDDEN, 2 * INNER), 1)}
    with pytest.raises(WrongUse, match="by turns"):
        pad_experts(model_in(tmp_path / "turns", by_turns), tmp_path / "out", 2, lambda line: None)
    assert not (tmp_path / "out").exists()
