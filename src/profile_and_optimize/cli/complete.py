"""`pao completion bash|zsh|fish`, and what one Tab asks: commands as the table of verbs has them, so that no op is imported."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterable
from importlib import import_module
from importlib.resources import files

import click
from click.shell_completion import CompletionItem, get_completion_class

from profile_and_optimize.ops.table import Row

PACKAGE = "profile_and_optimize"


class Listed(click.types.StringParamType):
    """A text with values to choose from, by the name of a list; "files" leaves it to the shell, "" has none."""

    def __init__(self, of: str = "") -> None:
        self.of = of

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        if self.of == "files":
            return [CompletionItem(incomplete, type="file")]
        before, comma, last = incomplete.rpartition(",")
        names = [n for n in LISTS[self.of]() if n.startswith(last)] if self.of else []
        paths = [CompletionItem(incomplete, type="file")] if self.of == "runs" and not names else []
        return [CompletionItem(before + comma + name) for name in names] + paths


def _runs() -> Iterable[str]:
    """The ids of the runs of the workspace, newest first, and the slugs that only one of them has."""
    folder = import_module(f"{PACKAGE}.evidence.folder")
    space = folder.workspace()
    ids = sorted((p.name for p in space.iterdir() if folder.is_run(p)), reverse=True) if space.is_dir() else []
    slugs = [run.split("-", 1)[1] for run in ids]
    return [*(s for s in slugs if slugs.count(s) == 1), *ids]


def _levers() -> Iterable[str]:
    table = import_module(f"{PACKAGE}.optimize.levers").table
    return sorted({lever.id for engine in _engines() for lever in table(engine)})


def _suites() -> Iterable[str]:
    """Suites, then the workloads in them: where one is asked for, the other will do."""
    tables = [t for t in (files(f"{PACKAGE}.workloads") / "suites").iterdir() if t.name.endswith(".toml")]
    workloads = {str(w["name"]) for t in tables for w in tomllib.loads(t.read_text())["workload"]}
    return sorted({t.name.removesuffix(".toml") for t in tables}) + sorted(workloads)


def _tools() -> Iterable[str]:
    return list(import_module(f"{PACKAGE}.toolenv.specs").SPECS)


def _engines() -> Iterable[str]:
    return list(import_module(f"{PACKAGE}.engines").BUILT_IN)


LISTS: dict[str, Callable[[], Iterable[str]]] = {
    "runs": _runs, "levers": _levers, "suites": _suites, "tools": _tools, "engines": _engines,
}  # fmt: skip


def sketch(name: str, row: Row) -> click.Command:
    """A command that completes as the real one does, and does nothing."""
    if row.inner:
        return click.Group(name, commands={n: sketch(n, r) for n, r in row.inner.items()}, help=row.help)
    arguments = [
        click.Argument([a.removesuffix("...")], type=_type(v), required=False, nargs=-1 if a.endswith("...") else 1)
        for a, v in row.arguments.items()
    ]
    # Under names of their own: an argument and an option may both be the campaign.
    options = [
        click.Option([o, f"option_{i}"], type=_type(v), is_flag=v == "flag" or None)
        for i, (o, v) in enumerate(row.options.items())
    ]
    return click.Command(name, params=[*arguments, *options], help=row.help)


def _type(values: str) -> click.ParamType | None:
    if values == "flag":
        return None
    if values.startswith("["):
        return Listed(values.strip("[]"))
    return click.Choice(values.split("|")) if "|" in values else Listed()


def values_of(param: click.Parameter) -> str:
    """The values of a parameter as `Row` writes them."""
    if isinstance(param, click.Option) and param.is_flag:
        return "flag"
    if isinstance(param.type, click.Choice):
        return "|".join(map(str, param.type.choices))
    return f"[{param.type.of}]" if isinstance(param.type, Listed) and param.type.of else ""


@click.command(
    help="Print a script that completes verbs, options, runs, levers, suites and tools with Tab.",
    epilog='\b\neval "$(pao completion bash)"\npao completion fish > ~/.config/fish/completions/pao.fish',
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    made = get_completion_class(shell)
    assert made is not None
    # The scripts of click, without its check of the version of bash, which would run one.
    script = made(click.Group(), {}, "pao", "PAO_COMPLETE")
    print(script.source_template % script.source_vars())
