"""pao reference: the pages of docs/reference, made from the ops, and the table of verbs. cli.md is the program's own help, verb
by verb."""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import click

from profile_and_optimize.cli.complete import values_of
from profile_and_optimize.core import environment
from profile_and_optimize.evidence.atomic import write_atomic
from profile_and_optimize.ops import table
from profile_and_optimize.ops.base import all_ops

HEAD = """# Commands

Written by `pao reference --write docs/reference`; a test compares. Dashes and underscores are the same in a verb and in an option.
`perftunereport` is the same program.
"""


@click.command(help="Write the reference pages of commands and MCP tools, and the package's own table of verbs.")
@click.option("--write", "folder", required=True, help="the folder that they go into")
@click.pass_context
def reference(ctx: click.Context, folder: str) -> None:
    assert isinstance(ctx.find_root().command, click.Group)
    for name, text in pages(ctx.find_root().command).items():
        write_atomic(Path(folder) / name, text.encode())
        print(Path(folder) / name)
    # These have their places in the checkout, so they are not written with copies of the pages elsewhere.
    if Path(folder).resolve().is_relative_to(table.FILE.parents[3]):
        places = {
            table.FILE: verbs(ctx.find_root().command),
            table.FILE.parents[3] / "docs/environment.md": environment.page(),
        }
        for path, text in places.items():
            write_atomic(path, text.encode())
            print(path)


def verbs(program: click.Command) -> str:
    """ops/verbs.json: a line per command."""
    assert isinstance(program, click.Group)
    lines = [f"{json.dumps(name)}: {json.dumps(_table_row(name, command))}" for name, command in _inner(program)]
    return "{\n" + ",\n".join(lines) + "\n}\n"


def _table_row(name: str, command: click.Command) -> dict[str, Any]:
    op = all_ops().get(name)
    arguments = {_word(p): values_of(p) for p in command.params if isinstance(p, click.Argument)}
    options = {p.opts[0]: values_of(p) for p in command.params if isinstance(p, click.Option) and not p.hidden}
    inner = {n: _table_row("", c) for n, c in _inner(command)} if isinstance(command, click.Group) else {}
    return {
        "help": command.help or "", "safety": op.safety.value if op else "", "mcp_name": op.mcp_name if op else "",
        "arguments": arguments, "options": options, "inner": inner,
    }  # fmt: skip


def _word(argument: click.Argument) -> str:
    return f"{argument.name}..." if argument.nargs == -1 else str(argument.name)


def _inner(group: click.Group) -> Iterator[tuple[str, click.Command]]:
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        yield name, command


def pages(program: click.Command) -> dict[str, str]:
    """Every page by its file's name."""
    # By name, as the rooms `cli` and `mcp` stand side by side.
    modules = {
        "mcp.md": "profile_and_optimize.mcp.reference",
        "quantization.md": "profile_and_optimize.quant.reference",
    }
    return {"cli.md": page(program)} | {name: import_module(module).page() for name, module in modules.items()}


def page(program: click.Command) -> str:
    return "\n".join([HEAD, *(_section(path, command) for path, command in _commands(program, "pao"))])


def _commands(command: click.Command, path: str) -> Iterator[tuple[str, click.Command]]:
    """Each command that does something, with the words that call it."""
    if not isinstance(command, click.Group):
        yield path, command
        return
    for name, inner in sorted(_inner(command)):
        yield from _commands(inner, f"{path} {name}")


def _section(path: str, command: click.Command) -> str:
    arguments = [p for p in command.params if isinstance(p, click.Argument)]
    options = [p for p in command.params if isinstance(p, click.Option) and not p.hidden]
    words = [(p.human_readable_name if p.required else f"[{p.human_readable_name}]") for p in arguments]
    usage = " ".join([path, *words, "[options]"])
    rows = [_row(p) for p in options]
    table = ["| option | values | |", "|---|---|---|", *rows, ""] if rows else []
    examples = ["    " + line for line in (command.epilog or "").replace("\b", "").splitlines() if line.strip()]
    return "\n".join(
        [f"## {path}\n", f"{command.help}\n", f"Usage: `{usage}`\n", *_arguments(arguments), *table, *examples, ""]
    )


def _arguments(arguments: list[click.Argument]) -> list[str]:
    chosen = [(p, _values(p)) for p in arguments if isinstance(p.type, click.Choice)]
    return [f"`{p.human_readable_name}` is one of {values}.\n" for p, values in chosen]


def _row(option: click.Option) -> str:
    told = "; ".join(text for text in (option.help or "", "needed" if option.required else "") if text)
    return f"| `{option.opts[0]}` | {_values(option)} | {' '.join(told.split()).replace('|', chr(92) + '|')} |"


def _values(param: click.Parameter) -> str:
    if isinstance(param.type, click.Choice):
        return ", ".join(map(str, param.type.choices))
    return "" if param.type is click.BOOL else param.type.name
