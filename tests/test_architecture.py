"""Imports point one way, and a plugin kind is known from outside by its base alone."""

from __future__ import annotations

import ast
from pathlib import Path

SRC = Path(__file__).parents[1] / "src/profile_and_optimize"
ROOMS = (
    ("core",), ("stats", "roofline"), ("evidence", "toolenv"), ("importers",),
    ("engines", "clients", "executors", "profilers", "quant", "evals"), ("workloads",), ("campaign",),
    ("analysis",), ("lake",), ("ledger", "report"),
    ("optimize",), ("testing",), ("ops",), ("cli", "mcp"),
)  # fmt: skip
LEVEL = {room: i for i, rooms in enumerate(ROOMS) for room in rooms}
KINDS = set(ROOMS[4])
# What a kind offers to others besides `base`: value types and pure readers, no implementation.
OPEN = {
    "engines.base", "engines.calls", "engines.smoke", "engines.prometheus", "engines.process", "engines.urls",
    "engines.formats", "engines.kernels",
    "clients.arrivals", "clients.base", "clients.prompts", "evals.conversation", "evals.exact_match", "evals.pao_eval", "quant.checkpoint",
    "quant.served_as",
}  # fmt: skip


def imports(path: Path) -> list[str]:
    tree = ast.parse(path.read_text())
    found = [n.module for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) and n.module]
    found += [a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names]
    return [m.removeprefix("profile_and_optimize.") for m in found if m.startswith("profile_and_optimize.")]


def test_every_room_imports_only_from_rooms_below_it() -> None:
    wrong = []
    for path in SRC.rglob("*.py"):
        room = path.relative_to(SRC).parts[0]
        if room.endswith(".py"):
            continue
        for module in imports(path):
            target = module.split(".")[0]
            if target in LEVEL and target != room and LEVEL[target] >= LEVEL[room] and not {target, room} <= KINDS:
                wrong.append(f"{path.relative_to(SRC)} imports {module}")
    assert wrong == []


def test_core_is_standard_library_only() -> None:
    for path in (SRC / "core").glob("*.py"):
        tree = ast.parse(path.read_text())
        names = {n.module.split(".")[0] for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) and n.module}
        names |= {a.name.split(".")[0] for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names}
        assert names <= {
            "__future__",
            "operator",
            "collections",
            "dataclasses",
            "difflib",
            "enum",
            "functools",
            "hashlib",
            "ipaddress",
            "itertools",
            "json",
            "math",
            "re",
            "typing",
            "unicodedata",
            "profile_and_optimize",
        }, path


def test_campaign_and_above_know_plugins_by_their_base_except_where_ops_names_them() -> None:
    wrong = []
    for path in SRC.rglob("*.py"):
        room = path.relative_to(SRC).parts[0]
        if room in KINDS or room.endswith(".py") or room in ("ops", "cli"):
            continue
        for module in imports(path):
            if module.split(".")[0] in KINDS and ".".join(module.split(".")[:2]) not in OPEN:
                wrong.append(f"{path.relative_to(SRC)} imports {module}")
    assert wrong == []


def test_every_room_of_the_source_has_a_place_in_the_order() -> None:
    there = {p.name for p in SRC.iterdir() if p.is_dir() and p.name != "__pycache__"}
    assert there <= set(LEVEL)
