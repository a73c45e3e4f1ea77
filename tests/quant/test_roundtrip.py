"""Reading back: codes and scales by hand; then real exports, whole and with faults planted, in the ptq environment."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest
from packed import Array, f32, write

from profile_and_optimize.quant.job import Calibration, Heldout, new_job
from profile_and_optimize.quant.pao_ptq.compare import Compared, Sums
from profile_and_optimize.quant.pao_ptq.dequantize import dequantize
from profile_and_optimize.quant.pao_ptq.inputs import Inputs, inputs_of
from profile_and_optimize.quant.pao_ptq.layouts import Weight, held_weight
from profile_and_optimize.quant.pao_ptq.plain import Plain
from profile_and_optimize.quant.pao_ptq.reading import Reading
from profile_and_optimize.quant.pao_ptq.recode import Neighbours, e4m3_codes
from profile_and_optimize.quant.pao_ptq.stacks import stacks_apart
from profile_and_optimize.quant.pao_ptq.stop import Stop
from profile_and_optimize.quant.pao_ptq.tensors import E4M3, numbers, read_folder, to_bf16
from profile_and_optimize.toolenv.find import find
from profile_and_optimize.workloads.recorded import digest_file

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
QUESTIONS = ROOT / "demo" / "heldout.jsonl"


def weight(folder: Path, tensors: dict[str, Array], shape: tuple[int, ...], name: str = "w.weight") -> Weight:
    write(folder / "model.safetensors", tensors)
    held = held_weight(read_folder(folder), name, shape)
    assert held is not None
    return held


def floats(w: Weight) -> np.ndarray:
    bits = np.concatenate(list(dequantize(w)))
    return numbers(bits.reshape(-1).view(np.uint8), "BF16").reshape(w.shape)


def nvfp4(**scales: Array) -> dict[str, Array]:
    """One row of 32: byte 0x72 (2 low, 7 high) and then zeros; block scales 1.0 (0x38) and 2.0 (0x40)."""
    first = bytes([0x72]) + bytes(7)
    return {
        "w.weight": ("U8", (1, 16), first + first),
        "w.weight_scale": ("F8_E4M3", (1, 2), bytes([0x38, 0x40])),
        **scales,
    }


def test_nvfp4_low_nibble_is_the_even_column(tmp_path: Path) -> None:
    """Code 2 is 1.0 and code 7 is 6.0; times the block's scale (1, then 2), times the global 0.5."""
    values = floats(weight(tmp_path, nvfp4(**{"w.weight_scale_2": f32(0.5)}), (1, 32)))
    assert values[0, :3].tolist() == [0.5, 3.0, 0.0] and values[0, 16:18].tolist() == [1.0, 6.0]


def test_compressed_tensors_divide_by_the_global_scale(tmp_path: Path) -> None:
    tensors = nvfp4()
    tensors["w.weight_packed"] = tensors.pop("w.weight")
    tensors["w.weight_global_scale"] = f32(2.0)
    assert floats(weight(tmp_path, tensors, (1, 32)))[0, :2].tolist() == [0.5, 3.0]


def test_int4_words_hold_the_first_weight_lowest_and_are_offset_by_eight(tmp_path: Path) -> None:
    """0x...f0 is 0 - 8 and 15 - 8; one scale of 0.5 for the group."""
    tensors: dict[str, Array] = {
        "w.weight_packed": ("I32", (1, 1), bytes([0xF0, 0x98, 0x88, 0x88])),
        "w.weight_scale": ("F32", (1, 1), np.float32(0.5).tobytes()),
    }
    assert floats(weight(tmp_path, tensors, (1, 8)))[0].tolist() == [-4.0, 3.5, 0.0, 0.5, 0.0, 0.0, 0.0, 0.0]


def test_eight_bits_by_row(tmp_path: Path) -> None:
    rows: Array = ("F32", (2,), np.array([0.5, 2.0], np.float32).tobytes())
    int8: dict[str, Array] = {
        "w.weight": ("I8", (2, 2), np.array([1, -2, 3, -128], np.int8).tobytes()),
        "w.weight_scale": rows,
    }
    assert floats(weight(tmp_path / "a", int8, (2, 2))).tolist() == [[0.5, -1.0], [6.0, -256.0]]
    fp8: dict[str, Array] = {"w.weight": ("F8_E4M3", (2, 2), bytes([0x38, 0xB8, 0x7E, 0x01])), "w.weight_scale": rows}
    assert floats(weight(tmp_path / "b", fp8, (2, 2))).tolist() == [[0.5, -0.5], [896.0, 2.0**-8]]


def test_experts_in_one_tensor_are_packed_along_their_inputs(tmp_path: Path) -> None:
    """[1, 2, 3] bytes for [1, 4, 3] weights: the axis that is half as long holds the pairs."""
    codes = np.array([[[0x21, 0, 0], [0x43, 0, 0]]], np.uint8)
    tensors: dict[str, Array] = {
        "experts.down_proj": ("U8", (1, 2, 3), codes.tobytes()),
        "experts.down_proj_weight_scale": ("F8_E4M3", (1, 1, 3), bytes([0x38] * 3)),
        "experts.down_proj_weight_scale_2": f32(1.0),
    }
    w = weight(tmp_path, tensors, (1, 4, 3), "experts.down_proj")
    assert floats(w)[0, :, 0].tolist() == [0.5, 1.0, 1.5, 2.0]


def test_e4m3_numbers_and_the_way_back() -> None:
    """0x7e is 448, 0x01 the smallest, 2^-9; each number is its own nearest; a tie goes to the even code."""
    assert (E4M3[0x7E], E4M3[0x01], E4M3[0xC0]) == (448.0, 2.0**-9, -2.0) and np.isnan(E4M3[0x7F])
    assert e4m3_codes(E4M3[:127]).tolist() == list(range(127))
    assert e4m3_codes(np.array([1.0625, 1.1875, -1.0625, 1e9])).tolist() == [56, 58, -56, 126]


def test_bf16_ties_go_to_even() -> None:
    assert to_bf16(np.array([1 + 2**-8, 1 + 3 * 2**-8], np.float32)).tolist() == [0x3F80, 0x3F82]


def test_experts_written_apart_are_joined_as_the_base_has_them(tmp_path: Path) -> None:
    """gpt-oss keeps gate and up by turns in the columns; the way is found from the base's own numbers."""
    rng = np.random.default_rng(0)
    gate, up = (rng.normal(size=(2, 3, 4)).astype(np.float32) for _ in range(2))
    turns = np.stack([gate, up], axis=2).reshape(2, 6, 4).transpose(0, 2, 1)
    base: dict[str, Array] = {"experts.gate_up_proj": ("BF16", (2, 4, 6), to_bf16(turns).tobytes())}
    parts: dict[str, Array] = {}
    for e in range(2):
        for name, values in (("gate", gate), ("up", up)):
            parts[f"experts.{e}.{name}_proj.weight"] = "BF16", (3, 4), to_bf16(values[e]).tobytes()
    write(tmp_path / "base/model.safetensors", base)
    write(tmp_path / "export/model.safetensors", parts)
    theirs = read_folder(tmp_path / "base")
    found = stacks_apart(read_folder(tmp_path / "export"), theirs)["experts.gate_up_proj"]
    made = np.concatenate(list(found.joined(theirs["experts.gate_up_proj"])))
    assert np.array_equal(made, to_bf16(turns))


def test_a_recipe_that_is_not_known_is_refused_by_name() -> None:
    for config in ({"quant_method": "modelopt", "quant_algo": "W5A5"}, {"quant_method": "gptq"}):
        with pytest.raises(Stop, match="is not known here"):
            inputs_of({"quantization_config": config})
    assert inputs_of({"quantization_config": {"quant_method": "modelopt", "quant_algo": "NVFP4"}}) == Inputs(
        "nvfp4", True
    )


def sums(kl: float) -> Sums:
    return Sums(kl=kl, agree=1, rows=1)


def reading(*, back: float, errors: dict[str, float] | None = None, **more: object) -> Reading:
    plain = Plain(Path(), errors if errors is not None else {"a": 0.1, "b": 0.1}, {"a": 4, "b": 4})
    return Reading(plain, Compared(sums(0.1), sums(0.1), sums(back)), False, **more)  # type: ignore[arg-type]


def test_the_limit_is_a_share_of_what_quantization_itself_costs() -> None:
    """KL to the base 0.1: read back at 0.004 it holds, at 0.006 not, unless last bits alone do as much."""
    assert reading(back=0.004).reason() == ""
    assert "over 0.005" in reading(back=0.006).reason()
    assert reading(back=0.006, noise=0.007).reason() == ""


def test_a_weight_that_is_not_the_bases_fails_however_good_the_answers_are() -> None:
    assert "b differs by 0.90" in reading(back=0.0, errors={"a": 0.1, "b": 0.9}).reason()
    assert "no quantized weight" in reading(back=0.0, errors={}).reason()


def test_neighbouring_codes_are_excused_and_others_not() -> None:
    near = Neighbours(weights=100, by_one=3)
    assert reading(back=0.08, second=1e-7, tally=near).reason() == ""
    assert reading(back=0.08, second=1e-7, tally=Neighbours(100, 3, 1)).reason() != ""
    assert reading(back=0.08, second=0.02, tally=near).reason() != ""


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, str]]:
    """By export, what the round trip says of it as it is and with each fault: all in one process, which loads torch once."""
    env = find("ptq")
    if env is None:
        pytest.skip("the ptq tool environment is not installed: pao tools install ptq")
    space = tmp_path_factory.mktemp("roundtrip")
    text = Calibration("demo", str(QUESTIONS), digest_file(QUESTIONS), samples=24, seq_len=48)
    made = subprocess.run(
        [env.python, HERE / "make_model.py", "qwen3_moe", space / "base"], capture_output=True, timeout=300
    )
    assert made.returncode == 0, made.stderr[-2000:]
    for target in ("nvfp4", "fp8"):
        job = new_job(
            space / "base", space / target, backend="modelopt", target=target, calibration=text, heldout=Heldout(4, 48)
        )
        (space / f"{target}.json").write_text(json.dumps(job.to_json()))
    run = [
        env.python,
        HERE / "play_roundtrip.py",
        ROOT / "src/profile_and_optimize/quant",
        space / "nvfp4.json",
        space / "fp8.json",
    ]
    done = subprocess.run(run, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    answer: dict[str, dict[str, str]] = json.loads(done.stdout.splitlines()[-1])
    return answer


@pytest.mark.slow
@pytest.mark.engine
def test_real_exports_read_back_as_they_were(told: dict[str, dict[str, str]]) -> None:
    """The same weights and roundings: KL to the model in process under a millionth, NVFP4 experts included."""
    assert told["nvfp4"]["whole"] == "" and float(told["nvfp4"]["kl"]) < 1e-6
    assert told["fp8"]["whole"] == "" and float(told["fp8"]["kl_recoded"]) < 1e-6


@pytest.mark.slow
@pytest.mark.engine
def test_planted_faults_are_refused(told: dict[str, dict[str, str]]) -> None:
    faults = told["nvfp4"]
    assert "rounding: model.layers.0.self_attn.o_proj.weight: " in faults["swapped nibbles"]
    assert "o_proj" in faults["a global scale dropped"]
    assert "experts.1.down_proj" in faults["one expert's scales doubled"]
    assert "o_proj.input_scale: reaches " in faults["an input scale wrong"]
    assert "layers.1.mlp.experts" in faults["an expert lost"]
    assert "plain transformers" in faults["the export in plain transformers"]
