"""The program `pao`, also called `perftunereport`. Options and help derive from the ops' request types."""

from __future__ import annotations

import json
import re
import signal
import sys
import traceback
import types
from importlib import import_module
from typing import Any, Literal, Union, get_args, get_origin

import click
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from profile_and_optimize import __version__
from profile_and_optimize.cli.terminal import clean, hidden, say
from profile_and_optimize.core.errors import BrokeMidway, PaoError, WrongUse
from profile_and_optimize.ops.base import Op, Result, all_ops, envelope, parse_request

HELP = "What exactly should we serve, and how do we know? A serving configuration and its proof."
# What is no op, and so no tool of an agent: "module:command".
PARTS = {"mcp": "profile_and_optimize.mcp.command:group", "reference": "profile_and_optimize.cli.reference:reference"}


class _Verbs(click.Group):
    """Dashes and underscores are the same in a verb."""

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        return super().get_command(ctx, cmd_name.replace("-", "_"))

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and self.get_command(ctx, args[0]) is None and not args[0].startswith("-"):
            raise click.UsageError(f"unknown verb {args[0]!r}; there are {', '.join(sorted(self.commands))}")
        return super().resolve_command(ctx, args)


class _Verb(click.Command):
    """An argument may be a negative number, such as a value that a report prints."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.ignore_unknown_options = any(re.fullmatch(r"-\d[\d.]*%?", a) for a in args)
        return super().parse_args(ctx, args)


def main(argv: list[str] | None = None) -> None:
    """Run one command and leave with its exit code. Programming mistakes keep their traceback."""
    # A polite kill must unwind like Ctrl-C does, so that servers and installers are stopped on the way out.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(run(sys.argv[1:] if argv is None else argv))


def run(argv: list[str]) -> int:
    try:
        code = program().main(args=argv, prog_name="pao", standalone_mode=False)
        return int(code or 0)
    except click.exceptions.Exit as e:
        return int(e.exit_code)
    except (click.Abort, KeyboardInterrupt):
        say("stopped")
        return 130
    except click.ClickException as e:
        verb = next((a for a in argv if not a.startswith("-")), "")
        return _failed(
            verb.replace("-", "_"),
            WrongUse(e.format_message(), next=f"pao {verb} --help".replace("  ", " ")),
            "--json" in argv,
        )
    except PaoError as e:
        return _failed("", e, "--json" in argv)


def program() -> click.Group:
    group = _Verbs(
        name="pao", help=HELP, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110}
    )
    click.version_option(__version__, prog_name="pao")(group)
    for op in all_ops().values():
        group.add_command(command_of(op))
    for name, target in PARTS.items():
        module, _, part = target.partition(":")
        group.add_command(getattr(import_module(module), part), name)
    return group


def command_of(op: Op) -> click.Command:
    params: list[click.Parameter] = []
    for name, field in op.request.model_fields.items():
        if isinstance(field.json_schema_extra, dict) and field.json_schema_extra.get("option") is False:
            continue
        kind = _click_type(field.annotation)
        if name == "campaign":
            params.append(click.Argument([name], required=False))
            params.append(
                click.Option(
                    ["--campaign", "campaign_option"], help="the same as the argument: path, id or unique slug"
                )
            )
        elif name in op.positional:
            many = get_origin(field.annotation) is tuple
            params.append(click.Argument([name], type=kind, required=field.is_required(), nargs=-1 if many else 1))
        elif kind is click.BOOL:
            params.append(click.Option(["--" + name.replace("_", "-"), name], is_flag=True, help=field.description))
        else:
            spellings = ["--" + name.replace("_", "-"), name]
            params.append(
                click.Option(spellings, type=kind, required=field.is_required(), default=None, help=_help(field))
            )
    params.append(click.Option(["--json", "as_json"], is_flag=True, help="print the one JSON envelope"))
    epilog = "\b\n" + "\n".join(op.examples) if op.examples else None
    return _Verb(op.verb, params=params, help=op.help, epilog=epilog, callback=lambda **values: _call(op, values))


def _call(op: Op, values: dict[str, Any]) -> int:
    as_json = values.pop("as_json")
    option = values.pop("campaign_option", None)
    if "campaign" in values and (values["campaign"] is None) == (option is None):
        return _failed(
            op.verb,
            WrongUse("which campaign? Give one, as argument or as --campaign", next=f"pao {op.verb} RUN"),
            as_json,
        )
    values |= {"campaign": option} if option is not None else {}
    given = {k: v for k, v in values.items() if v is not None and v is not False}
    try:
        result = op.run(parse_request(op, given), say)
    except PaoError as e:
        return _failed(op.verb, e, as_json)
    except KeyboardInterrupt:
        say("stopped; what is finished is kept")
        return 130
    except Exception as e:
        # A mistake of ours keeps its traceback, but must not leave with 1: scripts read that as a gate that said no.
        if not isinstance(e, OSError):
            print(clean(hidden(traceback.format_exc())), file=sys.stderr)
        return _failed(
            op.verb, BrokeMidway(f"{type(e).__name__}: {e}", next="report this with the lines above"), as_json
        )
    _print(op.verb, result, as_json)
    return result.refusal.exit_code if result.refusal else 0


def _print(verb: str, result: Result, as_json: bool) -> None:
    if as_json:
        _print_json(envelope(verb, result, None))
        return
    print(clean(result.text))
    for warning in result.warnings:
        say(f"warning: {warning}")
    if result.refusal:
        say(f"error: {result.refusal}")


def _failed(verb: str, error: PaoError, as_json: bool) -> int:
    if as_json:
        _print_json(envelope(verb, None, error))
    else:
        say(f"error: {error}")
    return error.exit_code


def _print_json(answer: dict[str, Any]) -> None:
    """ASCII, so that no control character reaches a terminal; the texts that servers write in are without credentials."""
    answer["warnings"] = [hidden(w) for w in answer["warnings"]]
    if answer["error"]:
        answer["error"] = {k: hidden(v) for k, v in answer["error"].items()}
    print(json.dumps(answer, indent=1, ensure_ascii=True))


def _click_type(annotation: Any) -> click.ParamType:
    """The click type of a field; optional ones are their inner type."""
    if get_origin(annotation) in (Union, types.UnionType):
        annotation = next(a for a in get_args(annotation) if a is not type(None))
    if get_origin(annotation) is Literal:
        return click.Choice([str(a) for a in get_args(annotation)])
    plain: dict[Any, click.ParamType] = {int: click.INT, float: click.FLOAT, bool: click.BOOL}
    return plain.get(annotation, click.STRING)


def _help(field: FieldInfo) -> str | None:
    default = None if field.default in (None, PydanticUndefined) else f"default {field.default}"
    return "; ".join(text for text in (field.description, default) if text) or None


if __name__ == "__main__":
    main()
