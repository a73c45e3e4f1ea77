"""The program `pao`, also called `perftunereport`. A verb is imported when it is used; until then the table of verbs speaks for it."""

from __future__ import annotations

import os
import signal
import sys
from importlib import import_module
from typing import TYPE_CHECKING

import click

from profile_and_optimize import __version__
from profile_and_optimize.cli.help import ABOUT, short_help, write_groups
from profile_and_optimize.cli.terminal import say
from profile_and_optimize.core.errors import PaoError, WrongUse
from profile_and_optimize.core.near import did_you_mean
from profile_and_optimize.ops import MODULES
from profile_and_optimize.ops.table import rows

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

# What is no op, and so no tool of an agent: "module:command".
PARTS = {
    "mcp": "profile_and_optimize.mcp.command:group",
    "completion": "profile_and_optimize.cli.complete:completion",
    "reference": "profile_and_optimize.cli.reference:reference",
}
# Set by the script of `pao completion` for the call that a Tab makes.
COMPLETE = "PAO_COMPLETE"


class _Program(click.Group):
    """Dashes and underscores are the same in a verb. `sketched`: commands as the table has them, which do nothing."""

    sketched = False

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*MODULES, *PARTS]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        name = cmd_name.replace("-", "_")
        if name not in self.commands and name in (*MODULES, *PARTS):
            self.add_command(_sketch(name) if self.sketched and name in rows() else _command(name), name)
        return super().get_command(ctx, name)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and not self.sketched and self.get_command(ctx, args[0]) is None and not args[0].startswith("-"):
            near = did_you_mean(args[0].replace("-", "_"), self.list_commands(ctx))
            raise click.UsageError(f"unknown verb {args[0]!r}{near}")
        return super().resolve_command(ctx, args)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        found = super().shell_complete(ctx, incomplete.replace("-", "_") if incomplete[:1] != "-" else incomplete)
        for item in found if "-" in incomplete[1:] else ():
            item.value = item.value.replace("_", "-")
        return found

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        known = rows()
        helps = {
            name: known[name].help if name in known else _command(name).help or "" for name in self.list_commands(ctx)
        }
        write_groups(formatter, helps, PARTS)


def main(argv: list[str] | None = None) -> None:
    """Run one command and leave with its exit code. Programming mistakes keep their traceback."""
    # A polite kill must unwind like Ctrl-C does, so that servers and installers are stopped on the way out.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if COMPLETE in os.environ:
        sys.exit(_complete(os.environ[COMPLETE]))
    sys.exit(run(sys.argv[1:] if argv is None else argv))


def run(argv: list[str]) -> int:
    if not argv:
        print(short_help())
        return 0
    try:
        code = program().main(args=argv, prog_name="pao", standalone_mode=False)
        return int(code or 0)
    except click.exceptions.Exit as e:
        return int(e.exit_code)
    except (click.Abort, KeyboardInterrupt):
        say("stopped")
        return 130
    except click.ClickException as e:
        return _failed(argv, WrongUse(e.format_message(), next=_help_of(argv)))
    except PaoError as e:
        return _failed(argv, e)


def _failed(argv: list[str], error: PaoError) -> int:
    """Of no verb's own: `argv` is what was typed."""
    error.next = error.next or _help_of(argv)
    if "--json" not in argv:
        say(f"error: {error}")
        return error.exit_code
    answer: int = import_module("profile_and_optimize.cli.command").failed(_verb(argv), error, True)
    return answer


def _verb(argv: list[str]) -> str:
    return next((a.replace("-", "_") for a in argv if not a.startswith("-")), "")


def _help_of(argv: list[str]) -> str:
    verb = _verb(argv)
    return f"pao {verb} --help" if verb in (*MODULES, *PARTS) else "pao --help"


def program() -> _Program:
    group = _Program(
        name="pao", help=ABOUT, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
        subcommand_metavar="VERB [ARGS]...",
    )  # fmt: skip
    click.version_option(__version__, prog_name="pao")(group)
    return group


def _command(name: str) -> click.Command:
    if name in PARTS:
        module, _, part = PARTS[name].partition(":")
        found: click.Command = getattr(import_module(module), part)
        return found
    op = import_module(f"profile_and_optimize.ops.{name}").OP
    made: click.Command = import_module("profile_and_optimize.cli.command").command_of(op)
    return made


def _sketch(name: str) -> click.Command:
    made: click.Command = import_module("profile_and_optimize.cli.complete").sketch(name, rows()[name])
    return made


def _complete(asked: str) -> int:
    """Answer the one Tab that the shell's script asks about."""
    group = program()
    group.sketched = True
    code: int = import_module("click.shell_completion").shell_complete(group, {}, "pao", COMPLETE, asked)
    return code


if __name__ == "__main__":
    main()
