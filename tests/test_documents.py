"""Every command that README and docs name is one that the program takes; places they name exist."""

from __future__ import annotations

import re
import shlex
from itertools import takewhile
from pathlib import Path

import click
import pytest

from profile_and_optimize.cli.main import program

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")), ROOT / "demo/README.md", ROOT / "CHANGELOG.md"]


def commands() -> list[tuple[str, str]]:
    """(page, command line) of every indented line that begins with pao, taken apart at &&."""
    found = []
    for page in PAGES:
        for line in page.read_text().splitlines():
            if line.startswith("    ") and line.strip().startswith("pao "):
                found += [(page.name, part.strip()) for part in line.split("#")[0].split("&&")]
    return found


@pytest.mark.parametrize(("page", "line"), commands())
def test_a_command_in_the_documents_is_one_the_program_takes(page: str, line: str) -> None:
    argv = list(takewhile(lambda word: word not in (">", "|"), shlex.split(line)[1:]))
    group = program()
    command = group.get_command(click.Context(group), argv[0])
    assert command is not None, f"{page}: {line}"
    command.make_context(argv[0], argv[1:])


def test_links_between_documents_lead_somewhere() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
            if "://" not in target:
                assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_the_map_names_every_room_and_no_other() -> None:
    rooms = {p.name for p in (ROOT / "src/profile_and_optimize").iterdir() if p.is_dir() and p.name != "__pycache__"}
    named = set(re.findall(r"^\| `(\w+)/` \|", (ROOT / "docs/map.md").read_text(), re.M))
    assert named == rooms


def test_the_repository_names_no_path_of_a_machine() -> None:
    words = ["/" + name + "/" for name in ("work", "root", "farm")] + ["pypi" + ".org", "pythonhosted" + ".org"]
    for path in [
        p for p in ROOT.rglob("*") if p.suffix in {".py", ".md", ".toml", ".txt", ".yaml"} and ".venv" not in p.parts
    ]:
        if {"campaigns", ".demo", ".git"} & set(path.relative_to(ROOT).parts):
            continue
        text = path.read_text(errors="replace")
        assert not [w for w in words if w in text], path
