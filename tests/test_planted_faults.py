"""The bench's own reader of quantized weights, and the hands that spoil them: with numbers that can be checked by hand."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "bench"))
import own_dequant
from planted_kinds import KINDS
from planted_report import is_named
from planted_space import Entry, Packed, Planted, write_file


def bf16(*values: float) -> bytearray:
    e = Entry("BF16", (len(values),), bytearray(2 * len(values)))
    e.put(np.array(values))
    return e.raw


def test_four_bit_and_eight_bit_floats_are_those_of_their_definitions() -> None:
    assert own_dequant.E2M1.tolist() == [0, 0.5, 1, 1.5, 2, 3, 4, 6]
    assert own_dequant.E4M3[[1, 8, 0x38, 0x7E]].tolist() == [2**-9, 2**-6, 1, 448]


def test_nvfp4_is_the_code_times_its_block_times_the_tensor() -> None:
    """Codes 2 (1.0) and 10 (-1.0) by turns, a block scale of 2, a global scale of 0.25: 0.5 and -0.5."""
    tensors = {
        "m.weight": Entry("U8", (1, 8), bytearray([0xA2] * 8)),
        "m.weight_scale": Entry("F8_E4M3", (1, 1), bytearray([0x40])),
        "m.weight_scale_2": Entry("F32", (), bytearray(np.float32(0.25).tobytes())),
    }
    q = Packed("m", "m.weight", {n: f"m.{n}" for n in ("weight_scale", "weight_scale_2")}, "nvfp4")
    assert own_dequant.dequantized(tensors, q, (1, 16)).tolist() == [[0.5, -0.5] * 8]


@pytest.mark.parametrize(("kind", "largest", "half"), [("int8, one scale a row", 3.05, 127), ("int4", 2.85, 7.5)])
def test_integers_lose_a_step_over_the_root_of_twelve(kind: str, largest: float, half: float) -> None:
    """The largest of 256 normal numbers is 3.05 standard deviations on average, of 128 2.85; half of the codes reach there."""
    assert own_dequant.theory(kind) == pytest.approx(largest / half / 12**0.5, rel=0.02)


def export_in(folder: Path) -> Planted:
    """Two layers with a norm and one INT8 matrix of four rows each."""
    tensors = {}
    for i in range(2):
        tensors[f"model.layers.{i}.norm.weight"] = Entry("BF16", (4,), bf16(1, 2, 3, 4 + i))
        codes = np.arange(1, 33, dtype=np.int8) + i
        tensors[f"model.layers.{i}.up_proj.weight"] = Entry("I8", (4, 8), bytearray(codes.tobytes()))
        tensors[f"model.layers.{i}.up_proj.weight_scale"] = Entry("BF16", (4, 1), bf16(0.5, 0.25, 0.125, 1))
    write_file(folder / "model.safetensors", tensors, {"format": "pt"})
    (folder / "config.json").write_text(json.dumps({"num_hidden_layers": 2, "quantization_config": {"ignore": []}}))
    return Planted({"out": str(folder)}, folder, folder, {}, "seed")


def test_a_planted_row_of_zeros_is_one_row_and_is_named(tmp_path: Path) -> None:
    before = export_in(tmp_path)
    names = KINDS["one row zeroed"].hand(export_in(tmp_path))
    assert names is not None and names[0].endswith("up_proj.weight")
    after = Planted(before.job, tmp_path, tmp_path, {}, "seed").tensors
    assert [n for n in after if after[n].raw != before.tensors[n].raw] == [names[0]]
    assert sum(not row.any() for row in after[names[0]].rows()) == 1


def test_a_kind_with_nothing_to_spoil_says_so(tmp_path: Path) -> None:
    assert KINDS["router rows exchanged"].hand(export_in(tmp_path)) is None


def test_a_refusal_names_a_tensor_by_itself_its_module_or_the_stack_it_is_part_of() -> None:
    part = ("model.layers.3.mlp.experts.5.up_proj.weight_packed",)
    assert is_named("layers.3.mlp.experts.5.up_proj: 7 rows differ", part)
    assert is_named("model.layers.3.mlp.experts.gate_up_proj differs by 0.2", part)
    assert not is_named("KL 0.02, over 0.01", part) and not is_named("model.layers.3.mlp.experts.down_proj", part)
