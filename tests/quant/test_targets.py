"""What can be asked: the table of backends and targets."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from profile_and_optimize.core.errors import WrongUse
from profile_and_optimize.quant import quantize as worker
from profile_and_optimize.quant.bundle import WORKERS
from profile_and_optimize.quant.targets import BACKENDS, RECIPES, recipe_of, targets_of

QUANT = Path(worker.__file__).parent


def test_bits_of_a_weight_are_those_of_the_format_with_its_scales() -> None:
    assert recipe_of("modelopt", "nvfp4").bits_per_weight == 4 + 8 / 16
    assert recipe_of("modelopt", "mxfp4").bits_per_weight == 4 + 8 / 32
    assert recipe_of("llm-compressor", "w4a16").bits_per_weight == 4 + 16 / 128
    assert recipe_of("llm-compressor", "int8").bits_per_weight == 8


def test_the_worker_takes_the_very_pairs_that_are_offered() -> None:
    assert set(worker.RECIPES) == set(BACKENDS)
    for backend in BACKENDS:
        assert set(worker.RECIPES[backend]) == set(targets_of(backend))
    for s in RECIPES:
        recipe = worker.RECIPES[s.backend][s.target]
        assert (recipe.weight_format, recipe.group) == (s.weight_format, s.group), s.target


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


@pytest.mark.parametrize("name", WORKERS)
def test_a_worker_imports_nothing_of_ours_and_nothing_heavy_before_it_is_needed(name: str) -> None:
    tree = ast.parse((QUANT / name).read_text())
    every = {m for node in ast.walk(tree) for m in _modules(node)}
    first = {m for node in tree.body for m in _modules(node)}
    assert not [m for m in every if m.startswith("profile_and_optimize") or m in {Path(w).stem for w in WORKERS}]
    assert not first & {
        "torch",
        "transformers",
        "modelopt",
        "llmcompressor",
        "compressed_tensors",
        "accelerate",
        "safetensors",
    }


def _modules(node: ast.AST) -> list[str]:
    if isinstance(node, ast.ImportFrom):
        return ["profile_and_optimize" if node.level else (node.module or "").split(".")[0]]
    return [a.name.split(".")[0] for a in node.names] if isinstance(node, ast.Import) else []
