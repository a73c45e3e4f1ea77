"""The table of arms: read, written, and refused with line and reason."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from profile_and_optimize.core.cell import Arm, Role
from profile_and_optimize.core.errors import WrongUse
from profile_and_optimize.optimize.arms_tsv import arms_tsv, parse_arms, several_levers

HEAD = "arm\tengine\tflags\tenv\tlever\tpredicts\tpredicted\n"
TABLE = (
    HEAD
    + "v0\tvllm\t--max-num-seqs 64\t\tits own defaults\n"
    + "# a remark\n\n"
    + 'v1\tvllm\t--max-num-seqs 64 --compilation-config \'{"cudagraph_mode": "FULL"}\'\tX=1\tgraphs\tless\t1.05..1.2\n'
    + "s0\tsglang\t\t\tits own defaults\n"
)


def parsed(text: str) -> tuple[Arm, ...]:
    return parse_arms(text.encode(), "arms.tsv")


def test_the_first_row_is_the_baseline_and_has_a_twin() -> None:
    base, twin, v1, s0 = parsed(TABLE)
    assert (base.id, base.role) == ("v0", Role.BASELINE) and (twin.role, twin.flags) == (Role.AA, base.flags)
    assert v1.flags == ("--max-num-seqs", "64", "--compilation-config", '{"cudagraph_mode": "FULL"}')
    assert (v1.env, v1.predicted, v1.predicts) == ((("X", "1"),), (1.05, 1.2), "less")
    assert (s0.engine, s0.role) == ("sglang", Role.CANDIDATE)


def test_written_and_read_again_it_is_the_same() -> None:
    arms = parsed(TABLE)
    assert parsed(arms_tsv(arms)) == arms


@given(st.lists(st.text(st.characters(codec="utf-8", exclude_categories=("C",)), min_size=1, max_size=20), max_size=4))
def test_any_flag_survives_the_table(values: list[str]) -> None:
    arms = (Arm("a", "mock", Role.BASELINE), Arm("b", "mock", Role.CANDIDATE, ("--x", *values), lever="l"))
    base, _, again = parsed(arms_tsv(arms))
    kept = ["--x", *(v for v in values)]
    assert again.flags == tuple(kept) or any("\t" in v or v != " ".join(v.splitlines()) for v in values)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "columns"), ("arm engine flags\n", "columns"), (HEAD, "no arm"), (HEAD + "a\tvllm\n", "line 2: 2 columns"),
        (HEAD + "a\tvllm\t'--x\t\tl\n", "line 2"), (HEAD + "a\tvllm\t\tnovalue\tl\n", "not NAME=VALUE"),
        (HEAD + "a\tvllm\t--port 1\t\tl\n", "not an arm's"), (HEAD + "../a\tvllm\t\t\tl\n", "not a name"),
        (HEAD + "a\tvllm\t\t\tl\na\tvllm\t--x\t\tl\n", "used twice"), (HEAD + "a\tvllm\t\t\tl\t\tfast\n", "not a range"),
        (HEAD + "a\tvllm\t\tHF_TOKEN=hf_x\tl\n", "credential"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_with_its_line(text: str, says: str) -> None:
    with pytest.raises(WrongUse) as e:
        parsed(text)
    assert says in f"{e.value.where}: {e.value.message}"


def test_a_checkpoint_and_flags_are_one_row_whose_parts_are_rows_too(tmp_path: Path) -> None:
    head = HEAD.rstrip() + "\tcheckpoint\nv0\tvllm\t\t\tdefaults\n"
    both = f"both\tvllm\t--enforce-eager\tX=1\tINT8, no compilation\t\t\t{tmp_path}\n"
    alone = f"int8\tvllm\t\t\tINT8\t\t\t{tmp_path}\n"
    arm = parsed(head + both)[2]
    assert (arm.checkpoint, arm.flags, arm.env) == (str(tmp_path), ("--enforce-eager",), (("X", "1"),))
    assert parsed(arms_tsv(parsed(head + both))) == parsed(head + both)
    assert len(list(several_levers(parsed(head + both)))) == 1
    # With the checkpoint alone in the table X and the flag are still two; with one of them apart each step is one.
    assert len(list(several_levers(parsed(head + both + alone)))) == 1
    step = alone.replace("int8\tvllm\t\t", "eager\tvllm\t--enforce-eager\t")
    assert list(several_levers(parsed(head + both + alone + step))) == []


def test_bytes_that_are_no_text_are_refused() -> None:
    with pytest.raises(WrongUse, match="not text"):
        parse_arms(b"\xff\xfe", "arms.tsv")


def test_an_arm_with_several_levers_is_named() -> None:
    (line,) = several_levers(parsed(TABLE))
    assert "v1" in line and "--compilation-config" in line and "X" in line
    assert list(several_levers(parsed(HEAD + "a\tmock\t\t\tl\nb\tmock\t--x 1\t\tl\n"))) == []
