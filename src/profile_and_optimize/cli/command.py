"""One op as a command: options and their help derive from the request's type. Imported when a verb is used, never for help."""

from __future__ import annotations

import json
import os
import re
import sys
import traceback
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

import click
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from profile_and_optimize.cli.complete import Listed
from profile_and_optimize.cli.terminal import clean, hidden, say
from profile_and_optimize.core.errors import BrokeMidway, PaoError, WrongUse
from profile_and_optimize.core.near import did_you_mean
from profile_and_optimize.core.opens import Kind, Opens
from profile_and_optimize.ops.base import Op, Result, advised, envelope, parse_request
from profile_and_optimize.ops.options import not_yet, old_names, says

# What completes a value: by the name of its option, which means the same in every verb, else by what it opens.
LISTS = {
    "suite": "suites", "workload": "suites", "levers": "levers", "tool": "tools", "engine": "engines", "engines": "engines",
    "resume": "runs",
}  # fmt: skip
# Kinds whose value may be the path of something that has to be there.
FILES = frozenset({Kind.PATH, Kind.TREE, Kind.MODEL, Kind.DATA, Kind.PLACE, Kind.CAMPAIGN, Kind.ARMS, Kind.PYTHON})
LISTS_OF_KINDS = {Kind.RUN: "runs", Kind.URL: "", Kind.FLAGS: "", Kind.IMAGE: ""}


class _Verb(click.Command):
    """An argument may be a negative number, such as a value that a report prints."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.ignore_unknown_options = any(re.fullmatch(r"-\d[\d.]*%?", a) for a in args)
        return super().parse_args(ctx, args)


def command_of(op: Op) -> click.Command:
    params = [param for name, field in op.request.model_fields.items() for param in _params(op, name, field)]
    params += _hidden(op)
    params.append(click.Option(["--json", "as_json"], is_flag=True, help="print the one JSON envelope"))
    epilog = "\b\n" + "\n".join(op.examples) if op.examples else None
    return _Verb(op.verb, params=params, help=op.help, epilog=epilog, callback=lambda **values: _call(op, values))


def _params(op: Op, name: str, field: FieldInfo) -> Iterator[click.Parameter]:
    if isinstance(field.json_schema_extra, dict) and field.json_schema_extra.get("option") is False:
        return
    kind, spelling = _click_type(name, field), "--" + name.replace("_", "-")
    if name == "campaign":
        yield click.Argument([name], type=kind, required=False)
        yield click.Option([spelling, "campaign_option"], type=kind, help=says("campaign", "the same as the argument"))
    elif name in op.positional:
        many = get_origin(field.annotation) is tuple
        yield click.Argument([name], type=kind, required=field.is_required(), nargs=-1 if many else 1)
    elif kind is click.BOOL:
        yield click.Option([spelling, name], is_flag=True, help=field.description)
    else:
        yield click.Option([spelling, name], type=kind, required=field.is_required(), default=None, help=_help(field))


def _hidden(op: Op) -> list[click.Parameter]:
    """Old names of options, and those that do nothing yet: taken, so that the request can answer, and shown nowhere."""
    fields = op.request.model_fields
    old = old_names(fields)
    flags = {name for name, new in old.items() if fields[new].annotation is bool}
    return [
        click.Option(["--" + name.replace("_", "-"), name], hidden=True, is_flag=name in flags or None)
        for name in (*old, *not_yet(fields))
    ]


def _click_type(name: str, field: FieldInfo) -> click.ParamType:
    """The click type of a field; optional ones are their inner type."""
    annotation = field.annotation
    if get_origin(annotation) in (Union, types.UnionType):
        annotation = next(a for a in get_args(annotation) if a is not type(None))
    if get_origin(annotation) is Literal:
        return click.Choice([str(a) for a in get_args(annotation)])
    plain: dict[Any, click.ParamType] = {int: click.INT, float: click.FLOAT, bool: click.BOOL}
    opened = next((LISTS_OF_KINDS.get(m.kind, "files") for m in field.metadata if isinstance(m, Opens)), "")
    return plain.get(annotation) or Listed(LISTS.get(name, opened))


def _help(field: FieldInfo) -> str | None:
    default = None if field.default in (None, "", PydanticUndefined) else f"default: {field.default}"
    return "; ".join(text for text in (field.description, default) if text) or None


def _call(op: Op, values: dict[str, Any]) -> int:
    as_json = values.pop("as_json")
    option = values.pop("campaign_option", None)
    if "campaign" in values and (values["campaign"] is None) == (option is None):
        return failed(
            op.verb,
            WrongUse("which campaign? Give one, as argument or as --campaign", next=f"pao {op.verb} RUN"),
            as_json,
        )
    values |= {"campaign": option} if option is not None else {}
    given = {k: v for k, v in values.items() if v is not None and v is not False}
    try:
        result = op.run(parse_request(op, given), say)
    except PaoError as e:
        return failed(op.verb, _with_near_file(op, given, e), as_json)
    except KeyboardInterrupt as e:
        say(str(e) or "stopped; what is finished is kept")
        return 130
    except Exception as e:
        # A mistake of ours keeps its traceback, but must not leave with 1: scripts read that as a gate that said no.
        if not isinstance(e, OSError):
            print(clean(hidden(traceback.format_exc())), file=sys.stderr)
        return failed(
            op.verb, BrokeMidway(f"{type(e).__name__}: {e}", next="report this with the lines above"), as_json
        )
    _print(op.verb, result, as_json)
    return result.refusal.exit_code if result.refusal else 0


def _with_near_file(op: Op, given: dict[str, Any], error: PaoError) -> PaoError:
    """The error, with the file that was probably meant where it is about one that is not there."""
    for name, field in op.request.model_fields.items():
        value, marks = given.get(name), field.metadata
        paths = value if isinstance(value, tuple) else (value,)
        if any(isinstance(m, Opens) and m.kind in FILES for m in marks) and isinstance(error, WrongUse):
            for path in (Path(p) for p in paths if isinstance(p, str) and p in str(error) and not os.path.exists(p)):
                siblings = os.listdir(path.parent) if path.parent.is_dir() else []
                if near := did_you_mean(path.name, siblings):
                    return type(error)(error.message + near, where=error.where, next=error.next)
    return error


def _print(verb: str, result: Result, as_json: bool) -> None:
    if as_json:
        _print_json(envelope(verb, result, None))
        return
    print(clean(result.text))
    for warning in result.warnings:
        say(f"warning: {warning}")
    if result.refusal:
        say(f"error: {advised(verb, result.refusal)}")


def failed(verb: str, error: PaoError, as_json: bool) -> int:
    """Print the error, and give its exit code."""
    if as_json:
        _print_json(envelope(verb, None, error))
    else:
        say(f"error: {advised(verb, error)}")
    return error.exit_code


def _print_json(answer: dict[str, Any]) -> None:
    """ASCII, so that no control character reaches a terminal; the texts that servers write in are without credentials."""
    answer["warnings"] = [hidden(w) for w in answer["warnings"]]
    if answer["error"]:
        answer["error"] = {k: hidden(v) for k, v in answer["error"].items()}
    print(json.dumps(answer, indent=1, ensure_ascii=True))
