"""Every environment variable that the code reads is in the one table, and the page shows it."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from profile_and_optimize.core.environment import OLD, OTHERS, OURS, page, value
from profile_and_optimize.evidence.folder import workspace

ROOT = Path(__file__).parents[2]
SRC = ROOT / "src/profile_and_optimize"
TABLE = SRC / "core/environment.py"
KNOWN = {*OURS, *OLD, *(name for names in OTHERS for name in names.split(", "))}


def sources() -> Iterator[tuple[Path, ast.AST]]:
    for path in SRC.rglob("*.py"):
        if path != TABLE:
            yield path, ast.parse(path.read_text())


def is_environ(node: ast.expr) -> bool:
    return (
        isinstance(node, ast.Name | ast.Attribute)
        and (node.id if isinstance(node, ast.Name) else node.attr) == "environ"
    )


def read_names(tree: ast.AST) -> Iterator[str]:
    """The names that are read of the environment where they stand as text."""
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and is_environ(node.func.value)
            and node.args
        ):
            named: ast.expr = node.args[0]
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("os.getenv", "getenv", "value") and node.args:
            named = node.args[0]
        elif isinstance(node, ast.Subscript) and is_environ(node.value):
            named = node.slice
        else:
            continue
        if isinstance(named, ast.Constant) and isinstance(named.value, str) and named.value.isupper():
            yield named.value


def test_what_is_read_is_in_the_table() -> None:
    unknown = {
        (str(path.relative_to(SRC)), name) for path, tree in sources() for name in read_names(tree) if name not in KNOWN
    }
    assert unknown == set()


def test_every_name_of_ours_has_our_prefix_and_is_in_the_table() -> None:
    assert all(name.startswith("PAO_") for name in OURS)
    texts = {
        n.value
        for _, tree in sources()
        for n in ast.walk(tree)
        if isinstance(n, ast.Constant) and isinstance(n.value, str)
    }
    assert {t for t in texts if re.fullmatch(r"(?:PAO|PERFREPORT)_[A-Z_]+", t)} <= {*OURS, *OLD}


def test_the_table_names_nothing_that_nobody_reads() -> None:
    everything = "".join(p.read_text() for p in SRC.rglob("*") if p.suffix in (".py", ".j2") and p != TABLE)
    assert [name for name in OURS if name not in everything] == []
    assert [n for names in OTHERS for n in names.split(", ") if n not in everything] == []


def test_the_page_is_the_table() -> None:
    assert (ROOT / "docs/environment.md").read_text() == page(), "run: pao reference --write docs/reference"


def test_the_old_name_is_read_where_the_new_one_is_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    assert value("PAO_CAMPAIGNS_DIR", {"PERFREPORT_CAMPAIGNS_DIR": "old"}) == "old"
    assert value("PAO_CAMPAIGNS_DIR", {"PERFREPORT_CAMPAIGNS_DIR": "old", "PAO_CAMPAIGNS_DIR": "new"}) == "new"
    assert value("PAO_CAMPAIGNS_DIR", {}) == ""
    monkeypatch.setenv("PAO_CAMPAIGNS_DIR", "here")
    assert workspace() == Path("here") and workspace("there") == Path("there")
