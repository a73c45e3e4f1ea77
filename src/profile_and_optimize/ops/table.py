"""What `--help`, completion and a misspelt word need of each verb, without importing one.

`verbs.json` is written from the commands by `pao reference --write docs/reference`, and a test holds it equal to them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

FILE = Path(__file__).with_name("verbs.json")


@dataclass(frozen=True, slots=True)
class Row:
    """One command. `arguments` and `options` go from a spelling to its values: the choices with `|` between them, `flag` for
    none, one of the lists of `cli/complete.py` in brackets (`[runs]`), or "" for any text. `safety` and `mcp_name` are "" for
    what is no op; `inner` are the commands of a group."""

    help: str
    safety: str
    mcp_name: str
    arguments: Mapping[str, str]
    options: Mapping[str, str]
    inner: Mapping[str, Row]


@cache
def rows() -> Mapping[str, Row]:
    """Every command of `pao` by its name; empty where the file is not there yet."""
    return _rows(json.loads(FILE.read_text())) if FILE.exists() else {}


def _rows(found: Mapping[str, Mapping[str, object]]) -> Mapping[str, Row]:
    return {name: Row(**{**row, "inner": _rows(row["inner"])}) for name, row in found.items()}  # type: ignore[arg-type]
