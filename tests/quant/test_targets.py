"""What can be asked: the table of backends and targets."""

from __future__ import annotations

import pytest

from profile_and_optimize.core.errors import WrongUse
from profile_and_optimize.quant.pao_ptq.targets import FORMATS
from profile_and_optimize.quant.targets import BACKENDS, RECIPES, recipe_of, targets_of


def test_bits_of_a_weight_are_those_of_the_format_with_its_scales() -> None:
    assert recipe_of("modelopt", "nvfp4").bits_per_weight == 4 + 8 / 16
    assert recipe_of("modelopt", "mxfp4").bits_per_weight == 4 + 8 / 32
    assert recipe_of("llm-compressor", "w4a16").bits_per_weight == 4 + 16 / 128
    assert recipe_of("llm-compressor", "int8").bits_per_weight == 8


def test_every_pair_that_is_offered_is_one_row_of_the_one_table() -> None:
    pairs = [(r.backend, r.target) for r in RECIPES]
    assert len(set(pairs)) == len(pairs) and set(pairs) == {(b, t) for b in BACKENDS for t in targets_of(b)}
    assert all(recipe_of(r.backend, r.target) is r and r.format is FORMATS[r.weight_format] for r in RECIPES)


def test_an_unsupported_pair_names_what_there_is_and_who_has_it() -> None:
    with pytest.raises(WrongUse, match="modelopt has no target 'w4a16_gptq'; it has nvfp4") as e:
        recipe_of("modelopt", "w4a16_gptq")
    assert e.value.next == "--backend llm-compressor --target w4a16_gptq"
    with pytest.raises(WrongUse, match="no backend 'awq'"):
        recipe_of("awq", "int4")


def test_a_cpu_serves_dense_nvfp4_and_int8_and_no_nvfp4_experts() -> None:
    nvfp4 = recipe_of("modelopt", "nvfp4")
    assert nvfp4.served_by("vllm", "cpu", moe=False) and not nvfp4.served_by("vllm", "cpu", moe=True)
    assert nvfp4.served_by("vllm", "cuda", moe=True) and nvfp4.served_by("sglang", "cuda", moe=True)
    assert recipe_of("llm-compressor", "int8").served_by("vllm", "cpu", moe=True)
