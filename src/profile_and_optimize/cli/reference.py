"""pao reference: the pages of docs/reference, made from the ops. cli.md is the program's own help, verb by verb."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import click

from profile_and_optimize.evidence.atomic import write_atomic

HEAD = """# Commands

Written by `pao reference --write docs/reference`; a test compares. Dashes and underscores are the same in a verb and in an option.
`perftunereport` is the same program.
"""


@click.command(help="Write the reference pages of commands and MCP tools.")
@click.option("--write", "folder", required=True, help="the folder that they go into")
@click.pass_context
def reference(ctx: click.Context, folder: str) -> None:
    assert isinstance(ctx.find_root().command, click.Group)
    for name, text in pages(ctx.find_root().command).items():
        write_atomic(Path(folder) / name, text.encode())
        print(Path(folder) / name)


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
    for name, inner in sorted(command.commands.items()):
        yield from _commands(inner, f"{path} {name}")


def _section(path: str, command: click.Command) -> str:
    arguments = [p for p in command.params if isinstance(p, click.Argument)]
    words = [(p.human_readable_name if p.required else f"[{p.human_readable_name}]") for p in arguments]
    usage = " ".join([path, *words, "[options]"])
    rows = [_row(p) for p in command.params if isinstance(p, click.Option)]
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
