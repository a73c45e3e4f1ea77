"""What `pao` says of itself: by task when nothing was asked, every verb by group with --help."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

import click

from profile_and_optimize.ops import GROUPS

ABOUT = "What exactly should we serve, and how do we know? A serving configuration and its proof."
OTHERS = "For agents and shells"
TASKS = (
    ("compare two servers that run", "pao ab http://127.0.0.1:8000 http://127.0.0.1:8001"),
    ("measure one server", "pao bench http://127.0.0.1:8000"),
    ("check results that you have", "pao lint results/"),
    ("choose a configuration", "pao optimize --model MODEL --engines vllm --dry-run"),
    ("quantize a model", "pao quantize --model MODEL --target fp8 --dry-run"),
    ("check a run", "pao verify RUN"),
    ("take a number apart", "pao explain RUN NUMBER"),
    ("give the tools to an agent", "pao mcp install --client claude --dry-run"),
    ("complete with Tab", "pao completion bash"),
)


def short_help() -> str:
    width = max(len(task) for task, _ in TASKS)
    rows = [f"  {task:<{width}}  {command}" for task, command in TASKS]
    return "\n".join([ABOUT, "", *rows, "", "pao --help lists every verb, pao VERB --help its options."])


def write_groups(formatter: click.HelpFormatter, helps: Mapping[str, str], others: Iterable[str]) -> None:
    """The verbs under their groups, each with the first words of its help."""
    for title, verbs in {**GROUPS, OTHERS: tuple(others)}.items():
        with formatter.section(title):
            formatter.write_dl([(verb, _first(helps[verb])) for verb in verbs if verb in helps])


def _first(text: str) -> str:
    """What it does, without how."""
    return re.split(r"(?<=[?])\s|[.:;](?:\s|$)", text)[0]
