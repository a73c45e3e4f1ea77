"""Settings that bring code: known in every spelling, allowed by name alone, and every option of both engines judged."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from profile_and_optimize.core import code_flags
from profile_and_optimize.core.argv import OURS
from profile_and_optimize.core.cell import Arm, Role
from profile_and_optimize.core.code_settings import (
    EVERY_ARM,
    NOTHING,
    admitted,
    allowance_of,
    bring_code,
    code_settings,
    refuse_code,
    refuse_start,
    unallowed,
)
from profile_and_optimize.core.errors import WrongUse
from profile_and_optimize.core.plain_flags import PLAIN_FLAGS
from profile_and_optimize.core.plan import plan_from_json
from profile_and_optimize.testing.synthetic import synthetic_plan
from profile_and_optimize.toolenv.find import default_root


def named(*flags: str, **env: str) -> list[str]:
    return [s.name for s in bring_code(flags, tuple(env.items()), "x")]


@pytest.mark.parametrize(
    "flags",
    [
        ("--tool-parser-plugin", "x.py"),
        ("--tool_parser_plugin=x.py",),
        ("--Tool-Parser-Plugin", "x.py"),
        ("--tool-parser-plug", "x.py"),
        ("--tool-parser-plugin", "=", "x.py"),
        ("--tool-parser-plugin = x.py",),
        ("'--tool-parser-plugin'", "x.py"),
        ("--seed 1 --tool-parser-plugin x.py",),
        ("\u2014tool-parser-plugin", "x.py"),
        ("--tool\u2010parser\u2010plugin", "x.py"),
        ("--enforce-eager", "--tool-parser-plugin", "x.py"),
    ],
)
def test_one_option_in_every_spelling_is_the_same_setting(flags: tuple[str, ...]) -> None:
    assert named(*flags) == ["--tool-parser-plugin"]


@pytest.mark.parametrize(
    ("value", "code"),
    [
        ('{"cudagraph_mode": "FULL"}', False),
        ('{"backend": "my.module"}', True),
        ('{"pass_config": {"module_path": "x"}}', True),
        ("3", False),
        ("not json", True),
        ('{"inductor_passes": {}}', True),
    ],
)
def test_of_a_json_value_the_keys_decide(value: str, code: bool) -> None:
    assert named("--compilation-config", value) == (["--compilation-config"] if code else [])
    assert named("-cc", value) == named(f"--compilation_config={value}") == named("--compilation-config", value)


def test_keys_after_dots_are_keys_of_the_value() -> None:
    assert named("-cc.backend=x") == ["--compilation-config"] and named("-cc.cudagraph_mode", "NONE") == []
    assert named("--speculative-config.trust_remote_code", "true") == ["--speculative-config"]


def test_a_variable_is_known_by_its_name_its_words_and_its_value() -> None:
    assert named(LD_PRELOAD="x", ld_audit="x", MY_PLUGINS="x", SOME_DIR="x", ANY="/opt/x", OTHER="a.b:c", EMPTY="") == [
        "LD_PRELOAD",
        "ld_audit",
        "MY_PLUGINS",
        "SOME_DIR",
        "ANY",
        "OTHER",
    ]
    assert named(PYTHONHASHSEED="0", OMP_NUM_THREADS="4", TZ="Europe/Berlin", VLLM_USE_BYTECODE_HOOK="1") == []


def test_only_names_allow_and_each_of_them_is_needed() -> None:
    found = bring_code(("--middleware", "a"), (("LD_PRELOAD", "b"),), "x")
    for text in ("LD_PRELOAD", "--middleware", "", "PRELOAD,middle", "LD_PRELOAD,--middlewares"):
        with pytest.raises(WrongUse, match="need an acknowledgement"):
            refuse_code(found, allowance_of(text))
    refuse_code(found, allowance_of("ld_preload, --middleware"))


@pytest.mark.parametrize("text", ["all", "ALL", "yes", "*", "LD_*", "true", "--all"])
def test_a_general_yes_is_no_allowance(text: str) -> None:
    with pytest.raises(WrongUse, match="not the name of one setting"):
        allowance_of(text)


def test_a_plan_records_who_allowed_and_its_own_word_allows_nothing() -> None:
    plan = synthetic_plan()
    arms = tuple(replace(a, env=(("LD_PRELOAD", "b"),)) if a.id == "fast" else a for a in plan.arms)
    plan = replace(plan, arms=arms, common_env=(("PYTHONPATH", "/x"),))
    assert [(s.where, s.name) for s in code_settings(plan)] == [(EVERY_ARM, "PYTHONPATH"), ("fast", "LD_PRELOAD")]
    yes = allowance_of("LD_PRELOAD,PYTHONPATH")
    made = admitted(plan, yes)
    assert made.code_allowed == (("PYTHONPATH", "the command line"), ("LD_PRELOAD", "the command line"))
    assert plan_from_json(json.loads(json.dumps(made.to_json()))) == made
    refuse_start(made, yes)
    for draft, allowed in ((made, NOTHING), (made, allowance_of("LD_PRELOAD")), (plan, yes)):
        with pytest.raises(WrongUse):
            refuse_start(draft, allowed)


def test_a_name_that_allows_nothing_is_refused_with_the_names_there_are() -> None:
    plan = replace(synthetic_plan(), common_env=(("PYTHONPATH", "/x"),))
    with pytest.raises(WrongUse, match="LD_PRELOD allows nothing") as said:
        admitted(plan, allowance_of("PYTHONPATH,LD_PRELOD"))
    assert "there are: PYTHONPATH" in str(said.value)
    assert admitted(plan, allowance_of("PYTHONPATH,LD_PRELOAD", "the owner's policy")).code_allowed == (
        ("PYTHONPATH", "the owner's policy"),
    )


def test_settings_and_allowances_that_do_not_meet_are_told() -> None:
    plan = replace(synthetic_plan(), common_env=(("PYTHONPATH", "/x"),))
    assert unallowed(plan) == ("PYTHONPATH",)
    assert unallowed(admitted(plan, allowance_of("PYTHONPATH"))) == ()
    assert unallowed(replace(plan, code_allowed=(("PYTHONPATH", "x"), ("LD_PRELOAD", "x")))) == ("LD_PRELOAD",)


def test_a_plan_without_such_settings_is_written_as_it_always_was() -> None:
    assert "code_allowed" not in admitted(synthetic_plan(), NOTHING).to_json()


def test_an_abbreviation_is_judged_as_what_it_stands_for_and_a_whole_name_is_not() -> None:
    assert named("--trust") == ["--trust-remote-code"] and named("--no-trust-remote-code") == []
    assert named("--token", "x") != [] and named("--max-num-seqs", "4", "--tokenizer-mode", "auto") == []
    for flags in (("--hos", "0.0.0.0"), ("-m", "x"), ("--api-k", "x")):
        with pytest.raises(WrongUse):
            Arm("x", "vllm", Role.CANDIDATE, flags)


@pytest.mark.parametrize("tool", ["vllm", "sglang"])
def test_every_option_of_the_installed_engine_is_judged(tool: str) -> None:
    files = sorted(Path(default_root()).glob(f"{tool}-*/flags.json"))
    if not files:
        pytest.skip(f"{tool} is not installed here: pao tools install {tool}")
    known = {f.removeprefix("--") for f in json.loads(files[-1].read_text())["flags"]}
    judged = {
        *PLAIN_FLAGS,
        *OURS,
        *code_flags.CODE_FLAGS,
        *code_flags.VALUE_FLAGS,
        *code_flags.KEYED_FLAGS,
        *code_flags.CREDENTIAL_FLAGS,
    }
    assert sorted(f for f in known if f not in judged and f.removeprefix("no-") not in judged) == []


def test_no_option_is_judged_twice() -> None:
    tables = (
        PLAIN_FLAGS,
        code_flags.CODE_FLAGS,
        code_flags.VALUE_FLAGS,
        code_flags.KEYED_FLAGS,
        code_flags.CREDENTIAL_FLAGS,
    )
    names = [n for t in tables for n in t]
    assert len(names) == len(set(names))
