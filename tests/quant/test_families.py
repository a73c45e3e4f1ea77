"""The family registry: one entry each, unknown mixtures refused, and the gaps that are known."""

from __future__ import annotations

import re
from fnmatch import fnmatchcase

import make_model
import pytest

from profile_and_optimize.core.errors import WrongUse
from profile_and_optimize.quant.families import (
    experts_of,
    family_from_json,
    family_names,
    family_of,
    in_range,
    require_known,
    table,
)
from profile_and_optimize.quant.gaps import (
    blocking,
    count_words,
    gaps_of,
    padded_width,
    ranks_in,
    whole_experts_in,
)

MIXTURE = {
    "model_type": "qwen3_moe",
    "num_experts": 128,
    "num_experts_per_tok": 8,
    "moe_intermediate_size": 768,
    "hidden_act": "silu",
}


def test_every_entry_is_whole_and_owns_its_model_types() -> None:
    owners: dict[str, str] = {}
    for name in family_names():
        row = table()["family"][name]
        for model_type in row["model_types"]:
            assert owners.setdefault(model_type, name) == name
            family = family_of({"model_type": model_type, "enable_moe_block": True})
            assert family.name == name and family_from_json(family.to_json()) == family
        assert row["seen"] and in_range("5.14.1", row["transformers"]) and not in_range("4.57.0", row["transformers"])


def test_each_architecture_of_the_test_models_has_an_entry_of_its_own() -> None:
    known = {t for name in family_names() for t in table()["family"][name]["model_types"]}
    assert set(make_model.ARCHITECTURES) <= known


@pytest.mark.parametrize("arch", [a for a in make_model.ARCHITECTURES if a not in ("qwen3", "llama")])
def test_a_mixture_leaves_its_router_and_its_head_and_takes_its_experts(arch: str) -> None:
    """Names as the library has them in memory."""
    routers = {
        "gpt_oss": "mlp.router", "llama4_text": "feed_forward.router", "nemotron_h": "mixer.gate", "gemma4": "router.proj",
        "gemma4_text": "router.proj",
    }  # fmt: skip
    experts = {
        "llama4_text": "feed_forward.experts",
        "nemotron_h": "mixer.experts",
        "gemma4": "experts",
        "gemma4_text": "experts",
    }
    family = family_of({"model_type": arch, "enable_moe_block": True})

    def left(name: str) -> bool:
        return any(fnmatchcase(name, p) for p in family.exclude)

    assert family.moe and left("lm_head")
    assert left(f"model.layers.1.{routers.get(arch, 'mlp.gate')}")
    assert not left(f"model.layers.1.{experts.get(arch, 'mlp.experts')}")


def test_an_unknown_dense_model_is_taken_as_one() -> None:
    family = family_of({"model_type": "brand_new", "hidden_size": 64})
    assert (family.name, family.recipe, family.moe, family.model_type) == ("default", "generic", False, "brand_new")
    require_known(family)


@pytest.mark.parametrize(
    "config",
    [{"num_experts": 8}, {"n_routed_experts": 2}, {"num_local_experts": 16}, {"text_config": {"num_experts": 4}}],
)
def test_an_unknown_mixture_is_refused_with_how_to_add_it(config: dict[str, object]) -> None:
    family = family_of({"model_type": "brand_new", **config})
    assert family.recipe == "fail-closed"
    with pytest.raises(WrongUse, match=r"has .* experts and no entry") as e:
        require_known(family)
    assert "[family.brand_new]" in e.value.next


def test_experts_are_counted_wherever_the_config_has_them() -> None:
    assert (
        experts_of({"n_shared_experts": 1, "text_config": {"n_routed_experts": 256, "num_experts_per_tok": 8}}) == 256
    )
    assert experts_of({"num_experts_per_tok": 8, "hidden_size": 4096}) == 0
    assert count_words(MIXTURE) == "128 experts, 8 a token, 768 wide" and count_words({"hidden_size": 8}) == "dense"


def test_a_gemma4_without_its_mixture_is_another_family() -> None:
    dense = family_of({"model_type": "gemma4_text", "enable_moe_block": False})
    assert dense.name == "gemma4_dense" and not dense.moe
    assert not any(fnmatchcase("model.layers.0.self_attn.q_proj", p) for p in dense.exclude)


@pytest.mark.parametrize(
    ("version", "wanted", "answer"),
    [("5.14.1", ">=5.5,<5.15", True), ("5.15.0", ">=5.5,<5.15", False), ("5.5", ">=5.5", True), ("5.4.9", ">=5.5", False),
     ("5.14.0.dev0", ">=5.5,<5.15", True), ("5.5.0", "==5.5", True), ("5.6", "<=5.5", False), ("5.6", ">5.5", True)],
)  # fmt: skip
def test_a_release_is_in_a_range(version: str, wanted: str, answer: bool) -> None:
    assert in_range(version, wanted) is answer


def test_a_width_that_fits_one_rank_may_not_fit_four() -> None:
    """gemma4: 704 is 11 x 64; a quarter of it, 176, is no multiple of 64, and 768 is the next width that is."""
    gemma = {
        "model_type": "gemma4_text", "enable_moe_block": True, "num_experts": 128, "moe_intermediate_size": 704,
        "hidden_activation": "gelu_pytorch_tanh",
    }  # fmt: skip
    assert padded_width(704, 4) == 768 and padded_width(704, 1) == 704
    one, four = (gaps_of(gemma, "nvfp4", tp, device="cuda") for tp in (1, 4))
    assert not one
    assert {g.backend for g in four} == {"flashinfer_cutlass", "vllm_cutlass"}
    assert all("176 at each of 4 ranks" in g.why and "768 would be" in g.why and g.says and g.do for g in four)


def test_each_kernel_has_a_width_of_its_own_at_each_rank() -> None:
    """96 wide: NVFP4 kernels want 64 and would take 128; int8 on a CPU wants 32, so one rank is well and two would take 128."""
    narrow = {**MIXTURE, "moe_intermediate_size": 96}
    assert all(
        "128 would be" in g.why and "--tp 1 makes them 128 wide" in g.do
        for g in gaps_of(narrow, "nvfp4", device="cuda")
    )
    assert not gaps_of(narrow, "int8", device="cpu")
    (gap,) = gaps_of(narrow, "int8", 2, device="cpu", engine="vllm")
    assert "48 at each of 2 ranks, not a multiple of 32; 128 would be" in gap.why
    assert gap.do.startswith("pao pad_experts --tp 2 --multiple 32 makes them 128 wide, or ")


def test_a_pad_is_advised_only_where_it_can_be_made_and_would_mend_it() -> None:
    """gpt-oss is never padded; and experts that a kernel refuses for their activation too are not mended by zeros."""
    oss = {"model_type": "gpt_oss", "num_local_experts": 32, "intermediate_size": 2880}
    gap = next(g for g in gaps_of(oss, "nvfp4", 4, device="cuda") if g.backend == "flashinfer_cutlass")
    assert "cannot widen them" in gap.do and "--tp 4" not in gap.do and "rows of gate and up alternate" in gap.do
    odd = {**MIXTURE, "moe_intermediate_size": 96, "hidden_act": "relu"}
    does = {g.backend: g.do for g in gaps_of(odd, "nvfp4", device="cuda")}
    assert "pad_experts" not in does["flashinfer_cutlass"] and "pad_experts" in does["vllm_cutlass"]


def test_ranks_that_cannot_share_heads_or_experts_are_named() -> None:
    """14 heads and 2 of keys and values: 4 ranks cannot share 14, 2 can. 6 and 8 of 8 ranks: keys and values neither divide nor copy."""
    model = {"model_type": "qwen3", "num_attention_heads": 14, "num_key_value_heads": 2}
    gaps = gaps_of(model, "fp8", 4, engine="vllm", device="cuda")
    assert [g.why for g in gaps] == ["14 attention heads cannot be shared by 4 ranks"]
    assert gaps[0].do == "--tensor-parallel-size 2" and blocking(gaps, "vllm", "cuda") == gaps
    assert not gaps_of(model, "fp8", 2, device="cuda") and not gaps_of(model, "fp8", 14, device="cuda")
    (gap,) = gaps_of(
        {"model_type": "qwen3", "num_attention_heads": 24, "num_key_value_heads": 6},
        "fp8",
        8,
        engine="sglang",
        device="cuda",
    )
    assert gap.why == "6 heads of keys and values can be neither shared by 8 ranks nor copied to them evenly"
    uneven = [
        g.why for g in gaps_of({**MIXTURE, "moe_intermediate_size": 130}, "bf16", 4, engine="vllm", device="cuda")
    ]
    assert uneven == ["experts are 130 wide, not a multiple of 4 ranks"]
    (gap,) = gaps_of({**MIXTURE, "moe_intermediate_size": 130}, "bf16", 4)
    assert gap.words().startswith("every engine on every device") and "pad_experts --tp 4 makes them 256 wide" in gap.do


def test_whole_experts_at_each_rank_are_as_wide_as_they_were() -> None:
    assert gaps_of({**MIXTURE, "moe_intermediate_size": 64}, "nvfp4", 4, device="cuda")
    assert not gaps_of({**MIXTURE, "moe_intermediate_size": 64}, "nvfp4", 4, device="cuda", whole_experts=True)


@pytest.mark.parametrize(
    ("flags", "ranks"),
    [("--tensor-parallel-size 4", 4), ("--tensor-parallel-size=4", 4), ("--tensor_parallel_size 4", 4), ("-tp 4", 4),
     ("-tp=4", 4), ("--tp 4", 4), ("--tp-size=4", 4), ("--tensor-parallel 4", 4), ("--tp 2 --tp 8", 8), ("", 1),
     ("--enforce-eager --tokenizer-mode slow", 1), ("--tp many", None), ("--tp 0", None)],
)  # fmt: skip
def test_flags_say_how_many_ranks(flags: str, ranks: int | None) -> None:
    assert ranks_in(flags.split()) == ranks
    assert not whole_experts_in(flags.split()) and whole_experts_in([*flags.split(), "--enable-expert-parallel"])


def test_an_activation_that_a_kernel_lacks_is_a_gap_of_that_kernel_alone() -> None:
    odd = MIXTURE | {"hidden_act": "relu"}
    found = {g.backend: g.why for g in gaps_of(odd, "nvfp4", device="cuda")}
    assert set(found) == {"flashinfer_trtllm", "flashinfer_cutlass"}
    assert found["flashinfer_trtllm"].startswith("experts use relu, it takes silu")
    assert not gaps_of(MIXTURE, "nvfp4", device="cuda")


def test_experts_chosen_in_another_way_are_a_gap_on_a_cpu() -> None:
    assert not gaps_of(MIXTURE, "int8", device="cpu")
    deepseek = {"model_type": "deepseek_v3", "n_routed_experts": 8, "moe_intermediate_size": 128, "hidden_act": "silu"}
    (gap,) = gaps_of(deepseek, "int8", device="cpu")
    assert "chosen by sigmoid-bias" in gap.why and gap.backend == "CPUExpertsInt8"


def test_nvfp4_experts_have_no_kernel_on_a_cpu_and_latent_attention_no_nvfp4_cache() -> None:
    (gap,) = blocking(gaps_of(MIXTURE, "nvfp4"), "vllm", "cpu")
    assert "no kernel for nvfp4 experts" in gap.why
    latent = {
        "model_type": "deepseek_v3",
        "kv_lora_rank": 512,
        "n_routed_experts": 8,
        "moe_intermediate_size": 128,
        "hidden_act": "silu",
    }
    assert [g for g in gaps_of(latent, "nvfp4") if g.backend == "--kv-cache-dtype nvfp4"]
    assert not [g for g in gaps_of(latent, "fp8") if "kv-cache" in g.backend]


def test_a_dense_model_has_no_gap_for_what_a_cpu_serves() -> None:
    dense = {"model_type": "qwen3", "hidden_act": "silu", "intermediate_size": 100}
    assert gaps_of(dense, "nvfp4", 8) == () and gaps_of(dense, "int8", 8) == ()


def test_a_kernel_of_the_table_says_what_it_says_and_what_to_do() -> None:
    for row in table()["kernel"]:
        assert row["says"] and row["do"] and row["formats"] and re.fullmatch(r"cuda|cpu", row["device"])
