"""The written lists of what is left out, with the names that the files have."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .files import read_json, write_json
from .names import cleaned


def clean_excludes(export: Path, right: dict[str, str]) -> None:
    """Both libraries get the names of modules left out wrong on some models: ModelOpt's own marker stays in the list, control
    character and all, or a name is the one in memory and not that of the files (`right`). Such an entry matches nothing."""
    for path in (export / "hf_quant_config.json", export / "config.json"):
        if path.exists():
            write_json(path, corrected(cleaned(read_json(path)), right))


def corrected(value: Any, right: dict[str, str]) -> Any:
    """The lists of modules left out with the names of the files."""
    if isinstance(value, dict):
        lists = {k: [right.get(e, e) for e in v] for k, v in value.items() if k in ("exclude_modules", "ignore")}
        return {key: lists[key] if key in lists else corrected(inner, right) for key, inner in value.items()}
    return value
