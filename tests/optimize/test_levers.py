"""Which levers exist here, why the others do not, and the arms they make."""

from __future__ import annotations

from dataclasses import replace

import pytest

from profile_and_optimize.core.cell import Role, check_arms
from profile_and_optimize.core.errors import WrongUse
from profile_and_optimize.ops.node import computes_bf16
from profile_and_optimize.optimize.levers import Facts, Found, Lever, arms, chosen, find_levers, table

LAPTOP = Facts(cores=2, cpu=True, compiler=True, gpus=0, sm=None, moe=False)
RACK = Facts(cores=96, cpu=False, compiler=True, gpus=8, sm=100, moe=True)
ENGINES = ("vllm", "sglang", "transformers", "mock")


@pytest.mark.parametrize("engine", ENGINES)
def test_every_table_reads_and_every_lever_makes_an_arm(engine: str) -> None:
    for focus in ("throughput", "latency", "mixed"):
        for lever in table(engine):
            arm = lever.arm(engine, focus, LAPTOP)
            assert arm.flags or arm.env
            assert "{" not in "".join(v for _, v in arm.env) and "{value}" not in "".join((*arm.flags, arm.lever))


@pytest.mark.parametrize("engine", ("vllm", "sglang"))
def test_every_lever_predicts_for_every_focus(engine: str) -> None:
    assert all({f for f, _ in lever.predicted} == {"throughput", "latency", "mixed"} for lever in table(engine))


def test_the_hardware_decides() -> None:
    here, rack = ({lv.id for lv in find_levers("vllm", f, None).here} for f in (LAPTOP, RACK))
    assert "threads-all" in here and "threads-all" not in rack
    assert {"expert-parallel", "kv-fp8", "moe-backend-triton", "batched-tokens-8192"} <= rack - here


@pytest.mark.parametrize(
    ("change", "lever", "why"),
    [
        ({"moe": False}, "expert-parallel", "needs a model with experts"),
        ({"moe": None}, "expert-parallel", "needs a model with experts, unknown here"),
        ({"gpus": 1}, "expert-parallel", "needs gpus>=2, here 1"),
        ({"sm": 80}, "kv-fp8", "needs sm>=89, here 80"),
        ({"sm": None}, "kv-fp8", "needs sm>=89, unknown here"),
    ],
)
def test_a_skipped_lever_says_why(change: dict[str, object], lever: str, why: str) -> None:
    about = Facts(**{**{n: getattr(RACK, n) for n in RACK.__slots__}, **change})
    assert dict(find_levers("vllm", about, None).skipped)[lever] == why


def test_float32_is_a_lever_where_the_processor_has_no_bfloat16_and_nowhere_else() -> None:
    for engine in ("vllm", "sglang"):
        here = {
            b: [lv.id for lv in find_levers(engine, replace(LAPTOP, bf16=b), None).here] for b in (False, True, None)
        }
        assert here[False][0] == "dtype-float32" and here[False][1:] == here[True] == here[None]
    skipped = dict(find_levers("vllm", replace(LAPTOP, bf16=True), None).skipped)
    assert skipped["dtype-float32"] == "needs a processor without bfloat16"


@pytest.mark.parametrize(
    ("flags", "found"),
    [
        ("flags : fpu avx2 fma", False), ("flags\t\t: fpu avx512f avx512_bf16", True), ("flags : avx512f amx_bf16", True),
        ("flags : fpu avx512f avx512vl", False), ("Features : fp asimd bf16", True), ("", None), ("model name : some", None),
    ],
)  # fmt: skip
def test_bfloat16_is_read_from_the_processors_flags(flags: str, found: bool | None) -> None:
    assert computes_bf16(f"processor : 0\n{flags}\n") is found


def test_what_the_installed_version_lacks_is_skipped_by_name() -> None:
    found = find_levers("vllm", LAPTOP, frozenset({"--enforce-eager"}))
    assert [lv.id for lv in found.here] == ["threads-all", "eager"]
    assert dict(found.skipped)["prefix-off"] == "the installed version has no --no-enable-prefix-caching"


def test_json_in_a_flag_keeps_its_braces() -> None:
    (graphs,) = [lv for lv in table("vllm") if lv.id == "graphs-full"]
    assert graphs.flags == ("--compilation-config", '{"cudagraph_mode": "FULL"}')


def test_an_engine_without_a_table_has_no_levers() -> None:
    assert find_levers("somebody-elses", LAPTOP, None) == Found((), ())


@pytest.mark.parametrize("wrong", [{"needs": ("luck",)}, {"flags": ()}, {"predicted": (("speed", (1.0, 2.0)),)}])
def test_a_lever_is_checked_at_birth(wrong: dict[str, object]) -> None:
    good = {"id": "x", "says": "s", "predicts": "p", "predicted": (), "flags": ("--x",)}
    Lever(**good)
    with pytest.raises(ValueError):
        Lever(**{**good, **wrong})


def two_engines(most: int) -> list[str]:
    about = {e: LAPTOP for e in ("vllm", "sglang")}
    levers = {e: find_levers(e, LAPTOP, None).here for e in about}
    made = arms(("vllm", "sglang"), "throughput", about, levers, most)
    check_arms(made)
    return [a.id for a in made]


def test_each_further_engine_brings_its_own_defaults_and_levers_come_in_turn() -> None:
    assert two_engines(5) == ["baseline", "baseline-again", "sglang", "vllm-threads-all", "sglang-pieces-128"]
    assert two_engines(1) == ["baseline", "baseline-again", "sglang"]


def test_one_engines_arms_keep_their_short_names() -> None:
    levers = {"vllm": find_levers("vllm", LAPTOP, None).here}
    made = arms(("vllm",), "throughput", {"vllm": LAPTOP}, levers, 4)
    assert [a.id for a in made] == ["baseline", "baseline-again", "threads-all", "eager"]
    assert made[2].env == (("VLLM_CPU_OMP_THREADS_BIND", "0-1"),) and made[2].predicted == (1.05, 1.5)
    assert made[0].role is Role.BASELINE and made[1].role is Role.AA


FOUND = {e: find_levers(e, LAPTOP, None) for e in ("vllm", "sglang")}


def test_levers_are_chosen_by_name_or_by_engine_and_name() -> None:
    both = chosen("ngram,sglang:radix-off", ("vllm", "sglang"), FOUND)
    assert [lv.id for lv in both["vllm"]] == ["ngram"] and [lv.id for lv in both["sglang"]] == ["radix-off"]


@pytest.mark.parametrize(
    ("names", "says"),
    [
        ("kv-fp8", "needs a GPU"),
        ("vllm:radix-off", "unknown lever"),
        ("tgi:eager", "unknown lever"),
        ("no-such", "there are"),
    ],
)
def test_a_lever_that_is_not_here_is_refused_with_the_reason(names: str, says: str) -> None:
    with pytest.raises(WrongUse, match=says):
        chosen(names, ("vllm", "sglang"), FOUND)
