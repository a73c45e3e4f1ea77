"""What a client is told: every op, its request as a schema, the one envelope, hints from its safety class, and no more."""

from __future__ import annotations

import json

import jsonschema
import pytest

from profile_and_optimize.mcp import schema
from profile_and_optimize.ops.base import Acknowledged, Op, Safety, all_ops

OPS = list(all_ops().values())
ACK = "i_understand_this_submits_jobs"
by_verb = pytest.mark.parametrize("op", OPS, ids=lambda op: op.verb)


def test_every_op_is_one_tool_under_a_name_that_clients_take() -> None:
    tools = schema.tool_ops()
    assert [op.verb for op in tools.values()] == [op.verb for op in OPS]
    assert all(name.isascii() and name.replace("_", "").isalnum() and len(name) <= 64 for name in tools)


def test_two_ops_of_one_name_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    twins = {"one": OPS[0], "two": OPS[0]}
    monkeypatch.setattr(schema, "all_ops", lambda: twins)
    with pytest.raises(ValueError, match=f"both the tool {schema.tool_name(OPS[0])}"):
        schema.tool_ops()


@by_verb
def test_a_tools_arguments_are_the_fields_of_its_request_but_for_the_acknowledgement(op: Op) -> None:
    found = schema.input_schema(op)
    jsonschema.Draft202012Validator.check_schema(found)
    fields = op.request.model_fields
    assert set(found["properties"]) == set(fields) - schema.NOT_THEIRS
    assert set(found.get("required", ())) == {name for name, field in fields.items() if field.is_required()}
    assert found["additionalProperties"] is False
    for name, field in fields.items():
        if field.description and name in found["properties"]:
            assert found["properties"][name]["description"] == field.description
    assert '"null"' not in json.dumps(found) and not [
        n for n in (ACK, "allow_code", "allowed_by") if n in json.dumps(found)
    ]


@by_verb
def test_hints_follow_the_safety_class(op: Op) -> None:
    hints = schema.hints(op)
    assert hints["read_only_hint"] is (op.safety is Safety.READ_ONLY)
    assert hints["destructive_hint"] is (op.safety not in (Safety.READ_ONLY, Safety.WRITES_ARTIFACTS))


@by_verb
def test_whoever_has_to_be_acknowledged_is_of_a_class_that_is_asked(op: Op) -> None:
    assert not issubclass(op.request, Acknowledged) or schema.acknowledged(op)


@by_verb
def test_the_description_is_the_ops_own_words(op: Op) -> None:
    said = schema.description(op)
    assert said.startswith(op.help) and all(example in said for example in op.examples)


def test_the_envelope_of_every_kind_of_end_fits_the_output_schema() -> None:
    from profile_and_optimize.core.errors import GateRefused, WrongUse
    from profile_and_optimize.mcp.answers import answer, failed
    from profile_and_optimize.ops.base import Result, envelope

    check = jsonschema.Draft202012Validator(schema.output_schema())
    ends = [
        answer(envelope("v", Result({"a": 1}, "t", ("w",)), None), "t"),
        answer(envelope("v", Result({"a": 1}, "t", (), GateRefused("no")), None), "t"),
        failed("v", WrongUse("what", where="here", next="this")),
        answer(envelope("v", Result({"a": ["x" * 100] * 10_000}, "t"), None), "t"),
    ]
    for end in ends:
        check.validate(end.structured)
    assert [end.ok for end in ends] == [True, False, False, True]
    with pytest.raises(jsonschema.ValidationError):
        check.validate(ends[0].structured | {"more": 1})
