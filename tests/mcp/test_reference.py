"""docs/reference is what the ops give, to the byte."""

from __future__ import annotations

from pathlib import Path

import pytest

from profile_and_optimize.cli.main import program
from profile_and_optimize.cli.main import run as pao
from profile_and_optimize.cli.reference import pages
from profile_and_optimize.mcp.schema import tool_ops
from profile_and_optimize.ops.base import all_ops

REFERENCE = Path(__file__).parents[2] / "docs/reference"


@pytest.mark.parametrize("name", ["cli.md", "mcp.md", "quantization.md"])
def test_the_pages_are_up_to_date(name: str) -> None:
    assert (REFERENCE / name).read_text() == pages(program())[name], "run: pao reference --write docs/reference"


def test_every_verb_every_option_and_every_tool_has_its_place() -> None:
    found = pages(program())
    for op in all_ops().values():
        section = found["cli.md"].split(f"\n## pao {op.verb}\n")[1].split("\n## ")[0]
        for field in set(op.request.model_fields) - {"allowed_by"}:  # which is no option
            assert f"--{field.replace('_', '-')}`" in section or field in op.positional, (op.verb, field)
    assert [line[3:] for line in found["mcp.md"].splitlines() if line.startswith("## ")] == [
        *tool_ops(),
        "The envelope",
    ]


def test_the_verb_writes_them(tmp_path: Path) -> None:
    assert pao(["reference", "--write", str(tmp_path)]) == 0
    assert {p.name for p in tmp_path.iterdir()} == {"cli.md", "mcp.md", "quantization.md"}
