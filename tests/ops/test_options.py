"""One vocabulary: an option means one thing and says it in one way, whatever the verb; old names are taken and shown nowhere."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

import pytest
from pydantic.fields import FieldInfo

from profile_and_optimize.cli.main import run as pao
from profile_and_optimize.core.errors import WrongUse
from profile_and_optimize.mcp.schema import input_schema
from profile_and_optimize.ops.base import Op, all_ops, parse_request
from profile_and_optimize.ops.options import OLD, SAYS, renamed

# The mock is a server: the name that it answers to is no model of the user's.
ITS_OWN = {("mock", "model")}


def options() -> Iterator[tuple[str, str, FieldInfo]]:
    """(verb, field, its description) of every option and argument of every verb."""
    for verb, op in all_ops().items():
        for name, field in op.request.model_fields.items():
            extra = field.json_schema_extra
            if not (isinstance(extra, dict) and extra.get("option") is False) and (verb, name) not in ITS_OWN:
                yield verb, name, field


def test_every_option_has_help() -> None:
    assert [f"{verb} --{name}" for verb, name, field in options() if not field.description] == []


def test_an_option_of_several_verbs_says_the_same_in_all_of_them() -> None:
    said = defaultdict(set)
    for verb, name, field in options():
        said[name].add(str(field.description).split(";")[0])
        if name in SAYS:
            assert str(field.description).split(";")[0] == SAYS[name].split(";")[0], (verb, name)
    assert {name: texts for name, texts in said.items() if len(texts) > 1} == {}


def test_no_field_has_a_name_that_means_another_field() -> None:
    """An old name may live on where it means something else (`--model` of a server); never beside what it stood for."""
    for verb, op in all_ops().items():
        fields = set(op.request.model_fields)
        for name, now in OLD.items():
            assert name not in fields or not fields & {*now} or (verb, name) in {
                ("evaluate", "model"), ("run_controlled_ab", "flags"),
            }, (verb, name)  # fmt: skip


@pytest.mark.parametrize(("verb", "old", "now", "value"), [
    ("levers", "python", "engine_python", "/opt/bin/python"),
    ("quantize", "python", "ptq_python", "/opt/bin/python"),
    ("calibrate", "url", "endpoint_url", "http://127.0.0.1:1"),
    ("ab", "load", "concurrency", "3"),
    ("bench", "model", "served_model", "m"),
    ("serve_matrix", "flags", "engine_flags", "--enforce-eager"),
    ("run_controlled_ab", "baseline_flags", "engine_flags", "--enforce-eager"),
    ("optimize", "ttft_sla_ms", "slo_ttft_ms", 500.0),
    ("evaluate", "samples", "num_samples", 4),
    ("evaluate", "python", "eval_python", "/opt/bin/python"),
])  # fmt: skip
def test_an_old_name_is_the_new_one_and_no_tool_shows_it(verb: str, old: str, now: str, value: object) -> None:
    op = all_ops()[verb]
    assert getattr(parse_request(op, needed(op) | {old: value}), now) == value
    assert now in input_schema(op)["properties"] and old not in input_schema(op)["properties"]


def needed(op: Op) -> dict[str, object]:
    return {name: "http://127.0.0.1:1" for name, field in op.request.model_fields.items() if field.is_required()}


def test_an_option_under_both_of_its_names_is_refused() -> None:
    with pytest.raises(WrongUse, match="--load is the old name of --concurrency"):
        renamed(["concurrency"], {"load": 1, "concurrency": 2})
    assert renamed(["load"], {"load": 1}) == {"load": 1}


def test_the_command_line_takes_old_names_and_shows_the_new_ones(capsys: pytest.CaptureFixture[str]) -> None:
    assert pao(["levers", "--engines", "mock", "--python", "vllm=/nowhere/bin/python"]) == 2
    assert "--engine-python" in capsys.readouterr().err
    assert pao(["levers", "--help"]) == 0
    shown = capsys.readouterr().out
    assert "--engine-python" in shown and " --python" not in shown


def test_what_does_nothing_yet_is_refused_with_what_does(capsys: pytest.CaptureFixture[str]) -> None:
    assert pao(["cell_run", "run", "--cell", "c", "--bench-pod", "p"]) == 2
    assert "--bench-pod: nothing runs on a cluster yet -- next: --endpoint-url URL" in capsys.readouterr().err
    assert pao(["cell_run", "--help"]) == 0
    assert "bench-pod" not in capsys.readouterr().out
